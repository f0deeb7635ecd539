import TallyCore
import TallyNode
import TallyRESP

/// `ONCE token command …`: a command that is counted once, however often it comes.
extension CommandProcessor {
    /// Gathers the command behind the token as a request that is executed once.
    mutating func dispatchOnce(_ owner: Int, _ session: inout Session) -> Dispatch {
        do throws(Refusal) {
            return try gatherOnce(owner, &session)
        } catch {
            session.transaction?.isBroken = true
            return Dispatch(reject(owner, error, &session))
        }
    }

    /// - Parameter header: A plan that says more about the reply.
    mutating func gatherOnce(
        _ owner: Int, _ session: inout Session, behind header: ReplyPlan? = nil
    ) throws(Refusal) -> Dispatch {
        guard arguments.count >= 3 else { throw Refusal(Self.wrongArity("once")) }
        guard let token = RequestToken(arguments[1]) else {
            throw Refusal("ERR the token must be a UUID of version 7 or a ULID")
        }
        arguments = arguments.dropFirst(2)
        guard let index = findCommand(arguments[0]) else { throw unknown() }
        let command = commands + index
        if command.pointee.id == .execute {
            guard header == nil else {
                throw Refusal("ERR a transaction's positions are not told")
            }
            guard session.transaction != nil else { throw Refusal("ERR EXEC without MULTI") }
            guard arguments.count == 1,
                let dispatch = executeTransaction(owner, token, &session)
            else { throw aborted(&session) }
            return dispatch
        }
        guard session.transaction == nil else {
            throw Refusal("ERR ONCE is not allowed inside a transaction: use ONCE token EXEC")
        }
        guard command.pointee.id != .once else {
            throw Refusal("ERR ONCE is not allowed inside of ONCE")
        }
        guard command.pointee.isWrite else {
            throw Refusal(
                "ERR ONCE takes commands that write, and '\(server.specs[index].name)' does not")
        }
        if command.pointee.id.changesSchema {
            guard beginSchemaChange() else { return .busy }
        }
        var fingerprint = CommandFingerprint()
        add(arguments, command.pointee, to: &fingerprint)
        let first = batch.beginTransaction()
        let plan: ReplyPlan?
        do throws(Refusal) {
            if changesSchema, command.pointee.arity.accepts(arguments.count) {
                // What a repeated change would be refused for is that it has been made.
                plan = try planSchemaChange(
                    isRepeated: server.node.remembers(
                        token, fingerprint: fingerprint.value, partition: 0))
            } else {
                plan = try planOperations(command.pointee.id, index)
            }
        } catch {
            batch.removeLast(to: first)
            throw error
        }
        guard let plan,
            batch.endTransaction(from: first, once: token, fingerprint: fingerprint.value)
        else {
            batch.removeLast(to: first)
            throw Self.notToBeRemembered
        }
        if let refusal = placementRefusal(from: first, session) { throw refusal }
        if let waiting = dispatchWhereCold(first: first, owner, &session) { return waiting }
        // If the request is refused, so is each of its operations.
        note(plan, owner, &session, behind: header)
        return .done
    }

    static var notToBeRemembered: Refusal {
        Refusal(
            "ERR ONCE takes commands that change something and whose outcome takes at most "
                + "\(Limits.onceWordsMax) words")
    }

    /// Adds a command to a fingerprint; its name counts in any case.
    @inline(__always)
    mutating func add(
        _ arguments: CommandArguments, _ command: ServerContext.Command,
        to fingerprint: inout CommandFingerprint
    ) {
        fingerprint.add(command.fingerprint)
        for index in 1..<max(1, arguments.count) { fingerprint.add(arguments[index]) }
    }
}
