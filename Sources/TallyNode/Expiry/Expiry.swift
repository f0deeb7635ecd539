internal import TallyEngine

/// Removes keys whose deadline has come, partition by partition, whether or not anybody asks for them, and
/// forgets requests that were remembered for long enough.
///
/// One thread drives it (`ExpiryThread`); a simulation drives it step by step.
public final class Expiry: @unchecked Sendable {
    // Sendable because only the driving thread calls it.
    private let node: Node
    private var batch: OperationBatch
    private var keys = DueKeys()
    private var partition = 0

    /// Records that are looked at under one lock, about.
    private static var recordsMax: Int { 512 }

    /// The expiry of a node's keys.
    public init(node: Node) {
        self.node = node
        batch = node.makeBatch()
    }

    /// What a step came to.
    public enum Step: Equatable, Sendable {
        /// There is more to look at.
        case working
        /// Everything has been looked at.
        case idle
        /// The journal has too much to write.
        case busy
    }

    /// Looks at some keys, and removes those that are due.
    public func step() -> Step {
        if batch.count > 0, node.execute(&batch) == .busy { return .busy }
        batch.removeAll()
        var isDone = true
        if node.mayHaveDeadlines {
            isDone = node.collectDue(partition, recordsMax: Self.recordsMax, &keys, &batch)
        }
        if isDone {
            node.collectFloor(partition, &batch)
            partition = (partition + 1) % node.partitionCount
        }
        if batch.count > 0 {
            guard node.execute(&batch) == .done else { return .busy }
            batch.removeAll()
            node.wakeJournal()
        }
        return partition == 0 ? .idle : .working
    }
}
