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
    private let isKnownOnly: Bool
    private let isDeletedFinal: Bool
    private var rules: UnsafeMutablePointer<ColumnRules>
    private(set) var columnCount = 0
    private var codings: [ColumnCoding] = []
    private let hasher: KeyHasher
    private let cache: BlockCache
    private let place: PartitionPlace
    /// Made when the first record comes; at most one of the two.
    private var integers: UnsafeMutablePointer<IntegerTable>?
    private var strings: UnsafeMutablePointer<StringTable>?
    private(set) var keyKind: KeyKind?
    private let row: UnsafeMutablePointer<UInt64>

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

    private var hasState: Bool { isKnownOnly || isDeletedFinal }

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
    private borrowing func columnIndex(_ number: UInt32) -> Int? {
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
    private mutating func makeTable() {
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

    // MARK: One row

    /// Whether the row is that of a record that a client may see.
    private var isPresent: Bool {
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
    private borrowing func read(
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
    private borrowing func refusal(
        _ operation: UnsafePointer<Operation>, _ rows: UnsafeMutablePointer<Int64>
    ) -> Outcome.Status? {
        switch operation.pointee.kind {
        case .add, .delete:
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
        case .get, .readRecord, .importRuns, .clear, .changeSchema:
            preconditionFailure("not a change of a record")
        }
        guard hasState else { return nil }
        let state = row[columnCount]
        if isDeletedFinal, state == State.deleted, operation.pointee.kind != .deleteRecord {
            return .deletedKey
        }
        if isKnownOnly, state != State.known {
            switch operation.pointee.kind {
            case .add, .setIfPresent, .delete: return .unknownKey
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
    private borrowing func change(
        _ operation: UnsafePointer<Operation>, _ rows: UnsafeMutablePointer<Int64>
    ) -> Outcome {
        switch operation.pointee.kind {
        case .add: changeByAdding(operation)
        case .set, .setIfAbsent, .setIfPresent, .delete: changeColumn(operation)
        case .setColumns, .setRecord: changeColumns(operation, rows)
        case .deleteRecord: delete()
        case .get, .readRecord, .importRuns, .clear, .changeSchema:
            preconditionFailure("not a change of a record")
        }
    }

    private borrowing func changeByAdding(_ operation: UnsafePointer<Operation>) -> Outcome {
        guard let column = columnIndex(operation.pointee.column) else {
            return Outcome(refused: .schemaChanged)
        }
        let outcome = rules[column].outcome(ofAdding: operation, toCoded: row[column])
        if outcome.status == .applied {
            row[column] = rules[column].coding.encode(outcome.value)
        }
        return outcome
    }

    private borrowing func changeColumn(_ operation: UnsafePointer<Operation>) -> Outcome {
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

    private borrowing func changeColumns(
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

    private borrowing func markKnown() {
        if isKnownOnly { row[columnCount] = State.known }
    }

    private borrowing func delete() -> Outcome {
        let wasPresent = isPresent
        let state = hasState ? row[columnCount] : State.none
        row.update(repeating: 0, count: codings.count)
        if isDeletedFinal { row[columnCount] = State.deleted }
        let hasChanged = wasPresent || isDeletedFinal && state != State.deleted
        return Outcome(hasChanged ? .applied : .unchanged, wasPresent: wasPresent, value: 0)
    }

    // MARK: Judging without changing

    /// Whether applying `operation` would create a record.
    mutating func wouldCreate(_ operation: UnsafePointer<Operation>) -> Bool {
        switch operation.pointee.kind {
        case .add, .set, .setIfAbsent, .setColumns, .setRecord: !readRow(operation)
        case .deleteRecord: isDeletedFinal && !readRow(operation)
        default: false
        }
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

    // MARK: Imports

    /// Why imported records cannot be taken over; nil if they can.
    private func refusal(of imported: ImportedRuns) -> Outcome.Status? {
        let kind: SegmentKind = keyKind == .integer ? .integer : .string
        let fits = imported.runs.allSatisfy { run in
            run.allSatisfy { segment in
                segment.header.kind == kind
                    && segment.header.columns.allSatisfy(codings.contains)
            }
        }
        guard keyKind != nil, columnCount > 0, fits else { return .schemaChanged }
        // What was deleted for ever would come back.
        return isDeletedFinal && recordCount > 0 ? .deletedKey : nil
    }

    private mutating func take(_ imported: ImportedRuns) -> Outcome {
        if let refusal = refusal(of: imported) { return Outcome(refused: refusal) }
        makeTable()
        for run in imported.runs where !run.isEmpty {
            integers?.pointee.add(run: run.compactMap { $0 as? IntegerSegment })
            strings?.pointee.add(run: run.compactMap { $0 as? StringSegment })
        }
        return Outcome(.applied, wasPresent: true, value: 0)
    }

    // MARK: Everything

    /// Removes all records.
    mutating func removeAll() {
        integers?.pointee.removeAll()
        strings?.pointee.removeAll()
    }

    /// Calls `body` with every record's key and values, of those that a client may see.
    func forEach(_ body: (RecordKey, UnsafeBufferPointer<Int64>) -> Void) {
        let values = UnsafeMutableBufferPointer<Int64>.allocate(capacity: columnCount)
        defer { values.deallocate() }
        integers?.pointee.forEach { show(.integer(place.expand($0)), $1, values, body) }
        strings?.pointee.forEach { show(.string($0), $1, values, body) }
    }

    private borrowing func show(
        _ key: RecordKey, _ found: UnsafePointer<UInt64>,
        _ values: UnsafeMutableBufferPointer<Int64>,
        _ body: (RecordKey, UnsafeBufferPointer<Int64>) -> Void
    ) {
        row.update(from: found, count: codings.count)
        guard isPresent else { return }
        for column in 0..<columnCount { values[column] = rules[column].coding.decode(row[column]) }
        body(key, UnsafeBufferPointer(values))
    }

    // MARK: Residency

    var segments: [Segment] { integers?.pointee.segments ?? strings?.pointee.segments ?? [] }

    /// How many segments are cold.
    @inline(__always)
    var coldCount: Int {
        if let integers { return integers.pointee.coldCount }
        return strings?.pointee.coldCount ?? 0
    }

    /// The block that must be read from the disk before `operation` can be applied without waiting.
    borrowing func missingBlock(_ operation: UnsafePointer<Operation>) -> ColdBlock? {
        guard operation.pointee.keyKind == keyKind, operation.pointee.kind != .importRuns else {
            return nil
        }
        if let integers {
            return integers.pointee.missingBlock(
                place.compact(operation.pointee.integerKey), hash: operation.pointee.hash)
        }
        return strings?.pointee.missingBlock(StringTable.Lookup(operation))
    }

    mutating func survey(_ body: (Segment, _ demand: Double) -> Void) {
        integers?.pointee.survey(body)
        strings?.pointee.survey(body)
    }

    mutating func replace(_ segment: Segment, with twin: Segment) -> Bool {
        if let integers { return integers.pointee.replace(segment, with: twin) }
        return strings?.pointee.replace(segment, with: twin) ?? false
    }

    // MARK: Merging

    /// Sets aside what has changed.
    ///
    /// - Returns: what is to be merged, nil if there are no records.
    mutating func freeze() -> TableMerge? {
        if let integers { return integers.pointee.freeze(family: number) }
        return strings?.pointee.freeze(family: number)
    }

    /// Takes over what a merge has made.
    mutating func adopt(_ segments: [Segment], of merge: TableMerge) {
        integers?.pointee.adopt(segments, of: merge)
        strings?.pointee.adopt(segments, of: merge)
    }

    /// Begins with these segments, in order of their keys.
    mutating func load(_ segments: [Segment]) {
        makeTable()
        integers?.pointee.load(segments.compactMap { $0 as? IntegerSegment })
        strings?.pointee.load(segments.compactMap { $0 as? StringSegment })
    }
}

/// A record's key, of whatever kind; one of bytes is valid while it is passed on.
public enum RecordKey {
    /// An integer.
    case integer(UInt64)
    /// Bytes.
    case string(UnsafeRawBufferPointer)
}
