import Synchronization
import TallyAccess
import TallyCore
import TallyNode
import TallyRESP

/// Turns the bytes of an event loop's connections into replies: parses commands, gathers the
/// counter operations among them into one batch, executes it, and encodes the replies in order.
///
/// One per event loop. Each stretch of bytes has an owner, a number by which the caller knows whose
/// replies are whose; the commands of many owners share a batch, so that what a batch costs is paid
/// once for all connections that were ready together. It knows nothing of sockets.
struct CommandProcessor: ~Copyable {
    let server: ServerContext
    let node: Node
    private let lookup: CommandLookup
    let commands: UnsafeMutablePointer<ServerContext.Command>
    var batch: OperationBatch
    /// What has been encoded since the last `removeDeliveries`.
    var replies = ReplyWriter()
    /// Whose replies those are, in order.
    var deliveries: [Delivery] = []
    /// What has happened since it was last taken.
    var counts = Counts()
    let statistics: CommandStatistics
    /// The command at hand, by its place in the table.
    var commandIndex = 0
    /// The command of the batch that has most operations, if any has many.
    var largest: (count: UInt32, arguments: [[UInt8]], client: ClientInfo)?
    /// Whether somebody monitors, or commands are paused.
    private var isSpied = false

    /// What became of the operations whose replies are being encoded.
    var results: OperationBatch.Results
    /// How the operations in `batch` become replies.
    var planned: PlannedReplies
    /// What has been handed to the logs and waits for their outcomes, since it was last taken.
    var launched: [Flight] = []
    /// Flights that have landed and can be used again.
    var spareFlights: [Flight] = []
    /// Called once for each log that a flight has come back by, on any thread.
    var landing: (@Sendable (Flight, _ log: Int) -> Void)?
    /// The command at hand.
    var arguments = CommandArguments()
    /// The latest commit group that the reply at hand reflects.
    var sequence: UInt64 = 0
    /// Blocks that a command that runs at once has to wait for; it has then done nothing.
    var missingBlocks: [NeededBlock] = []
    /// The schema that commands are read by; the same for all that wait for the next `flush`.
    var catalog: FamilyCatalog
    /// Whether the batch changes the schema, so that no further command can be read before `flush`.
    var changesSchema = false

    /// Counts the keys of some operations.
    let hotKeySampler: HotKeySampler
    /// Operations until the next one whose key is counted.
    var untilSample = 0
    var dice: UInt64 = 1
    /// Whether additions may be answered before they are in a cluster's log: only where a client's next read is known to
    /// be the same client's.
    var answersEarly = true
    /// Whether the node is one of a cluster.
    let isInCluster: Bool
    /// Journal bytes of commands that are executed together, about.
    private let batchBytesMax: Int

    /// Commands that are executed together at most.
    private static var batchCountMax: Int { 512 }
    /// Plans for which there is room to begin with.
    static var planCapacity: Int { batchCountMax + 1 }

    /// Encoded replies of one owner.
    struct Delivery {
        let owner: Int
        /// Where in `replies` they are.
        var bytes: Range<Int>
        /// The latest commit group that they reflect.
        var sequence: UInt64
        var commandCount: Int
    }

    struct Counts {
        var commands: UInt64 = 0
        var inputBytes: UInt64 = 0
        var outputBytes: UInt64 = 0
    }

    init(server: ServerContext) {
        self.server = server
        node = server.node
        lookup = server.lookup
        commands = server.commands
        batch = server.node.makeBatch()
        results = batch.results
        statistics = server.makeCommandStatistics()
        hotKeySampler = server.makeHotKeySampler()
        catalog = FamilyCatalog(Schema(), version: 0)
        planned = PlannedReplies(capacity: Self.planCapacity)
        isInCluster = server.replica != nil
        batchBytesMax = isInCluster ? Limits.logMessageBytesMax / 4 : .max
        deliveries.reserveCapacity(64)
    }

    /// Where `process` stopped.
    struct Progress {
        enum Stop {
            /// All whole commands are dealt with, or the session is closing.
            case inputEnd
            /// The replies should leave before there are more.
            case repliesLong
            /// The journal has too much to write: `flush` must succeed before anything else.
            case journalBusy
            /// The next command needs blocks that are on disk only. Others' commands may go on.
            case blocksMissing
            /// The next command waits for time to pass. Others' commands may go on.
            case waiting
            /// What has gathered is on its way through the logs: commands behind it wait until it is back.
            case launched
        }

        /// Bytes that need not be presented again.
        let consumedBytes: Int
        let stop: Stop
        /// What the next command needs, of `blocksMissing`.
        var missing: [NeededBlock] = []
    }

    /// Whether commands of `owner`, the latest to be processed, wait to be executed by `flush`, or
    /// replies to be delivered.
    func hasWork(of owner: Int) -> Bool {
        planned.stretches.last?.owner == owner || deliveries.last?.owner == owner
    }

    /// What became of a command.
    enum Dispatch {
        case done
        /// Nothing, because the journal is busy.
        case busy
        /// Nothing, because these blocks must be read first.
        case missing([NeededBlock])
        /// Nothing yet: it is to come again in a moment.
        case waiting

        init(_ isDone: Bool) { self = isDone ? .done : .busy }
    }

    /// Gathers all whole commands in `bytes`, and executes some of them.
    ///
    /// - Parameter bytes: What has arrived and was not consumed before. It must stay in place until
    ///   `flush` has succeeded.
    mutating func process(
        _ bytes: UnsafeRawBufferPointer, of owner: Int, _ session: inout Session
    ) -> Progress {
        guard followSchema() else { return Progress(consumedBytes: 0, stop: .journalBusy) }
        isSpied = server.monitors.isActive || server.pause.isSet
        if session.access.version != server.access.users.version { followUsers(&session) }
        var offset = 0
        let repliesEnd = replies.byteCount + Limits.outputBytesMax
        while !session.isClosing, offset < bytes.count {
            let found: RESPParser.Found
            do throws(ProtocolError) {
                found = try session.parser.next(
                    UnsafeRawBufferPointer(
                        start: bytes.baseAddress.unsafelyUnwrapped + offset,
                        count: bytes.count &- offset))
            } catch {
                guard replyAtOnce(owner, { $0.replies.error(bytes: error.message) }) else {
                    return presentAgain(from: offset, &session, .journalBusy)
                }
                server.statistics.protocolErrors.wrappingAdd(1, ordering: .relaxed)
                session.isClosing = true
                offset = bytes.count
                break
            }
            guard case .command(let byteCount) = found else {
                guard !isTooLong(bytes.count - offset, session) else {
                    return refuseLongCommand(bytes.count, offset, owner, &session)
                }
                break
            }
            guard !isTooLong(byteCount, session) else {
                return refuseLongCommand(bytes.count, offset, owner, &session)
            }
            arguments = session.parser.arguments
            if arguments.count > 0 {
                switch dispatch(owner, &session) {
                case .done: session.isPresentedAgain = false
                case .busy: return presentAgain(from: offset, &session, .journalBusy)
                case .missing(let blocks):
                    return presentAgain(from: offset, &session, .blocksMissing, blocks)
                case .waiting: return presentAgain(from: offset, &session, .waiting)
                }
                counts.commands &+= 1
            }
            offset &+= byteCount
            if planned.count >= Self.batchCountMax || batch.count >= Self.batchCountMax
                || !arguments.areInPlace || changesSchema || batch.journalBytesMax > batchBytesMax
            {
                guard flush() else { return Progress(consumedBytes: offset, stop: .journalBusy) }
            }
            if replies.byteCount >= repliesEnd {
                return Progress(consumedBytes: offset, stop: .repliesLong)
            }
        }
        return Progress(consumedBytes: offset, stop: .inputEnd)
    }

    /// Whether somebody unknown wants more memory than it takes to say who they are.
    @inline(__always)
    private mutating func isTooLong(_ byteCount: Int, _ session: borrowing Session) -> Bool {
        byteCount > Limits.strangerCommandBytesMax && session.access.user == nil
    }

    private mutating func refuseLongCommand(
        _ byteCount: Int, _ offset: Int, _ owner: Int, _ session: inout Session
    ) -> Progress {
        guard
            replyAtOnce(
                owner,
                {
                    $0.replies.error(
                        "ERR Protocol error: commands before AUTH may have "
                            + "\(Limits.strangerCommandBytesMax) bytes")
                })
        else { return presentAgain(from: offset, &session, .journalBusy) }
        server.statistics.protocolErrors.wrappingAdd(1, ordering: .relaxed)
        session.isClosing = true
        return Progress(consumedBytes: byteCount, stop: .inputEnd)
    }

    private func presentAgain(
        from offset: Int, _ session: inout Session, _ stop: Progress.Stop,
        _ missing: [NeededBlock] = []
    ) -> Progress {
        session.parser = RESPParser()
        session.isPresentedAgain = true
        return Progress(consumedBytes: offset, stop: stop, missing: missing)
    }

    // MARK: Dispatch

    /// Handles the command that the parser holds.
    @inline(__always)
    private mutating func dispatch(_ owner: Int, _ session: inout Session) -> Dispatch {
        let name = arguments[0]
        guard let index = lookup.find(name) else {
            session.transaction?.isBroken = true
            return Dispatch(reject(owner, unknown(), &session))
        }
        let id = commands[index].id
        session.lastCommand = id
        commandIndex = index
        if !session.access.isUnrestricted || commands[index].isAdministration,
            let refusal = refusal(of: index, arguments, &session)
        {
            session.transaction?.isBroken = true
            return Dispatch(reject(owner, refusal, &session))
        }
        if isSpied, let held = dispatchSpied(index, session) { return held }
        if session.transaction != nil,
            let queued = dispatchInTransaction(server.specs[index], owner, &session)
        {
            return queued
        }
        switch id {
        case .once: return dispatchOnce(owner, &session)
        case .withPosition, .atLeast: return dispatchPositioned(id, owner, &session)
        case .waitForDisk: return dispatchWait(owner, &session)
        case .authenticate: return dispatchLogin(owner, &session)
        case .hello: return dispatchHello(owner, &session)
        default: break
        }
        let plan: ReplyPlan?
        let first = batch.count
        do throws(Refusal) {
            if id.changesSchema {
                guard beginSchemaChange() else { return .busy }
                if let cluster = server.cluster {
                    changesSchema = false
                    return dispatchSchemaChange(cluster, owner, &session)
                }
            }
            plan = try planOperations(id, index)
            if let refusal = placementRefusal(from: first, session) { throw refusal }
        } catch {
            session.transaction?.isBroken = true
            return Dispatch(reject(owner, id == .execute ? aborted(&session) : error, &session))
        }
        guard let plan else { return runAtOnce(id, index, owner, &session) }
        if let waiting = dispatchWhereCold(first: Int(plan.first), owner, &session) {
            return waiting
        }
        if plan.count >= Self.manyOperations { noteMany(plan, session) }
        note(plan, owner, &session)
        return .done
    }

    /// Operations from which on a command may be why its batch takes long.
    private static var manyOperations: UInt32 { 64 }

    @inline(never)
    private mutating func noteMany(_ plan: ReplyPlan, _ session: borrowing Session) {
        guard plan.count > largest?.count ?? 0 else { return }
        largest = (
            plan.count, SlowLog.shorten(arguments.count) { arguments[$0] }, session.client
        )
    }

    /// Applies what came before, because a schema's change is judged by what that leaves.
    ///
    /// - Returns: false if the journal is busy.
    mutating func beginSchemaChange() -> Bool {
        guard flush() else { return false }
        changesSchema = true
        return true
    }

    /// The number of the command of this name, nil if there is none.
    @inline(__always)
    mutating func findCommand(_ name: UnsafeRawBufferPointer) -> Int? { lookup.find(name) }

    /// Appends a command's operations to the batch.
    ///
    /// - Returns: how they become its reply; nil for a command that has none.
    @inline(__always)
    mutating func planOperations(
        _ id: CommandID, _ index: Int
    ) throws(Refusal) -> ReplyPlan? {
        if let family = languageFamily(), let plan = try planLanguage(id, family) { return plan }
        guard commands[index].arity.accepts(arguments.count) else {
            throw Refusal(Self.wrongArity(server.specs[index].fullName))
        }
        switch id {
        case .increment: return try add(1)
        case .get: return try read(.value)
        case .object: return try planObject()
        case .memory: return try memoryUsage()
        default: return try planCounter(id)
        }
    }

    /// Sees to it that the batch's operations from `first` on find what they need in memory.
    ///
    /// - Returns: nil if they do; else they are gone from the batch.
    @inline(__always)
    mutating func dispatchWhereCold(
        first: Int, _ owner: Int, _ session: inout Session
    ) -> Dispatch? {
        node.hasColdSegments ? dispatchNeedy(first, owner, &session) : nil
    }

    @inline(never)
    private mutating func dispatchNeedy(
        _ first: Int, _ owner: Int, _ session: inout Session
    ) -> Dispatch? {
        switch node.needs(of: batch, from: first) {
        case .nothing: return nil
        case .blocks(let blocks):
            batch.removeLast(to: first)
            guard blocks.count <= Limits.commandBlocksMax else {
                return Dispatch(reject(owner, Self.tooManyBlocks(blocks.count), &session))
            }
            return .missing(blocks)
        case .unreadable(let error):
            batch.removeLast(to: first)
            return Dispatch(reject(owner, Refusal("ERR \(error)"), &session))
        }
    }

    /// Runs a command that is no counter operation, behind what came before it.
    private mutating func runAtOnce(
        _ id: CommandID, _ index: Int, _ owner: Int, _ session: inout Session
    ) -> Dispatch {
        guard flush() else { return .busy }
        let start = replies.byteCount
        let mode = session.takeReplyMode()
        sequence = 0
        let begun = server.clock.monotonicNanoseconds()
        runSelected(id, index, &session)
        let nanoseconds = server.clock.monotonicNanoseconds() - begun
        statistics.note(index, nanoseconds: nanoseconds)
        noteDuration(nanoseconds) {
            (SlowLog.shorten(arguments.count) { arguments[$0] }, session.client)
        }
        guard missingBlocks.isEmpty else {
            // It comes again.
            session.replyMode = mode
            defer { missingBlocks = [] }
            return .missing(missingBlocks)
        }
        if mode != .on, !session.hasTurnedRepliesOn { replies.truncate(to: start) }
        session.hasTurnedRepliesOn = false
        deliver(to: owner, from: start, commandCount: 1)
        return .done
    }

    /// Runs a command, or the subcommand that it names.
    mutating func runSelected(_ id: CommandID, _ index: Int, _ session: inout Session) {
        if !server.specs[index].subcommands.isEmpty, arguments.count > 1 {
            runSubcommand(server.specs[index], &session)
        } else {
            runUnlessRefused(id, &session)
        }
    }

    private mutating func runUnlessRefused(_ id: CommandID, _ session: inout Session) {
        if let refusal = clusterRefusal(id) { return replies.error(refusal) }
        run(id, &session)
    }

    private mutating func runSubcommand(_ container: CommandSpec, _ session: inout Session) {
        let name = arguments[1]
        guard let subcommand = container.subcommand(named: name) else {
            return replies.error(bytes: unknownSubcommand(of: container).message)
        }
        guard subcommand.arity.accepts(arguments.count) else {
            replies.error(Self.wrongArity(subcommand.fullName))
            return
        }
        session.lastCommand = subcommand.id
        runUnlessRefused(subcommand.id, &session)
    }
}
