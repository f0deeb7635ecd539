public import TallyCore

/// What a checkpoint holds: the state of all partitions up to one commit group.
///
///     magic u64 · version u32 · features u32 · bytes u32 · crc u32 │ the rest, as varints and text
///
/// `docs/manifest.md` is its page.
public struct Manifest: Equatable, Sendable {
    static let magic: UInt64 = 0x544e_464d_594c_4154  // "TALYMFNT" in file order
    static let version: UInt32 = 2
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

    /// The data's identity, the same as its journal's.
    public var identity: LogIdentity
    /// The last commit group that the state reflects, and its epoch.
    public var position: Position
    /// The log time of that group, milliseconds since 1970.
    public var logTimeMilliseconds: UInt64
    /// When the checkpoint was made, milliseconds since 1970.
    public var createdMilliseconds: UInt64
    /// The number of the next segment file.
    public var nextSegment: UInt64
    /// The schema.
    public var schema: Schema
    /// For each partition its tables that have records.
    public var partitions: [[Table]]
    /// For each partition until when requests with a token have been forgotten, milliseconds since 1970.
    public var onceFloors: [UInt64]

    /// A manifest in all its parts.
    public init(
        identity: LogIdentity, position: Position, logTimeMilliseconds: UInt64,
        createdMilliseconds: UInt64, nextSegment: UInt64, schema: Schema, partitions: [[Table]],
        onceFloors: [UInt64]? = nil
    ) {
        self.identity = identity
        self.position = position
        self.logTimeMilliseconds = logTimeMilliseconds
        self.createdMilliseconds = createdMilliseconds
        self.nextSegment = nextSegment
        self.schema = schema
        self.partitions = partitions
        self.onceFloors = onceFloors ?? partitions.map { _ in 0 }
        precondition(self.onceFloors.count == partitions.count, "a floor for each partition")
    }

    /// All segments of all partitions.
    public var segments: [Segment] { partitions.flatMap { $0.flatMap(\.segments) } }

    // MARK: Bytes

    /// The file's bytes.
    public var bytes: [UInt8] {
        var writer = TextWriter()
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
        var reader = TextReader(UnsafeRawBufferPointer(rebasing: bytes[Self.headerBytes...]))
        guard let manifest = Self(&reader, version: bytes.half(8)), reader.isAtEnd else {
            throw .damagedFile(file, reason: "its parts do not add up")
        }
        self = manifest
    }

    private init?(_ reader: inout TextReader, version: UInt32) {
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
        self.init(
            identity: LogIdentity(high: high, low: low),
            position: Position(epoch: epoch, sequence: sequence), logTimeMilliseconds: logTime,
            createdMilliseconds: created, nextSegment: nextSegment, schema: schema,
            partitions: partitions, onceFloors: floors)
    }

    private static func tables(_ reader: inout TextReader) -> [Table]? {
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

/// Puts numbers, as varints, and text one behind the other.
private struct TextWriter {
    private(set) var bytes: [UInt8] = []

    mutating func number(_ value: UInt64) {
        withUnsafeTemporaryAllocation(byteCount: Varint.bytesMax, alignment: 1) { buffer in
            guard let base = buffer.baseAddress else { return }
            let count = Varint.write(value, to: base)
            bytes.append(contentsOf: buffer[..<count])
        }
    }

    mutating func signed(_ value: Int64) { number(Varint.zigzag(value)) }

    mutating func text(_ text: String) {
        number(UInt64(text.utf8.count))
        bytes.append(contentsOf: text.utf8)
    }

    mutating func schema(_ schema: Schema) {
        number(UInt64(schema.nextFamily))
        number(UInt64(schema.families.count))
        for family in schema.families {
            number(UInt64(family.number))
            text(family.name)
            number(UInt64(family.version))
            number(
                (family.isKnownOnly ? 1 : 0) | (family.isDeletedFinal ? 2 : 0)
                    | (family.age == nil ? 0 : 4))
            if let age = family.age {
                number(UInt64(age.coldAfterDays))
                number(UInt64(age.timeShift))
                number(UInt64(age.timeUnitMilliseconds))
                signed(age.timeEpochMilliseconds)
            }
            // The empty name is none.
            text(family.key?.name ?? "")
            number(UInt64(family.key?.kind.rawValue ?? 0))
            number(UInt64(family.nextColumn))
            number(UInt64(family.columns.count))
            for column in family.columns { self.column(column) }
        }
    }

    private mutating func column(_ column: Column) {
        number(UInt64(column.number))
        text(column.name)
        text(column.suffix ?? "")
        number(UInt64(column.hintBits))
        number(UInt64(column.maxBits))
        signed(column.min)
        signed(column.defaultValue)
        number(UInt64(column.bound.rawValue))
    }
}

/// Takes apart what a `TextWriter` has put together; nil where that cannot be.
private struct TextReader {
    private let bytes: UnsafeRawBufferPointer
    private var offset = 0

    init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

    var isAtEnd: Bool { offset == bytes.count }

    mutating func number() -> UInt64? { Varint.read(bytes, at: &offset) }

    mutating func small() -> UInt32? { number().flatMap { UInt32(exactly: $0) } }

    mutating func signed() -> Int64? { number().map(Varint.unzigzag) }

    mutating func text() -> String? {
        guard let count = number(), count <= UInt64(bytes.count - offset) else { return nil }
        defer { offset += Int(count) }
        return String(decoding: bytes[offset..<(offset + Int(count))], as: UTF8.self)
    }

    mutating func schema() -> Schema? {
        guard let nextFamily = small(), let count = small() else { return nil }
        var families: [Family] = []
        for _ in 0..<count {
            guard let family = family() else { return nil }
            families.append(family)
        }
        return Schema(families: families, nextFamily: nextFamily)
    }

    private mutating func family() -> Family? {
        guard let number = small(), let name = text(), let version = small(),
            let flags = small()
        else { return nil }
        var age: AgeRule?
        if flags & 4 != 0 {
            guard let rule = self.age() else { return nil }
            age = rule
        }
        guard let keyName = text(), let keyKind = small(),
            let nextColumn = small(), let count = small()
        else { return nil }
        var family = Family(
            number: number, name: name, isKnownOnly: flags & 1 != 0,
            isDeletedFinal: flags & 2 != 0)
        family.version = version
        family.age = age
        family.nextColumn = nextColumn
        if !keyName.isEmpty {
            guard let kind = UInt8(exactly: keyKind).flatMap(KeyKind.init(rawValue:)) else {
                return nil
            }
            family.key = FamilyKey(name: keyName, kind: kind)
        }
        for _ in 0..<count {
            guard let column = column() else { return nil }
            family.columns.append(column)
        }
        return family
    }

    private mutating func age() -> AgeRule? {
        guard let days = small(), let shift = small(), shift < 64, let unit = small(), unit > 0,
            let epoch = signed()
        else { return nil }
        return AgeRule(
            coldAfterDays: Int(days), timeShift: Int(shift), timeUnitMilliseconds: Int(unit),
            timeEpochMilliseconds: epoch)
    }

    private mutating func column() -> Column? {
        guard let number = small(), let name = text(), let suffix = text(),
            let hint = small(), let max = small(), let min = signed(),
            let defaultValue = signed(), let bound = small(),
            let policy = UInt8(exactly: bound).flatMap(BoundPolicy.init(rawValue:)),
            (1...64).contains(max)
        else { return nil }
        return Column(
            number: number, name: name, suffix: suffix.isEmpty ? nil : suffix,
            hintBits: Int(hint), maxBits: Int(max), min: min, defaultValue: defaultValue,
            bound: policy)
    }
}
