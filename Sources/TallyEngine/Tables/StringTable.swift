public import TallyCore

/// A memtable that is no longer written to, shared with whoever merges it.
final class FrozenStringMemtable: @unchecked Sendable {
    // Sendable because nothing ever changes.
    let memtable: StringMemtable
    let columns: [ColumnCoding]

    init(_ memtable: consuming StringMemtable, columns: [ColumnCoding]) {
        self.memtable = memtable
        self.columns = columns
    }
}

/// One partition's records of a string-keyed family: a memtable over segments.
///
/// The same as `IntegerTable` for keys of bytes. A table may keep records of zeros: then a key exists
/// from its first write until it is removed. Not thread-safe: its partition's lock guards it.
public struct StringTable: ~Copyable {
    var columns: [ColumnCoding]
    var columnCount: Int
    let keepsZeroRows: Bool
    /// Keys below it are left out of merges, nil for none.
    var floor: [UInt8]?
    let hasher: KeyHasher
    /// Blocks of cold segments.
    let cache: BlockCache
    var memtable: StringMemtable
    /// Newest first.
    var frozen: [Layer] = []
    var segments: [StringSegment] = []
    var demand = SegmentDemand()
    /// How many segments are cold.
    public internal(set) var coldCount = 0
    /// For each segment the way from its columns to those of today.
    var maps: [ColumnMap?] = []
    /// Whether there is anything under the memtable.
    var hasBase = false
    var scratch: UnsafeMutablePointer<UInt64>
    /// Room for a row as a segment of other columns has it.
    let foundRow: UnsafeMutablePointer<UInt64>
    /// Room for a row that nobody wants.
    let spareRow: UnsafeMutablePointer<UInt64>

    /// Changes whenever everything is removed, so that no merge of what was there is adopted.
    public internal(set) var generation: UInt64 = 0
    /// How many more records there are because of what is in the memtable.
    var memtableRecords = 0
    /// How many records there are. After a column has gone, those that had nothing else are counted
    /// until the next merge.
    public internal(set) var recordCount = 0
    /// Memory taken by segments, bytes.
    public internal(set) var segmentBytes = 0
    var frozenBytes = 0

    struct Layer {
        let content: StringLayer
        /// The way from its columns to those of today.
        var map: ColumnMap?
        /// How many more records there are because of it.
        let records: Int
    }

    /// A key and its hash.
    public struct Lookup {
        let start: UnsafeRawPointer
        let count: Int
        let hash: UInt64

        /// The key of `count` bytes at `start`, whose `KeyHasher` hash is `hash`.
        @inline(__always)
        public init(_ start: UnsafeRawPointer, count: Int, hash: UInt64) {
            self.start = start
            self.count = count
            self.hash = hash
        }

        /// The key of an operation.
        @inline(__always)
        init(_ operation: UnsafePointer<Operation>) {
            self.init(
                operation.pointee.key, count: Int(operation.pointee.keyByteCount),
                hash: operation.pointee.hash)
        }

        var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: start, count: count) }
    }

    /// A table without records.
    public init(
        columns: [ColumnCoding], keepsZeroRows: Bool, hasher: KeyHasher,
        cache: BlockCache = BlockCache()
    ) {
        self.columns = columns
        self.cache = cache
        self.keepsZeroRows = keepsZeroRows
        self.hasher = hasher
        columnCount = columns.count
        memtable = StringMemtable(columnCount: columns.count, hasher: hasher)
        scratch = .allocate(capacity: columns.count)
        foundRow = .allocate(capacity: SegmentHeader.columnsMax)
        spareRow = .allocate(capacity: SegmentHeader.columnsMax)
    }

    deinit {
        scratch.deallocate()
        foundRow.deallocate()
        spareRow.deallocate()
    }

    /// Rows that have changed since the last merge began.
    public var changedCount: Int { memtable.count }

    /// Memory taken by what has changed, bytes.
    @inline(__always)
    public var memtableBytes: Int { memtable.allocatedBytes &+ frozenBytes }

    // MARK: Looking up

    /// Asks the memory system for what `prefetchRecord` needs.
    @inline(__always)
    borrowing func prefetchBucket(_ hash: UInt64) { memtable.prefetchBucket(hash) }

    /// Asks the memory system for the memtable's record of a key.
    @inline(__always)
    borrowing func prefetchRecord(_ hash: UInt64) { memtable.prefetchRecord(hash) }

    /// The memtable's record of a key, nil if it has none or says that the key has been removed.
    @inline(__always)
    borrowing func findLive(_ key: Lookup) -> UnsafeMutableRawPointer? {
        guard let record = memtable.find(key.start, key.count, hash: key.hash),
            !StringMemtable.isRemoved(record)
        else { return nil }
        return record
    }

    /// Writes the row of a key, zeros if it has no record.
    ///
    /// - Returns: whether it has one.
    public borrowing func read(_ key: Lookup, _ row: UnsafeMutablePointer<UInt64>) -> Bool {
        if let record = memtable.find(key.start, key.count, hash: key.hash) {
            if !StringMemtable.isRemoved(record) {
                memtable.read(record, row)
                return true
            }
        } else if hasBase, readBase(key, row) {
            return true
        }
        row.update(repeating: 0, count: columnCount)
        return false
    }

    /// Reads what stands under the memtable.
    ///
    /// - Returns: whether there is a record; `row` is written only then.
    @inline(never)
    private borrowing func readBase(
        _ key: Lookup, _ row: UnsafeMutablePointer<UInt64>
    ) -> Bool {
        for layer in frozen {
            let target = layer.map == nil ? row : foundRow
            switch layer.content.read(key, target) {
            case .unknown: continue
            case .removed: return false
            case .found:
                if let map = layer.map { map.apply(foundRow, row) }
                return keepsZeroRows || !isZero(row)
            }
        }
        guard let index = segmentIndex(key.bytes) else { return false }
        demand.note(index)
        let view = segments[index].view
        let number = view.blockNumber(key.bytes)
        guard let block = blockBytes(index, number, hash: key.hash) else { return false }
        let layout = view.layout(of: block)
        guard let rank = layout.rank(key.bytes) else { return false }
        return take(row, maps[index]) { layout.rows.read(rank, $0) }
    }

    /// A block that may hold a key of this hash; nil if it cannot, or cannot be read.
    borrowing func blockBytes(
        _ index: Int, _ number: Int, hash: UInt64?
    ) -> UnsafeRawBufferPointer? {
        let view = segments[index].view
        guard view.isCold else { return view.block(number) }
        return coldBlock(index, number, hash: hash).flatMap { cache.bytes(of: $0) }
    }

    /// Calls `body` with a block, which stays whatever else is read meanwhile; not with one that cannot be
    /// read.
    borrowing func withBlock(
        _ index: Int, _ number: Int, _ body: (StringBlock.Layout) -> Void
    ) {
        let view = segments[index].view
        guard view.isCold else { return body(view.layout(of: view.block(number))) }
        guard
            let content = coldBlock(index, number, hash: nil).flatMap({ cache.content(of: $0) })
        else { return }
        withExtendedLifetime(content) { body(view.layout(of: content.bytes)) }
    }

    borrowing func coldBlock(_ index: Int, _ number: Int, hash: UInt64?) -> ColdBlock? {
        let segment = segments[index]
        if let hash, !segment.mayContain(hash) { return nil }
        return segment.coldBlock(number, segment.view.blockRange(number))
    }

    /// The block that must be read from the disk before an operation on a key can be applied without
    /// waiting; nil if there is none.
    borrowing func missingBlock(_ key: Lookup) -> ColdBlock? {
        guard coldCount > 0, let index = segmentIndex(key.bytes) else { return nil }
        let view = segments[index].view
        guard view.isCold, memtable.find(key.start, key.count, hash: key.hash) == nil,
            !frozen.contains(where: { $0.content.read(key, spareRow) != .unknown }),
            let block = coldBlock(index, view.blockNumber(key.bytes), hash: key.hash),
            !cache.keep(block.address)
        else { return nil }
        return block
    }

    /// Whether the last look at a key failed; nothing must then be changed.
    @inline(__always)
    var hasFailed: Bool { coldCount > 0 && cache.hasFailed }

    /// Lets `read` write a row and takes it to the columns of today.
    ///
    /// - Returns: whether it is a record's.
    borrowing func take(
        _ row: UnsafeMutablePointer<UInt64>, _ map: ColumnMap?,
        _ read: (UnsafeMutablePointer<UInt64>) -> Void
    ) -> Bool {
        if let map {
            read(foundRow)
            map.apply(foundRow, row)
        } else {
            read(row)
        }
        return keepsZeroRows || !isZero(row)
    }

    borrowing func isZero(_ row: UnsafePointer<UInt64>) -> Bool {
        var seen: UInt64 = 0
        for column in 0..<columnCount { seen |= row[column] }
        return seen == 0
    }

    /// The segment that holds `key` if any does.
    borrowing func segmentIndex(_ key: UnsafeRawBufferPointer) -> Int? {
        guard !segments.isEmpty else { return nil }
        var low = 0
        var high = segments.count
        while high - low > 1 {
            let middle = (low + high) >> 1
            if Bytes.isLess(key, segments[middle].view.separator(0)) {
                high = middle
            } else {
                low = middle
            }
        }
        return low
    }

    /// Whether there is a record of `key`.
    borrowing func contains(_ key: [UInt8]) -> Bool {
        withLookup(key) { read($0, spareRow) } ?? false
    }

    /// The block that must be read before `contains` need not wait, nil if there is none.
    borrowing func missingBlock(_ key: [UInt8]) -> ColdBlock? {
        withLookup(key) { missingBlock($0) } ?? nil
    }

    private borrowing func withLookup<Result>(
        _ key: [UInt8], _ body: (Lookup) -> Result
    ) -> Result? {
        key.withUnsafeBytes { bytes in
            bytes.baseAddress.map {
                body(Lookup($0, count: bytes.count, hash: hasher.hash(bytes)))
            }
        }
    }

    /// Whether there is a record of a key that starts with `prefix`.
    ///
    /// Where such keys have been removed lately and are on disk only, they may still count, until the next
    /// merge: it does not read more of the disk than `missingBlock(startingWith:)` asks for.
    ///
    /// - Complexity: O(changed records + log records) but where such keys have been removed lately.
    borrowing func containsPrefix(_ prefix: [UInt8]) -> Bool {
        var isFound = false
        visit(startingWith: prefix, readingAll: false) { _, _ in
            isFound = true
            return false
        }
        return isFound
    }

    /// The segments that may have keys that start with `prefix`.
    borrowing func segmentRange(startingWith prefix: [UInt8]) -> Range<Int> {
        prefix.withUnsafeBytes { prefix in
            guard let first = segmentIndex(prefix) else { return 0..<0 }
            var end = first + 1
            while end < segments.count,
                segments[end].view.mayStart(0, with: prefix)
            {
                end += 1
            }
            return first..<end
        }
    }

    /// A block that must be read before `containsPrefix` need not wait, nil if there is none.
    ///
    /// Only the first two of those that may have such keys: the second begins with one.
    borrowing func missingBlock(startingWith prefix: [UInt8]) -> ColdBlock? {
        guard coldCount > 0 else { return nil }
        for index in segmentRange(startingWith: prefix).prefix(2) where segments[index].isCold {
            let view = segments[index].view
            for number in prefix.withUnsafeBytes({ view.blocks(startingWith: $0) }).prefix(2) {
                if let block = coldBlock(index, number, hash: nil), !cache.keep(block.address) {
                    return block
                }
            }
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
        _ key: Lookup, column: Int, _ change: (UInt64) -> UInt64?
    ) -> Bool {
        _ = read(key, scratch)
        guard !hasFailed, let new = change(scratch[column]) else { return false }
        scratch[column] = new
        write(key, scratch)
        return true
    }

    /// Replaces the whole record of a key; a row of zeros removes it, unless the table keeps those.
    public mutating func write(_ key: Lookup, _ row: UnsafePointer<UInt64>) {
        guard keepsZeroRows || !isZero(row) else { return _ = remove(key) }
        if let record = memtable.find(key.start, key.count, hash: key.hash) {
            if StringMemtable.isRemoved(record) { count(1) }
            memtable.write(record, row)
            return
        }
        let wasPresent = hasBase && readBase(key, spareRow)
        if !hasFailed { insert(key, row, wasPresent: wasPresent) }
    }

    /// Adds a record to a memtable that has none for its key.
    @inline(__always)
    mutating func insert(_ key: Lookup, _ row: UnsafePointer<UInt64>, wasPresent: Bool) {
        if !wasPresent { count(1) }
        let record = memtable.insert(key.start, key.count, hash: key.hash, value: row[0])
        if columnCount > 1 { memtable.write(record, row) }
    }

    /// Removes the record of a key.
    ///
    /// - Returns: whether there was one.
    public mutating func remove(_ key: Lookup) -> Bool {
        if let record = memtable.find(key.start, key.count, hash: key.hash) {
            if StringMemtable.isRemoved(record) { return false }
            count(-1)
            if hasBase {
                scratch.update(repeating: 0, count: columnCount)
                memtable.write(record, scratch, isRemoved: true)
            } else {
                memtable.remove(key.start, key.count, hash: key.hash)
            }
            return true
        }
        guard hasBase, readBase(key, spareRow), !hasFailed else { return false }
        count(-1)
        scratch.update(repeating: 0, count: columnCount)
        let record = memtable.insert(key.start, key.count, hash: key.hash, value: 0)
        memtable.write(record, scratch, isRemoved: true)
        return true
    }

    @inline(__always)
    private mutating func count(_ difference: Int) {
        memtableRecords &+= difference
        recordCount &+= difference
    }

    /// Removes everything.
    public mutating func removeAll() {
        memtable.removeAll()
        memtableRecords = 0
        generation += 1
        adopt([], merged: frozen.count)
    }
}
