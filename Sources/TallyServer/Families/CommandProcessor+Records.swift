import TallyCore
import TallyNode
import TallyRESP

/// The commands on records: the language of counters, and hashes.
extension CommandProcessor {
    // MARK: Language

    /// The family that the first argument names, if the command speaks of its records.
    @inline(__always)
    mutating func languageFamily() -> Int? {
        guard !catalog.isEmpty, arguments.count >= 3 else { return nil }
        return catalog.find(arguments[1])
    }

    /// Plans `COMMAND family key …`.
    ///
    /// - Returns: nil if `id` is no command on records.
    mutating func planLanguage(_ id: CommandID, _ family: Int) throws(Refusal) -> ReplyPlan? {
        switch id {
        case .get, .multipleGet: try readRecords(family)
        case .set: try setRecord(family)
        case .increment: try addToColumn(family, 1, form: "INCR")
        case .decrement: try addToColumn(family, -1, form: "DECR")
        case .incrementBy: try addToColumn(family, 1, form: "INCRBY")
        case .decrementBy: try addToColumn(family, -1, form: "DECRBY")
        case .delete, .unlink: try onRecords(family, .delete, .deleteRecord, .removedCount)
        case .exists, .touch: try onRecords(family, .get, .readRecord, .presentCount)
        default: nil
        }
    }

    /// `GET family key …`: records as arrays, columns as integers.
    private mutating func readRecords(_ index: Int) throws(Refusal) -> ReplyPlan {
        let family = catalog.families[index]
        let count = arguments.count
        let first = batch.count
        do throws(Refusal) {
            for argument in 2..<count {
                switch try target(index, arguments[argument]) {
                case .record(let record, _):
                    batch.appendRead(
                        record, version: family.version, columnCount: family.columns.count)
                case .column(let record, let column):
                    batch.append(.get, record, column: column.number)
                case .plain: preconditionFailure("a record is no plain key")
                }
            }
        } catch {
            batch.removeLast(to: first)
            throw error
        }
        batch.makeUnit(from: first)
        return plan(count == 3 ? .record : .records, from: first)
    }

    /// `SET family key value …` or `SET family key.suffix value`.
    private mutating func setRecord(_ index: Int) throws(Refusal) -> ReplyPlan {
        let family = catalog.families[index]
        let valueCount = arguments.count - 3
        switch try target(index, arguments[2]) {
        case .column(let record, let column):
            guard valueCount == 1 else {
                throw Refusal("ERR a column takes one value, not \(valueCount)")
            }
            let value = try value(3, of: column)
            batch.append(.set, record, column: column.number, operand: value)
            return plan(.ok)
        case .record(let record, _):
            guard valueCount == family.columns.count else {
                let names = family.columns.map(\.name.text).joined(separator: " ")
                throw Refusal(
                    "ERR SET \(family.name.text) <key> takes \(family.columns.count) values "
                        + "(\(names)), not \(valueCount)")
            }
            for index in 0..<valueCount { _ = try value(3 + index, of: family.columns[index]) }
            for index in 0..<valueCount {
                let column = family.columns[index]
                batch.appendPair(column: column.number, try value(3 + index, of: column))
            }
            batch.append(.setRecord, record, pairCount: valueCount)
            return plan(.ok)
        case .plain: preconditionFailure("a record is no plain key")
        }
    }

    /// The argument at `index` as a value of `column`.
    private func value(
        _ index: Int, of column: FamilyCatalog.Column
    ) throws(Refusal) -> Int64 {
        guard let value = Decimal.parse(arguments[index]) else { throw Self.notAnInteger }
        guard value >= column.min, value <= column.max else {
            throw outOfBounds(column, arguments[index])
        }
        return value
    }

    /// `INCR family key.suffix [delta]` and its kin.
    private mutating func addToColumn(
        _ index: Int, _ sign: Int64, form: String
    ) throws(Refusal) -> ReplyPlan {
        guard arguments.count <= 4 else {
            throw Refusal(
                "ERR expected \(form) \(catalog.families[index].name.text) <key>.<suffix> [delta]")
        }
        var delta = sign
        if arguments.count == 4 {
            guard let given = Decimal.parse(arguments[3]) else { throw Self.notAnInteger }
            guard sign > 0 || given != .min else {
                throw Refusal("ERR decrement would overflow")
            }
            delta = sign * given
        }
        switch try target(index, arguments[2]) {
        case .column(let record, let column):
            batch.append(.add, record, column: column.number, operand: delta)
        case .record(let record, _):
            let column = try onlyColumn(index, arguments[2])
            batch.append(.add, record, column: column.number, operand: delta)
        case .plain: preconditionFailure("a record is no plain key")
        }
        return plan(.sum)
    }

    private mutating func onRecords(
        _ index: Int, _ columnKind: Operation.Kind, _ recordKind: Operation.Kind,
        _ shape: ReplyPlan.Shape
    ) throws(Refusal) -> ReplyPlan {
        let first = batch.count
        do throws(Refusal) {
            for argument in 2..<arguments.count {
                append(columnKind, recordKind, try target(index, arguments[argument]))
            }
        } catch {
            batch.removeLast(to: first)
            throw error
        }
        batch.makeUnit(from: first)
        return plan(shape, from: first)
    }

    /// Appends an operation on whatever `target` is.
    mutating func append(
        _ kind: Operation.Kind, _ recordKind: Operation.Kind, _ target: Target
    ) {
        switch target {
        case .plain(let key): batch.append(kind, key: key)
        case .column(let record, let column):
            batch.append(kind, record, column: column.number)
        case .record(let record, _):
            batch.append(recordKind, record, count: 0)
        }
    }

    // MARK: Hashes

    /// Plans a hash command.
    ///
    /// - Returns: nil if `id` is none.
    mutating func planHash(_ id: CommandID) throws(Refusal) -> ReplyPlan? {
        switch id {
        case .hashIncrementBy: try hashIncrement()
        case .hashGet: try hashRead(.hashValue)
        case .hashStringLength: try hashRead(.textLength)
        case .hashExists: try hashRead(.presentCount)
        case .hashMultipleGet: try hashReadMany()
        case .hashGetAll: try hashReadAll(.hashAll)
        case .hashKeys: try hashReadAll(.hashKeys)
        case .hashValues: try hashReadAll(.hashValues)
        case .hashLength: try hashReadAll(.hashLength)
        case .hashSet: try hashSet(.changedCount, "hset")
        case .hashMultipleSet: try hashSet(.ok, "hmset")
        case .hashSetIfAbsent: try hashSetIfAbsent()
        case .hashDelete: try hashDelete()
        default: nil
        }
    }

    private mutating func hashIncrement() throws(Refusal) -> ReplyPlan {
        let (record, family) = try hash(1)
        guard let delta = Decimal.parse(arguments[3]) else { throw Self.notAnInteger }
        guard let column = family.column(named: arguments[2]) else {
            throw noColumn(arguments[2], family)
        }
        batch.append(.add, record, column: column.number, operand: delta)
        return plan(.sum)
    }

    private mutating func hashRead(_ shape: ReplyPlan.Shape) throws(Refusal) -> ReplyPlan {
        let (record, family) = try hash(1)
        let first = batch.count
        if let column = family.column(named: arguments[2]) {
            batch.append(.get, record, column: column.number)
        }
        return plan(shape, from: first)
    }

    private mutating func hashReadMany() throws(Refusal) -> ReplyPlan {
        let (record, family) = try hash(1)
        let first = batch.count
        for index in 2..<arguments.count {
            if let column = family.column(named: arguments[index]) {
                batch.append(.get, record, column: column.number)
            } else {
                // Reads nothing, and so becomes nothing.
                batch.append(.readRecord, record, count: 0)
            }
        }
        batch.makeUnit(from: first)
        return plan(.values, from: first)
    }

    private mutating func hashReadAll(_ shape: ReplyPlan.Shape) throws(Refusal) -> ReplyPlan {
        let (record, family) = try hash(1)
        batch.appendRead(record, version: family.version, columnCount: family.columns.count)
        return plan(shape)
    }

    private mutating func hashSet(
        _ shape: ReplyPlan.Shape, _ name: String
    ) throws(Refusal) -> ReplyPlan {
        let (record, family) = try hash(1)
        guard arguments.count % 2 == 0 else { throw Refusal(Self.wrongArity(name)) }
        let pairCount = (arguments.count - 2) / 2
        guard pairCount <= Limits.columnsMax else {
            throw Refusal("ERR a record has at most \(Limits.columnsMax) columns")
        }
        for index in stride(from: 2, to: arguments.count, by: 2) {
            guard let column = family.column(named: arguments[index]) else {
                throw noColumn(arguments[index], family)
            }
            _ = try value(index + 1, of: column)
        }
        for index in stride(from: 2, to: arguments.count, by: 2) {
            guard let column = family.column(named: arguments[index]) else { continue }
            batch.appendPair(column: column.number, try value(index + 1, of: column))
        }
        batch.append(.setColumns, record, pairCount: pairCount)
        return plan(shape)
    }

    private mutating func hashSetIfAbsent() throws(Refusal) -> ReplyPlan {
        let (record, family) = try hash(1)
        guard let column = family.column(named: arguments[2]) else {
            throw noColumn(arguments[2], family)
        }
        let value = try value(3, of: column)
        batch.append(.setIfAbsent, record, column: column.number, operand: value)
        return plan(.flag)
    }

    private mutating func hashDelete() throws(Refusal) -> ReplyPlan {
        let (record, family) = try hash(1)
        let first = batch.count
        for index in 2..<arguments.count {
            guard let column = family.column(named: arguments[index]) else { continue }
            batch.append(.delete, record, column: column.number)
        }
        batch.makeUnit(from: first)
        return plan(.removedCount, from: first)
    }
}
