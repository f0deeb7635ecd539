import TallyCore

/// One partition's plain keys: the built-in family, with string keys and one signed 64-bit column.
///
/// A key exists from its first write until it is deleted, at 0 as well.
struct PlainCounters: ~Copyable {
    private var table: StringTable
    private let row: UnsafeMutablePointer<UInt64>

    init(hasher: KeyHasher, cache: BlockCache) {
        table = StringTable(
            columns: [ColumnCoding(column: 0, isSigned: true)], keepsZeroRows: true,
            hasher: hasher, cache: cache)
        row = .allocate(capacity: 1)
    }

    deinit { row.deallocate() }

    var count: Int { table.recordCount }

    @inline(__always)
    var allocatedBytes: Int { table.memtableBytes &+ table.segmentBytes }

    var changedBytes: Int { table.memtableBytes }
    var segmentBytes: Int { table.segmentBytes }

    @inline(__always)
    borrowing func prefetchBucket(_ hash: UInt64) { table.prefetchBucket(hash) }

    @inline(__always)
    borrowing func prefetchRecord(_ hash: UInt64) { table.prefetchRecord(hash) }

    /// A key's counter where it can be read and, in the memtable, changed.
    private enum Found {
        case here(UnsafeMutableRawPointer, Int64)
        /// In what stands under the memtable.
        case below(Int64)
        case nowhere

        /// The counter, nil for none.
        @inline(__always)
        var value: Int64? {
            switch self {
            case .here(_, let value), .below(let value): value
            case .nowhere: nil
            }
        }
    }

    @inline(__always)
    private borrowing func find(_ operation: UnsafePointer<Operation>) -> Found {
        if let record = table.findLive(StringTable.Lookup(operation)) {
            return .here(record, Self.decode(StringMemtable.value(record)))
        }
        guard table.hasBase, table.read(StringTable.Lookup(operation), row) else { return .nowhere }
        return .below(Self.decode(row[0]))
    }

    @inline(__always)
    private static func decode(_ coded: UInt64) -> Int64 { Varint.unzigzag(coded) }

    @inline(__always)
    private mutating func store(
        _ value: Int64, _ found: Found, _ operation: UnsafePointer<Operation>
    ) {
        if case .here(let record, _) = found {
            return StringMemtable.setValue(record, Varint.zigzag(value))
        }
        row[0] = Varint.zigzag(value)
        table.write(StringTable.Lookup(operation), row)
    }

    @inline(__always)
    mutating func apply(_ operation: UnsafePointer<Operation>) -> Outcome {
        switch operation.pointee.kind {
        case .get:
            let value = find(operation).value
            return Outcome(.applied, wasPresent: value != nil, value: value ?? 0)
        case .add: return add(operation)
        case .set, .setIfAbsent, .setIfPresent: return set(operation)
        case .delete: return delete(operation)
        case .readRecord, .setColumns, .setRecord, .deleteRecord, .importRuns, .clear,
            .changeSchema:
            preconditionFailure("not an operation on a plain key")
        }
    }

    @inline(__always)
    private mutating func add(_ operation: UnsafePointer<Operation>) -> Outcome {
        let found = find(operation)
        let old = found.value ?? 0
        let wasPresent = found.value != nil
        let (sum, accepted) = ColumnRules.addWithin64Bits(
            operation.pointee.operand, to: old, count: operation.pointee.count)
        guard accepted > 0 else { return Outcome(.overflow, wasPresent: wasPresent, value: old) }
        store(sum, found, operation)
        return Outcome(.applied, wasPresent: wasPresent, value: sum, acceptedCount: accepted)
    }

    private mutating func set(_ operation: UnsafePointer<Operation>) -> Outcome {
        let found = find(operation)
        let old = found.value ?? 0
        let wasPresent = found.value != nil
        let holds =
            switch operation.pointee.kind {
            case .setIfAbsent: !wasPresent
            case .setIfPresent: wasPresent
            default: true
            }
        if holds { store(operation.pointee.operand, found, operation) }
        return Outcome(holds ? .applied : .unchanged, wasPresent: wasPresent, value: old)
    }

    private mutating func delete(_ operation: UnsafePointer<Operation>) -> Outcome {
        guard let value = find(operation).value else {
            return Outcome(.unchanged, wasPresent: false, value: 0)
        }
        _ = table.remove(StringTable.Lookup(operation))
        return Outcome(.applied, wasPresent: true, value: value)
    }

    /// Whether applying `operation` would create a counter.
    borrowing func wouldCreate(_ operation: UnsafePointer<Operation>) -> Bool {
        switch operation.pointee.kind {
        case .add, .set, .setIfAbsent:
            find(operation).value == nil
        default: false
        }
    }

    /// Whether there are keys that would belong to a family of this name: `name` or `name:…`.
    ///
    /// - Complexity: O(keys that changed since the last merge).
    borrowing func hasKeys(ofFamily name: String) -> Bool {
        table.contains(Array(name.utf8)) || table.containsPrefix(Array("\(name):".utf8))
    }

    /// A block that must be read before `hasKeys(ofFamily:)` need not wait, nil if there is none.
    borrowing func missingBlock(ofFamily name: String) -> ColdBlock? {
        table.missingBlock(Array(name.utf8))
            ?? table.missingBlock(startingWith: Array("\(name):".utf8))
    }

    mutating func removeAll() { table.removeAll() }

    @inline(__always)
    var coldCount: Int { table.coldCount }

    var segments: [Segment] { table.segments }

    borrowing func missingBlock(_ operation: UnsafePointer<Operation>) -> ColdBlock? {
        table.missingBlock(StringTable.Lookup(operation))
    }

    mutating func survey(decay: Double, _ body: (Segment, _ demand: Double) -> Void) {
        table.survey(decay: decay, body)
    }

    mutating func replace(_ segment: Segment, with twin: Segment) -> Bool {
        table.replace(segment, with: twin)
    }

    /// Sets aside what has changed.
    mutating func freeze() -> TableMerge { table.freeze(family: 0) }

    mutating func adopt(_ segments: [Segment], of merge: TableMerge) {
        table.adopt(segments, of: merge)
    }

    /// Begins with these segments, in order of their keys.
    mutating func load(_ segments: [Segment]) {
        table.load(segments.compactMap { $0 as? StringSegment })
    }

    borrowing func forEach(_ body: (UnsafeRawBufferPointer, Int64) -> Void) {
        table.forEach { body($0, Self.decode($1[0])) }
    }

    borrowing func checkInvariants() { table.checkInvariants() }
}
