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

    /// Who serves what, as this node sees it; nil before it has looked. Any thread.
    public var view: ClusterView? { sharedView.withLock { $0 } }
    private let sharedView = Locked<ClusterView?>(nil)

    /// This node sees who serves what.
    public func setView(_ view: ClusterView) { sharedView.withLock { $0 = view } }

    /// How far this node has come with its logs. On the logs' thread.
    public var progress: [Int: NodeRecord.Progress] {
        let durable = node.durableSequences
        var progress: [Int: NodeRecord.Progress] = [:]
        for log in logs where log.isHeld {
            progress[log.number] = NodeRecord.Progress(
                phase: log.halt != nil ? .halted : log.isCaughtUp ? .serving : .following,
                sequence: log.state.sequence, durableSequence: durable[log.number] ?? 0)
        }
        return progress
    }

    /// The log that orders a partition.
    @inline(__always)
    public func log(of partition: Int) -> Int { partition * logs.count / node.partitionCount }

    /// Sets aside what has changed for a checkpoint that is wanted. Between two messages, on the logs' thread.
    public func takeCutIfWanted() {
        guard node.wantsCut else { return }
        node.takeCut {
            Dictionary(
                uniqueKeysWithValues: logs.lazy.filter(\.isHeld).map { ($0.number, $0.state) })
        }
    }

    /// Hands a submission's operations, but those that were executed at once, to their logs.
    ///
    /// - Parameter now: Monotonic nanoseconds.
    /// - Returns: false if nothing was handed over because a log has too much to do.
    public func submit(_ submission: Submission, now: UInt64) -> Bool {
        submit(submission, to: logs(of: submission), now: now)
    }

    /// The logs of a submission's operations, a bit for each.
    func logs(of submission: Submission) -> UInt64 {
        var needed: UInt64 = 0
        for index in 0..<submission.batch.count where !submission.isLocal[index] {
            needed |= 1 &<< UInt64(log(of: Int(submission.batch.operations[index].partition)))
        }
        return needed
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
