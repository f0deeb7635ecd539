import TallyCore
public import TallyNode

/// One node's part in a cluster: its partitions, and the logs that order what is asked of them.
public final class Replica: Sendable {
    /// Holds the partitions.
    public let node: Node
    /// The logs, by their numbers.
    public let logs: [ReplicatedLog]

    /// - Parameter logs: Between them they order every partition of `node`.
    public init(node: Node, logs: [ReplicatedLog]) {
        self.node = node
        self.logs = logs
        precondition(logs.count <= Limits.logsMax, "too many logs")
    }

    /// The partitions that the log `number` of `logCount` orders, of `partitionCount`: neighbours, so that
    /// a partition that is split stays with its log.
    public static func partitions(
        ofLog number: Int, logCount: Int, partitionCount: Int
    ) -> Range<Int> {
        let count = partitionCount / logCount
        return (number * count)..<((number + 1) * count)
    }

    /// The log that orders a partition.
    @inline(__always)
    public func log(of partition: Int) -> Int { partition * logs.count / node.partitionCount }

    /// Hands a submission's operations, but those that were executed at once, to their logs.
    ///
    /// - Parameter now: Monotonic nanoseconds.
    /// - Returns: false if nothing was handed over because a log has too much to do.
    public func submit(_ submission: Submission, now: UInt64) -> Bool {
        var needed: UInt64 = 0
        for index in 0..<submission.batch.count where !submission.isLocal[index] {
            needed |= 1 &<< UInt64(log(of: Int(submission.batch.operations[index].partition)))
        }
        return submit(submission, to: needed, now: now)
    }

    /// The same for logs that are known, a bit for each; those without operations bring a barrier.
    public func submit(_ submission: Submission, to needed: UInt64, now: UInt64) -> Bool {
        for log in logs where needed & 1 &<< UInt64(log.number) != 0 && log.isFull { return false }
        submission.logs = needed
        for log in logs where needed & 1 &<< UInt64(log.number) != 0 {
            log.submit(submission, now: now)
        }
        return true
    }
}
