public import TallyCore
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

    /// Where outcomes go: taken before the logs have the batch, so that none of them touches the batch itself.
    private var places: OperationBatch.Places
    private var capacity = 0
    /// Which operations were executed here and now.
    private(set) var isLocal: UnsafeMutablePointer<Bool>
    private(set) var tickets: UnsafeMutablePointer<RequestSection.Ticket>
    /// Whether its reads, too, go through the logs where others have them.
    public var isOrdered = false
    /// What of it may be answered early, in order; put there behind `route`.
    public var candidates: [EarlyCandidate] = []
    /// How long an addition that was answered may stay out of the log before no other is answered early.
    public var earlyNanosecondsMax: UInt64 = 0
    /// Where the latest of those that were answered are, by log: the drafts' numbers.
    public private(set) var earlyDrafts: [Int: UInt64] = [:]
    /// The logs that its operations have been given to, a bit for each.
    public internal(set) var logs: UInt64 = 0

    /// A submission of `batch`.
    public init(_ batch: consuming OperationBatch, _ didEnd: @escaping @Sendable (Int) -> Void) {
        self.batch = batch
        places = self.batch.places
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
        if !candidates.isEmpty { candidates.removeAll(keepingCapacity: true) }
        if !earlyDrafts.isEmpty { earlyDrafts.removeAll() }
        logs = 0
        places = batch.places
    }

    /// Executes those of the operations `range`, whole units, that need not wait, here and now.
    ///
    /// - Parameter written: The partitions that operations of the same client before them may change: reading
    ///   those goes through their logs, behind the changes.
    /// - Returns: the logs that the others need, a bit for each.
    public func route(
        _ range: Range<Int>, _ replica: Replica, _ written: inout PartitionSet
    ) -> UInt64 {
        var logs: UInt64 = 0
        var index = range.lowerBound
        var reads = index..<index
        while index < range.upperBound {
            let end = batch.unitEnd(index)
            if isReadHere(index..<end, replica, written) {
                reads = reads.lowerBound..<end
            } else {
                read(reads, on: replica.node)
                reads = end..<end
                for member in index..<end {
                    let partition = Int(batch.operations[member].partition)
                    written.insert(partition)
                    logs |= 1 &<< UInt64(replica.log(of: partition))
                }
            }
            index = end
        }
        read(reads, on: replica.node)
        // Deadlines that come back are told as the time that is left.
        if logs != 0 { batch.nowMilliseconds = replica.node.nowMilliseconds() }
        return logs
    }

    private func read(_ range: Range<Int>, on node: Node) {
        guard !range.isEmpty else { return }
        for index in range { isLocal[index] = true }
        node.read(range, of: &batch)
    }

    /// Whether a unit changes nothing, and what it reads is here and not about to be changed; a transaction is
    /// judged as a whole, by its log.
    private func isReadHere(
        _ unit: Range<Int>, _ replica: Replica, _ written: PartitionSet
    ) -> Bool {
        // What a node has is counted without regard to anybody.
        if batch.operations[unit.lowerBound].kind == .countKeys { return true }
        return unit.allSatisfy { index in
            let operation = batch.operations[index]
            let partition = Int(operation.partition)
            return !operation.isWrite && operation.kind != .transaction
                && !written.contains(partition) && replica.serves(partition)
        }
    }

    /// Bytes that the operations on `partitions` take in a message, at most.
    func messageBytesMax(_ partitions: Range<Int>) -> Int {
        // What the journal of a node that is alone would take, in which reads are not.
        var sum = batch.journalBytesMax
        for index in 0..<batch.count
        where partitions.contains(Int(batch.operations[index].partition)) && !isLocal[index]
            && !batch.operations[index].isWrite
        {
            sum += Int(batch.operations[index].keyByteCount) + Self.readBytesMax
        }
        return sum
    }

    /// Bytes of a read in a message beside its key, at most.
    private static let readBytesMax = 48

    // MARK: Early answers

    /// Notes those of the operations `range`, whole units, that may be answered early.
    ///
    /// - Parameter rule: Between which numbers the sum of an addition stays that may be; nil for others.
    public func findCandidates(
        _ range: Range<Int>, _ rule: (borrowing Operation) -> ClosedRange<Int64>?
    ) {
        var index = range.lowerBound
        while index < range.upperBound {
            let end = batch.unitEnd(index)
            if end - index == 1, !isLocal[index], batch.operations[index].kind == .add,
                let range = rule(batch.operations[index])
            {
                candidates.append(EarlyCandidate(index: index, range: range))
            }
            index = end
        }
    }

    /// What the number of an addition is now.
    func read(_ index: Int, on node: Node) -> Outcome {
        // Reading sets the time by which all of the batch is told.
        let nowMilliseconds = batch.nowMilliseconds
        defer {
            batch.operations[index].kind = .add
            batch.nowMilliseconds = nowMilliseconds
        }
        batch.operations[index].kind = .get
        node.read(index..<(index + 1), of: &batch)
        return batch.outcomes[index]
    }

    /// Gives an addition that is on its way its outcome.
    ///
    /// - Parameter draft: Where it is.
    func answerEarly(_ index: Int, _ outcome: Outcome, log: Int, draft: UInt64) {
        isLocal[index] = true
        places.setOutcome(index, outcome)
        earlyDrafts[log] = draft
    }

    /// The logs that some operations of `range` wait for, a bit for each.
    public func logsWaitedFor(_ range: Range<Int>, _ replica: Replica) -> UInt64 {
        var logs: UInt64 = 0
        for index in range where !isLocal[index] {
            logs |= 1 &<< UInt64(replica.log(of: Int(places.operations[index].partition)))
        }
        return logs
    }

    /// Gives the operations of a log the outcome that nothing is known of them, or that they were not
    /// applied.
    func end(_ log: Int, _ partitions: Range<Int>, _ status: Outcome.Status) {
        forEach(in: partitions) { places.refuse($0, status) }
        didEnd(log)
    }

    /// Takes over the outcomes of the operations of a log.
    ///
    /// - Parameter firsts: Where each partition's operations begin in `applied`.
    func end(
        _ log: Int, _ partitions: Range<Int>, _ applied: OperationBatch.Results,
        firsts: UnsafePointer<Int>
    ) {
        let places = places
        for index in 0..<places.count {
            let partition = Int(places.operations[index].partition)
            // Those of other logs may be being answered early.
            guard partitions.contains(partition), !isLocal[index] else { continue }
            places.takeOutcome(
                index, tickets[index], of: applied,
                first: firsts[partition &- partitions.lowerBound])
        }
        didEnd(log)
    }

    /// Calls `body` with the operations that have been given to the log of `partitions`.
    private func forEach(in partitions: Range<Int>, _ body: (Int) -> Void) {
        for index in 0..<places.count
        where partitions.contains(Int(places.operations[index].partition)) && !isLocal[index] {
            body(index)
        }
    }
}
