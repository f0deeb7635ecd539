internal import TallyEngine

/// Takes operations that no client has asked for.
public protocol OperationTarget: AnyObject {
    /// Whether operations of before are still under way.
    var isBusy: Bool { get }
    /// Whether it is this node's turn to look after a partition.
    func covers(_ partition: Int) -> Bool
    /// Executes a batch, or has it executed; its keys need not stay.
    func execute(_ batch: inout OperationBatch) -> Node.Execution
}

/// Removes keys whose deadline has come, partition by partition, whether or not anybody asks for them, and
/// forgets requests that were remembered for long enough.
///
/// One thread drives it (`ExpiryThread`); a simulation drives it step by step.
public final class Expiry: @unchecked Sendable {
    // Sendable because only the driving thread calls it.
    private let node: Node
    private let target: any OperationTarget
    private var batch: OperationBatch
    private var keys = DueKeys()
    private var partition = 0

    /// Records that are looked at under one lock, about.
    private static var recordsMax: Int { 512 }

    /// The expiry of a node's keys.
    ///
    /// - Parameter target: Takes what removes them; the node itself unless said.
    public init(node: Node, target: (any OperationTarget)? = nil) {
        self.node = node
        self.target = target ?? OwnTarget(node)
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
        guard !target.isBusy else { return .busy }
        if batch.count > 0, target.execute(&batch) == .busy { return .busy }
        batch.removeAll()
        // Where there are no deadlines, all partitions are one step: looking at each is next to nothing.
        repeat {
            var isDone = true
            if target.covers(partition) {
                if node.mayHaveDeadlines {
                    isDone = node.collectDue(partition, recordsMax: Self.recordsMax, &keys, &batch)
                }
                if isDone { node.collectFloor(partition, &batch) }
            }
            if isDone { partition = (partition + 1) % node.partitionCount }
        } while partition != 0 && batch.count == 0 && !node.mayHaveDeadlines
        if batch.count > 0 {
            guard target.execute(&batch) == .done else { return .busy }
            batch.removeAll()
        }
        return partition == 0 ? .idle : .working
    }
}

/// A node that has a journal of its own.
private final class OwnTarget: OperationTarget {
    private let node: Node

    init(_ node: Node) { self.node = node }

    var isBusy: Bool { false }

    func covers(_ partition: Int) -> Bool { true }

    func execute(_ batch: inout OperationBatch) -> Node.Execution {
        guard node.execute(&batch) == .done else { return .busy }
        node.wakeJournal()
        return .done
    }
}
