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
    var columns: [ColumnCoding]
    var columnCount: Int
    let hasher: KeyHasher
    /// Blocks of cold segments.
    let cache: BlockCache
    var memtable: IntegerMemtable
    /// Newest first.
    var frozen: [Layer] = []
    var segments: [IntegerSegment] = []
    /// How many segments are cold.
    public internal(set) var coldCount = 0
    /// First keys and views of `segments`, side by side for searching.
    var firstKeys: UnsafeMutablePointer<UInt64>
    var views: UnsafeMutablePointer<IntegerSegmentView>
    var segmentCount = 0
    var demand = SegmentDemand()
    /// For each segment the way from its columns to those of today.
    var maps: [ColumnMap?] = []
    /// Whether any segment has other columns than those of today.
    var hasMaps = false
    var scratch: UnsafeMutablePointer<UInt64>
    /// Room for a row as a segment of other columns has it.
    let foundRow: UnsafeMutablePointer<UInt64>

    /// Changes whenever everything is removed, so that no merge of what was there is adopted.
    public internal(set) var generation: UInt64 = 0
    /// How many more records there are because of what is in the memtable.
    var memtableRecords = 0
    /// How many records there are. After a column has gone, those that had nothing else are counted
    /// until the next merge.
    public internal(set) var recordCount = 0

    /// What waits to be merged.
    struct Layer {
        let content: IntegerLayer
        /// The way from its columns to those of today.
        var map: ColumnMap?
        /// How many more records there are because of it.
        let records: Int
    }

    /// A table without records.
    public init(
        columns: [ColumnCoding], hasher: KeyHasher, cache: BlockCache = BlockCache()
    ) {
        self.columns = columns
        self.hasher = hasher
        self.cache = cache
        columnCount = columns.count
        memtable = IntegerMemtable(columnCount: columns.count, hasher: hasher)
        firstKeys = .allocate(capacity: 1)
        views = .allocate(capacity: 1)
        scratch = .allocate(capacity: columns.count)
        foundRow = .allocate(capacity: SegmentHeader.columnsMax)
    }

    deinit {
        firstKeys.deallocate()
        views.deallocate()
        scratch.deallocate()
        foundRow.deallocate()
    }

    /// Rows that have changed since the last merge began.
    public var changedCount: Int { memtable.count }

    /// Memory taken by segments, bytes.
    public internal(set) var segmentBytes = 0

    /// Memory taken by what waits to be merged, bytes.
    var frozenBytes = 0

    /// Memory taken by what has changed, bytes.
    public var memtableBytes: Int { memtable.allocatedBytes &+ frozenBytes }

    // MARK: Looking up

    /// Where a key that is not in the memtable would be. Good until the table's segments change.
    public struct Lookup {
        /// The key.
        public let key: UInt64
        let hash: UInt64
        /// The memtable's row, as it was when its version was `version`.
        fileprivate var row: IntegerMemtable.Row?
        fileprivate var version: UInt32 = 0
        fileprivate var segment: Int32 = 0
        /// The block; its part of the search table until it is known.
        fileprivate var block: Int32 = 0

        /// In the place of a segment: the key is in the memtable, or there are no segments.
        fileprivate static var nowhere: Int32 { -1 }

        /// Of a key whose place is not known yet, and its `KeyHasher` hash.
        @inline(__always)
        public init(key: UInt64, hash: UInt64) {
            self.key = key
            self.hash = hash
        }
    }

    /// Asks the memory system for what `locateSegment` needs.
    ///
    /// Finding a record that is not in the memtable takes four loads, each at a place that the one before
    /// says. Doing each for several keys before the next lets the waits overlap.
    @inline(__always)
    public borrowing func prefetch(hash: UInt64) { memtable.prefetch(hash) }

    /// Finds out which segment would hold a key, and asks for what `locateIndex` needs.
    @inline(__always)
    public borrowing func locateSegment(_ lookup: inout Lookup) {
        lookup.row = memtable.find(lookup.key, hash: lookup.hash)
        lookup.version = memtable.version
        guard segmentCount > 0, lookup.row == nil else {
            lookup.segment = Lookup.nowhere
            return
        }
        let segment = Search.lastIndex(firstKeys, segmentCount, notAbove: lookup.key)
        let part = views[segment].table.part(lookup.key)
        views[segment].table.prefetch(part: part)
        lookup.segment = Int32(truncatingIfNeeded: segment)
        lookup.block = Int32(truncatingIfNeeded: part)
    }

    /// Finds out where in the segment's index a key would be, and asks for what `locateBlock` needs.
    @inline(__always)
    public borrowing func locateIndex(_ lookup: inout Lookup) {
        guard lookup.segment >= 0 else { return }
        views[Int(lookup.segment)].prefetchIndex(part: Int(lookup.block))
    }

    /// Finds out which block would hold a key, and asks for the block.
    @inline(__always)
    public borrowing func locateBlock(_ lookup: inout Lookup) {
        guard lookup.segment >= 0 else {
            lookup.segment = 0
            lookup.block = 0
            return
        }
        let view = views + Int(lookup.segment)
        demand.note(Int(lookup.segment))
        let block = view.pointee.blockNumber(lookup.key, inPart: Int(lookup.block))
        view.pointee.prefetch(block)
        lookup.block = Int32(truncatingIfNeeded: block)
    }

    /// All of this for one key.
    @inline(__always)
    public borrowing func locate(_ lookup: inout Lookup) {
        locateSegment(&lookup)
        locateBlock(&lookup)
    }

    /// The memtable's row of a key, nil if it has none.
    @inline(__always)
    private borrowing func changed(_ lookup: Lookup) -> IntegerMemtable.Row? {
        lookup.version == memtable.version
            ? lookup.row : memtable.find(lookup.key, hash: lookup.hash)
    }

    @inline(__always)
    borrowing func isZero(_ row: UnsafePointer<UInt64>) -> Bool {
        var seen: UInt64 = 0
        for column in 0..<columnCount { seen |= row[column] }
        return seen == 0
    }

    /// Writes the row of a key, zeros if it has no record.
    ///
    /// - Returns: whether it has one.
    @inline(__always)
    public borrowing func read(
        _ lookup: Lookup, _ row: UnsafeMutablePointer<UInt64>
    ) -> Bool {
        if let found = changed(lookup) {
            found.read(row, columnCount)
            return !isZero(row)
        }
        return readBase(lookup, row)
    }

    /// Writes the row of `key`, zeros if it has no record.
    ///
    /// - Returns: whether it has one.
    public borrowing func read(_ key: UInt64, _ row: UnsafeMutablePointer<UInt64>) -> Bool {
        read(located(key), row)
    }

    private borrowing func located(_ key: UInt64) -> Lookup {
        var lookup = Lookup(key: key, hash: hasher.hash(key))
        locate(&lookup)
        return lookup
    }

    /// Reads what stands under the memtable.
    @inline(__always)
    private borrowing func readBase(
        _ lookup: Lookup, _ row: UnsafeMutablePointer<UInt64>
    ) -> Bool {
        if !frozen.isEmpty, let isPresent = readFrozen(lookup, row) { return isPresent }
        if segmentCount > 0 {
            let view = views + Int(lookup.segment)
            if hasMaps || view.pointee.isCold { return readRarely(lookup, view.pointee, row) }
            if view.pointee.read(lookup.key, block: Int(lookup.block), row) { return true }
        }
        row.update(repeating: 0, count: columnCount)
        return false
    }

    /// Reads from a segment that may be cold, or have other columns than those of today.
    @inline(never)
    private borrowing func readRarely(
        _ lookup: Lookup, _ view: IntegerSegmentView, _ row: UnsafeMutablePointer<UInt64>
    ) -> Bool {
        let number = Int(lookup.block)
        let map = maps[Int(lookup.segment)]
        let target = map == nil ? row : foundRow
        if let block = blockBytes(lookup, view),
            view.read(lookup.key, block: number, in: block, target)
        {
            guard let map else { return true }
            map.apply(foundRow, row)
            return !isZero(row)
        }
        row.update(repeating: 0, count: columnCount)
        return false
    }

    /// The block that would hold a key; nil if it cannot have it, or cannot be read.
    borrowing func blockBytes(
        _ lookup: Lookup, _ view: IntegerSegmentView
    ) -> UnsafeRawBufferPointer? {
        guard view.isCold else { return view.block(Int(lookup.block)) }
        return coldBlock(lookup, view).flatMap { cache.bytes(of: $0) }
    }

    /// The block of a cold segment that may hold a key.
    borrowing func coldBlock(_ lookup: Lookup, _ view: IntegerSegmentView) -> ColdBlock? {
        let segment = segments[Int(lookup.segment)]
        let block = Int(lookup.block)
        guard lookup.key >= view.firstKeys[block], lookup.key <= view.lastKey,
            segment.mayContain(lookup.hash)
        else { return nil }
        return segment.coldBlock(block, view.blockRange(block))
    }

    /// The block that must be read from the disk before an operation on `key` can be applied without
    /// waiting; nil if there is none.
    public borrowing func missingBlock(_ key: UInt64, hash: UInt64) -> ColdBlock? {
        guard coldCount > 0 else { return nil }
        let segment = Search.lastIndex(firstKeys, segmentCount, notAbove: key)
        guard views[segment].isCold, memtable.find(key, hash: hash) == nil,
            !frozen.contains(where: { $0.content.contains(key, hash: hash) })
        else { return nil }
        var lookup = Lookup(key: key, hash: hash)
        lookup.segment = Int32(truncatingIfNeeded: segment)
        lookup.block = Int32(truncatingIfNeeded: views[segment].blockNumber(key))
        guard let block = coldBlock(lookup, views[segment]), !cache.keep(block.address) else {
            return nil
        }
        return block
    }

    /// Whether the last look at a key failed; nothing must then be changed.
    @inline(__always)
    var hasFailed: Bool { coldCount > 0 && cache.hasFailed }

    /// - Returns: nil if no frozen memtable knows the key.
    private borrowing func readFrozen(
        _ lookup: Lookup, _ row: UnsafeMutablePointer<UInt64>
    ) -> Bool? {
        for layer in frozen {
            let target = layer.map == nil ? row : foundRow
            guard layer.content.read(lookup.key, hash: lookup.hash, target) else { continue }
            if let map = layer.map { map.apply(foundRow, row) }
            return !isZero(row)
        }
        return nil
    }

    // MARK: Changing

    /// Replaces the value of one column of a key's record by what `change` makes of it, if it makes
    /// anything.
    ///
    /// - Returns: whether it did.
    @inline(__always)
    public mutating func update(
        _ lookup: Lookup, column: Int, _ change: (UInt64) -> UInt64?
    ) -> Bool {
        let row = changed(lookup)
        if row == nil {
            _ = readBase(lookup, scratch)
            if hasFailed { return false }
        }
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

    /// As above, of a key that is not located yet.
    public mutating func update(
        _ key: UInt64, column: Int, _ change: (UInt64) -> UInt64?
    ) -> Bool {
        update(located(key), column: column, change)
    }

    @inline(__always)
    private mutating func count(_ wasPresent: Bool, isPresent: Bool) {
        guard wasPresent != isPresent else { return }
        memtableRecords &+= isPresent ? 1 : -1
        recordCount &+= isPresent ? 1 : -1
    }

    /// Replaces the whole record of a key; a row of zeros removes it.
    public mutating func write(_ lookup: Lookup, _ row: UnsafePointer<UInt64>) {
        let wasPresent = read(lookup, scratch)
        if hasFailed { return }
        count(wasPresent, isPresent: !isZero(row))
        memtable.write(lookup.key, hash: lookup.hash, row)
    }

    /// As above, of a key that is not located yet.
    public mutating func write(_ key: UInt64, _ row: UnsafePointer<UInt64>) {
        write(located(key), row)
    }
}
