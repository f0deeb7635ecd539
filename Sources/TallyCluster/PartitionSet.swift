import TallyCore

/// A set of partitions.
public struct PartitionSet: Sendable {
    private var words = InlineArray<16, UInt64>(repeating: 0)

    /// No partitions.
    public init() {
        precondition(Limits.partitionsMax <= 16 * 64, "partition set too small")
    }

    /// All partitions.
    public static let all: PartitionSet = {
        var set = PartitionSet()
        set.words = InlineArray(repeating: .max)
        return set
    }()

    /// Adds a partition.
    public mutating func insert(_ partition: Int) {
        words[partition &>> 6] |= 1 &<< UInt64(partition & 63)
    }

    /// Adds partitions.
    public mutating func insert(_ partitions: Range<Int>) {
        for partition in partitions { insert(partition) }
    }

    /// Whether a partition is one of them.
    public func contains(_ partition: Int) -> Bool {
        words[partition &>> 6] & 1 &<< UInt64(partition & 63) != 0
    }
}
