import TallyCore
import TallyEngine
public import TallyNode

/// A batch of operations on its way through the logs of its partitions.
///
/// Whoever submits it leaves its batch alone until all its logs have ended; each log writes the outcomes
/// of its own operations, on its own thread.
public final class Submission: @unchecked Sendable {
    // Sendable because the operations of each log are touched only by whoever has them at the time:
    // the submitter, then the log, then the submitter again, with a lock in between.

    /// The operations, and in the end their outcomes.
    public var batch: OperationBatch
    /// Called once for each log whose operations have their outcomes, on the log's thread.
    private let didEnd: @Sendable (_ log: Int) -> Void

    private var capacity = 0
    /// Which operations were executed here and now.
    private(set) var isLocal: UnsafeMutablePointer<Bool>
    private(set) var tickets: UnsafeMutablePointer<RequestSection.Ticket>
    /// The logs that its operations have been given to, a bit for each.
    public internal(set) var logs: UInt64 = 0

    /// A submission of `batch`.
    public init(_ batch: consuming OperationBatch, _ didEnd: @escaping @Sendable (Int) -> Void) {
        self.batch = batch
        self.didEnd = didEnd
        isLocal = .allocate(capacity: 0)
        tickets = .allocate(capacity: 0)
        prepare()
    }

    deinit {
        isLocal.deallocate()
        tickets.deallocate()
    }

    /// Makes room for what the batch holds now; none of it has been executed.
    public func prepare() {
        if batch.count > capacity {
            isLocal.deallocate()
            tickets.deallocate()
            capacity = max(batch.count, 2 * capacity)
            isLocal = .allocate(capacity: capacity)
            tickets = .allocate(capacity: capacity)
        }
        isLocal.initialize(repeating: false, count: batch.count)
        logs = 0
    }

    /// Executes the operations `range`, whole units that change nothing, here and now.
    public func read(_ range: Range<Int>, on node: Node) {
        for index in range { isLocal[index] = true }
        node.read(range, of: &batch)
    }

    /// Gives the operations of a log the outcome that nothing is known of them, or that they were not
    /// applied.
    func end(_ log: Int, _ partitions: Range<Int>, _ status: Outcome.Status) {
        forEach(in: partitions) { batch.refuse($0, status) }
        didEnd(log)
    }

    /// Takes over the outcomes of the operations of a log.
    ///
    /// - Parameter firsts: Where each partition's operations begin in `applied`.
    func end(
        _ log: Int, _ partitions: Range<Int>, _ applied: OperationBatch.Applied,
        firsts: UnsafePointer<Int>
    ) {
        for index in 0..<batch.count {
            let partition = Int(batch.operations[index].partition)
            guard !isLocal[index], partitions.contains(partition) else { continue }
            batch.takeOutcome(
                index, tickets[index], of: applied,
                first: firsts[partition &- partitions.lowerBound])
        }
        didEnd(log)
    }

    /// Calls `body` with the operations that have been given to the log of `partitions`.
    private func forEach(in partitions: Range<Int>, _ body: (Int) -> Void) {
        for index in 0..<batch.count
        where !isLocal[index] && partitions.contains(Int(batch.operations[index].partition)) {
            body(index)
        }
    }
}
