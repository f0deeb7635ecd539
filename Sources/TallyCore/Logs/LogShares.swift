/// Which of a cluster's logs orders which partitions: neighbours share one, so that a partition that is split
/// stays with its log.
public struct LogShares: Equatable, Sendable {
    /// How many partitions there are; a power of two.
    public let partitionCount: Int
    /// How many logs there are; a power of two, at most as many.
    public let logCount: Int

    /// The shares of so many logs.
    @inlinable
    public init(partitionCount: Int, logCount: Int) {
        self.partitionCount = partitionCount
        self.logCount = logCount
    }

    /// The log that orders a partition.
    @inlinable @inline(__always)
    public func log(of partition: Int) -> Int { partition &* logCount / partitionCount }

    /// The partitions that a log orders.
    public func partitions(of log: Int) -> Range<Int> {
        let count = partitionCount / logCount
        return (log * count)..<((log + 1) * count)
    }
}
