public import TallyCore

/// Frozen memtables and the segments under them, on their way to new segments.
///
/// Nothing here changes, so it may run on any thread while its table goes on serving.
public struct StringMerge: Sendable {
    let columns: [ColumnCoding]
    /// Whether a record of zeros only is a record.
    let keepsZeroRows: Bool
    /// Newest first.
    let frozen: [StringLayer]
    let segments: [StringSegment]
    /// Changes below this key, and blocks of which all keys are, are left out; nil for none.
    var floor: [UInt8]?

    /// How many layers this merges.
    public var layerCount: Int { frozen.count }

    /// Makes the segments that hold everything, as `IntegerMerge` does.
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
    ) throws(SegmentFileError) -> [StringSegment] {
        // An import into an empty table is all there is.
        if segments.isEmpty, case .run(let run)? = frozen.last {
            let rest = StringMerge(
                columns: columns, keepsZeroRows: keepsZeroRows, frozen: Array(frozen.dropLast()),
                segments: run.segments, floor: floor)
            return try rest.run(
                place: place, family: family, sequence: sequence, identity: identity,
                settle: settle)
        }
        let header = SegmentHeader(
            kind: .string, identity: identity, place: place, family: family,
            sequence: sequence, columns: columns)
        let changes = StringChanges(frozen, columns: columns, keepsZeroRows: keepsZeroRows)
        var output = StringSegmentOutput(header: header, settle: settle)
        var next = floor.map { changes.firstIndex(from: 0, notBelow: $0) } ?? 0
        for (index, segment) in segments.enumerated() {
            if index + 1 < segments.count, isBelowFloor(segments[index + 1].view.separator(0)) {
                continue
            }
            let end =
                index + 1 < segments.count
                ? changes.firstIndex(from: next, notBelow: segments[index + 1].view.separator(0))
                : changes.count
            if next == end, output.isAtBoundary, segment.isCurrent(columns) {
                output.take(segment)
            } else {
                output.note(segment)
                guard let warm = try segment.warmed() as? StringSegment else { continue }
                try merge(warm, isChecked: segment.isCold, changes, next..<end, &output)
            }
            next = end
        }
        output.cutBytes = IntegerMerge.segmentBytes
        for index in next..<changes.count { output.append(changes, index) }
        return output.finish()
    }

    /// Whether all keys before a segment that begins with `separator` are below the floor.
    private func isBelowFloor(_ separator: UnsafeRawBufferPointer) -> Bool {
        floor.map { floor in floor.withUnsafeBytes { !Bytes.isLess($0, separator) } } ?? false
    }

    /// - Parameter isChecked: Whether blocks come from the disk unseen.
    private func merge(
        _ segment: StringSegment, isChecked: Bool, _ changes: borrowing StringChanges,
        _ range: Range<Int>, _ output: inout StringSegmentOutput
    ) throws(SegmentFileError) {
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
            // Where there are changes, none of them is below the floor.
            if next == end, number + 1 < view.blockCount,
                isBelowFloor(view.separator(number + 1))
            {
                continue
            }
            // Keys before the first separator have come with the block before.
            let isDamaged = isChecked && !Segment.isIntact(view.block(number))
            if isDamaged, next != end || map != nil {
                throw .damaged(
                    file: segment.file?.number ?? 0,
                    reason: "block \(number): its checksum is wrong")
            }
            // A damaged one stays what it is, so that whoever asks for its keys is told.
            if isDamaged { output.noteDamage() }
            if next == end, map == nil, output.takesBlock || isDamaged {
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
                    let order = changes.withKey(next) { Bytes.compare($0, key) }
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
    private var merged: MergedSegments<StringSegment>
    private let row: UnsafeMutablePointer<UInt64>
    /// Size from which on a new segment begins, bytes.
    var cutBytes = IntegerMerge.segmentBytes

    init(header: SegmentHeader, settle: @escaping (Segment) -> Segment) {
        merged = MergedSegments(settle: settle)
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

    mutating func take(_ segment: StringSegment) { merged.take(segment) }

    /// A damaged block follows.
    mutating func noteDamage() { merged.noteDamage() }

    /// Records of a segment follow.
    mutating func note(_ segment: StringSegment) {
        merged.note(segment, isAtBoundary: isAtBoundary)
    }

    mutating func append(_ key: UnsafeRawBufferPointer, _ row: UnsafePointer<UInt64>) {
        builder.append(key, row)
        if builder.byteCount >= cutBytes { close() }
    }

    /// Appends a change, unless it says that the key has been removed.
    mutating func append(_ changes: borrowing StringChanges, _ index: Int) {
        guard changes.read(index, row) else { return }
        changes.withKey(index) { builder.append($0, row) }
        if builder.byteCount >= cutBytes { close() }
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
        if let segment = builder.finish() { merged.add(segment) }
    }

    consuming func finish() -> [StringSegment] {
        close()
        return merged.segments
    }
}

/// Changed records in order of their keys, each key's newest only.
private struct StringChanges: ~Copyable {
    private struct Change {
        /// The key's first bytes, for comparing most keys without touching them.
        let prefix: UInt64
        /// Where the key is in `keyBytes`.
        let keyOffset: Int
        /// Which of `rows` it has; negative for a key that has been removed.
        let row: Int32
        let keyByteCount: UInt16
        /// 0 for the newest.
        let layer: UInt16
    }

    private let changes: UnsafeMutablePointer<Change>
    private(set) var count = 0
    private var keyBytes: UnsafeMutableRawPointer
    private var keyByteCount = 0
    private var keyBytesCapacity: Int
    private let rows: UnsafeMutablePointer<UInt64>
    private var rowCount = 0
    private let columnCount: Int
    private let keepsZeroRows: Bool

    /// - Parameter layers: Newest first.
    init(_ layers: [StringLayer], columns: [ColumnCoding], keepsZeroRows: Bool) {
        self.keepsZeroRows = keepsZeroRows
        columnCount = columns.count
        let countMax = layers.reduce(0) { $0 + $1.recordCount }
        changes = .allocate(capacity: countMax)
        rows = .allocate(capacity: countMax * columns.count)
        // Keys are reckoned to be short.
        keyBytesCapacity = countMax * RequestToken.byteCount
        keyBytes = .allocate(byteCount: keyBytesCapacity, alignment: 1)
        for (index, layer) in layers.enumerated() {
            gather(layer, index, countMax, ColumnMap(from: layer.columns, to: columns))
        }
        sort()
        if layers.count > 1 { removeOlder() }
    }

    deinit {
        changes.deallocate()
        rows.deallocate()
        keyBytes.deallocate()
    }

    private mutating func gather(
        _ layer: StringLayer, _ index: Int, _ countMax: Int, _ map: ColumnMap?
    ) {
        layer.forEach { key, found in
            precondition(count < countMax, "more records than a layer has")
            if keyByteCount &+ key.count > keyBytesCapacity { growKeyBytes(by: key.count) }
            (changes + count).initialize(
                to: Change(
                    prefix: Self.prefix(key), keyOffset: keyByteCount,
                    row: found == nil ? -1 : Int32(rowCount), keyByteCount: UInt16(key.count),
                    layer: UInt16(index)))
            count &+= 1
            if let start = key.baseAddress {
                (keyBytes + keyByteCount).copyMemory(from: start, byteCount: key.count)
                keyByteCount &+= key.count
            }
            guard let found else { return }
            let row = rows + rowCount &* columnCount
            rowCount &+= 1
            guard let map else { return row.update(from: found, count: columnCount) }
            map.apply(found, row)
        }
    }

    private mutating func growKeyBytes(by byteCount: Int) {
        keyBytesCapacity = max(2 * keyBytesCapacity, keyByteCount + byteCount)
        let grown = UnsafeMutableRawPointer.allocate(byteCount: keyBytesCapacity, alignment: 1)
        grown.copyMemory(from: keyBytes, byteCount: keyByteCount)
        keyBytes.deallocate()
        keyBytes = grown
    }

    private func sort() {
        let bytes = UnsafeRawPointer(keyBytes)
        var ordered = UnsafeMutableBufferPointer(start: changes, count: count)
        ordered.sort { left, right in
            if left.prefix != right.prefix { return left.prefix < right.prefix }
            let order = Bytes.compare(Self.key(left, bytes), Self.key(right, bytes))
            return order == 0 ? left.layer < right.layer : order < 0
        }
    }

    private mutating func removeOlder() {
        let bytes = UnsafeRawPointer(keyBytes)
        var kept = 0
        for index in 0..<count {
            let change = changes[index]
            let isOlder =
                kept > 0
                && Bytes.compare(Self.key(changes[kept - 1], bytes), Self.key(change, bytes)) == 0
            if isOlder { continue }
            changes[kept] = change
            kept += 1
        }
        count = kept
    }

    @inline(__always)
    private static func prefix(_ key: UnsafeRawBufferPointer) -> UInt64 {
        if key.count >= 8 { return UInt64(bigEndian: key.loadUnaligned(as: UInt64.self)) }
        var prefix: UInt64 = 0
        for index in 0..<8 { prefix = prefix << 8 | UInt64(index < key.count ? key[index] : 0) }
        return prefix
    }

    @inline(__always)
    private static func key(_ change: Change, _ bytes: UnsafeRawPointer) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: bytes + change.keyOffset, count: Int(change.keyByteCount))
    }

    /// Calls `body` with the key of a change.
    func withKey<Value>(_ index: Int, _ body: (UnsafeRawBufferPointer) -> Value) -> Value {
        body(Self.key(changes[index], keyBytes))
    }

    /// Writes a change's values to `row`.
    ///
    /// - Returns: false if it says that there is no such record.
    func read(_ index: Int, _ row: UnsafeMutablePointer<UInt64>) -> Bool {
        let start = Int(changes[index].row) * columnCount
        guard start >= 0 else { return false }
        for column in 0..<columnCount { row[column] = rows[start + column] }
        return keepsZeroRows || (0..<columnCount).contains { row[$0] != 0 }
    }

    /// The first index from `start` on whose key is at least `key`.
    func firstIndex(from start: Int, notBelow key: [UInt8]) -> Int {
        key.withUnsafeBytes { firstIndex(from: start, notBelow: $0) }
    }

    func firstIndex(
        from start: Int, upTo end: Int? = nil, notBelow key: UnsafeRawBufferPointer
    ) -> Int {
        var low = start
        var high = end ?? count
        while low < high {
            let middle = (low + high) / 2
            if withKey(middle, { Bytes.isLess($0, key) }) {
                low = middle + 1
            } else {
                high = middle
            }
        }
        return low
    }
}
