public import TallyCore

/// What a checkpoint holds: the state of all partitions up to one commit group.
///
///     magic u64 · version u32 · features u32 · bytes u32 · crc u32 │ the rest, as varints and text
///
/// `docs/manifest.md` is its page.
public struct Manifest: Equatable, Sendable {
    static let magic: UInt64 = 0x544e_464d_594c_4154  // "TALYMFNT" in file order
    static let version: UInt32 = 3
    static let headerBytes = 24

    /// One file of records.
    public struct Segment: Equatable, Hashable, Sendable {
        /// The number in the file's name.
        public let number: UInt64
        /// The file's size, bytes.
        public let byteCount: UInt64
        /// What the file's header says its checksum is.
        public let headerChecksum: UInt32

        /// A segment in all its parts.
        public init(number: UInt64, byteCount: UInt64, headerChecksum: UInt32) {
            self.number = number
            self.byteCount = byteCount
            self.headerChecksum = headerChecksum
        }
    }

    /// The segments of one family in one partition, in order of their keys.
    public struct Table: Equatable, Sendable {
        /// The family's number, 0 for plain keys.
        public let family: UInt32
        /// Its segments.
        public let segments: [Segment]

        /// A table in all its parts.
        public init(family: UInt32, segments: [Segment]) {
            self.family = family
            self.segments = segments
        }
    }

    /// The part of a cluster's data that one of its logs orders.
    public struct HeldLog: Equatable, Sendable {
        /// How far its partitions have come.
        public var state: LogState
        /// Their schema.
        public var schema: Schema

        /// A log's part in all its parts.
        public init(state: LogState, schema: Schema) {
            self.state = state
            self.schema = schema
        }
    }

    /// The data's identity, the same as its journal's.
    public var identity: LogIdentity
    /// The last commit group that the state reflects, and its epoch; in a cluster, how many messages of logs.
    public var position: Position
    /// The log time of that group, milliseconds since 1970.
    public var logTimeMilliseconds: UInt64
    /// When the checkpoint was made, milliseconds since 1970.
    public var createdMilliseconds: UInt64
    /// The number of the next segment file.
    public var nextSegment: UInt64
    /// The schema; in a cluster, each log's partitions have theirs.
    public var schema: Schema
    /// How many logs order a cluster's data; 0 for data that has a journal of its own.
    public var logCount: Int
    /// Those of them whose partitions this is, by their numbers.
    public var logs: [Int: HeldLog]
    /// What the node is called in its cluster; empty for one without.
    public var nodeName: String
    /// For each partition its tables that have records.
    public var partitions: [[Table]]
    /// For each partition until when requests with a token have been forgotten, milliseconds since 1970.
    public var onceFloors: [UInt64]

    /// A manifest in all its parts.
    public init(
        identity: LogIdentity, position: Position, logTimeMilliseconds: UInt64,
        createdMilliseconds: UInt64, nextSegment: UInt64, schema: Schema, partitions: [[Table]],
        onceFloors: [UInt64]? = nil, logCount: Int = 0, logs: [Int: HeldLog] = [:],
        nodeName: String = ""
    ) {
        self.identity = identity
        self.position = position
        self.logTimeMilliseconds = logTimeMilliseconds
        self.createdMilliseconds = createdMilliseconds
        self.nextSegment = nextSegment
        self.schema = schema
        self.partitions = partitions
        self.onceFloors = onceFloors ?? partitions.map { _ in 0 }
        self.logCount = logCount
        self.logs = logs
        self.nodeName = nodeName
        precondition(self.onceFloors.count == partitions.count, "a floor for each partition")
    }

    /// All segments of all partitions.
    public var segments: [Segment] { partitions.flatMap { $0.flatMap(\.segments) } }

    /// Which log orders which partitions, of a node of a cluster.
    public var shares: LogShares {
        LogShares(partitionCount: partitions.count, logCount: logCount)
    }

    /// The schema; in a cluster, that of the log that has most changes of it.
    public var latestSchema: Schema {
        logs.values.map(\.schema).max { $0.changeCount < $1.changeCount } ?? schema
    }

    /// The schema of a partition, the last commit group, or the last message of its log, that its state
    /// reflects, and whether it is held here at all.
    public func origin(
        ofPartition partition: Int
    ) -> (schema: Schema, sequence: UInt64, isHeld: Bool) {
        guard logCount > 0 else { return (schema, position.sequence, true) }
        guard let log = logs[shares.log(of: partition)] else { return (Schema(), 0, false) }
        return (log.schema, log.state.sequence, true)
    }

    // MARK: Bytes

    /// The file's bytes.
    public var bytes: [UInt8] {
        var writer = ManifestWriter()
        writer.number(identity.high)
        writer.number(identity.low)
        writer.number(UInt64(position.epoch))
        writer.number(position.sequence)
        writer.number(logTimeMilliseconds)
        writer.number(createdMilliseconds)
        writer.number(nextSegment)
        writer.schema(schema)
        writer.number(UInt64(partitions.count))
        for tables in partitions {
            writer.number(UInt64(tables.count))
            for table in tables {
                writer.number(UInt64(table.family))
                writer.number(UInt64(table.segments.count))
                for segment in table.segments {
                    writer.number(segment.number)
                    writer.number(segment.byteCount)
                    writer.number(UInt64(segment.headerChecksum))
                }
            }
        }
        for floor in onceFloors { writer.number(floor) }
        writer.number(UInt64(logCount))
        if logCount > 0 {
            writer.text(nodeName)
            writer.logs(logs)
        }
        var bytes = [UInt8](repeating: 0, count: Self.headerBytes) + writer.bytes
        bytes.withUnsafeMutableBytes { buffer in
            guard let base = buffer.baseAddress else { return }
            store(Self.magic, base, 0)
            store(Self.version, base, 8)
            store(0 as UInt32, base, 12)
            store(UInt32(buffer.count), base, 16)
            store(Self.checksum(UnsafeRawBufferPointer(buffer)), base, 20)
        }
        return bytes
    }

    /// Of everything but its own place.
    private static func checksum(_ bytes: UnsafeRawBufferPointer) -> UInt32 {
        var crc = CRC32C()
        crc.update(UnsafeRawBufferPointer(rebasing: bytes[..<20]))
        crc.update(UnsafeRawBufferPointer(rebasing: bytes[headerBytes...]))
        return crc.value
    }

    /// Reads a manifest's bytes.
    ///
    /// - Throws: `newerFormat`, `damagedFile`.
    public init(_ bytes: UnsafeRawBufferPointer, file: String) throws(StorageError) {
        guard bytes.count >= Self.headerBytes, bytes.word(0) == Self.magic else {
            throw .damagedFile(file, reason: "it does not begin as a manifest does")
        }
        guard bytes.half(8) <= Self.version else {
            throw .newerFormat(file: file, version: bytes.half(8), supported: Self.version)
        }
        guard bytes.half(16) == UInt32(bytes.count), bytes.half(20) == Self.checksum(bytes) else {
            throw .damagedFile(file, reason: "its checksum is wrong")
        }
        guard bytes.half(12) == 0 else {
            throw .newerFormat(file: file, version: bytes.half(12), supported: 0)
        }
        var reader = ManifestReader(UnsafeRawBufferPointer(rebasing: bytes[Self.headerBytes...]))
        guard let manifest = Self(&reader, version: bytes.half(8)), reader.isAtEnd else {
            throw .damagedFile(file, reason: "its parts do not add up")
        }
        self = manifest
    }

    private init?(_ reader: inout ManifestReader, version: UInt32) {
        guard let high = reader.number(), let low = reader.number(),
            let epoch = reader.small(), let sequence = reader.number(),
            let logTime = reader.number(), let created = reader.number(),
            let nextSegment = reader.number(), let schema = reader.schema(),
            let partitionCount = reader.small(), partitionCount <= Limits.partitionsMax
        else { return nil }
        var partitions: [[Table]] = []
        for _ in 0..<partitionCount {
            guard let tables = Self.tables(&reader) else { return nil }
            partitions.append(tables)
        }
        var floors = partitions.map { _ in UInt64(0) }
        if version >= 2 {
            for index in floors.indices {
                guard let floor = reader.number() else { return nil }
                floors[index] = floor
            }
        }
        var logCount: UInt32 = 0
        var nodeName = ""
        var logs: [Int: HeldLog] = [:]
        if version >= 3 {
            guard let count = reader.small(), count <= Limits.logsMax else { return nil }
            logCount = count
            if count > 0 {
                guard let name = reader.text(), let held = reader.logs(count) else { return nil }
                (nodeName, logs) = (name, held)
            }
        }
        self.init(
            identity: LogIdentity(high: high, low: low),
            position: Position(epoch: epoch, sequence: sequence), logTimeMilliseconds: logTime,
            createdMilliseconds: created, nextSegment: nextSegment, schema: schema,
            partitions: partitions, onceFloors: floors, logCount: Int(logCount), logs: logs,
            nodeName: nodeName)
    }

    private static func tables(_ reader: inout ManifestReader) -> [Table]? {
        guard let tableCount = reader.small() else { return nil }
        var tables: [Table] = []
        for _ in 0..<tableCount {
            guard let family = reader.small(), let segmentCount = reader.small() else {
                return nil
            }
            var segments: [Segment] = []
            for _ in 0..<segmentCount {
                guard let number = reader.number(), let byteCount = reader.number(),
                    let checksum = reader.small()
                else { return nil }
                segments.append(
                    Segment(number: number, byteCount: byteCount, headerChecksum: checksum))
            }
            tables.append(Table(family: family, segments: segments))
        }
        return tables
    }
}
