import TallyCore

/// Which keys a walk comes to.
public struct WalkedKinds: OptionSet, Sendable {
    /// A bit for each kind.
    public let rawValue: UInt8

    /// The kinds whose bits are set.
    public init(rawValue: UInt8) { self.rawValue = rawValue }

    /// Plain keys.
    public static let plain = WalkedKinds(rawValue: 1)
    /// Records of families.
    public static let records = WalkedKinds(rawValue: 2)
}

/// Where a walk over a partition's keys stands.
public struct WalkPlace: Sendable {
    /// Of the table: plain keys, those with a deadline, then families by their numbers.
    fileprivate var family: UInt32 = Schema.plainKeys
    fileprivate var place = TablePlace.start

    /// The beginning.
    public init() {}
}

/// Looking at all keys, some at a time.
extension Partition {
    /// Goes on with a walk: calls `body` with the keys of some counters and records, with the number of
    /// their family.
    ///
    /// Whatever is there during the whole walk is come to, most of it once (`TablePlace`).
    ///
    /// - Parameters:
    ///   - place: nil once everything has been come to.
    ///   - limit: How many keys, about.
    ///   - now: Keys whose deadline is not after it are left out; milliseconds since 1970.
    /// - Returns: a block that must be read before the walk goes on.
    /// - Complexity: O(limit + records of a leaf or a block).
    public mutating func walk(
        _ place: inout WalkPlace?, _ kinds: WalkedKinds, limit: Int, now: Int64,
        _ body: (UInt32, StoredKey) -> Void
    ) -> ColdBlock? {
        guard var walked = place else { return nil }
        defer { _ = cache.takeFailure() }
        let block: ColdBlock?
        switch walked.family {
        case Schema.plainKeys, Schema.expiringKeys:
            if kinds.contains(.plain) {
                block = plain.walk(&walked.place, walked.family, limit: limit, now: now) {
                    body(Schema.plainKeys, .string($0))
                }
            } else {
                (block, walked.place) = (nil, .end)
            }
        default:
            block = families.walk(&walked.place, walked.family, limit: limit) {
                body(walked.family, $0)
            }
        }
        if case .end = walked.place {
            guard let next = nextTable(behind: walked.family, kinds) else {
                place = nil
                return nil
            }
            walked.family = next
            walked.place = .start
        }
        place = walked
        return block
    }

    /// Somewhere in the partition, by a random number: the more records a table has, the likelier in it.
    ///
    /// - Complexity: O(families + segments).
    public borrowing func randomPlace(_ random: UInt64) -> WalkPlace {
        var place = WalkPlace()
        var left = Int(truncatingIfNeeded: random >> 1) % max(1, count)
        if left < plain.table.recordCount {
            place.place = plain.table.randomPlace(random)
            return place
        }
        left -= plain.table.recordCount
        place.family = Schema.expiringKeys
        if left < plain.expiring.count {
            place.place = plain.expiring.table.randomPlace(random)
            return place
        }
        left -= plain.expiring.count
        families.choosePlace(&place.family, &place.place, left, random)
        return place
    }

    private borrowing func nextTable(behind family: UInt32, _ kinds: WalkedKinds) -> UInt32? {
        if family == Schema.plainKeys { return Schema.expiringKeys }
        guard kinds.contains(.records) else { return nil }
        return families.firstNumber(above: family == Schema.expiringKeys ? 0 : family)
    }
}

extension PlainCounters {
    mutating func walk(
        _ place: inout TablePlace, _ family: UInt32, limit: Int, now: Int64,
        _ body: ([UInt8]) -> Void
    ) -> ColdBlock? {
        // Keys only ever move from the one table to the other, so what has left the first comes later.
        family == Schema.plainKeys
            ? table.walk(&place, limit: limit) { key in
                if withLookup(key, { table.read($0, row) }) { body(key) }
            }
            : expiring.table.walk(&place, limit: limit) { key in
                if withLookup(key, { expiring.find($0)?.isDue(now) == false }) { body(key) }
            }
    }

    private borrowing func withLookup(
        _ key: [UInt8], _ body: (StringTable.Lookup) -> Bool
    ) -> Bool {
        key.withUnsafeBytes { bytes in
            guard let start = bytes.baseAddress else { return false }
            return body(
                StringTable.Lookup(start, count: bytes.count, hash: table.hasher.hash(bytes)))
        }
    }
}

extension FamilySet {
    /// The number of the first family whose number is above `number`, nil if there is none.
    borrowing func firstNumber(above number: UInt32) -> UInt32? {
        schema.families.lazy.map(\.number).first { $0 > number }
    }

    /// Somewhere in the family that has the record of rank `rank` among all families'.
    borrowing func choosePlace(
        _ number: inout UInt32, _ place: inout TablePlace, _ rank: Int, _ random: UInt64
    ) {
        var rank = rank
        for family in schema.families {
            guard let records = find(family.number) else { continue }
            number = family.number
            if rank < records.pointee.recordCount {
                place = records.pointee.randomPlace(random)
                return
            }
            rank -= records.pointee.recordCount
        }
    }

    mutating func walk(
        _ place: inout TablePlace, _ family: UInt32, limit: Int, _ body: (StoredKey) -> Void
    ) -> ColdBlock? {
        guard let family = find(family) else {
            place = .end
            return nil
        }
        return family.pointee.walk(&place, limit: limit, body)
    }
}

extension FamilyRecords {
    borrowing func randomPlace(_ random: UInt64) -> TablePlace {
        integers?.pointee.randomPlace(random) ?? strings?.pointee.randomPlace(random) ?? .start
    }

    mutating func walk(
        _ place: inout TablePlace, limit: Int, _ body: (StoredKey) -> Void
    ) -> ColdBlock? {
        if let integers {
            return integers.pointee.walk(&place, limit: limit) { key in
                _ = integers.pointee.read(key, row)
                if isPresent { body(.integer(self.place.expand(key))) }
            }
        }
        if let strings {
            return strings.pointee.walk(&place, limit: limit) { key in
                let isThere = key.withUnsafeBytes { bytes in
                    guard let start = bytes.baseAddress else { return false }
                    return strings.pointee.read(
                        StringTable.Lookup(start, count: bytes.count, hash: hasher.hash(bytes)), row
                    )
                }
                if isThere, isPresent { body(.string(key)) }
            }
        }
        place = .end
        return nil
    }
}
