public import TallyCore

/// Frozen memtables and the segments under them, on their way to new segments.
///
/// Nothing here changes, so it may run on any thread while its table goes on serving.
public struct StringMerge: Sendable {
    let columns: [ColumnCoding]
    /// Whether a record of zeros only is a record.
    let keepsZeroRows: Bool
    /// Newest first.
    let frozen: [FrozenStringMemtable]
    let segments: [StringSegment]

    /// How many memtables this merges.
    public var memtableCount: Int { frozen.count }

    /// Makes the segments that hold everything, as `IntegerMerge` does.
    ///
    /// - Parameters: Whose segments they become, and up to which commit group.
    /// - Complexity: O(changes × log changes + records of the segments that have any).
    public func run(
        partition: Int, family: UInt32, sequence: UInt64, identity: LogIdentity
    ) -> [StringSegment] {
        let header = SegmentHeader(
            kind: .string, identity: identity, partition: UInt32(partition), family: family,
            sequence: sequence, columns: columns)
        let changes = StringChanges(frozen, columns: columns, keepsZeroRows: keepsZeroRows)
        var output = StringSegmentOutput(header: header)
        var next = 0
        for (index, segment) in segments.enumerated() {
            let end =
                index + 1 < segments.count
                ? changes.firstIndex(from: next, notBelow: segments[index + 1].view.separator(0))
                : changes.count
            if next == end, output.isAtBoundary, segment.isCurrent(columns) {
                output.take(segment)
            } else {
                merge(segment, changes, next..<end, &output)
            }
            next = end
        }
        output.cutBytes = IntegerMerge.segmentBytes
        for index in next..<changes.count { output.append(changes, index) }
        return output.finish()
    }

    private func merge(
        _ segment: StringSegment, _ changes: borrowing StringChanges, _ range: Range<Int>,
        _ output: inout StringSegmentOutput
    ) {
        let view = segment.view
        let sourceColumns = segment.header.columns
        let map = ColumnMap(from: sourceColumns, to: columns)
        let row = UnsafeMutablePointer<UInt64>.allocate(capacity: columns.count)
        let values = UnsafeMutablePointer<UInt64>.allocate(
            capacity: StringBlock.recordsMax * sourceColumns.count)
        defer {
            row.deallocate()
            values.deallocate()
        }
        output.expect(segment, changeCount: range.count)
        var next = range.lowerBound
        for number in 0..<view.blockCount {
            let end =
                number + 1 < view.blockCount
                ? changes.firstIndex(
                    from: next, upTo: range.upperBound, notBelow: view.separator(number + 1))
                : range.upperBound
            // Keys before the first separator have come with the block before.
            if next == end, map == nil, output.takesBlock {
                output.append(block: view.block(number), separator: view.separator(number))
                continue
            }
            let layout = view.layout(number)
            layout.rows.decode(layout.recordCount, values)
            var record = 0
            layout.forEachKey { key in
                let source = values + record * sourceColumns.count
                record += 1
                while next < end {
                    let order = Bytes.compare(changes.key(next), key)
                    if order > 0 { break }
                    output.append(changes, next)
                    next += 1
                    if order == 0 { return }
                }
                guard let map else { return output.append(key, source) }
                map.apply(source, row)
                if keepsZeroRows || !isZero(row) { output.append(key, row) }
            }
            while next < end {
                output.append(changes, next)
                next += 1
            }
        }
        output.endSegment()
    }

    private func isZero(_ row: UnsafePointer<UInt64>) -> Bool {
        (0..<columns.count).allSatisfy { row[$0] == 0 }
    }
}

/// The segments that a merge makes, in order.
private struct StringSegmentOutput: ~Copyable {
    private var builder: StringSegmentBuilder
    private var segments: [StringSegment] = []
    private let row: UnsafeMutablePointer<UInt64>
    /// Size from which on a new segment begins, bytes.
    var cutBytes = IntegerMerge.segmentBytes

    init(header: SegmentHeader) {
        builder = StringSegmentBuilder(header: header)
        row = .allocate(capacity: header.columns.count)
    }

    deinit { row.deallocate() }

    /// Whether no segment is in the making.
    var isAtBoundary: Bool { builder.recordCount == 0 }
    var takesBlock: Bool { builder.takesBlock }

    /// Plans where to cut what comes of a segment with so many changes.
    mutating func expect(_ segment: StringSegment, changeCount: Int) {
        cutBytes = IntegerMerge.cutBytes(
            segment.header, waitingBytes: builder.byteCount, changeCount: changeCount)
    }

    mutating func take(_ segment: StringSegment) { segments.append(segment) }

    mutating func append(_ key: UnsafeRawBufferPointer, _ row: UnsafePointer<UInt64>) {
        builder.append(key, row)
        if builder.byteCount >= cutBytes { close() }
    }

    /// Appends a change, unless it says that the key has been removed.
    mutating func append(_ changes: borrowing StringChanges, _ index: Int) {
        if changes.read(index, row) { append(changes.key(index), row) }
    }

    mutating func append(block: UnsafeRawBufferPointer, separator: UnsafeRawBufferPointer) {
        builder.append(block: block, separator: separator)
        if builder.byteCount >= cutBytes { close() }
    }

    /// A merged segment's records have all come; a small rest goes on with the next one's.
    mutating func endSegment() {
        if builder.byteCount >= IntegerMerge.segmentBytes / 4 { close() }
    }

    private mutating func close() {
        if let segment = builder.finish() { segments.append(segment) }
    }

    consuming func finish() -> [StringSegment] {
        close()
        return segments
    }
}

/// Changed records in order of their keys, each key's newest only. Their bytes stay in the memtables.
private struct StringChanges: ~Copyable {
    private struct Change {
        /// The key's first bytes, for comparing most keys without touching them.
        let prefix: UInt64
        let record: UnsafeMutableRawPointer
        let layer: Int
    }

    private var changes: [Change] = []
    private let layers: [FrozenStringMemtable]
    private let maps: [ColumnMap?]
    private let columnCount: Int
    private let keepsZeroRows: Bool
    private let found: UnsafeMutablePointer<UInt64>

    var count: Int { changes.count }

    /// - Parameter layers: Newest first.
    init(_ layers: [FrozenStringMemtable], columns: [ColumnCoding], keepsZeroRows: Bool) {
        self.layers = layers
        self.keepsZeroRows = keepsZeroRows
        columnCount = columns.count
        maps = layers.map { ColumnMap(from: $0.columns, to: columns) }
        found = .allocate(capacity: SegmentHeader.columnsMax)
        changes.reserveCapacity(layers.reduce(0) { $0 + $1.memtable.count })
        for (layer, frozen) in layers.enumerated() {
            var gathered: [Change] = []
            gathered.reserveCapacity(frozen.memtable.count)
            frozen.memtable.forEach { key, record in
                gathered.append(
                    Change(prefix: Self.prefix(key), record: record, layer: layer))
            }
            changes += gathered
        }
        changes.sort { left, right in
            if left.prefix != right.prefix { return left.prefix < right.prefix }
            let order = Bytes.compare(
                StringMemtable.key(left.record), StringMemtable.key(right.record))
            return order == 0 ? left.layer < right.layer : order < 0
        }
        if layers.count > 1 { removeOlder() }
    }

    deinit { found.deallocate() }

    private mutating func removeOlder() {
        var kept = 0
        for change in changes {
            if kept > 0,
                Bytes.compare(
                    StringMemtable.key(changes[kept - 1].record), StringMemtable.key(change.record))
                    == 0
            {
                continue
            }
            changes[kept] = change
            kept += 1
        }
        changes.removeLast(changes.count - kept)
    }

    private static func prefix(_ key: UnsafeRawBufferPointer) -> UInt64 {
        var prefix: UInt64 = 0
        for index in 0..<8 { prefix = prefix << 8 | UInt64(index < key.count ? key[index] : 0) }
        return prefix
    }

    func key(_ index: Int) -> UnsafeRawBufferPointer { StringMemtable.key(changes[index].record) }

    /// Writes a change's values to `row`.
    ///
    /// - Returns: false if it says that there is no such record.
    func read(_ index: Int, _ row: UnsafeMutablePointer<UInt64>) -> Bool {
        let change = changes[index]
        guard !StringMemtable.isRemoved(change.record) else { return false }
        if let map = maps[change.layer] {
            layers[change.layer].memtable.read(change.record, found)
            map.apply(found, row)
        } else {
            layers[change.layer].memtable.read(change.record, row)
        }
        return keepsZeroRows || (0..<columnCount).contains { row[$0] != 0 }
    }

    /// The first index from `start` on whose key is at least `key`.
    func firstIndex(
        from start: Int, upTo end: Int? = nil, notBelow key: UnsafeRawBufferPointer
    ) -> Int {
        var low = start
        var high = end ?? count
        while low < high {
            let middle = (low + high) / 2
            if Bytes.isLess(self.key(middle), key) { low = middle + 1 } else { high = middle }
        }
        return low
    }
}
