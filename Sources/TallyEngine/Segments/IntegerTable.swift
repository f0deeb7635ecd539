public import TallyCore

/// A memtable that is no longer written to, shared with whoever merges it.
final class FrozenMemtable: @unchecked Sendable {
    // Sendable because nothing ever changes.
    let memtable: IntegerMemtable
    let columns: [ColumnCoding]

    init(_ memtable: consuming IntegerMemtable, columns: [ColumnCoding]) {
        self.memtable = memtable
        self.columns = columns
    }
}

/// One partition's records of an integer-keyed family: a memtable over segments.
///
/// Rows are coded (`ColumnCoding`), one value for each of `columns`. A row of zeros is no record.
/// Reading looks into the memtable, then into those that wait to be merged, then into the segment
/// and block whose keys surround the wanted one. Not thread-safe, not even for reading: its
/// partition's lock guards it.
public struct IntegerTable: ~Copyable {
    private(set) var columns: [ColumnCoding]
    private(set) var columnCount: Int
    private let hasher: KeyHasher
    private var memtable: IntegerMemtable
    /// Newest first.
    private var frozen: [Layer] = []
    private(set) var segments: [IntegerSegment] = []
    /// First keys and views of `segments`, side by side for searching.
    private var firstKeys: UnsafeMutablePointer<UInt64>
    private var views: UnsafeMutablePointer<IntegerSegmentView>
    private var segmentCount = 0
    /// For each segment the way from its columns to those of today.
    private var maps: [ColumnMap?] = []
    /// Whether any segment has other columns than those of today.
    private var hasMaps = false
    private var scratch: UnsafeMutablePointer<UInt64>
    /// The keys that were prepared last.
    private let lookups: UnsafeMutablePointer<Lookup>
    /// Room for a row as a segment of other columns has it.
    private let foundRow: UnsafeMutablePointer<UInt64>

    /// How many more records there are because of what is in the memtable.
    private var memtableRecords = 0
    /// How many records there are. After a column has gone, those that had nothing else are counted
    /// until the next merge.
    public private(set) var recordCount = 0

    /// A memtable that waits to be merged.
    private struct Layer {
        let memtable: FrozenMemtable
        /// The way from its columns to those of today.
        var map: ColumnMap?
        /// How many more records there are because of it.
        let records: Int
    }

    /// A table without records.
    public init(columns: [ColumnCoding], hasher: KeyHasher) {
        self.columns = columns
        self.hasher = hasher
        columnCount = columns.count
        memtable = IntegerMemtable(columnCount: columns.count, hasher: hasher)
        firstKeys = .allocate(capacity: 1)
        views = .allocate(capacity: 1)
        scratch = .allocate(capacity: columns.count)
        lookups = .allocate(capacity: Self.batchMax)
        foundRow = .allocate(capacity: SegmentHeader.columnsMax)
    }

    deinit {
        firstKeys.deallocate()
        views.deallocate()
        scratch.deallocate()
        lookups.deallocate()
        foundRow.deallocate()
    }

    /// Rows that have changed since the last merge began.
    public var changedCount: Int { memtable.count }

    /// Memory taken by segments, bytes.
    public var segmentBytes: Int { segments.reduce(0) { $0 + $1.allocatedBytes } }

    /// Memory taken by what has changed, bytes.
    public var memtableBytes: Int {
        frozen.reduce(memtable.allocatedBytes) { $0 + $1.memtable.memtable.allocatedBytes }
    }

    // MARK: Looking up

    /// Where a key that is not in the memtable would be.
    private struct Lookup {
        var key: UInt64
        var hash: UInt64
        var segment = 0
        var block = 0
    }

    /// Most keys that are looked up together.
    public static let batchMax = 64

    /// Finds out where `count` keys, at most `batchMax`, would be, and asks the memory system for it,
    /// so that the waits overlap. They are then read and updated by their number, until the next
    /// keys are prepared.
    public borrowing func prepare(_ keys: UnsafePointer<UInt64>, count: Int) {
        precondition(count <= Self.batchMax, "too many keys at once")
        for index in 0..<count {
            let hash = hasher.hash(keys[index])
            (lookups + index).initialize(to: Lookup(key: keys[index], hash: hash))
            memtable.prefetch(hash)
        }
        guard segmentCount > 0 else { return }
        for index in 0..<count
        where memtable.find(lookups[index].key, hash: lookups[index].hash) == nil {
            let key = lookups[index].key
            let segment = Search.lastIndex(firstKeys, segmentCount, notAbove: key)
            let block = views[segment].blockNumber(key)
            views[segment].prefetch(block)
            lookups[index].segment = segment
            lookups[index].block = block
        }
    }

    @inline(__always)
    private borrowing func isZero(_ row: UnsafePointer<UInt64>) -> Bool {
        var seen: UInt64 = 0
        for column in 0..<columnCount { seen |= row[column] }
        return seen == 0
    }

    /// Writes the row of a prepared key, zeros if it has no record.
    ///
    /// - Returns: whether it has one.
    @inline(__always)
    public borrowing func read(
        prepared index: Int, _ row: UnsafeMutablePointer<UInt64>
    ) -> Bool {
        let lookup = lookups[index]
        if let found = memtable.find(lookup.key, hash: lookup.hash) {
            found.read(row, columnCount)
            return !isZero(row)
        }
        return readBase(lookup, row)
    }

    /// Writes the row of `key`, zeros if it has no record.
    ///
    /// - Returns: whether it has one.
    public borrowing func read(_ key: UInt64, _ row: UnsafeMutablePointer<UInt64>) -> Bool {
        withUnsafePointer(to: key) { prepare($0, count: 1) }
        return read(prepared: 0, row)
    }

    /// Reads what stands under the memtable.
    @inline(__always)
    private borrowing func readBase(
        _ lookup: Lookup, _ row: UnsafeMutablePointer<UInt64>
    ) -> Bool {
        if !frozen.isEmpty, let isPresent = readFrozen(lookup, row) { return isPresent }
        if segmentCount > 0 {
            let view = views[lookup.segment]
            if hasMaps, let map = maps[lookup.segment] {
                if view.read(lookup.key, block: lookup.block, foundRow) {
                    map.apply(foundRow, row)
                    return !isZero(row)
                }
            } else if view.read(lookup.key, block: lookup.block, row) {
                return true
            }
        }
        row.update(repeating: 0, count: columnCount)
        return false
    }

    /// - Returns: nil if no frozen memtable knows the key.
    private borrowing func readFrozen(
        _ lookup: Lookup, _ row: UnsafeMutablePointer<UInt64>
    ) -> Bool? {
        for layer in frozen {
            guard let found = layer.memtable.memtable.find(lookup.key, hash: lookup.hash) else {
                continue
            }
            if let map = layer.map {
                found.read(foundRow, map.sourceCount)
                map.apply(foundRow, row)
            } else {
                found.read(row, columnCount)
            }
            return !isZero(row)
        }
        return nil
    }

    // MARK: Changing

    /// Replaces the value of one column of a prepared key's record by what `change` makes of it, if
    /// it makes anything.
    ///
    /// - Returns: whether it did.
    @inline(__always)
    public mutating func update(
        prepared index: Int, column: Int, _ change: (UInt64) -> UInt64?
    ) -> Bool {
        let lookup = lookups[index]
        let row = memtable.find(lookup.key, hash: lookup.hash)
        if row == nil { _ = readBase(lookup, scratch) }
        let old = row?[column] ?? scratch[column]
        guard let new = change(old) else { return false }
        // Neither before nor after is it a row of zeros.
        if let row, old != 0, new != 0, row.set(column, new) { return true }
        if let row { row.read(scratch, columnCount) }
        let wasPresent = !isZero(scratch)
        scratch[column] = new
        count(wasPresent, isPresent: !isZero(scratch))
        if row == nil {
            memtable.insert(lookup.key, hash: lookup.hash, scratch)
        } else {
            memtable.write(lookup.key, hash: lookup.hash, scratch)
        }
        return true
    }

    /// As `update(prepared:)`, for one key that is not prepared.
    public mutating func update(
        _ key: UInt64, column: Int, _ change: (UInt64) -> UInt64?
    ) -> Bool {
        withUnsafePointer(to: key) { prepare($0, count: 1) }
        return update(prepared: 0, column: column, change)
    }

    @inline(__always)
    private mutating func count(_ wasPresent: Bool, isPresent: Bool) {
        guard wasPresent != isPresent else { return }
        memtableRecords &+= isPresent ? 1 : -1
        recordCount &+= isPresent ? 1 : -1
    }

    /// Replaces the whole record of `key`; a row of zeros removes it.
    public mutating func write(_ key: UInt64, _ row: UnsafePointer<UInt64>) {
        let wasPresent = read(key, scratch)
        count(wasPresent, isPresent: !isZero(row))
        memtable.write(key, hash: hasher.hash(key), row)
    }

    // MARK: Merging

    /// Sets aside what has changed, to be merged; changes go on in a new memtable.
    public mutating func freeze() {
        if memtable.count > 0 { replaceMemtable(columns) }
    }

    private mutating func replaceMemtable(_ columns: [ColumnCoding]) {
        var fresh = IntegerMemtable(columnCount: columns.count, hasher: hasher)
        swap(&fresh, &memtable)
        guard fresh.count > 0 else { return }
        frozen.insert(
            Layer(
                memtable: FrozenMemtable(fresh, columns: self.columns), map: nil,
                records: memtableRecords), at: 0)
        memtableRecords = 0
    }

    /// Goes on with other columns. What there is stays as it is and is read through a map, so this
    /// takes no time that depends on the number of records.
    ///
    /// - Parameter columns: Those that stay keep their coding.
    public mutating func setColumns(_ columns: [ColumnCoding]) {
        precondition(!columns.isEmpty, "a table without columns")
        replaceMemtable(columns)
        self.columns = columns
        columnCount = columns.count
        scratch.deallocate()
        scratch = .allocate(capacity: columnCount)
        for index in frozen.indices {
            frozen[index].map = ColumnMap(from: frozen[index].memtable.columns, to: columns)
        }
        makeMaps()
    }

    private mutating func makeMaps() {
        maps = segments.map { ColumnMap(from: $0.header.columns, to: columns) }
        hasMaps = maps.contains { $0 != nil }
    }

    /// What is to be merged, which may go on elsewhere meanwhile.
    public var mergeInput: IntegerMerge {
        IntegerMerge(columns: columns, frozen: frozen.map(\.memtable), segments: segments)
    }

    /// Takes over what a merge of all that was frozen has made.
    ///
    /// - Parameter merged: How many memtables it had merged, the oldest ones.
    public mutating func adopt(_ segments: [IntegerSegment], merged: Int) {
        frozen.removeLast(merged)
        recordCount = frozen.reduce(memtableRecords) { $0 + $1.records }
        for segment in segments { recordCount += Int(segment.header.recordCount) }
        self.segments = segments
        segmentCount = segments.count
        firstKeys.deallocate()
        views.deallocate()
        firstKeys = .allocate(capacity: max(1, segments.count))
        views = .allocate(capacity: max(1, segments.count))
        for (index, segment) in segments.enumerated() {
            firstKeys[index] = segment.header.firstKey
            (views + index).initialize(to: segment.view)
        }
        makeMaps()
    }

    /// Begins with these segments, in order of their keys.
    public mutating func load(_ segments: [IntegerSegment]) {
        precondition(recordCount == 0 && memtable.count == 0, "loaded into a table with records")
        adopt(segments, merged: 0)
    }
}
