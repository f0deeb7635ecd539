public import TallyCore

/// Makes an integer segment from records in ascending order of their keys.
public struct IntegerSegmentBuilder: ~Copyable {
    /// Records of a block of a segment that is made at once, unless it has many columns. Merges
    /// leave blocks of half to one and a half times as many.
    static let blockRecords = 128

    private var header: SegmentHeader
    private var encoder: IntegerBlockEncoder
    private let columnCount: Int
    private let blockRecords: Int

    private let keys: UnsafeMutablePointer<UInt64>
    private let values: UnsafeMutablePointer<UInt64>
    private var waiting = 0

    private var bytes: UnsafeMutableRawPointer
    private var used: Int
    private var capacity: Int
    private var firstKeys: [UInt64] = []
    private var offsets: [UInt32] = [0]

    /// An empty segment of what `header` says.
    init(header: SegmentHeader) {
        self.header = header
        columnCount = header.columns.count
        encoder = IntegerBlockEncoder(columnCount: columnCount)
        blockRecords = min(
            Self.blockRecords, IntegerBlockEncoder.recordsMax(columnCount: columnCount) / 2)
        keys = .allocate(capacity: 2 * blockRecords)
        values = .allocate(capacity: 2 * blockRecords * columnCount)
        used = header.headerBytes
        capacity = max(4096, 2 * used)
        bytes = .allocate(byteCount: capacity, alignment: 64)
    }

    /// An empty segment of a partition's records of a family, up to commit group `sequence`.
    public init(
        identity: LogIdentity, place: PartitionPlace, family: UInt32, sequence: UInt64,
        columns: [ColumnCoding]
    ) {
        self.init(
            header: SegmentHeader(
                kind: .integer, identity: identity, place: place, family: family,
                sequence: sequence, columns: columns))
    }

    deinit {
        keys.deallocate()
        values.deallocate()
        bytes.deallocate()
    }

    /// How many records there are so far.
    public var recordCount: Int { Int(header.recordCount) + waiting }

    /// How large the segment is so far, bytes, the last block and the index left out.
    public var byteCount: Int { used }

    /// Adds a record behind all others; `row` has a coded value for each column, not all zero.
    @inline(__always)
    public mutating func append(_ key: UInt64, _ row: UnsafePointer<UInt64>) {
        keys[waiting] = key
        let target = values + waiting &* columnCount
        for column in 0..<columnCount { target[column] = row[column] }
        waiting &+= 1
        if waiting == 2 &* blockRecords { encodeWaiting(firstBlockRecords) }
    }

    /// How many of the records that wait go into the next block: more where most keys are far from their
    /// neighbours, as blocks' headers weigh most there.
    private var firstBlockRecords: Int {
        var wide = 0
        for index in 1..<waiting where keys[index] &- keys[index &- 1] >= Self.wideGap {
            wide &+= 1
        }
        return 2 &* wide > waiting ? blockRecords &+ blockRecords / 2 : blockRecords
    }

    /// A gap between keys that is a wide one.
    private static let wideGap: UInt64 = 1024

    /// Whether a whole block may follow without leaving a small one before it.
    var takesBlock: Bool { waiting == 0 || waiting >= blockRecords / 2 }

    /// Adds another segment's whole block behind all records so far, as it is.
    mutating func append(block: UnsafeRawBufferPointer, firstKey: UInt64, lastKey: UInt64) {
        closeBlocks()
        let recordCount = Int(block[4]) + 1
        store(block, firstKey: firstKey, lastKey: lastKey, recordCount: recordCount)
    }

    /// Adds another segment's whole block, with other values for the records of `ranks`.
    ///
    /// - Returns: false if the block must be made anew; nothing has then been added.
    mutating func append(
        rewriting block: UnsafeRawBufferPointer, _ layout: IntegerBlock.Layout, firstKey: UInt64,
        lastKey: UInt64, ranks: UnsafeBufferPointer<Int>, rows: UnsafePointer<UInt64>
    ) -> Bool {
        closeBlocks()
        guard let rewritten = encoder.rewrite(block, layout, ranks: ranks, rows: rows) else {
            return false
        }
        store(
            rewritten, firstKey: firstKey, lastKey: lastKey, recordCount: layout.recordCount)
        return true
    }

    private mutating func closeBlocks() {
        if waiting > blockRecords + blockRecords / 2 { encodeWaiting(waiting / 2) }
        if waiting > 0 { encodeWaiting(waiting) }
    }

    /// Makes a block of the first `count` records that wait.
    private mutating func encodeWaiting(_ count: Int) {
        let block = encoder.encode(keys: keys, values: values, count: count)
        store(block, firstKey: keys[0], lastKey: keys[count - 1], recordCount: count)
        waiting -= count
        keys.update(from: keys + count, count: waiting)
        values.update(from: values + count * columnCount, count: waiting * columnCount)
    }

    private mutating func store(
        _ block: UnsafeRawBufferPointer, firstKey: UInt64, lastKey: UInt64, recordCount: Int
    ) {
        if firstKeys.isEmpty { header.firstKey = firstKey }
        precondition(
            firstKeys.isEmpty || firstKey > header.lastKey, "records out of order in a segment")
        header.lastKey = lastKey
        header.recordCount += UInt64(recordCount)
        makeRoom(block.count)
        (bytes + used).copyMemory(from: block.baseAddress.unsafelyUnwrapped, byteCount: block.count)
        used += block.count
        firstKeys.append(firstKey)
        offsets.append(UInt32(used - header.headerBytes))
    }

    private mutating func makeRoom(_ byteCount: Int) {
        guard used + byteCount > capacity else { return }
        let grown = max(used + byteCount, capacity * 2)
        let larger = UnsafeMutableRawPointer.allocate(byteCount: grown, alignment: 64)
        larger.copyMemory(from: bytes, byteCount: used)
        bytes.deallocate()
        bytes = larger
        capacity = grown
    }

    /// The segment, nil if it has no records. This builder is empty again.
    public mutating func finish() -> IntegerSegment? {
        closeBlocks()
        guard !firstKeys.isEmpty else { return nil }
        let indexOffset = (used + 7) & ~7
        let indexBytes = IntegerSegmentView.indexBytes(blockCount: firstKeys.count)
        let memory = Segment.allocate(byteCount: indexOffset + indexBytes)
        let base = memory.baseAddress.unsafelyUnwrapped
        base.copyMemory(from: bytes, byteCount: used)
        (base + used).initializeMemory(as: UInt8.self, repeating: 0, count: indexOffset - used)
        var index = FieldWriter(base + indexOffset)
        for key in firstKeys { index.put(key) }
        for offset in offsets { index.put(offset) }
        header.blockCount = UInt32(firstKeys.count)
        header.indexOffset = UInt64(indexOffset)
        header.byteCount = UInt64(indexOffset + indexBytes)
        header.indexChecksum = CRC32C.checksum(
            UnsafeRawBufferPointer(start: base + indexOffset, count: indexBytes))
        header.write(to: base)
        let segment = IntegerSegment(header, memory)
        reset()
        return segment
    }

    private mutating func reset() {
        used = header.headerBytes
        firstKeys.removeAll(keepingCapacity: true)
        offsets.removeAll(keepingCapacity: true)
        offsets.append(0)
        header.recordCount = 0
    }
}
