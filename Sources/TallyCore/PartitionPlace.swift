/// One of the partitions of a data set, and which integer keys it holds.
///
/// The keys' space is cut into groups of 1,024 runs of 256 neighbours. In each group the runs are given
/// to 1,024 places, every place one run: the run's number in the group, exclusive-or a hash of the
/// group's. A partition is a range of places, so in each group it has a stretch of neighbouring runs, of
/// 4,096 keys where there are 64 partitions, and doubling their number splits each partition in two.
///
/// Because a partition has exactly one stretch of each group, the keys of other partitions can be left
/// out between its own without a loss: `compact` makes a dense and ordered space of them, `expand` gives
/// the keys back. Part of what is stored: the function never changes.
/// `docs/decisions/0009-integer-segments.md` says why it is this one.
public struct PartitionPlace: Equatable, Sendable {
    /// 0 for the first.
    public let number: Int
    /// How many partitions there are, a power of two, at most `Limits.partitionsMax`.
    public let count: Int
    /// Bits of a key below the number of its stretch.
    private let stretchBits: UInt64
    /// Bits of the number of a stretch in its group.
    private let countBits: UInt64

    /// Bits of a key below the number of its run, and of a run's number in its group.
    private static let runBits: UInt64 = 8
    private static let groupBits: UInt64 = 10

    /// Partition `number` of `count`.
    public init(number: Int, count: Int) {
        precondition(
            count.nonzeroBitCount == 1 && count <= 1 << Int(Self.groupBits) && number < count,
            "no such partition")
        self.number = number
        self.count = count
        countBits = UInt64(count.trailingZeroBitCount)
        stretchBits = Self.runBits + Self.groupBits - countBits
    }

    /// The only partition.
    public static let only = PartitionPlace(number: 0, count: 1)

    /// The number of the partition that holds `key`, of `count`, a power of two.
    @inline(__always)
    public static func partition(of key: UInt64, count: Int) -> Int {
        let place = key &>> runBits ^ hash(key &>> (runBits &+ groupBits))
        let bits = groupBits &- UInt64(truncatingIfNeeded: count.trailingZeroBitCount)
        return Int(truncatingIfNeeded: (place & (1 &<< groupBits &- 1)) &>> bits)
    }

    /// The finaliser of MurmurHash3 (Appleby, public domain).
    @inline(__always)
    private static func hash(_ group: UInt64) -> UInt64 {
        var hash = group
        hash = (hash ^ hash &>> 33) &* 0xff51_afd7_ed55_8ccd
        hash = (hash ^ hash &>> 33) &* 0xc4ce_b9fe_1a85_ec53
        return hash ^ hash &>> 33
    }

    /// The place among this partition's keys, or where it would be, of a key that this partition holds;
    /// greater keys have greater places.
    @inline(__always)
    public func compact(_ key: UInt64) -> UInt64 {
        Self.compact(key, stretchBits, countBits)
    }

    /// As `compact` of a partition of `count`, which need not be known.
    @inline(__always)
    public static func compact(_ key: UInt64, count: Int) -> UInt64 {
        let countBits = UInt64(truncatingIfNeeded: count.trailingZeroBitCount)
        return compact(key, runBits &+ groupBits &- countBits, countBits)
    }

    @inline(__always)
    private static func compact(
        _ key: UInt64, _ stretchBits: UInt64, _ countBits: UInt64
    ) -> UInt64 {
        let group = key &>> (runBits &+ groupBits)
        return group &<< stretchBits | key & (1 &<< stretchBits &- 1)
    }

    /// The key of this partition at a place that `compact` gave.
    @inline(__always)
    public func expand(_ compact: UInt64) -> UInt64 {
        let group = compact &>> stretchBits
        let places = Self.hash(group) & (1 &<< Self.groupBits &- 1)
        let stretch = UInt64(truncatingIfNeeded: number) ^ places &>> (Self.groupBits &- countBits)
        return group &<< (Self.runBits &+ Self.groupBits) | stretch &<< stretchBits
            | compact & (1 &<< stretchBits &- 1)
    }
}
