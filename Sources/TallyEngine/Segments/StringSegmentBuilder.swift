public import TallyCore

/// Makes a string segment from records in ascending order of their keys.
public struct StringSegmentBuilder: ~Copyable {
    /// Records of a block of a segment that is made at once, unless it has many columns or long keys.
    static let blockRecords = 128
    /// Bytes of keys from which on a block is closed.
    static let blockKeyBytes = 16 << 10

    private var header: SegmentHeader
    private var encoder: StringBlockEncoder
    private let columnCount: Int
    private let blockRecords: Int

    /// Keys that wait for their block, one behind the other.
    private var keyBytes: [UInt8] = []
    private var keyEnds: [Int] = []
    private let values: UnsafeMutablePointer<UInt64>
    /// The last key that is in a block, nil if that block was taken over whole.
    private var lastKey: [UInt8]?

    private var bytes: UnsafeMutableRawPointer
    private var used: Int
    private var capacity: Int
    private var offsets: [UInt32] = [0]
    private var separators: [UInt8] = []
    private var separatorOffsets: [UInt32] = [0]

    /// An empty segment of what `header` says.
    init(header: SegmentHeader) {
        self.header = header
        columnCount = header.columns.count
        encoder = StringBlockEncoder(columnCount: columnCount)
        blockRecords = max(1, min(Self.blockRecords, 2048 / columnCount))
        values = .allocate(capacity: blockRecords * columnCount)
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
                kind: .string, identity: identity, place: place, family: family,
                sequence: sequence, columns: columns))
    }

    deinit {
        values.deallocate()
        bytes.deallocate()
    }

    /// How many records there are so far.
    public var recordCount: Int { Int(header.recordCount) + keyEnds.count }

    /// How large the segment is so far, bytes, the last block and the index left out.
    public var byteCount: Int { used }

    /// Adds a record behind all others; `row` has a coded value for each column.
    public mutating func append(
        _ key: UnsafeRawBufferPointer, _ row: UnsafePointer<UInt64>
    ) {
        (values + keyEnds.count * columnCount).update(from: row, count: columnCount)
        keyBytes.append(contentsOf: key)
        keyEnds.append(keyBytes.count)
        if keyEnds.count == blockRecords || keyBytes.count >= Self.blockKeyBytes { closeBlock() }
    }

    /// Whether a whole block may follow without leaving a small one before it.
    var takesBlock: Bool { keyEnds.isEmpty || keyEnds.count >= blockRecords / 2 }

    /// Adds another segment's whole block behind all records so far, as it is.
    mutating func append(block: UnsafeRawBufferPointer, separator: UnsafeRawBufferPointer) {
        closeBlock()
        store(block, separator: separator, recordCount: Int(block[4]) + 1)
        lastKey = nil
    }

    private mutating func closeBlock() {
        guard !keyEnds.isEmpty else { return }
        let count = keyEnds.count
        let (keyBytes, keyEnds) = (keyBytes, keyEnds)
        keyBytes.withUnsafeBytes { bytes in
            var start = 0
            let keys = keyEnds.map { end in
                defer { start = end }
                return UnsafeRawBufferPointer(rebasing: bytes[start..<end])
            }
            let block = encoder.encode(keys: keys, values: values)
            let separator = UnsafeRawBufferPointer(rebasing: separatorPrefix(keys[0]))
            store(block, separator: separator, recordCount: count)
            lastKey = Array(keys[count - 1])
        }
        self.keyBytes.removeAll(keepingCapacity: true)
        self.keyEnds.removeAll(keepingCapacity: true)
    }

    /// The shortest beginning of a block's first key that is above all keys before it.
    private func separatorPrefix(_ key: UnsafeRawBufferPointer) -> Slice<UnsafeRawBufferPointer> {
        guard let lastKey, offsets.count > 1 else { return key[...] }
        var shared = 0
        while shared < lastKey.count, lastKey[shared] == key[shared] { shared += 1 }
        return key[...shared]
    }

    private mutating func store(
        _ block: UnsafeRawBufferPointer, separator: UnsafeRawBufferPointer, recordCount: Int
    ) {
        header.recordCount += UInt64(recordCount)
        if used + block.count > capacity {
            let grown = max(used + block.count, capacity * 2)
            let larger = UnsafeMutableRawPointer.allocate(byteCount: grown, alignment: 64)
            larger.copyMemory(from: bytes, byteCount: used)
            bytes.deallocate()
            bytes = larger
            capacity = grown
        }
        (bytes + used).copyMemory(from: block.baseAddress.unsafelyUnwrapped, byteCount: block.count)
        used += block.count
        offsets.append(UInt32(used - header.headerBytes))
        separators.append(contentsOf: separator)
        separatorOffsets.append(UInt32(separators.count))
    }

    /// The segment, nil if it has no records. This builder is empty again.
    public mutating func finish() -> StringSegment? {
        closeBlock()
        guard offsets.count > 1 else { return nil }
        let blockCount = offsets.count - 1
        let indexOffset = (used + 7) & ~7
        let indexBytes = StringSegmentView.indexBytes(
            blockCount: blockCount, separatorBytes: separators.count)
        let memory = Segment.allocate(byteCount: indexOffset + indexBytes)
        let base = memory.baseAddress.unsafelyUnwrapped
        base.copyMemory(from: bytes, byteCount: used)
        (base + used).initializeMemory(as: UInt8.self, repeating: 0, count: indexOffset - used)
        var index = FieldWriter(base + indexOffset)
        for offset in offsets { index.put(offset) }
        for offset in separatorOffsets { index.put(offset) }
        separators.withUnsafeBytes {
            UnsafeMutableRawBufferPointer(
                start: base + indexOffset + index.offset, count: $0.count
            ).copyMemory(from: $0)
        }
        header.blockCount = UInt32(blockCount)
        header.indexOffset = UInt64(indexOffset)
        header.byteCount = UInt64(indexOffset + indexBytes)
        header.indexChecksum = CRC32C.checksum(
            UnsafeRawBufferPointer(start: base + indexOffset, count: indexBytes))
        header.write(to: base)
        let segment = StringSegment(header, memory)
        reset()
        return segment
    }

    private mutating func reset() {
        used = header.headerBytes
        offsets = [0]
        separators.removeAll(keepingCapacity: true)
        separatorOffsets = [0]
        lastKey = nil
        header.recordCount = 0
    }
}
