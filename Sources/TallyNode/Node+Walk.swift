import TallyCore
import TallyEngine

/// Looking at all keys, some at a time, while everything goes on.
extension Node {
    /// Where a walk over all keys stands.
    public struct KeyspacePlace: Sendable {
        var partition = 0
        var place = WalkPlace()

        /// The beginning.
        public init() {}
    }

    /// A key that a walk has come to.
    public enum WalkedKey {
        /// A plain key.
        case plain([UInt8])
        /// A record with an integer key, and the number of its family.
        case integer(family: UInt32, UInt64)
        /// A record with a key of bytes, and the number of its family.
        case string(family: UInt32, [UInt8])
    }

    /// Which keys a walk comes to.
    public enum WalkedKinds: Sendable {
        case all, plain, records

        fileprivate var kinds: TallyEngine.WalkedKinds {
            switch self {
            case .all: [.plain, .records]
            case .plain: .plain
            case .records: .records
            }
        }
    }

    /// Goes on with a walk over all keys. Whatever is there during the whole walk is come to, most of it
    /// once.
    ///
    /// - Parameters:
    ///   - place: nil once everything has been come to.
    ///   - limit: How many keys, about.
    /// - Returns: the keys, and a block that must be read before the walk goes on.
    /// - Complexity: O(limit + partitions that are empty). Takes one partition's lock at a time.
    public func walk(
        _ place: inout KeyspacePlace?, _ kinds: WalkedKinds, limit: Int
    ) -> (keys: [WalkedKey], missing: NeededBlock?, sequence: UInt64) {
        var keys: [WalkedKey] = []
        var sequence: UInt64 = 0
        let now = nowMilliseconds()
        var steps = 0
        while var current = place, keys.count < limit, steps < Self.walkStepsMax {
            steps += 1
            let partition = current.partition
            var inner: WalkPlace? = current.place
            let missing = locks[lockIndex(partition)].withLock { _ in
                sequence = max(
                    sequence, partitions.partition(partition).pointee.lastSequence)
                return partitions.partition(partition).pointee.walk(
                    &inner, kinds.kinds, limit: limit - keys.count, now: now
                ) { family, key in
                    keys.append(Self.walkedKey(family, key))
                }
            }
            if let missing {
                return (keys, NeededBlock(partition: partition, block: missing), sequence)
            }
            if let inner {
                current.place = inner
                place = current
            } else if partition + 1 < partitionCount {
                current.partition += 1
                current.place = WalkPlace()
                place = current
            } else {
                place = nil
            }
        }
        return (keys, nil, sequence)
    }

    /// Looks at tables, or parts of them, that one call makes at most.
    private static var walkStepsMax: Int { 4096 }

    private static func walkedKey(_ family: UInt32, _ key: StoredKey) -> WalkedKey {
        switch key {
        case .integer(let key): .integer(family: family, key)
        case .string(let key):
            family == Schema.plainKeys ? .plain(key) : .string(family: family, key)
        }
    }

    /// The plain keys of one of Redis Cluster's slots; nil if more keys than `lookedAtMax` would have to be
    /// looked at, or some are on disk only.
    ///
    /// - Complexity: O(keys of the slot's partition).
    public func plainKeys(inSlot slot: Int, lookedAtMax: Int) -> [[UInt8]]? {
        let partition = slot * partitionCount / Slot.count
        var place: KeyspacePlace? = KeyspacePlace()
        place?.partition = partition
        var found: Set<[UInt8]> = []
        var lookedAt = 0
        while place?.partition == partition {
            let (keys, missing, _) = walk(&place, .plain, limit: 1024)
            lookedAt += keys.count
            guard missing == nil, lookedAt <= lookedAtMax else { return nil }
            for case .plain(let key) in keys
            where key.withUnsafeBytes({ Int(Slot(of: $0).index) == slot }) {
                found.insert(key)
            }
        }
        return Array(found)
    }

    /// Somewhere among the keys, by a random number; nil if there are none.
    public func randomPlace(_ random: UInt64) -> KeyspacePlace? {
        let counts = (0..<partitionCount).map { index in
            locks[lockIndex(index)].withLock { _ in partitions.partition(index).pointee.count }
        }
        let total = counts.reduce(0, +)
        guard total > 0 else { return nil }
        var left = Int(random >> 1) % total
        guard
            let partition = counts.firstIndex(where: { count in
                left -= count
                return left < 0
            })
        else { return nil }
        var place = KeyspacePlace()
        place.partition = partition
        place.place = locks[lockIndex(partition)].withLock { _ in
            partitions.partition(partition).pointee.randomPlace(random)
        }
        return place
    }
}
