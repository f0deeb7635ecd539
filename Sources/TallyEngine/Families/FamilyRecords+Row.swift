import TallyCore

/// What an operation makes of one row, and whether it may.
extension FamilyRecords {
    /// Whether the row is that of a record that a client may see.
    var isPresent: Bool {
        if hasState {
            switch row[columnCount] {
            case State.known: return true
            case State.deleted: return false
            default: break
            }
        }
        return (0..<columnCount).contains { row[$0] != 0 }
    }

    /// What reading finds in the row.
    @inline(__always)
    borrowing func read(
        _ operation: UnsafePointer<Operation>, _ rows: UnsafeMutablePointer<Int64>
    ) -> Outcome {
        if operation.pointee.kind == .get {
            guard let column = columnIndex(operation.pointee.column) else {
                return Outcome(refused: .schemaChanged)
            }
            return Outcome(
                .applied, wasPresent: row[column] != 0,
                value: rules[column].coding.decode(row[column]))
        }
        let count = Int(operation.pointee.count)
        guard count == 0 || operation.pointee.column == version && count <= columnCount else {
            return Outcome(refused: .schemaChanged)
        }
        let target = rows + Int(operation.pointee.operand)
        for column in 0..<count { target[column] = rules[column].coding.decode(row[column]) }
        return Outcome(.applied, wasPresent: isPresent, value: 0)
    }

    /// Why a change of the record whose row this is must not be made, whatever its values are now.
    borrowing func refusal(
        _ operation: UnsafePointer<Operation>, _ rows: UnsafeMutablePointer<Int64>
    ) -> Outcome.Status? {
        switch operation.pointee.kind {
        case .add, .delete, .extendedAdd:
            guard columnIndex(operation.pointee.column) != nil else { return .schemaChanged }
        case .set, .setIfAbsent, .setIfPresent:
            guard let column = columnIndex(operation.pointee.column) else {
                return .schemaChanged
            }
            guard rules[column].accepts(operation.pointee.operand) else { return .outOfBounds }
        case .setColumns, .setRecord:
            let pairs = rows + Int(operation.pointee.operand)
            for index in 0..<Int(operation.pointee.count) {
                guard let column = columnIndex(Self.number(pairs[2 &* index])) else {
                    return .schemaChanged
                }
                guard rules[column].accepts(pairs[2 &* index &+ 1]) else { return .outOfBounds }
            }
        case .deleteRecord: break
        case .get, .readRecord, .importRuns, .clear, .changeSchema, .transaction, .countKeys,
            .readExpiry, .expire, .persist, .extendedSet, .readForMove, .setMoved, .deleteMoved,
            .remember, .raiseFloor:
            preconditionFailure("not a change of a record")
        }
        guard hasState else { return nil }
        let state = row[columnCount]
        if isDeletedFinal, state == State.deleted, operation.pointee.kind != .deleteRecord {
            return .deletedKey
        }
        if isKnownOnly, state != State.known {
            switch operation.pointee.kind {
            case .add, .extendedAdd, .setIfPresent, .delete: return .unknownKey
            default: break
            }
        }
        return nil
    }

    @inline(__always)
    private static func number(_ word: Int64) -> UInt32 { UInt32(truncatingIfNeeded: word) }

    /// Makes a change that was not refused to the row.
    ///
    /// - Returns: its outcome; the row is to be written if it is `applied`.
    borrowing func change(
        _ operation: UnsafePointer<Operation>, _ rows: UnsafeMutablePointer<Int64>
    ) -> Outcome {
        switch operation.pointee.kind {
        case .add: changeByAdding(operation)
        case .extendedAdd: changeByAddingWithin(operation, rows)
        case .set, .setIfAbsent, .setIfPresent, .delete: changeColumn(operation)
        case .setColumns, .setRecord: changeColumns(operation, rows)
        case .deleteRecord: delete()
        case .get, .readRecord, .importRuns, .clear, .changeSchema, .transaction, .countKeys,
            .readExpiry, .expire, .persist, .extendedSet, .readForMove, .setMoved, .deleteMoved,
            .remember, .raiseFloor:
            preconditionFailure("not a change of a record")
        }
    }

    /// An addition within bounds of its own; the column's hold as well.
    borrowing func changeByAddingWithin(
        _ operation: UnsafePointer<Operation>, _ rows: UnsafeMutablePointer<Int64>
    ) -> Outcome {
        guard let column = columnIndex(operation.pointee.column) else {
            return Outcome(refused: .schemaChanged)
        }
        let rules = rules + column
        let words = rows + Int(operation.pointee.operand)
        let old = rules.pointee.coding.decode(row[column])
        let wasPresent = row[column] != 0
        let sum = ExtendedAdd(words).sum(
            old, limits: rules.pointee.min...rules.pointee.max,
            isLimitSaturating: rules.pointee.isSaturating)
        words[ExtendedAdd.differenceWord] = (sum ?? old) &- old
        guard let sum else { return Outcome(.unchanged, wasPresent: wasPresent, value: old) }
        row[column] = rules.pointee.coding.encode(sum)
        return Outcome(.applied, wasPresent: wasPresent, value: sum)
    }

    borrowing func changeByAdding(_ operation: UnsafePointer<Operation>) -> Outcome {
        guard let column = columnIndex(operation.pointee.column) else {
            return Outcome(refused: .schemaChanged)
        }
        let outcome = rules[column].outcome(ofAdding: operation, toCoded: row[column])
        if outcome.status == .applied {
            row[column] = rules[column].coding.encode(outcome.value)
        }
        return outcome
    }

    borrowing func changeColumn(_ operation: UnsafePointer<Operation>) -> Outcome {
        guard let column = columnIndex(operation.pointee.column) else {
            return Outcome(refused: .schemaChanged)
        }
        let coding = rules[column].coding
        let wasPresent = row[column] != 0
        let old = coding.decode(row[column])
        let kind = operation.pointee.kind
        let holds =
            switch kind {
            case .setIfAbsent: !wasPresent
            case .setIfPresent, .delete: wasPresent
            default: true
            }
        guard holds else { return Outcome(.unchanged, wasPresent: wasPresent, value: old) }
        row[column] = kind == .delete ? 0 : coding.encode(operation.pointee.operand)
        if kind != .delete { markKnown() }
        return Outcome(.applied, wasPresent: wasPresent, value: old)
    }

    borrowing func changeColumns(
        _ operation: UnsafePointer<Operation>, _ rows: UnsafeMutablePointer<Int64>
    ) -> Outcome {
        let wasPresent = isPresent
        var added: Int64 = 0
        let pairs = rows + Int(operation.pointee.operand)
        if operation.pointee.kind == .setRecord { row.update(repeating: 0, count: columnCount) }
        for index in 0..<Int(operation.pointee.count) {
            guard let column = columnIndex(Self.number(pairs[2 &* index])) else { continue }
            let coded = rules[column].coding.encode(pairs[2 &* index &+ 1])
            if row[column] == 0, coded != 0 { added += 1 }
            row[column] = coded
        }
        markKnown()
        return Outcome(.applied, wasPresent: wasPresent, value: added)
    }

    borrowing func markKnown() {
        if isKnownOnly { row[columnCount] = State.known }
    }

    borrowing func delete() -> Outcome {
        let wasPresent = isPresent
        let state = hasState ? row[columnCount] : State.none
        row.update(repeating: 0, count: codings.count)
        if isDeletedFinal { row[columnCount] = State.deleted }
        let hasChanged = wasPresent || isDeletedFinal && state != State.deleted
        return Outcome(hasChanged ? .applied : .unchanged, wasPresent: wasPresent, value: 0)
    }
}
