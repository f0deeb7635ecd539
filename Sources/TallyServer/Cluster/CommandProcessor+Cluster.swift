import TallyCluster
import TallyCore
import TallyNode
import TallyRESP

/// Commands of a node whose journal is a cluster's logs: what changes anything is replied to when it has
/// come back by its log.
extension CommandProcessor {
    /// Hands what has gathered to the logs; reads alone are executed at once.
    ///
    /// - Returns: whether everything has been replied to; if not, a flight has been added to `launched`, or,
    ///   if there is none, nothing was done because the logs have too much to do.
    mutating func launch(_ replica: Replica) -> Bool {
        let begun = server.clock.monotonicNanoseconds()
        let isReadHere =
            !batch.changesAnything && !planned.hasOrdered && replica.servesAll
            && planned.stretches.allSatisfy { $0.client.earlyAnswers.isEmpty }
        guard !isReadHere else {
            node.read(0..<batch.count, of: &batch)
            encodeGathered(since: begun)
            return true
        }
        let flight = spareFlights.popLast() ?? makeFlight()
        exchange(flight)
        flight.route(replica)
        guard flight.logs != 0 else {
            exchange(flight)
            spareFlights.append(flight)
            encodeGathered(since: begun)
            return true
        }
        let rule = answersEarly ? EarlyAnswerRule(server.configuration, catalog) : nil
        if let rule { flight.findCandidates(rule) }
        guard replica.submit(flight.submission, to: flight.logs, now: begun) else {
            exchange(flight)
            spareFlights.append(flight)
            return false
        }
        if rule != nil {
            flight.noteEarlyAnswers(replica)
            if flight.logs == 0 {
                exchange(flight)
                spareFlights.append(flight)
                encodeGathered(since: begun)
                server.cluster?.wakeUp()
                return true
            }
        }
        for index in flight.planned.stretches.indices where flight.waiting[index] == 0 {
            let start = replies.byteCount
            let commandCount = encode(index, of: flight)
            deliver(
                to: flight.planned.stretches[index].owner, from: start, commandCount: commandCount)
        }
        launched.append(flight)
        changesSchema = false
        return false
    }

    private func makeFlight() -> Flight {
        Flight(
            node: node, planCapacity: Self.planCapacity, catalog: catalog,
            landing ?? { _, _ in preconditionFailure("nobody waits for the logs") })
    }

    /// Exchanges what has gathered and what a flight holds.
    private mutating func exchange(_ flight: Flight) {
        swap(&batch, &flight.submission.batch)
        swap(&planned, &flight.planned)
        flight.catalog = catalog
    }

    /// Encodes the replies of one of a flight's stretches, whose outcomes are known. Those of others may be
    /// written at this moment, so the flight's batch stays where it is.
    ///
    /// - Returns: how many commands that were.
    mutating func encode(_ stretch: Int, of flight: Flight) -> Int {
        let current = catalog
        results = flight.results
        swap(&planned, &flight.planned)
        catalog = flight.catalog
        let count = encodeStretch(stretch)
        for plan in planned.planRange(ofStretch: stretch) {
            note(planned.plans[plan])
        }
        catalog = current
        swap(&planned, &flight.planned)
        return count
    }

    /// Takes back a flight that has landed.
    mutating func reuse(_ flight: Flight) {
        flight.removeAll()
        if spareFlights.count < 64 { spareFlights.append(flight) }
    }

    // MARK: What a cluster cannot do

    /// Why the batch's operations from `first` on cannot go through a cluster's logs; they are then gone from
    /// the batch. Nil if they can, or if the node is alone.
    @inline(__always)
    mutating func placementRefusal(from first: Int, _ session: borrowing Session) -> Refusal? {
        // One operation of a client that does not look for its place can go through its log, wherever that is.
        guard isInCluster, session.isClusterClient || batch.count > first &+ 1,
            let replica = server.replica
        else { return nil }
        return refusalOfPlacement(from: first, replica, session)
    }

    @inline(never)
    private mutating func refusalOfPlacement(
        from first: Int, _ replica: Replica, _ session: borrowing Session
    ) -> Refusal? {
        if session.isClusterClient, !replica.servesAll, let view = replica.view,
            let slot = slotElsewhere(first..<batch.count, replica),
            let refusal = redirection(slot, view, session)
        {
            batch.removeLast(to: first)
            return refusal
        }
        var index = first
        while index < batch.count {
            let end = batch.unitEnd(index)
            if mustBeTogether(index..<end), !areTogether(index..<end) {
                batch.removeLast(to: first)
                return Refusal(
                    "CROSSSLOT Keys in request don't hash to the same slot: give them the same "
                        + "{hash tag}, so that they are in one partition")
            }
            index = end
        }
        return nil
    }

    /// The slot of a command's operations if they are all on plain keys of one slot, which others serve; records
    /// of integer keys have none.
    private func slotElsewhere(_ operations: Range<Int>, _ replica: Replica) -> Int? {
        var slot: Int?
        for index in operations where batch.operations[index].kind != .transaction {
            let operation = batch.operations[index]
            guard operation.family == 0, operation.namesKey, operation.kind != .countKeys,
                !replica.serves(Int(operation.partition))
            else { return nil }
            let own = Int(Slot(of: operation.keyBytes).index)
            guard slot == nil || slot == own else { return nil }
            slot = own
        }
        return slot
    }

    /// Whether operations that are applied as one depend on each other.
    private func mustBeTogether(_ unit: Range<Int>) -> Bool {
        let first = batch.operations[unit.lowerBound]
        return first.kind == .transaction || first.kind == .readForMove
            || first.unitCondition != .none
    }

    private func areTogether(_ unit: Range<Int>) -> Bool {
        let partition = batch.operations[unit.upperBound - 1].partition
        return unit.allSatisfy { batch.operations[$0].partition == partition }
    }

    /// Why a command that is run at once is not, in a cluster; nil if it is.
    func clusterRefusal(_ id: CommandID) -> String? {
        guard server.replica != nil else { return nil }
        switch id {
        case .watch:
            return
                "ERR WATCH is not offered in a cluster: use conditions such as SET NX, bounds, or "
                + "ONCE"
        case .import, .importStart, .importCommit, .importStatus, .backgroundSave:
            return "ERR this command is about one node's files, and is not offered in a cluster"
        default: return nil
        }
    }
}
