import TallyCluster
import TallyCore
import TallyNode

/// Commands that have been handed to the logs of a cluster, until all of their outcomes are known.
///
/// Of its event loop, but for `submission`.
final class Flight: @unchecked Sendable {
    // Sendable because only the loop touches it; the submission's logs have their part of its batch.

    private(set) var submission: Submission!
    /// How the operations become replies, and by which schema.
    var planned: PlannedReplies
    var catalog: FamilyCatalog
    /// What becomes of the operations. Taken before the logs have the batch, which then is theirs alone.
    private(set) var results: OperationBatch.Results!
    /// The logs that each stretch waits for, a bit for each.
    private(set) var waiting: [UInt64] = []
    /// The partitions that each stretch, and those before it of the same client, may change.
    private var written: [PartitionSet] = []
    /// The latest stretch of each client, while they are routed.
    private var latest: [ObjectIdentifier: Int] = [:]
    /// Whose stretches they are.
    private var connections: [ConnectionHandler?] = []

    /// - Parameters:
    ///   - planCapacity: How many plans there is room for.
    ///   - landing: Called once for each log whose outcomes are known, on any thread.
    init(
        node: Node, planCapacity: Int, catalog: FamilyCatalog,
        _ landing: @escaping @Sendable (Flight, _ log: Int) -> Void
    ) {
        planned = PlannedReplies(capacity: planCapacity)
        self.catalog = catalog
        submission = Submission(node.makeBatch()) { [unowned self] log in landing(self, log) }
        results = submission.batch.results
    }

    /// Which logs something is waited for from.
    var logs: UInt64 { waiting.reduce(0, |) }

    // MARK: Taking off

    /// Executes the reads that need not wait, and finds out which logs each stretch needs.
    func route(_ replica: Replica) {
        submission.prepare()
        waiting.removeAll(keepingCapacity: true)
        written.removeAll(keepingCapacity: true)
        let ranges = operationRanges()
        latest.removeAll(keepingCapacity: true)
        submission.isOrdered = planned.hasOrdered
        for index in planned.stretches.indices {
            // What a client has asked first is executed, and answered, first.
            let client = ObjectIdentifier(planned.stretches[index].client)
            let earlier = latest.updateValue(index, forKey: client)
            var written =
                earlier.map { self.written[$0] }
                ?? planned.stretches[index].client.earlyAnswers.partitions(replica)
            if planned.stretches[index].isOrdered { written = .all }
            let logs = submission.route(ranges[index], replica, &written)
            waiting.append(logs | (earlier.map { waiting[$0] } ?? 0))
            self.written.append(written)
        }
        results = submission.batch.results
        operationRangesRouted = ranges
    }

    /// The operations of each stretch, as they were when it was routed.
    private var operationRangesRouted: [Range<Int>] = []

    /// Finds the additions that may be answered before they are in the log. Behind `route`.
    func findCandidates(_ rule: EarlyAnswerRule) {
        submission.earlyNanosecondsMax = rule.nanosecondsMax
        for (index, range) in operationRangesRouted.enumerated()
        where !planned.stretches[index].isOrdered {
            submission.findCandidates(range, rule.range)
        }
    }

    /// The logs have it: what was answered early waits for nothing.
    func noteEarlyAnswers(_ replica: Replica) {
        guard !submission.earlyDrafts.isEmpty else { return }
        latest.removeAll(keepingCapacity: true)
        for index in planned.stretches.indices {
            let client = planned.stretches[index].client
            let earlier = latest.updateValue(index, forKey: ObjectIdentifier(client))
            let logs = submission.logsWaitedFor(operationRangesRouted[index], replica)
            waiting[index] = logs | (earlier.map { waiting[$0] } ?? 0)
            client.earlyAnswers.note(submission.earlyDrafts)
        }
    }

    /// The whole units of each stretch: a plan tells an operation of its first, which need not be the first.
    private func operationRanges() -> [Range<Int>] {
        var starts: [Int] = []
        var index = 0
        while index < submission.batch.count {
            let end = submission.batch.unitEnd(index)
            while starts.count < planned.stretches.count,
                planned.firstOperation(ofStretch: starts.count) < end
            {
                starts.append(index)
            }
            index = end
        }
        // Those that have no operations.
        while starts.count <= planned.stretches.count { starts.append(index) }
        return planned.stretches.indices.map { starts[$0]..<starts[$0 + 1] }
    }

    // MARK: Landing

    /// Notes whose stretches they are.
    func setConnections(_ connection: (_ owner: Int) -> ConnectionHandler) {
        connections = planned.stretches.map { connection($0.owner) }
    }

    /// The connections that wait for something.
    var waitingConnections: [ConnectionHandler] {
        zip(connections, waiting).compactMap { $1 != 0 ? $0 : nil }
    }

    /// A log's outcomes are known.
    ///
    /// - Returns: the stretches that wait for nothing more.
    func land(_ log: Int) -> [(stretch: Int, connection: ConnectionHandler?)] {
        let bit: UInt64 = 1 &<< UInt64(log)
        var landed: [(stretch: Int, connection: ConnectionHandler?)] = []
        for index in waiting.indices where waiting[index] & bit != 0 {
            waiting[index] &= ~bit
            if waiting[index] == 0 {
                landed.append((index, connections.isEmpty ? nil : connections[index]))
            }
        }
        return landed
    }

    /// Lets go of everything, to be used again.
    func removeAll() {
        submission.batch.removeAll()
        planned.removeAll()
        waiting.removeAll(keepingCapacity: true)
        connections.removeAll(keepingCapacity: true)
    }
}
