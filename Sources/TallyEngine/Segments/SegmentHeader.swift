public import TallyCore

/// What kind of keys a segment holds.
public enum SegmentKind: UInt32, Sendable {
    /// 64-bit integers.
    case integer = 1
    /// Byte strings.
    case string = 2
}

/// Why bytes are not a segment.
public enum SegmentError: Error, Equatable, Sendable, CustomStringConvertible {
    /// Written by a newer version of this program.
    case newerVersion(UInt32)
    /// Header or index do not agree with themselves.
    case damagedHeader
    /// The index's checksum is wrong.
    case damagedIndex
    /// A block's checksum is wrong.
    case damagedBlock(number: Int, offset: Int)
    /// Another segment than the one that was looked for.
    case foreign

    /// One line for a log.
    public var description: String {
        switch self {
        case .newerVersion(let version):
            "it has format version \(version); this program reads up to \(SegmentHeader.version)"
        case .damagedHeader: "its header is damaged"
        case .damagedIndex: "its index is damaged"
        case .damagedBlock(let number, let offset):
            "block \(number) at byte \(offset): its checksum is wrong"
        case .foreign: "it is not the segment that the manifest names"
        }
    }
}

/// What stands at the start of a segment: whose records it holds, and where its parts are.
///
///     magic u64 · version u32 · features u32 · kind u32 · header bytes u32 · identity 2 × u64 ·
///     partition u16 · partitions − 1 u16 · family u32 · sequence u64 · records u64 · first key u64 · last key u64 ·
///     blocks u32 · columns u32 · index offset u64 · bytes u64 · index crc u32 · header crc u32 ·
///     for each column: number u32 · flags u32 · default i64
///
/// `docs/segments.md` is its page. All integers are little-endian.
public struct SegmentHeader: Equatable, Sendable {
    static let magic: UInt64 = 0x544d_4753_594c_4154  // "TALYSGMT" in file order
    static let version: UInt32 = 1
    static let fixedBytes = 112
    static let columnBytes = 16
    static let signedFlag: UInt32 = 1
    /// Most columns: a family's, and its records' state.
    static let columnsMax = Limits.columnsMax + 1

    /// The kind of keys.
    public var kind: SegmentKind
    /// The data set's identity, as its journal has it.
    public var identity: LogIdentity
    /// The partition whose records these are; integer keys are its places.
    public var place: PartitionPlace
    /// The family whose records these are.
    public var family: UInt32
    /// The commit group up to which they are.
    public var sequence: UInt64
    /// How many records there are.
    public var recordCount: UInt64
    /// The least key, of integer keys.
    public var firstKey: UInt64
    /// The greatest key, of integer keys.
    public var lastKey: UInt64
    /// How many blocks there are.
    public var blockCount: UInt32
    /// Where the index starts, bytes.
    public var indexOffset: UInt64
    /// The whole segment's size, bytes.
    public var byteCount: UInt64
    /// The index's checksum.
    var indexChecksum: UInt32
    /// The columns of each record, in order.
    public var columns: [ColumnCoding]

    /// The header's own size, bytes, and so where the blocks start.
    public var headerBytes: Int { Self.fixedBytes + columns.count * Self.columnBytes }

    /// Size of a header with as many columns as there can be, bytes.
    public static let bytesMax = fixedBytes + columnsMax * columnBytes

    /// The checksum that a header holds; `bytes` starts with it.
    public static func storedChecksum(_ bytes: UnsafeRawBufferPointer) -> UInt32 {
        UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: fixedBytes - 4, as: UInt32.self))
    }

    /// Writes `headerBytes` bytes.
    func write(to bytes: UnsafeMutableRawPointer) {
        var writer = FieldWriter(bytes)
        writer.put(Self.magic)
        writer.put(Self.version)
        writer.put(0 as UInt32)
        writer.put(kind.rawValue)
        writer.put(UInt32(headerBytes))
        writer.put(identity.high)
        writer.put(identity.low)
        writer.put(UInt16(place.number))
        writer.put(UInt16(place.count - 1))
        writer.put(family)
        writer.put(sequence)
        writer.put(recordCount)
        writer.put(firstKey)
        writer.put(lastKey)
        writer.put(blockCount)
        writer.put(UInt32(columns.count))
        writer.put(indexOffset)
        writer.put(byteCount)
        writer.put(indexChecksum)
        let checksumOffset = writer.offset
        writer.put(0 as UInt32)
        for column in columns {
            writer.put(column.column)
            writer.put(column.isSigned ? Self.signedFlag : 0)
            writer.put(UInt64(bitPattern: column.defaultValue))
        }
        let checksum = Self.checksum(bytes, byteCount: headerBytes, checksumOffset)
        bytes.storeBytes(
            of: checksum.littleEndian, toByteOffset: checksumOffset, as: UInt32.self)
    }

    /// Of everything but the checksum's own place.
    private static func checksum(
        _ bytes: UnsafeRawPointer, byteCount: Int, _ checksumOffset: Int
    ) -> UInt32 {
        var crc = CRC32C()
        crc.update(UnsafeRawBufferPointer(start: bytes, count: checksumOffset))
        let rest = checksumOffset + 4
        crc.update(UnsafeRawBufferPointer(start: bytes + rest, count: byteCount - rest))
        return crc.value
    }

    /// How many bytes the header takes that starts with `bytes`, at least `fixedBytes` of them.
    ///
    /// - Throws: `newerVersion`, `damagedHeader`.
    public static func headerBytes(_ bytes: UnsafeRawBufferPointer) throws(SegmentError) -> Int {
        guard bytes.count >= fixedBytes else { throw .damagedHeader }
        var reader = FieldReader(bytes)
        guard reader.take(UInt64.self) == magic else { throw .damagedHeader }
        let version = reader.take(UInt32.self)
        guard version <= Self.version else { throw .newerVersion(version) }
        let features = reader.take(UInt32.self)
        guard features == 0 else { throw .newerVersion(features) }
        _ = reader.take(UInt32.self)
        let headerBytes = Int(reader.take(UInt32.self))
        guard headerBytes >= fixedBytes,
            (headerBytes - fixedBytes) % columnBytes == 0,
            (headerBytes - fixedBytes) / columnBytes <= columnsMax
        else { throw .damagedHeader }
        return headerBytes
    }

    /// Reads and checks a header; `bytes` starts with all of it.
    ///
    /// - Throws: `newerVersion`, `damagedHeader`.
    public init(_ bytes: UnsafeRawBufferPointer) throws(SegmentError) {
        let headerBytes = try Self.headerBytes(bytes)
        guard bytes.count >= headerBytes, let base = bytes.baseAddress else {
            throw .damagedHeader
        }
        var reader = FieldReader(bytes, offset: 16)
        let kind = SegmentKind(rawValue: reader.take(UInt32.self))
        _ = reader.take(UInt32.self)
        identity = LogIdentity(high: reader.take(UInt64.self), low: reader.take(UInt64.self))
        let number = Int(reader.take(UInt16.self))
        let partitionCount = Int(reader.take(UInt16.self)) + 1
        family = reader.take(UInt32.self)
        sequence = reader.take(UInt64.self)
        recordCount = reader.take(UInt64.self)
        firstKey = reader.take(UInt64.self)
        lastKey = reader.take(UInt64.self)
        blockCount = reader.take(UInt32.self)
        let columnCount = Int(reader.take(UInt32.self))
        indexOffset = reader.take(UInt64.self)
        byteCount = reader.take(UInt64.self)
        indexChecksum = reader.take(UInt32.self)
        let checksumOffset = reader.offset
        let checksum = reader.take(UInt32.self)
        guard let kind, columnCount >= 1, partitionCount <= Limits.partitionsMax,
            partitionCount.nonzeroBitCount == 1, number < partitionCount,
            Self.fixedBytes + columnCount * Self.columnBytes == headerBytes,
            Self.checksum(base, byteCount: headerBytes, checksumOffset) == checksum
        else { throw .damagedHeader }
        self.kind = kind
        place = PartitionPlace(number: number, count: partitionCount)
        columns = []
        for _ in 0..<columnCount {
            let number = reader.take(UInt32.self)
            let flags = reader.take(UInt32.self)
            let defaultValue = Int64(bitPattern: reader.take(UInt64.self))
            columns.append(
                ColumnCoding(
                    column: number, defaultValue: defaultValue,
                    isSigned: flags & Self.signedFlag != 0))
        }
        guard indexOffset >= UInt64(headerBytes), indexOffset <= byteCount, blockCount >= 1,
            recordCount >= UInt64(blockCount)
        else { throw .damagedHeader }
    }

    init(
        kind: SegmentKind, identity: LogIdentity, place: PartitionPlace,
        family: UInt32, sequence: UInt64, columns: [ColumnCoding]
    ) {
        self.kind = kind
        self.identity = identity
        self.place = place
        self.family = family
        self.sequence = sequence
        self.columns = columns
        recordCount = 0
        firstKey = 0
        lastKey = 0
        blockCount = 0
        indexOffset = 0
        byteCount = 0
        indexChecksum = 0
    }
}

/// Puts integers one behind the other.
struct FieldWriter {
    private let bytes: UnsafeMutableRawPointer
    private(set) var offset = 0

    init(_ bytes: UnsafeMutableRawPointer) { self.bytes = bytes }

    mutating func put<Value: FixedWidthInteger>(_ value: Value) {
        bytes.storeBytes(of: value.littleEndian, toByteOffset: offset, as: Value.self)
        offset += MemoryLayout<Value>.size
    }
}

/// Takes integers one after the other; the owner makes sure that they are there.
struct FieldReader {
    private let bytes: UnsafeRawBufferPointer
    private(set) var offset: Int

    init(_ bytes: UnsafeRawBufferPointer, offset: Int = 0) {
        self.bytes = bytes
        self.offset = offset
    }

    mutating func take<Value: FixedWidthInteger>(_: Value.Type) -> Value {
        defer { offset += MemoryLayout<Value>.size }
        return Value(
            littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: Value.self))
    }
}
