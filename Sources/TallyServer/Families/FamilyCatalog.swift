import TallyCore
internal import Glibc

/// The schema in the form in which commands are read: names as bytes, found without allocating.
///
/// Never changes; another schema gets another catalog.
final class FamilyCatalog: @unchecked Sendable {
    // Sendable because nothing changes after `init`.

    /// A declared column.
    struct Column {
        let number: UInt32
        let name: UnsafeRawBufferPointer
        /// Empty for none.
        let suffix: UnsafeRawBufferPointer
        let min: Int64
        let max: Int64
    }

    /// A declared family.
    struct Family {
        let number: UInt32
        let version: UInt32
        let name: UnsafeRawBufferPointer
        let keyKind: KeyKind?
        let columns: UnsafeBufferPointer<Column>

        /// The column of this name, nil if there is none.
        func column(named name: UnsafeRawBufferPointer) -> Column? {
            columns.first { Self.equal($0.name, name) }
        }

        /// The column of this suffix, nil if there is none.
        @inline(__always)
        func column(suffix: UnsafeRawBufferPointer) -> Column? {
            guard suffix.count > 0 else { return nil }
            for index in 0..<columns.count where Self.equal(columns[index].suffix, suffix) {
                return columns[index]
            }
            return nil
        }

        @inline(__always)
        fileprivate static func equal(
            _ left: UnsafeRawBufferPointer, _ right: UnsafeRawBufferPointer
        ) -> Bool {
            left.count == right.count
                && memcmp(
                    left.baseAddress.unsafelyUnwrapped, right.baseAddress.unsafelyUnwrapped,
                    left.count) == 0
        }
    }

    /// `Node.schemaVersion` of the schema.
    let version: UInt64
    let schema: Schema
    let families: UnsafeMutableBufferPointer<Family>
    /// One more than each family's index, by the hash of its name; 0 for none.
    private let slots: UnsafeMutableBufferPointer<UInt32>
    private let bytes: UnsafeMutableRawBufferPointer
    /// Between which numbers a column's sums stay whose additions may be answered before they are in a cluster's
    /// log, by family and column.
    let earlyRanges: [UInt64: ClosedRange<Int64>]
    private static let hasher = KeyHasher(seed: 0)

    init(_ whole: Schema, version: UInt64) {
        // Who only has a name is not there yet.
        let schema = Schema(
            families: whole.families.filter { !$0.isReserved }, nextFamily: whole.nextFamily,
            changeCount: whole.changeCount)
        self.schema = schema
        self.version = version
        earlyRanges = Self.earlyRanges(schema)
        let texts = schema.families.flatMap { family in
            [family.name] + family.columns.flatMap { [$0.name, $0.suffix ?? ""] }
        }
        bytes = .allocate(
            byteCount: texts.reduce(1) { $0 + $1.utf8.count }, alignment: 1)
        families = .allocate(capacity: schema.families.count)
        var slotCount = 8
        while slotCount < schema.families.count * 2 { slotCount *= 2 }
        slots = .allocate(capacity: slotCount)
        slots.initialize(repeating: 0)
        var offset = 0
        for (index, family) in schema.families.enumerated() {
            let name = Self.store(family.name, in: bytes, &offset)
            let columns = UnsafeMutableBufferPointer<Column>.allocate(
                capacity: family.columns.count)
            for (index, column) in family.columns.enumerated() {
                columns.initializeElement(
                    at: index,
                    to: Column(
                        number: column.number, name: Self.store(column.name, in: bytes, &offset),
                        suffix: Self.store(column.suffix ?? "", in: bytes, &offset),
                        min: column.min, max: column.max))
            }
            families.initializeElement(
                at: index,
                to: Family(
                    number: family.number, version: family.version, name: name,
                    keyKind: family.key?.kind, columns: UnsafeBufferPointer(columns)))
            var slot = Int(truncatingIfNeeded: Self.hasher.hash(name)) & (slotCount - 1)
            while slots[slot] != 0 { slot = (slot + 1) & (slotCount - 1) }
            slots[slot] = UInt32(index + 1)
        }
    }

    /// An addition that could be refused is answered when that is known.
    private static func earlyRanges(_ schema: Schema) -> [UInt64: ClosedRange<Int64>] {
        var ranges: [UInt64: ClosedRange<Int64>] = [:]
        for family in schema.families
        where family.isAnsweredEarly && !family.isKnownOnly && !family.isDeletedFinal {
            for column in family.columns where column.bound == .saturate {
                ranges[earlyKey(family.number, column.number)] = column.min...column.max
            }
        }
        return ranges
    }

    static func earlyKey(_ family: UInt32, _ column: UInt32) -> UInt64 {
        UInt64(family) << 32 | UInt64(column)
    }

    deinit {
        for family in families { family.columns.deallocate() }
        families.deallocate()
        slots.deallocate()
        bytes.deallocate()
    }

    private static func store(
        _ text: String, in bytes: UnsafeMutableRawBufferPointer, _ offset: inout Int
    ) -> UnsafeRawBufferPointer {
        let start = offset
        for byte in text.utf8 {
            bytes[offset] = byte
            offset += 1
        }
        return UnsafeRawBufferPointer(
            start: bytes.baseAddress.unsafelyUnwrapped + start, count: offset - start)
    }

    @inline(__always)
    var isEmpty: Bool { families.count == 0 }

    /// The index of the family of this name, nil if there is none.
    @inline(__always)
    func find(_ name: UnsafeRawBufferPointer) -> Int? {
        guard !isEmpty, name.count <= Limits.schemaNameBytesMax else { return nil }
        var slot = Int(truncatingIfNeeded: Self.hasher.hash(name)) & (slots.count &- 1)
        while slots[slot] != 0 {
            let index = Int(slots[slot]) &- 1
            if Family.equal(families[index].name, name) { return index }
            slot = (slot &+ 1) & (slots.count &- 1)
        }
        return nil
    }

    /// The family that `key` is a record of, as `family:…` says, and where the rest begins; nil if it
    /// is of none.
    @inline(__always)
    func split(_ key: UnsafeRawBufferPointer) -> (family: Int, restOffset: Int)? {
        guard !isEmpty else { return nil }
        let start = key.baseAddress.unsafelyUnwrapped
        let searched = min(key.count, Limits.schemaNameBytesMax &+ 1)
        guard let colon = memchr(start, Int32(UInt8(ascii: ":")), searched) else { return nil }
        let nameCount = UnsafeRawPointer(colon) - start
        guard let family = find(UnsafeRawBufferPointer(start: start, count: nameCount)) else {
            return nil
        }
        return (family, nameCount &+ 1)
    }

    /// The family of this number, nil if there is none.
    func family(number: UInt32) -> Family? { families.first { $0.number == number } }
}
