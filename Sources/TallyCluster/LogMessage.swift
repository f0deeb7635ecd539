public import TallyCore

/// One message of a log: what one producer asks of the partitions that the log orders.
///
///     magic u32 · version u16 · features u16 · cluster 16 bytes · log u32 · epoch u32
///     · producer 16 bytes · producer sequence u64 · sections u32 · crc u32 · unpacked bytes u32 │ body
///     body, perhaps packed: section │ section │ …
///     section: partition u32 · operations u32 · bytes u32 │ entries
///
/// `docs/log.md` is its page. The bytes it was read from must stay while it is used.
public struct LogMessage {
    /// What tells one message from all others.
    public struct Header: Equatable, Sendable {
        /// Which cluster's data it is about.
        public var cluster: LogIdentity
        /// The log's number.
        public var log: UInt32
        /// Which history of the log.
        public var epoch: UInt32
        /// Who has sent it.
        public var producer: ProducerIdentity
        /// Its number among the producer's messages, from 1.
        public var producerSequence: UInt64

        /// A header in all its parts.
        public init(
            cluster: LogIdentity, log: UInt32, epoch: UInt32, producer: ProducerIdentity,
            producerSequence: UInt64
        ) {
            self.cluster = cluster
            self.log = log
            self.epoch = epoch
            self.producer = producer
            self.producerSequence = producerSequence
        }

        /// The name under which a broker may recognise a repetition.
        public var messageID: String { "\(producer)-\(log)-\(epoch)-\(producerSequence)" }
    }

    /// What is asked of one partition.
    public struct Section {
        /// The partition's number.
        public let partition: Int
        /// How many operations its entries stand for.
        public let operationCount: Int
        /// The entries, as `RequestSection` writes them.
        public let entries: UnsafeRawBufferPointer
    }

    /// Why bytes are no message that this version can read.
    public enum ReadError: Error, Equatable, Sendable, CustomStringConvertible {
        /// They do not begin as messages do, or end too early.
        case malformed
        /// A newer version has written them.
        case newerFormat(UInt16)
        /// They use operations that this version does not know.
        case newerFeatures(UInt16)
        /// They are not what was sent.
        case wrongChecksum

        /// One line for a log.
        public var description: String {
            switch self {
            case .malformed: "it is not laid out as a message of a log"
            case .newerFormat(let version): "it has format version \(version)"
            case .newerFeatures(let level): "it has feature level \(level)"
            case .wrongChecksum: "its checksum is wrong"
            }
        }
    }

    /// What tells it from all others.
    public let header: Header
    private let sectionCount: UInt32
    /// The sections, packed if `unpackedByteCount` is not 0.
    private let body: UnsafeRawBufferPointer
    private let unpackedByteCount: Int
    /// The checksum of all of it.
    public let checksum: UInt32

    static let magic: UInt32 = 0x474f_4c54  // "TLOG" in order of bytes
    static let version: UInt16 = 2
    /// Names the kinds of entries that may occur.
    static let features: UInt16 = 1
    static let headerBytes = 68
    static let sectionHeaderBytes = 12
    /// Shorter bodies are not packed.
    private static let packedBytesMin = 512

    // MARK: Bytes

    /// A message's bytes while they are put together.
    public struct Writer: ~Copyable {
        private var bytes: [UInt8]
        private var sectionCount: UInt32 = 0
        private let header: Header

        /// A message without sections.
        public init(_ header: Header, capacity: Int) {
            self.header = header
            bytes = []
            bytes.reserveCapacity(headerBytes + capacity)
            bytes.append(contentsOf: repeatElement(0, count: headerBytes))
        }

        /// Appends what is asked of one partition.
        public mutating func append(
            partition: Int, operationCount: UInt32, _ entries: UnsafeRawBufferPointer
        ) {
            let start = bytes.count
            bytes.append(contentsOf: repeatElement(0, count: sectionHeaderBytes))
            bytes.withUnsafeMutableBytes { buffer in
                buffer.store(UInt32(partition), start)
                buffer.store(operationCount, start + 4)
                buffer.store(UInt32(entries.count), start + 8)
            }
            bytes.append(contentsOf: entries)
            sectionCount += 1
        }

        /// The message's bytes, packed where that saves an eighth or more.
        public consuming func finish() -> [UInt8] {
            let unpackedByteCount = bytes.count - headerBytes
            if unpackedByteCount >= packedBytesMin, let packed = packed() {
                bytes = packed
                return finished(unpackedByteCount)
            }
            return finished(0)
        }

        private func packed() -> [UInt8]? {
            let room = headerBytes + (bytes.count - headerBytes) / 8 * 7
            var isPacked = false
            let packed = [UInt8](unsafeUninitializedCapacity: room) { target, count in
                let target = UnsafeMutableRawBufferPointer(target)
                target[..<headerBytes].initializeMemory(as: UInt8.self, repeating: 0)
                let packedCount = bytes.withUnsafeBytes { source in
                    LZ4Block.compress(
                        UnsafeRawBufferPointer(rebasing: source[headerBytes...]),
                        into: UnsafeMutableRawBufferPointer(rebasing: target[headerBytes...]))
                }
                isPacked = packedCount != nil
                count = headerBytes + (packedCount ?? 0)
            }
            return isPacked ? packed : nil
        }

        private mutating func finished(_ unpackedByteCount: Int) -> [UInt8] {
            bytes.withUnsafeMutableBytes { buffer in
                buffer.store(magic, 0)
                buffer.store(version, 4)
                buffer.store(features, 6)
                buffer.store(header.cluster.high, 8)
                buffer.store(header.cluster.low, 16)
                buffer.store(header.log, 24)
                buffer.store(header.epoch, 28)
                buffer.store(header.producer.high, 32)
                buffer.store(header.producer.low, 40)
                buffer.store(header.producerSequence, 48)
                buffer.store(sectionCount, 56)
                buffer.store(UInt32(unpackedByteCount), 64)
                buffer.store(LogMessage.checksum(UnsafeRawBufferPointer(buffer)), 60)
            }
            return bytes
        }
    }

    /// Of everything but its own place.
    private static func checksum(_ bytes: UnsafeRawBufferPointer) -> UInt32 {
        var crc = CRC32C()
        crc.update(UnsafeRawBufferPointer(rebasing: bytes[..<60]))
        crc.update(UnsafeRawBufferPointer(rebasing: bytes[64...]))
        return crc.value
    }

    /// Reads a message's header; the body is left to `sections`.
    ///
    /// - Complexity: O(bytes), for the checksum.
    public init(_ bytes: UnsafeRawBufferPointer) throws(ReadError) {
        guard bytes.count >= Self.headerBytes, bytes.load(0, as: UInt32.self) == Self.magic else {
            throw .malformed
        }
        let version = bytes.load(4, as: UInt16.self)
        guard version == Self.version else { throw .newerFormat(version) }
        let features = bytes.load(6, as: UInt16.self)
        guard features <= Self.features else { throw .newerFeatures(features) }
        checksum = bytes.load(60, as: UInt32.self)
        guard checksum == Self.checksum(bytes) else { throw .wrongChecksum }
        header = Header(
            cluster: LogIdentity(
                high: bytes.load(8, as: UInt64.self), low: bytes.load(16, as: UInt64.self)),
            log: bytes.load(24, as: UInt32.self), epoch: bytes.load(28, as: UInt32.self),
            producer: ProducerIdentity(
                high: bytes.load(32, as: UInt64.self), low: bytes.load(40, as: UInt64.self)),
            producerSequence: bytes.load(48, as: UInt64.self))
        sectionCount = bytes.load(56, as: UInt32.self)
        unpackedByteCount = Int(bytes.load(64, as: UInt32.self))
        body = UnsafeRawBufferPointer(rebasing: bytes[Self.headerBytes...])
        guard unpackedByteCount <= Limits.logMessageBytesMax else { throw .malformed }
    }

    /// What is asked, partition by partition; nothing for a barrier. The entries are left to their partitions.
    ///
    /// - Parameter memory: Where a packed body is unpacked; must stay as it is while the sections are used.
    public func sections(_ memory: MessageMemory) throws(ReadError) -> [Section] {
        guard unpackedByteCount > 0 else { return try Self.sections(body, count: sectionCount) }
        let unpacked = memory.room(unpackedByteCount)
        guard LZ4Block.decompress(body, into: unpacked) else { throw .malformed }
        return try Self.sections(UnsafeRawBufferPointer(unpacked), count: sectionCount)
    }

    private static func sections(
        _ bytes: UnsafeRawBufferPointer, count: UInt32
    ) throws(ReadError) -> [Section] {
        guard count <= UInt32(Limits.partitionsMax) else { throw .malformed }
        var sections: [Section] = []
        sections.reserveCapacity(Int(count))
        var offset = 0
        for _ in 0..<count {
            guard bytes.count - offset >= sectionHeaderBytes else { throw .malformed }
            let byteCount = Int(bytes.load(offset + 8, as: UInt32.self))
            let start = offset + sectionHeaderBytes
            guard byteCount <= bytes.count - start else { throw .malformed }
            sections.append(
                Section(
                    partition: Int(bytes.load(offset, as: UInt32.self)),
                    operationCount: Int(bytes.load(offset + 4, as: UInt32.self)),
                    entries: UnsafeRawBufferPointer(
                        rebasing: bytes[start..<(start + byteCount)])))
            offset = start + byteCount
        }
        guard offset == bytes.count else { throw .malformed }
        return sections
    }
}

/// Memory for one message's body at a time.
public final class MessageMemory {
    private var bytes = UnsafeMutableRawBufferPointer(start: nil, count: 0)

    /// Memory that grows as it is needed.
    public init() {}

    deinit { bytes.deallocate() }

    /// So many bytes; what was there before is gone.
    func room(_ byteCount: Int) -> UnsafeMutableRawBufferPointer {
        if bytes.count < byteCount {
            bytes.deallocate()
            bytes = .allocate(byteCount: byteCount + byteCount / 2, alignment: 16)
        }
        return UnsafeMutableRawBufferPointer(rebasing: bytes[..<byteCount])
    }
}

extension UnsafeRawBufferPointer {
    /// The little-endian integer at `offset`.
    fileprivate func load<Value: FixedWidthInteger & BitwiseCopyable>(
        _ offset: Int, as type: Value.Type
    ) -> Value {
        Value(littleEndian: loadUnaligned(fromByteOffset: offset, as: type))
    }
}

extension UnsafeMutableRawBufferPointer {
    fileprivate func store<Value: FixedWidthInteger & BitwiseCopyable>(
        _ value: Value, _ offset: Int
    ) {
        storeBytes(of: value.littleEndian, toByteOffset: offset, as: Value.self)
    }
}
