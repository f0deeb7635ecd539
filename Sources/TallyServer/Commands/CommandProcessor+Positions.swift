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
        _ id: CommandID, _ owner: Int, _ session: inout Session
    ) throws(Refusal) -> Dispatch {
        let isAtLeast = id == .atLeast
        let wordCount = isAtLeast ? 2 : 1
        guard arguments.count > wordCount else {
            throw Refusal(Self.wrongArity(isAtLeast ? "atleast" : "withposition"))
        }
        if isAtLeast { try demand(arguments[1]) }
        arguments = arguments.dropFirst(wordCount)
        guard let index = findCommand(arguments[0]) else { throw unknown() }
        let spec = server.specs[index]
        if spec.id == .withPosition, isAtLeast {
            return try gatherPositioned(.withPosition, owner, &session)
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
        if let waiting = dispatchWhereCold(first: first, owner, &session) { return waiting }
        note(plan, owner, &session, behind: header)
        return .done
    }

    /// Sees to it that everything up to a position is there.
    private func demand(_ text: UnsafeRawBufferPointer) throws(Refusal) {
        let parts = text.split(separator: UInt8(ascii: "-"), maxSplits: 1)
        guard parts.count == 2,
            let epoch = Decimal.parseUnsigned(UnsafeRawBufferPointer(rebasing: parts[0])),
            let sequence = Decimal.parseUnsigned(UnsafeRawBufferPointer(rebasing: parts[1]))
        else { throw Refusal("ERR a position is an epoch, a hyphen and a sequence") }
        let node = server.node
        switch UInt64(node.epoch) &- epoch {
        case 0:
            // What clients were told of has been applied here.
            guard sequence <= node.latestSequence else {
                throw Refusal("POSITIONLOST Sequence \(sequence) has not been reached")
            }
        case 1:
            guard sequence <= node.epochStart else {
                throw Refusal(
                    "POSITIONLOST Epoch \(epoch) ended here with sequence \(node.epochStart)")
            }
        default:
            throw Refusal(
                "POSITIONLOST Epoch \(epoch) is not this server's, which is \(node.epoch)")
        }
    }
}
