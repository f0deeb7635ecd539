import TallyCluster
import TallyCore
import TallyNode
import TallyRESP

/// `WITHPOSITION command …` and `ATLEAST position command …`.
extension CommandProcessor {
    /// Gathers a command behind what it asks of positions.
    mutating func dispatchPositioned(
        _ id: CommandID, _ owner: Int, _ session: inout Session
    ) -> Dispatch {
        do throws(Refusal) {
            return try gatherPositioned(id, owner, &session)
        } catch {
            session.transaction?.isBroken = true
            return Dispatch(reject(owner, error, &session))
        }
    }

    private mutating func gatherPositioned(
        _ id: CommandID, _ owner: Int, _ session: inout Session, _ outer: Demand? = nil
    ) throws(Refusal) -> Dispatch {
        let isAtLeast = id == .atLeast
        let wordCount = isAtLeast ? 2 : 1
        guard arguments.count > wordCount else {
            throw Refusal(Self.wrongArity(isAtLeast ? "atleast" : "withposition"))
        }
        let demand = isAtLeast ? try Demand(arguments[1]) : outer
        if let demand, server.cluster == nil { try check(demand) }
        arguments = arguments.dropFirst(wordCount)
        guard let index = findCommand(arguments[0]) else { throw unknown() }
        let spec = server.specs[index]
        if spec.id == .withPosition, isAtLeast {
            return try gatherPositioned(.withPosition, owner, &session, demand)
        }
        let header =
            isAtLeast
            ? nil : ReplyPlan(shape: .positioned, first: UInt32(batch.count), count: 0, detail: 1)
        if spec.id == .once {
            return try gatherOnce(owner, &session, behind: header)
        }
        let first = batch.count
        guard !spec.id.changesSchema, let plan = try planOperations(spec.id, index),
            batch.count > first
        else {
            throw Refusal(
                "ERR only commands about counters have positions, and '\(spec.name)' is none")
        }
        if let refusal = placementRefusal(from: first, session) { throw refusal }
        var isOrdered = false
        if let demand, let cluster = server.cluster {
            switch try meet(demand, from: first, cluster.replica, &session) {
            case .met: break
            case .ordered: isOrdered = true
            case .waiting: return .waiting
            }
        }
        if let waiting = dispatchWhereCold(first: first, owner, &session) { return waiting }
        note(plan, owner, &session, behind: header)
        if isOrdered { planned.orderLast() }
        return .done
    }

    /// Sees to it that everything up to a position is there.
    private func check(_ demand: Demand) throws(Refusal) {
        guard case .position(let epoch, let sequence) = demand else { return }
        let node = server.node
        // What clients were told of has been applied here.
        let isReached = sequence <= node.latestSequence
        if try check(epoch, sequence, (node.epoch, node.epochStart)), !isReached {
            throw Refusal("POSITIONLOST Sequence \(sequence) has not been reached")
        }
    }

    /// Whether a position is one of the present epoch; otherwise it is one of the epoch before, and was kept.
    private func check(
        _ epoch: UInt64, _ sequence: UInt64, _ present: (epoch: UInt32, start: UInt64)
    ) throws(Refusal) -> Bool {
        switch UInt64(present.epoch) &- epoch {
        case 0: return true
        case 1:
            guard sequence <= present.start else {
                throw Refusal(
                    "POSITIONLOST Epoch \(epoch) ended here with sequence \(present.start)")
            }
            return false
        default:
            throw Refusal(
                "POSITIONLOST Epoch \(epoch) is not this server's, which is \(present.epoch)")
        }
    }

    /// The epoch that a partition is in, and the last sequence of those before.
    func epoch(ofPartition partition: Int) -> (epoch: UInt32, start: UInt64) {
        guard let replica = server.cluster?.replica else { return (node.epoch, node.epochStart) }
        let history = replica.history(ofLog: replica.log(of: partition))
        return (history?.epoch ?? 1, history?.startSequence ?? 0)
    }

    // MARK: In a cluster

    private enum Meeting {
        /// What is here will do.
        case met
        /// It must go through its log.
        case ordered
        /// What is here is not there yet.
        case waiting
    }

    /// How what the batch's operations from `first` on ask for can reflect a position of their log.
    private mutating func meet(
        _ demand: Demand, from first: Int, _ replica: Replica, _ session: inout Session
    ) throws(Refusal) -> Meeting {
        guard case .position(let epoch, let sequence) = demand else { return .ordered }
        let log = replica.log(of: Int(batch.operations[first].partition))
        for index in first..<batch.count
        where replica.log(of: Int(batch.operations[index].partition)) != log {
            batch.removeLast(to: first)
            throw Refusal(
                "ERR a position is one of one log, and these keys are of several: ask for fewer, or for "
                    + "'latest'")
        }
        let partition = Int(batch.operations[first].partition)
        do throws(Refusal) {
            _ = try check(epoch, sequence, self.epoch(ofPartition: partition))
        } catch {
            batch.removeLast(to: first)
            throw error
        }
        // What is last in the log is behind every position that anybody was told.
        guard replica.logs[log].isServing else { return .ordered }
        if replica.logs[log].appliedSequence >= sequence {
            session.demandedSince = nil
            return .met
        }
        batch.removeLast(to: first)
        let now = server.clock.monotonicNanoseconds()
        let since = session.demandedSince ?? now
        session.demandedSince = since
        guard now - since < Limits.positionMillisecondsMax * 1_000_000 else {
            session.demandedSince = nil
            throw Refusal("POSITIONLOST Sequence \(sequence) has not been reached")
        }
        return .waiting
    }
}

/// What a read is to reflect at least.
private enum Demand {
    case position(epoch: UInt64, sequence: UInt64)
    /// All that has been acknowledged when it comes.
    case latest

    init(_ text: UnsafeRawBufferPointer) throws(CommandProcessor.Refusal) {
        if text.equalsIgnoringCase("latest") {
            self = .latest
            return
        }
        let parts = text.split(separator: UInt8(ascii: "-"), maxSplits: 1)
        guard parts.count == 2,
            let epoch = Decimal.parseUnsigned(UnsafeRawBufferPointer(rebasing: parts[0])),
            let sequence = Decimal.parseUnsigned(UnsafeRawBufferPointer(rebasing: parts[1]))
        else {
            throw CommandProcessor.Refusal(
                "ERR a position is an epoch, a hyphen and a sequence, or 'latest'")
        }
        self = .position(epoch: epoch, sequence: sequence)
    }
}
