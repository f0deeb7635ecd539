import Synchronization
import TallyCore
import TallyNode
import TallyRESP

/// What has gathered: executed together, and encoded in the order in which it came.
extension CommandProcessor {
    /// Notes how the latest operations of the batch become one reply.
    @inline(__always)
    mutating func note(_ plan: ReplyPlan, _ owner: Int, _ session: inout Session) {
        planned.begin(owner, session.client, session.version)
        append(plan, isSilent: session.takeReplyMode() != .on)
    }

    /// The same behind a plan that says more about the reply.
    @inline(__always)
    mutating func note(
        _ plan: ReplyPlan, _ owner: Int, _ session: inout Session, behind header: ReplyPlan?
    ) {
        guard let header else { return note(plan, owner, &session) }
        note(header, owner, &session)
        append(plan, isSilent: isLastPlanSilent)
    }

    /// Notes a plan of the owner of the last one.
    @inline(__always)
    mutating func append(_ plan: ReplyPlan, isSilent: Bool) {
        planned.append(plan, command: commandIndex, isSilent: isSilent)
    }

    /// Whether nobody wants the reply of the last plan.
    var isLastPlanSilent: Bool { planned.plans[planned.count - 1].isSilent }

    /// A plan for a reply that `encode` makes at once.
    mutating func prepared(_ encode: (inout CommandProcessor) -> Void) -> ReplyPlan {
        let start = replies.byteCount
        sequence = 0
        encode(&self)
        if !missingBlocks.isEmpty {
            missingBlocks = []
            replies.error("ERR what this needs is on disk only, so it cannot be in a transaction")
        }
        let number = planned.keep(
            Array(replies.encoded[start..<replies.byteCount]), sequence: sequence)
        replies.truncate(to: start)
        return ReplyPlan(
            shape: .prepared, first: UInt32(batch.count), count: 0, detail: UInt32(number))
    }

    /// Executes what has gathered and encodes its replies.
    ///
    /// - Returns: false if nothing could be done because the journal is busy; everything waits for
    ///   the next attempt.
    mutating func flush() -> Bool {
        guard planned.count > 0 else { return true }
        sampleKeys()
        if let replica = server.replica { return launch(replica) }
        let begun = server.clock.monotonicNanoseconds()
        guard node.execute(&batch) == .done else { return false }
        encodeGathered(since: begun)
        return true
    }

    /// Encodes the replies of what has gathered and been executed, since `begun`.
    @inline(__always)
    mutating func encodeGathered(since begun: UInt64) {
        results = batch.results
        for index in planned.stretches.indices {
            let start = replies.byteCount
            let commandCount = encodeStretch(index)
            deliver(to: planned.stretches[index].owner, from: start, commandCount: commandCount)
        }
        noteBatch(server.clock.monotonicNanoseconds() - begun)
        planned.removeAll()
        batch.removeAll()
        if changesSchema {
            changesSchema = false
            readSchema()
        }
    }

    /// Encodes the replies of one stretch, which has been executed.
    ///
    /// - Returns: how many plans those were.
    @inline(__always)
    mutating func encodeStretch(_ index: Int) -> Int {
        let range = planned.planRange(ofStretch: index)
        let version = planned.stretches[index].version
        sequence = max(
            planned.preparedSequence,
            results.latestSequence(planned.operationRange(ofStretch: index)))
        var plan = range.lowerBound
        while plan < range.upperBound { encodePlan(&plan, version) }
        return range.count
    }

    /// Counts the commands of a batch, which have shared its time.
    @inline(__always)
    mutating func noteBatch(_ nanoseconds: UInt64) {
        let share = nanoseconds / UInt64(planned.count)
        for plan in 0..<planned.count {
            statistics.note(Int(planned.plans[plan].command), nanoseconds: share)
        }
        noteDuration(nanoseconds) {
            if let largest { return (largest.arguments, largest.client) }
            return (describeFirst(), planned.stretches[0].client)
        }
        if largest != nil { largest = nil }
    }

    /// Counts a command whose time is not known.
    func note(_ plan: ReplyPlan) { statistics.note(Int(plan.command), nanoseconds: 0) }

    /// The first command of a batch, as far as its operations tell.
    private func describeFirst() -> [[UInt8]] {
        var words = [Array(server.specs[Int(planned.plans[0].command)].name.uppercased().utf8)]
        let first = Int(planned.plans[0].first)
        for index in first..<(first + Int(planned.plans[0].count)) {
            let operation = batch.operations[index]
            guard operation.namesKey else { continue }
            words.append(
                operation.keyKind == .string
                    ? Array(operation.keyBytes) : Array("\(operation.integerKey)".utf8))
        }
        words = SlowLog.shorten(words)
        if planned.count > 1 {
            words.append(Array("(one of a batch of \(planned.count) commands)".utf8))
        }
        return words
    }

    /// Encodes the reply of one command, and moves `plan` behind its plans.
    @inline(__always)
    private mutating func encodePlan(_ plan: inout Int, _ version: RESPVersion) {
        switch planned.plans[plan].shape {
        case .transaction: encodeTransaction(&plan, version)
        case .positioned: encodePositioned(&plan, version)
        default:
            if !planned.plans[plan].isSilent { encodeReply(planned.plans[plan], version) }
            plan &+= 1
        }
    }

    @inline(__always)
    private mutating func encodeReply(_ plan: ReplyPlan, _ version: RESPVersion) {
        if !replies.encodeNumber(plan, results.outcomes) { encodeOther(plan, version) }
    }

    @inline(never)
    private mutating func encodeOther(_ plan: ReplyPlan, _ version: RESPVersion) {
        replies.encode(plan, results, catalog, version)
    }

    /// Encodes a command's reply and the positions that it reflects.
    @inline(never)
    private mutating func encodePositioned(_ plan: inout Int, _ version: RESPVersion) {
        let first = Int(planned.plans[plan].first)
        plan += 1
        let isSilent = planned.plans[plan].isSilent
        if !isSilent { replies.array(2) }
        encodePlan(&plan, version)
        guard !isSilent else { return }
        let last = planned.plans[plan - 1]
        let end = Int(last.first + last.count)
        var positions: [UInt16: UInt64] = [:]
        for index in first..<end where results.operations[index].kind != .transaction {
            let partition = results.operations[index].partition
            positions[partition] = max(
                positions[partition] ?? 0, results.outcomes[index].sequence)
        }
        replies.map(positions.count, version)
        for (partition, sequence) in positions.sorted(by: { $0.key < $1.key }) {
            replies.integer(Int64(partition))
            guard sequence != Outcome.noSequence else {
                replies.null(version)
                continue
            }
            replies.bulk("\(epoch(ofPartition: Int(partition)).epoch)-\(sequence)")
        }
    }

    /// Encodes a transaction's reply, and moves `plan` behind its plans.
    @inline(never)
    private mutating func encodeTransaction(_ plan: inout Int, _ version: RESPVersion) {
        let header = planned.plans[plan]
        let range = (plan + 1)..<(plan + 1 + Int(header.detail))
        plan = range.upperBound
        guard !header.isSilent else { return }
        let status = results.outcomes[Int(header.first)].status
        guard status == .applied || status == .unchanged else {
            let operation = results.operations[Int(header.first)]
            return replies.error(replies.refusal(status, operation, catalog))
        }
        if status == .unchanged { return replies.nullArray(version) }
        replies.array(range.count)
        for plan in range {
            if planned.plans[plan].shape == .prepared {
                replies.raw(planned.prepared[Int(planned.plans[plan].detail)])
            } else {
                encodeReply(planned.plans[plan], version)
            }
        }
    }

    /// Sees to it that commands are read by the schema as it is.
    ///
    /// - Returns: false if nothing could be done because the journal is busy.
    @inline(__always)
    mutating func followSchema() -> Bool {
        guard node.schemaVersion != catalog.version else { return true }
        guard flush() else { return false }
        readSchema()
        return true
    }

    @inline(never)
    mutating func readSchema() {
        let (schema, version) = node.schema
        catalog = FamilyCatalog(schema, version: version)
    }

    // MARK: Deliveries

    /// Replies without executing anything, behind what came before.
    mutating func replyAtOnce(
        _ owner: Int, _ encode: (inout CommandProcessor) -> Void
    ) -> Bool {
        guard flush() else { return false }
        let start = replies.byteCount
        sequence = 0
        encode(&self)
        deliver(to: owner, from: start, commandCount: 1)
        return true
    }

    /// What has been encoded since `start` is the reply to a command that reflects nothing.
    mutating func replyAtOnce(_ owner: Int, from start: Int) -> Bool {
        sequence = 0
        deliver(to: owner, from: start, commandCount: 1)
        return true
    }

    /// What has been encoded since `start` is `owner`'s and reflects `sequence`.
    mutating func deliver(to owner: Int, from start: Int, commandCount: Int) {
        let end = replies.byteCount
        guard end > start else { return }
        counts.outputBytes &+= UInt64(end &- start)
        if let last = deliveries.indices.last, deliveries[last].owner == owner {
            deliveries[last].bytes = deliveries[last].bytes.lowerBound..<end
            deliveries[last].sequence = max(deliveries[last].sequence, sequence)
            deliveries[last].commandCount &+= commandCount
        } else {
            deliveries.append(
                Delivery(
                    owner: owner, bytes: start..<end, sequence: sequence,
                    commandCount: commandCount))
        }
    }

    /// Forgets what has been encoded.
    mutating func removeDeliveries() {
        deliveries.removeAll(keepingCapacity: true)
        replies.removeAll()
    }

    /// The reply at hand reflects everything up to group `sequence`.
    mutating func noteSequence(_ sequence: UInt64) {
        self.sequence = max(self.sequence, sequence)
    }

    /// Makes what this processor has counted visible to all.
    mutating func publishCounts() {
        let statistics = server.statistics
        statistics.commands.wrappingAdd(counts.commands, ordering: .relaxed)
        statistics.inputBytes.wrappingAdd(counts.inputBytes, ordering: .relaxed)
        statistics.outputBytes.wrappingAdd(counts.outputBytes, ordering: .relaxed)
        counts = Counts()
    }
}
