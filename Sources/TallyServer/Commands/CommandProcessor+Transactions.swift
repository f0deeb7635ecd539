import TallyCore
import TallyNode
import TallyRESP

/// Commands that wait for EXEC.
struct QueuedTransaction {
    fileprivate(set) var commands: [StoredCommand] = []
    /// Memory that they take, bytes.
    fileprivate(set) var byteCount = 0
    /// Whether one of them could not be queued, so that EXEC refuses all.
    var isBroken = false
}

/// MULTI, EXEC, DISCARD, WATCH, UNWATCH.
extension CommandProcessor {
    // MARK: Queueing

    /// Queues the command at hand, which came behind MULTI, unless it is one of those that do not wait.
    ///
    /// - Returns: nil if the command is to be dispatched as always.
    @inline(never)
    mutating func dispatchInTransaction(
        _ spec: CommandSpec, _ owner: Int, _ session: inout Session
    ) -> Dispatch? {
        switch spec.id {
        case .execute: return executeTransaction(owner, nil, &session)
        case .once: return nil
        case .discard, .multi, .watch, .quit, .reset: return nil
        default: break
        }
        do throws(Refusal) {
            try checkQueueable(spec, session)
        } catch {
            session.transaction?.isBroken = true
            return Dispatch(reject(owner, error, &session))
        }
        let stored = StoredCommand(copying: arguments)
        session.transaction?.commands.append(stored)
        session.transaction?.byteCount += stored.byteCount
        session.noteQueue()
        guard flush() else { return .busy }
        guard session.takeReplyMode() == .on else { return .done }
        return Dispatch(replyAtOnce(owner) { $0.replies.simple("QUEUED") })
    }

    private mutating func checkQueueable(
        _ spec: CommandSpec, _ session: borrowing Session
    ) throws(Refusal) {
        guard languageFamily() != nil || spec.arity.accepts(arguments.count) else {
            throw Refusal(Self.wrongArity(spec.fullName))
        }
        if !spec.subcommands.isEmpty, arguments.count > 1 {
            guard let subcommand = spec.subcommand(named: arguments[1]) else {
                throw unknownSubcommand(of: spec)
            }
            guard subcommand.arity.accepts(arguments.count) else {
                throw Refusal(Self.wrongArity(subcommand.fullName))
            }
        }
        switch spec.id {
        case .add, .alter, .drop, .import, .backup, .withPosition, .atLeast, .authenticate,
            .monitor:
            throw Refusal("ERR Command not allowed inside a transaction")
        default: break
        }
        let count = session.transaction?.commands.count ?? 0
        let byteCount = session.transaction?.byteCount ?? 0
        guard count < Limits.transactionCommandsMax, byteCount < Limits.commandBytesMax else {
            throw Refusal(
                "ERR a transaction may have \(Limits.transactionCommandsMax) commands and "
                    + "\(Limits.commandBytesMax) bytes")
        }
    }

    // MARK: EXEC

    /// Makes one transaction of the queued commands.
    ///
    /// - Parameter token: If it is to be executed once.
    mutating func executeTransaction(
        _ owner: Int, _ token: RequestToken?, _ session: inout Session
    ) -> Dispatch? {
        guard arguments.count == 1 else { return nil }
        guard flush(), let queued = session.transaction else { return .busy }
        guard !queued.isBroken else {
            endTransaction(&session)
            return Dispatch(
                reject(
                    owner,
                    Refusal("EXECABORT Transaction discarded because of previous errors."),
                    &session))
        }
        let first = batch.beginTransaction(session.watched)
        var plans: [QueuedPlan] = []
        for command in queued.commands {
            arguments = command.arguments
            plans.append(planQueued())
        }
        guard endTransaction(from: first, token, queued) else {
            batch.removeLast(to: first)
            endTransaction(&session)
            arguments = CommandArguments()
            return Dispatch(reject(owner, Self.notToBeRemembered, &session))
        }
        if let refusal = placementRefusal(from: first, session) {
            endTransaction(&session)
            arguments = CommandArguments()
            return Dispatch(reject(owner, refusal, &session))
        }
        if let waiting = dispatchWhereCold(first: first, owner, &session) { return waiting }
        note(
            ReplyPlan(
                shape: .transaction, first: UInt32(first), count: 1, detail: UInt32(plans.count)),
            owner, &session)
        let isSilent = isLastPlanSilent
        for (plan, command) in zip(plans, queued.commands) {
            arguments = command.arguments
            commandIndex = findCommand(arguments[0]) ?? commandIndex
            let made: ReplyPlan
            switch plan {
            case .operations(let plan): made = plan
            case .refused(let refusal):
                made = prepared { $0.replies.error(bytes: refusal.message) }
            case .atOnce(let id, let index):
                made = prepared { $0.runSelected(id, index, &session) }
            }
            append(made, isSilent: isSilent)
        }
        batch.hold(TransactionMemory(queued))
        counts.commands &+= UInt64(queued.commands.count)
        endTransaction(&session)
        arguments = CommandArguments()
        return .done
    }

    /// - Returns: false if it cannot be remembered.
    private mutating func endTransaction(
        from first: Int, _ token: RequestToken?, _ queued: QueuedTransaction
    ) -> Bool {
        if let token {
            return batch.endTransaction(
                from: first, once: token, fingerprint: fingerprint(queued))
        }
        batch.endTransaction(from: first)
        return true
    }

    private mutating func fingerprint(_ queued: QueuedTransaction) -> UInt64 {
        var fingerprint = CommandFingerprint()
        for command in queued.commands {
            // Others are not queued.
            guard let index = findCommand(command.arguments[0]) else { continue }
            add(command.arguments, server.commands[index], to: &fingerprint)
        }
        return fingerprint.value
    }

    /// What the operations of a transaction need until they have been executed.
    private final class TransactionMemory {
        let queued: QueuedTransaction

        init(_ queued: QueuedTransaction) { self.queued = queued }
    }

    /// How a queued command becomes a reply.
    private enum QueuedPlan {
        case operations(ReplyPlan)
        case refused(Refusal)
        /// By running it, with the state as it was before the transaction.
        case atOnce(CommandID, index: Int)
    }

    private mutating func planQueued() -> QueuedPlan {
        guard let index = findCommand(arguments[0]) else { return .refused(unknown()) }
        let id = server.specs[index].id
        let first = batch.count
        do throws(Refusal) {
            if let plan = try planOperations(id, index) { return .operations(plan) }
            return .atOnce(id, index: index)
        } catch {
            batch.removeLast(to: first)
            return .refused(error)
        }
    }

    /// Ends MULTI and WATCH.
    func endTransaction(_ session: inout Session) {
        session.transaction = nil
        session.watched = nil
        session.noteQueue()
    }

    // MARK: Commands

    /// What becomes of an EXEC that has arguments.
    func aborted(_ session: inout Session) -> Refusal {
        endTransaction(&session)
        return Refusal(
            "EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command"
        )
    }

    mutating func beginTransaction(_ session: inout Session) {
        guard session.transaction == nil else {
            return replies.error("ERR MULTI calls can not be nested")
        }
        session.transaction = QueuedTransaction()
        session.noteQueue()
        replies.simple("OK")
    }

    mutating func discardTransaction(_ session: inout Session) {
        guard session.transaction != nil else {
            return replies.error("ERR DISCARD without MULTI")
        }
        endTransaction(&session)
        replies.simple("OK")
    }

    mutating func watch(_ session: inout Session) {
        guard session.transaction == nil else {
            return replies.error("ERR WATCH inside MULTI is not allowed")
        }
        let watched = session.watched ?? WatchedKeys(server.node)
        guard watched.count + arguments.count - 1 <= Limits.watchedKeysMax else {
            return replies.error(
                "ERR a connection may watch \(Limits.watchedKeysMax) keys at a time")
        }
        var keys = server.node.makeBatch()
        do throws(Refusal) {
            for index in 1..<arguments.count {
                switch try target(index) {
                case .plain(let key): keys.append(.get, key: key)
                case .record(let record, _), .column(let record, _):
                    keys.append(.readRecord, record)
                }
            }
        } catch {
            return replies.error(bytes: error.message)
        }
        watched.add(keys)
        session.watched = watched
        session.noteQueue()
        replies.simple("OK")
    }

    mutating func unwatch(_ session: inout Session) {
        session.watched = nil
        session.noteQueue()
        replies.simple("OK")
    }
}
