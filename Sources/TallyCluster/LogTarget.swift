public import TallyCore
public import TallyNode
internal import Synchronization

/// Sends operations that no client has asked for through the logs, one batch at a time.
public final class LogTarget: OperationTarget, @unchecked Sendable {
    // Sendable because the submission is touched by one thread, or by the logs while they have it.
    private let replica: Replica
    private let clock: any Clock
    /// Called when there is something to send. Set before use.
    public var onSubmitted: @Sendable () -> Void = {}
    private let isCovered: @Sendable (_ log: Int) -> Bool
    private var submission: Submission!
    /// Logs that have not ended.
    private let pending = Atomic<Int>(0)

    /// - Parameter isCovered: Whether it is this node's turn to look after a log's partitions.
    public init(
        _ replica: Replica, clock: any Clock, isCovered: @escaping @Sendable (_ log: Int) -> Bool
    ) {
        self.replica = replica
        self.clock = clock
        self.isCovered = isCovered
        submission = Submission(replica.node.makeBatch()) { [unowned self] _ in
            pending.wrappingSubtract(1, ordering: .acquiringAndReleasing)
        }
    }

    /// Whether the last batch has not come back.
    public var isBusy: Bool { pending.load(ordering: .acquiring) > 0 }

    /// Whether it is this node's turn to look after a partition.
    public func covers(_ partition: Int) -> Bool {
        let log = replica.log(of: partition)
        return replica.logs[log].isServing && isCovered(log)
    }

    /// Submits a batch.
    public func execute(_ batch: inout OperationBatch) -> Node.Execution {
        swap(&batch, &submission.batch)
        submission.prepare()
        let logs = replica.logs(of: submission)
        pending.store(logs.nonzeroBitCount, ordering: .releasing)
        guard replica.submit(submission, to: logs, now: clock.monotonicNanoseconds()) else {
            pending.store(0, ordering: .releasing)
            swap(&batch, &submission.batch)
            return .busy
        }
        onSubmitted()
        return .done
    }
}
