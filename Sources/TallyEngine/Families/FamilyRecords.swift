import TallyCore

/// One partition's records of one family, and the rules by which they change.
///
/// A record has a row of coded values: one a column, in order of declaration, and its state behind
/// them if the family's rules need one. Not thread-safe: its partition's lock guards it.
struct FamilyRecords: ~Copyable {
    /// What a record's state says, in families that keep one.
    enum State {
        static let none: UInt64 = 0
        static let known: UInt64 = 1
        static let deleted: UInt64 = 2
    }

    /// The state's column; no family reaches its number.
    static let stateColumn = UInt32.max

    let number: UInt32
    private(set) var version: UInt32 = 0
    let isKnownOnly: Bool
    let isDeletedFinal: Bool
    var rules: UnsafeMutablePointer<ColumnRules>
    private(set) var columnCount = 0
    var codings: [ColumnCoding] = []
    let hasher: KeyHasher
    let cache: BlockCache
    let place: PartitionPlace
    /// Made when the first record comes; at most one of the two.
    var integers: UnsafeMutablePointer<IntegerTable>?
    var strings: UnsafeMutablePointer<StringTable>?
    private(set) var keyKind: KeyKind?
    let row: UnsafeMutablePointer<UInt64>

    init(_ family: Family, place: PartitionPlace, hasher: KeyHasher, cache: BlockCache) {
        self.cache = cache
        self.place = place
        number = family.number
        isKnownOnly = family.isKnownOnly
        isDeletedFinal = family.isDeletedFinal
        self.hasher = hasher
        rules = .allocate(capacity: 1)
        row = .allocate(capacity: SegmentHeader.columnsMax)
        change(to: family)
    }

    deinit {
        removeTables()
        rules.deallocate()
        row.deallocate()
    }

    private func removeTables() {
        if let integers {
            integers.deinitialize(count: 1)
            integers.deallocate()
        }
        if let strings {
            strings.deinitialize(count: 1)
            strings.deallocate()
        }
    }

    var hasState: Bool { isKnownOnly || isDeletedFinal }

    /// Goes on with the family as it is now.
    ///
    /// - Complexity: O(columns), whatever the number of records.
    mutating func change(to family: Family) {
        version = family.version
        keyKind = family.key?.kind
        rules.deallocate()
        columnCount = family.columns.count
        rules = .allocate(capacity: max(1, columnCount))
        for (index, column) in family.columns.enumerated() {
            (rules + index).initialize(to: ColumnRules(column))
        }
        let codings = family.codings
        guard codings != self.codings else { return }
        self.codings = codings
        integers?.pointee.setColumns(codings)
        strings?.pointee.setColumns(codings)
    }

    // MARK: Sizes

    var recordCount: Int {
        (integers?.pointee.recordCount ?? 0) + (strings?.pointee.recordCount ?? 0)
    }

    /// Memory taken, bytes.
    @inline(__always)
    var allocatedBytes: Int {
        if let integers {
            return integers.pointee.memtableBytes &+ integers.pointee.segmentBytes
        }
        if let strings { return strings.pointee.memtableBytes &+ strings.pointee.segmentBytes }
        return 0
    }

    var changedBytes: Int {
        (integers?.pointee.memtableBytes ?? 0) + (strings?.pointee.memtableBytes ?? 0)
    }

    var segmentBytes: Int {
        (integers?.pointee.segmentBytes ?? 0) + (strings?.pointee.segmentBytes ?? 0)
    }

    // MARK: Looking up

    /// Asks the memory system for what `locate` needs.
    @inline(__always)
    borrowing func prefetch(_ hash: UInt64) {
        if let integers {
            integers.pointee.prefetch(hash: hash)
        } else if let strings {
            strings.pointee.prefetchBucket(hash)
        }
    }

    /// A step of finding out where the record of an operation is.
    enum Step {
        case segment
        case index
        case block
    }

    /// Finds out more about where the record of an operation would be, and asks the memory system for
    /// what the next step needs.
    ///
    /// - Parameter place: The key's, if it is an integer.
    @inline(__always)
    borrowing func locate(
        _ step: Step, _ operation: UnsafePointer<Operation>, _ place: inout IntegerTable.Lookup
    ) {
        if let integers {
            switch step {
            case .segment: integers.pointee.locateSegment(&place)
            case .index: integers.pointee.locateIndex(&place)
            case .block: integers.pointee.locateBlock(&place)
            }
        } else if let strings, step == .segment {
            strings.pointee.prefetchRecord(operation.pointee.hash)
        }
    }

    /// The place in rows of the column of this number, nil if there is none.
    @inline(__always)
    borrowing func columnIndex(_ number: UInt32) -> Int? {
        let guess = Int(number)
        if guess < columnCount, rules[guess].number == number { return guess }
        return (0..<columnCount).first { rules[$0].number == number }
    }

    // MARK: Applying

    /// Applies one operation on a record.
    ///
    /// - Parameters:
    ///   - place: Where an integer key is, as `locate` found it.
    ///   - rows: What the operation's places lead into.
    @inline(__always)
    mutating func apply(
        _ operation: UnsafePointer<Operation>, _ place: IntegerTable.Lookup,
        _ rows: UnsafeMutablePointer<Int64>
    ) -> Outcome {
        if operation.pointee.kind == .importRuns { return take(ImportedRuns.of(operation)) }
        guard operation.pointee.keyKind == keyKind, columnCount > 0 else {
            return Outcome(refused: .schemaChanged)
        }
        if operation.pointee.isWrite { makeTable() }
        if let integers {
            return apply(&integers.pointee, place, operation, rows)
        }
        if let strings {
            return apply(&strings.pointee, StringTable.Lookup(operation), operation, rows)
        }
        return readNothing(operation, rows)
    }

    /// Reads a record where there are none.
    private func readNothing(
        _ operation: UnsafePointer<Operation>, _ rows: UnsafeMutablePointer<Int64>
    ) -> Outcome {
        row.update(repeating: 0, count: codings.count)
        return read(operation, rows)
    }

    @inline(__always)
    mutating func makeTable() {
        if integers == nil, strings == nil { makeTableAnew() }
    }

    @inline(never)
    private mutating func makeTableAnew() {
        switch keyKind {
        case .integer:
            integers = .allocate(capacity: 1)
            integers?.initialize(to: IntegerTable(columns: codings, hasher: hasher, cache: cache))
        case .string:
            strings = .allocate(capacity: 1)
            strings?.initialize(
                to: StringTable(
                    columns: codings, keepsZeroRows: false, hasher: hasher, cache: cache))
        case nil: break
        }
    }

    @inline(__always)
    private mutating func apply<Table: RecordTable & ~Copyable>(
        _ table: inout Table, _ key: Table.Lookup, _ operation: UnsafePointer<Operation>,
        _ rows: UnsafeMutablePointer<Int64>
    ) -> Outcome {
        if operation.pointee.kind == .add, !hasState { return add(&table, key, operation) }
        _ = table.read(key, row)
        guard operation.pointee.isWrite else { return read(operation, rows) }
        if let refusal = refusal(operation, rows) { return Outcome(refused: refusal) }
        let outcome = change(operation, rows)
        if outcome.status == .applied { table.write(key, row) }
        return outcome
    }

    @inline(__always)
    private mutating func add<Table: RecordTable & ~Copyable>(
        _ table: inout Table, _ key: Table.Lookup, _ operation: UnsafePointer<Operation>
    ) -> Outcome {
        guard let column = columnIndex(operation.pointee.column) else {
            return Outcome(refused: .schemaChanged)
        }
        let rules = rules + column
        var outcome = Outcome(refused: .outOfBounds)
        _ = table.update(key, column: column) { coded in
            outcome = rules.pointee.outcome(ofAdding: operation, toCoded: coded)
            guard outcome.status == .applied else { return nil }
            return rules.pointee.coding.encode(outcome.value)
        }
        return outcome
    }

    // MARK: Judging without changing

    /// Whether applying `operation` would create a record.
    mutating func wouldCreate(_ operation: UnsafePointer<Operation>) -> Bool {
        switch operation.pointee.kind {
        case .add, .extendedAdd, .set, .setIfAbsent, .setColumns, .setRecord: !readRow(operation)
        case .deleteRecord: isDeletedFinal && !readRow(operation)
        default: false
        }
    }

    /// Whether the column that `operation` sets is at its default.
    mutating func isAbsent(_ operation: UnsafePointer<Operation>) -> Bool {
        _ = readRow(operation)
        return columnIndex(operation.pointee.column).map { row[$0] == 0 } ?? true
    }

    /// Why a change must not be made, if that does not depend on the values that there are.
    mutating func refusal(
        of operation: UnsafePointer<Operation>, _ rows: UnsafeMutablePointer<Int64>
    ) -> Outcome.Status? {
        if operation.pointee.kind == .importRuns { return refusal(of: ImportedRuns.of(operation)) }
        guard operation.pointee.keyKind == keyKind, columnCount > 0 else { return .schemaChanged }
        _ = readRow(operation)
        return refusal(operation, rows)
    }

    /// - Returns: whether there is anything.
    private borrowing func readRow(_ operation: UnsafePointer<Operation>) -> Bool {
        if let integers {
            return integers.pointee.read(
                place.compact(operation.pointee.integerKey), row)
        }
        if let strings { return strings.pointee.read(StringTable.Lookup(operation), row) }
        row.update(repeating: 0, count: codings.count)
        return false
    }
}

/// A record's key, of whatever kind; one of bytes is valid while it is passed on.
public enum RecordKey {
    /// An integer.
    case integer(UInt64)
    /// Bytes.
    case string(UnsafeRawBufferPointer)
}
