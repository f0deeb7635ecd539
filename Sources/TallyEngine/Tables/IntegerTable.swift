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
    /// Blocks of cold segments.
    private let cache: BlockCache
    private var memtable: IntegerMemtable
    /// Newest first.
    private var frozen: [Layer] = []
    private(set) var segments: [IntegerSegment] = []
    /// First keys and views of `segments`, side by side for searching.
    private var firstKeys: UnsafeMutablePointer<UInt64>
    private var views: UnsafeMutablePointer<IntegerSegmentView>
    /// How often each segment was asked for a key since the last survey.
    private var uses: UnsafeMutablePointer<UInt32>
    private var segmentCount = 0
    private var demand = SegmentDemand()
    /// For each segment the way from its columns to those of today.
    private var maps: [ColumnMap?] = []
    /// Whether any segment has other columns than those of today.
    private var hasMaps = false
    private var scratch: UnsafeMutablePointer<UInt64>
    /// Room for a row as a segment of other columns has it.
    private let foundRow: UnsafeMutablePointer<UInt64>

    /// Changes whenever everything is removed, so that no merge of what was there is adopted.
    public private(set) var generation: UInt64 = 0
    /// How many more records there are because of what is in the memtable.
    private var memtableRecords = 0
    /// How many records there are. After a column has gone, those that had nothing else are counted
    /// until the next merge.
    public private(set) var recordCount = 0

    /// What waits to be merged.
    private struct Layer {
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
        uses = .allocate(capacity: 1)
        scratch = .allocate(capacity: columns.count)
        foundRow = .allocate(capacity: SegmentHeader.columnsMax)
    }

    deinit {
        firstKeys.deallocate()
        views.deallocate()
        uses.deallocate()
        scratch.deallocate()
        foundRow.deallocate()
    }

    /// Rows that have changed since the last merge began.
    public var changedCount: Int { memtable.count }

    /// Memory taken by segments, bytes.
    public private(set) var segmentBytes = 0

    /// Memory taken by what waits to be merged, bytes.
    private var frozenBytes = 0

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
        uses[Int(lookup.segment)] &+= 1
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
    private borrowing func isZero(_ row: UnsafePointer<UInt64>) -> Bool {
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
    private borrowing func blockBytes(
        _ lookup: Lookup, _ view: IntegerSegmentView
    ) -> UnsafeRawBufferPointer? {
        guard view.isCold else { return view.block(Int(lookup.block)) }
        return coldBlock(lookup, view).flatMap { cache.bytes(of: $0) }
    }

    /// The block of a cold segment that may hold a key.
    private borrowing func coldBlock(_ lookup: Lookup, _ view: IntegerSegmentView) -> ColdBlock? {
        let segment = segments[Int(lookup.segment)]
        let block = Int(lookup.block)
        guard lookup.key >= view.firstKeys[block], lookup.key <= view.lastKey,
            segment.filter?.mayContain(lookup.hash) ?? true
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
    private var hasFailed: Bool { coldCount > 0 && cache.hasFailed }

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
                content: .memtable(FrozenMemtable(fresh, columns: self.columns)), map: nil,
                records: memtableRecords), at: 0)
        memtableRecords = 0
        noteFrozen()
    }

    /// Puts records over all that there are, in segments of this table's columns, in order of their
    /// keys. Until the next merge each is counted as one more.
    public mutating func add(run segments: [IntegerSegment]) {
        freeze()
        let run = IntegerRun(segments)
        frozen.insert(
            Layer(
                content: .run(run), map: ColumnMap(from: run.columns, to: columns),
                records: run.recordCount), at: 0)
        recordCount += run.recordCount
        noteFrozen()
    }

    private mutating func noteFrozen() {
        frozenBytes = frozen.reduce(0) { $0 + $1.content.allocatedBytes }
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
            frozen[index].map = ColumnMap(from: frozen[index].content.columns, to: columns)
        }
        makeMaps()
    }

    private mutating func makeMaps() {
        maps = segments.map { ColumnMap(from: $0.header.columns, to: columns) }
        hasMaps = maps.contains { $0 != nil }
    }

    /// What is to be merged, which may go on elsewhere meanwhile.
    public var mergeInput: IntegerMerge {
        IntegerMerge(columns: columns, frozen: frozen.map(\.content), segments: segments)
    }

    /// Takes over what a merge of all that was frozen has made.
    ///
    /// - Parameter merged: How many memtables it had merged, the oldest ones.
    public mutating func adopt(_ segments: [IntegerSegment], merged: Int) {
        frozen.removeLast(merged)
        recordCount = frozen.reduce(memtableRecords) { $0 + $1.records }
        for segment in segments { recordCount += Int(segment.header.recordCount) }
        let usesBefore = (0..<segmentCount).map { uses[$0] }
        self.segments = demand.follow(self.segments, usesBefore, segments)
        segmentCount = segments.count
        noteFrozen()
        firstKeys.deallocate()
        views.deallocate()
        uses.deallocate()
        firstKeys = .allocate(capacity: max(1, segments.count))
        views = .allocate(capacity: max(1, segments.count))
        uses = .allocate(capacity: max(1, segments.count))
        uses.initialize(repeating: 0, count: segments.count)
        for (index, segment) in self.segments.enumerated() {
            firstKeys[index] = segment.header.firstKey
            (views + index).initialize(to: segment.view)
        }
        noteSegments()
        makeMaps()
    }

    private mutating func noteSegments() {
        segmentBytes = segments.reduce(0) { $0 + $1.allocatedBytes }
        coldCount = segments.count { $0.isCold }
    }

    // MARK: Residency

    /// How many segments are cold.
    public private(set) var coldCount = 0

    /// Calls `body` with every segment and how much it is asked for, of late and before.
    ///
    /// - Complexity: O(segments).
    mutating func survey(_ body: (Segment, _ demand: Double) -> Void) {
        for (index, segment) in segments.enumerated() {
            body(segment, demand.advance(index, uses[index]))
            uses[index] = 0
        }
    }

    /// Puts a segment's twin in its place.
    ///
    /// - Returns: false if the segment is not there any more.
    mutating func replace(_ segment: Segment, with twin: Segment) -> Bool {
        guard let twin = twin as? IntegerSegment,
            let index = segments.firstIndex(where: { $0 === segment })
        else { return false }
        segments[index] = twin
        views[index] = twin.view
        noteSegments()
        return true
    }

    /// Removes everything.
    public mutating func removeAll() {
        var fresh = IntegerMemtable(columnCount: columnCount, hasher: hasher)
        swap(&fresh, &memtable)
        memtableRecords = 0
        generation += 1
        adopt([], merged: frozen.count)
    }

    /// Begins with these segments, in order of their keys.
    public mutating func load(_ segments: [IntegerSegment]) {
        precondition(recordCount == 0 && memtable.count == 0, "loaded into a table with records")
        adopt(segments, merged: 0)
    }

    // MARK: Everything

    /// Calls `body` with every key and its row, in no order.
    ///
    /// - Complexity: O(records).
    public borrowing func forEach(_ body: (UInt64, UnsafePointer<UInt64>) -> Void) {
        let row = UnsafeMutablePointer<UInt64>.allocate(capacity: columnCount)
        defer { row.deallocate() }
        memtable.forEach { key, found in if !isZero(found) { body(key, found) } }
        for (index, layer) in frozen.enumerated() {
            layer.content.forEach { key, found in
                visit(key, found, layer.map, row, newer: index, body)
            }
        }
        for (index, segment) in segments.enumerated() {
            // A cold one is read as a whole; what cannot be read is left out.
            (try? segment.warmed() as? IntegerSegment)?.forEach { key, found in
                visit(key, found, maps[index], row, newer: frozen.count, body)
            }
        }
    }

    /// Calls `body` with a row as it was found, unless the memtable or one of the first `layers` frozen
    /// ones has another.
    private borrowing func visit(
        _ key: UInt64, _ found: UnsafePointer<UInt64>, _ map: ColumnMap?,
        _ row: UnsafeMutablePointer<UInt64>, newer layers: Int,
        _ body: (UInt64, UnsafePointer<UInt64>) -> Void
    ) {
        let hash = hasher.hash(key)
        guard memtable.find(key, hash: hash) == nil,
            !frozen[..<layers].contains(where: { $0.content.contains(key, hash: hash) })
        else { return }
        if let map {
            map.apply(found, row)
        } else {
            row.update(from: found, count: columnCount)
        }
        if !isZero(row) { body(key, row) }
    }
}
