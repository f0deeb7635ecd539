public import TallyCore

/// Puts numbers, as varints, and text one behind the other.
struct ManifestWriter {
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
                    | (family.age == nil ? 0 : 4) | (family.isReserved ? 8 : 0)
                    | (family.isAnsweredEarly ? 16 : 0))
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

    mutating func logs(_ logs: [Int: Manifest.HeldLog]) {
        number(UInt64(logs.count))
        for (number, log) in logs.sorted(by: { $0.key < $1.key }) {
            self.number(UInt64(number))
            schema(log.schema)
            self.number(log.schema.changeCount)
            state(log.state)
        }
    }

    private mutating func state(_ state: LogState) {
        number(UInt64(state.epoch))
        number(state.streamNanoseconds)
        number(state.sequence)
        number(state.milliseconds)
        number(state.mark == nil ? 0 : 1)
        if let mark = state.mark {
            identity(mark.producer)
            number(mark.producerSequence)
            number(UInt64(mark.checksum))
        }
        number(UInt64(state.windows.count))
        // In an order that does not depend on a hash seed.
        for (producer, window) in state.windows.sorted(by: { $0.key < $1.key }) {
            identity(producer)
            number(window.sequence)
            number(window.milliseconds)
        }
    }

    private mutating func identity(_ producer: ProducerIdentity) {
        number(producer.high)
        number(producer.low)
    }
}

extension Schema {
    /// The schema as a manifest has it, behind how many changes have made it.
    public var bytes: [UInt8] {
        var writer = ManifestWriter()
        writer.number(changeCount)
        writer.schema(self)
        return writer.bytes
    }

    /// Reads `bytes`; nil if they are something else.
    public init?(bytes: UnsafeRawBufferPointer) {
        var reader = ManifestReader(bytes)
        guard let changeCount = reader.number(), let schema = reader.schema(), reader.isAtEnd else {
            return nil
        }
        self.init(
            families: schema.families, nextFamily: schema.nextFamily, changeCount: changeCount)
    }
}

/// Takes apart what a `ManifestWriter` has put together; nil where that cannot be.
struct ManifestReader {
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
        family.isReserved = flags & 8 != 0
        family.isAnsweredEarly = flags & 16 != 0
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

    mutating func logs(_ count: UInt32) -> [Int: Manifest.HeldLog]? {
        guard let heldCount = small(), heldCount <= count else { return nil }
        var held: [Int: Manifest.HeldLog] = [:]
        for _ in 0..<heldCount {
            guard let number = small(), number < count, let read = schema(),
                let changeCount = self.number(), let state = state()
            else { return nil }
            let schema = Schema(
                families: read.families, nextFamily: read.nextFamily, changeCount: changeCount)
            held[Int(number)] = Manifest.HeldLog(state: state, schema: schema)
        }
        return held
    }

    private mutating func state() -> LogState? {
        guard let epoch = small(), let stream = number(), let sequence = number(),
            let milliseconds = number(), let isMarked = small()
        else { return nil }
        var state = LogState(epoch: epoch, streamNanoseconds: stream)
        state.sequence = sequence
        state.milliseconds = milliseconds
        if isMarked == 1 {
            guard let producer = identity(), let producerSequence = number(), let checksum = small()
            else { return nil }
            state.mark = LogState.Mark(
                producer: producer, producerSequence: producerSequence, checksum: checksum)
        }
        guard let windowCount = small() else { return nil }
        for _ in 0..<windowCount {
            guard let producer = identity(), let sequence = number(), let milliseconds = number()
            else { return nil }
            state.windows[producer] = LogState.Window(
                sequence: sequence, milliseconds: milliseconds)
        }
        return state
    }

    private mutating func identity() -> ProducerIdentity? {
        guard let high = number(), let low = number() else { return nil }
        return ProducerIdentity(high: high, low: low)
    }
}
