import TallyCore
import TallyNode
import TallyRESP

/// WAIT and WAITAOF: what is known to be safe.
extension CommandProcessor {
    /// `WAIT replicas milliseconds`: there are no replicas, so there is nothing to wait for.
    mutating func wait() {
        guard Decimal.parse(arguments[1]) != nil else {
            return replies.error("ERR value is not an integer or out of range")
        }
        do throws(Refusal) {
            _ = try timeout(arguments[2])
            replies.integer(0)
        } catch {
            replies.error(bytes: error.message)
        }
    }

    private func timeout(_ text: UnsafeRawBufferPointer) throws(Refusal) -> Int64 {
        guard let timeout = Decimal.parse(text) else {
            throw Refusal("ERR timeout is not an integer or out of range")
        }
        guard timeout >= 0 else { throw Refusal("ERR timeout is negative") }
        return timeout
    }

    /// `WAITAOF local replicas milliseconds`: waits until all that was written so far is on this disk.
    mutating func dispatchWait(_ owner: Int, _ session: inout Session) -> Dispatch {
        let wanted: (local: Int64, timeout: Int64)
        do throws(Refusal) {
            wanted = try waitArguments()
        } catch {
            return Dispatch(reject(owner, error, &session))
        }
        guard flush() else { return .busy }
        let node = server.node
        let now = server.clock.monotonicNanoseconds()
        let wait =
            session.wait
            ?? Session.Wait(
                sequence: node.countAll().sequence,
                deadlineNanoseconds: wanted.timeout == 0
                    ? .max : now + UInt64(clamping: wanted.timeout) &* 1_000_000)
        let isDurable = node.gate.durableSequence >= wait.sequence
        if !isDurable, wanted.local > 0, now < wait.deadlineNanoseconds {
            node.requestSync(to: wait.sequence)
            session.wait = wait
            return .waiting
        }
        session.wait = nil
        guard session.takeReplyMode() == .on else { return .done }
        return Dispatch(
            replyAtOnce(owner) { processor in
                processor.replies.array(2)
                processor.replies.integer(isDurable ? 1 : 0)
                processor.replies.integer(0)
            })
    }

    private func waitArguments() throws(Refusal) -> (local: Int64, timeout: Int64) {
        guard arguments.count == 4 else { throw Refusal(Self.wrongArity("waitaof")) }
        guard let local = Decimal.parse(arguments[1]), (0...1).contains(local) else {
            throw Refusal("ERR value is out of range, must be between 0 and 1")
        }
        guard let replicas = Decimal.parse(arguments[2]), replicas >= 0 else {
            throw Refusal("ERR value is out of range, must be positive")
        }
        return (local, try timeout(arguments[3]))
    }
}
