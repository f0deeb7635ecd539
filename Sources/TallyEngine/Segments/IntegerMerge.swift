public import TallyCore

/// Frozen memtables and the segments under them, on their way to new segments.
///
/// Nothing here changes, so it may run on any thread while its table goes on serving.
public struct IntegerMerge: Sendable {
    let columns: [ColumnCoding]
    /// Newest first.
    let frozen: [IntegerLayer]
    let segments: [IntegerSegment]

    /// How many layers this merges.
    public var layerCount: Int { frozen.count }

    /// Size of a segment that is made at once, bytes. A merge lets one grow to twice as much and
    /// then cuts it evenly: a full one that gains a record leaves its neighbours alone.
    public static let segmentBytes = 1 << 20

    /// Size at which to cut what comes of a segment with so many changes, bytes.
    ///
    /// - Parameter waitingBytes: What stands before it in the segment that is being made.
    static func cutBytes(
        _ header: SegmentHeader, waitingBytes: Int, changeCount: Int
    ) -> Int {
        let bytes = Int(header.byteCount)
        let recordBytes = bytes / Int(header.recordCount) + 2
        let expected = waitingBytes + bytes + changeCount * recordBytes
        let pieces = max(1, expected / segmentBytes)
        return pieces == 1 ? 3 * segmentBytes : expected / pieces + 1
    }

    /// Makes the segments that hold everything.
    ///
    /// Segments without changes are taken over; of those with changes, blocks without changes are
    /// copied as they are. A segment that has shrunk is joined with its neighbour.
    ///
    /// - Parameters:
    ///   - place: Whose segments they become; so say the next ones.
    ///   - sequence: The commit group up to which they are.
    ///   - settle: Called with each new segment, in order; what it returns takes its place.
    /// - Throws: If a cold segment cannot be read.
    /// - Complexity: O(changes × log changes + records of the segments that have any).
    public func run(
        place: PartitionPlace, family: UInt32, sequence: UInt64, identity: LogIdentity,
        settle: @escaping (Segment) -> Segment = { $0 }
    ) throws(SegmentFileError) -> [IntegerSegment] {
        // An import into an empty table is all there is.
        if segments.isEmpty, case .run(let run)? = frozen.last {
            let rest = IntegerMerge(
                columns: columns, frozen: Array(frozen.dropLast()), segments: run.segments)
            return try rest.run(
                place: place, family: family, sequence: sequence, identity: identity,
                settle: settle)
        }
        let header = SegmentHeader(
            kind: .integer, identity: identity, place: place, family: family,
            sequence: sequence, columns: columns)
        let changes = SortedChanges(frozen, columns: columns)
        var output = SegmentOutput(header: header, settle: settle)
        var next = 0
        for (index, segment) in segments.enumerated() {
            // The first segment also takes what comes before it, each what comes before the next.
            let end =
                index + 1 < segments.count
                ? changes.firstIndex(from: next, notBelow: segments[index + 1].header.firstKey)
                : changes.count
            if next == end, output.isAtBoundary, segment.isCurrent(columns) {
                output.take(segment)
            } else {
                output.note(segment)
                guard let warm = try segment.warmed() as? IntegerSegment else { continue }
                try merge(warm, isChecked: segment.isCold, changes, next..<end, &output)
            }
            next = end
        }
        output.cutBytes = Self.segmentBytes
        for index in next..<changes.count { output.append(changes, index) }
        return output.finish()
    }

    /// - Parameter isChecked: Whether blocks come from the disk unseen.
    private func merge(
        _ segment: IntegerSegment, isChecked: Bool, _ changes: borrowing SortedChanges,
        _ range: Range<Int>, _ output: inout SegmentOutput
    ) throws(SegmentFileError) {
        let view = segment.view
        let map = ColumnMap(from: segment.header.columns, to: columns)
        let sourceCount = segment.header.columns.count
        let row = UnsafeMutablePointer<UInt64>.allocate(capacity: columns.count)
        defer { row.deallocate() }
        let ranks = UnsafeMutablePointer<Int>.allocate(capacity: Self.rewritesMax)
        defer { ranks.deallocate() }
        let keys = UnsafeMutablePointer<UInt64>.allocate(capacity: IntegerBlock.recordsMax)
        let values = UnsafeMutablePointer<UInt64>.allocate(
            capacity: IntegerBlock.recordsMax * sourceCount)
        defer {
            keys.deallocate()
            values.deallocate()
        }
        output.expect(segment, changeCount: range.count)
        var next = range.lowerBound
        for number in 0..<view.blockCount {
            let firstKey = view.firstKeys[number]
            let isLast = number + 1 == view.blockCount
            while next < range.upperBound, changes.keys[next] < firstKey {
                output.append(changes, next)
                next += 1
            }
            let block = view.block(number)
            let lastKeyBound = isLast ? view.lastKey : view.firstKeys[number + 1] - 1
            let isUntouched =
                next == range.upperBound || changes.keys[next] > lastKeyBound
            let isDamaged = isChecked && !Segment.isIntact(block)
            if isDamaged, !isUntouched || map != nil {
                throw .damaged(
                    file: segment.file?.number ?? 0,
                    reason: "block \(number): its checksum is wrong")
            }
            // A damaged one stays what it is, so that whoever asks for its keys is told.
            if isDamaged { output.noteDamage() }
            if isUntouched, map == nil, output.takesBlock || isDamaged {
                output.append(block: block, firstKey: firstKey, lastKey: lastKeyBound)
                continue
            }
            let layout = IntegerBlock.Layout(
                block.baseAddress.unsafelyUnwrapped, byteCount: block.count,
                columnCount: sourceCount)
            if map == nil, output.takesBlock {
                let count = Self.ranks(
                    of: changes, next..<range.upperBound, upTo: lastKeyBound, layout, firstKey,
                    ranks)
                if count > 0,
                    output.append(
                        rewriting: block, layout, firstKey: firstKey, lastKey: lastKeyBound,
                        ranks: UnsafeBufferPointer(start: ranks, count: count),
                        rows: changes.rows + next &* columns.count)
                {
                    next += count
                    continue
                }
            }
            layout.decode(firstKey: firstKey, keys: keys, values: values)
            for record in 0..<layout.recordCount {
                let key = keys[record]
                while next < range.upperBound, changes.keys[next] < key {
                    output.append(changes, next)
                    next += 1
                }
                if next < range.upperBound, changes.keys[next] == key {
                    output.append(changes, next)
                    next += 1
                } else if let map {
                    map.apply(values + record &* sourceCount, row)
                    output.append(key, unlessZero: row)
                } else {
                    output.append(key, values + record &* sourceCount)
                }
            }
        }
        while next < range.upperBound {
            output.append(changes, next)
            next += 1
        }
        output.endSegment()
    }
}

extension IntegerMerge {
    /// Changes of one block from which on it is made anew instead of rewritten.
    private static let rewritesMax = 24

    /// Writes the ranks of the changes up to `lastKey`, if all of them change records of a block.
    ///
    /// - Returns: how many those are; 0 if one of them adds or removes a record, or there are many.
    private static func ranks(
        of changes: borrowing SortedChanges, _ range: Range<Int>, upTo lastKey: UInt64,
        _ layout: IntegerBlock.Layout, _ firstKey: UInt64, _ ranks: UnsafeMutablePointer<Int>
    ) -> Int {
        let columnCount = layout.rows.columnCount
        var count = 0
        for index in range {
            let key = changes.keys[index]
            if key > lastKey { break }
            var seen: UInt64 = 0
            for column in 0..<columnCount { seen |= changes.rows[index &* columnCount &+ column] }
            guard count < rewritesMax, seen != 0, let rank = layout.rank(key &- firstKey) else {
                return 0
            }
            ranks[count] = rank
            count &+= 1
        }
        return count
    }
}

/// The segments that a merge makes, in order.
private struct SegmentOutput: ~Copyable {
    private var builder: IntegerSegmentBuilder
    private var merged: MergedSegments<IntegerSegment>
    private let columnCount: Int
    /// Size from which on a new segment begins, bytes.
    var cutBytes = IntegerMerge.segmentBytes

    init(header: SegmentHeader, settle: @escaping (Segment) -> Segment) {
        merged = MergedSegments(settle: settle)
        builder = IntegerSegmentBuilder(header: header)
        columnCount = header.columns.count
    }

    /// Whether no segment is in the making.
    var isAtBoundary: Bool { builder.recordCount == 0 }
    var takesBlock: Bool { builder.takesBlock }

    /// Plans where to cut what comes of a segment with so many changes.
    mutating func expect(_ segment: IntegerSegment, changeCount: Int) {
        cutBytes = IntegerMerge.cutBytes(
            segment.header, waitingBytes: builder.byteCount, changeCount: changeCount)
    }

    mutating func take(_ segment: IntegerSegment) { merged.take(segment) }

    /// A damaged block follows.
    mutating func noteDamage() { merged.noteDamage() }

    /// Records of a segment follow.
    mutating func note(_ segment: IntegerSegment) {
        merged.note(segment, isAtBoundary: isAtBoundary)
    }

    @inline(__always)
    mutating func append(_ key: UInt64, _ row: UnsafePointer<UInt64>) {
        builder.append(key, row)
        if builder.byteCount >= cutBytes { close() }
    }

    /// Appends a row that may say that there is no record.
    @inline(__always)
    mutating func append(_ key: UInt64, unlessZero row: UnsafePointer<UInt64>) {
        var seen: UInt64 = 0
        for column in 0..<columnCount { seen |= row[column] }
        if seen != 0 { append(key, row) }
    }

    @inline(__always)
    mutating func append(_ changes: borrowing SortedChanges, _ index: Int) {
        append(changes.keys[index], unlessZero: changes.rows + index &* columnCount)
    }

    mutating func append(block: UnsafeRawBufferPointer, firstKey: UInt64, lastKey: UInt64) {
        builder.append(block: block, firstKey: firstKey, lastKey: lastKey)
        if builder.byteCount >= cutBytes { close() }
    }

    mutating func append(
        rewriting block: UnsafeRawBufferPointer, _ layout: IntegerBlock.Layout, firstKey: UInt64,
        lastKey: UInt64, ranks: UnsafeBufferPointer<Int>, rows: UnsafePointer<UInt64>
    ) -> Bool {
        guard
            builder.append(
                rewriting: block, layout, firstKey: firstKey, lastKey: lastKey, ranks: ranks,
                rows: rows)
        else { return false }
        if builder.byteCount >= cutBytes { close() }
        return true
    }

    /// A merged segment's records have all come; a small rest goes on with the next one's.
    mutating func endSegment() {
        if builder.byteCount >= IntegerMerge.segmentBytes / 4 { close() }
    }

    private mutating func close() {
        if let segment = builder.finish() { merged.add(segment) }
    }

    consuming func finish() -> [IntegerSegment] {
        close()
        return merged.segments
    }
}

/// Changed rows in order of their keys, each key's newest only.
struct SortedChanges: ~Copyable {
    let count: Int
    let keys: UnsafeMutablePointer<UInt64>
    let rows: UnsafeMutablePointer<UInt64>

    /// - Parameter layers: Newest first.
    init(_ layers: [IntegerLayer], columns: [ColumnCoding]) {
        let columnCount = columns.count
        let capacity = layers.reduce(0) { $0 + $1.count }
        var order: [(key: UInt64, index: Int)] = []
        order.reserveCapacity(capacity)
        let unsorted = UnsafeMutablePointer<UInt64>.allocate(
            capacity: max(1, capacity * columnCount))
        defer { unsorted.deallocate() }
        for layer in layers {
            let map = ColumnMap(from: layer.columns, to: columns)
            layer.forEach { key, row in
                let target = unsorted + order.count * columnCount
                if let map {
                    map.apply(row, target)
                } else {
                    target.update(from: row, count: columnCount)
                }
                order.append((key, order.count))
            }
        }
        // Among equal keys the newest comes first.
        order.sort { ($0.key, $0.index) < ($1.key, $1.index) }
        keys = .allocate(capacity: max(1, capacity))
        rows = .allocate(capacity: max(1, capacity * columnCount))
        var count = 0
        for (key, index) in order where count == 0 || keys[count - 1] != key {
            keys[count] = key
            (rows + count * columnCount).update(
                from: unsorted + index * columnCount, count: columnCount)
            count += 1
        }
        self.count = count
    }

    deinit {
        keys.deallocate()
        rows.deallocate()
    }

    /// The first index from `start` on whose key is at least `key`.
    func firstIndex(from start: Int, notBelow key: UInt64) -> Int {
        var low = start
        var high = count
        while low < high {
            let middle = (low + high) / 2
            if keys[middle] < key { low = middle + 1 } else { high = middle }
        }
        return low
    }
}
