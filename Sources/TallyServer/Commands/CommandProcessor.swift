import NIOCore
import Synchronization
import TallyCore
import TallyNode
import TallyRESP

/// Turns one connection's bytes into replies: parses a stretch of commands, executes the counter
/// operations among them as one batch, and encodes their replies in order.
///
/// One per event loop, used for one connection at a time. It knows nothing of sockets.
struct CommandProcessor: ~Copyable {
    let server: ServerContext
    private let node: Node
    private let lookup: CommandLookup
    private let commands: UnsafeMutablePointer<ServerContext.Command>
    var batch: OperationBatch
    var replies = ReplyWriter()
    private var plans: [ReplyPlan] = []
    /// The command at hand.
    private(set) var arguments = CommandArguments()
    /// The latest commit group that a reply of this stretch reflects.
    private var sequence: UInt64 = 0
    private var commandCount = 0

    /// Operations that are executed together at most, unless one command has more.
    private static var batchCountMax: Int { 512 }

    init(server: ServerContext) {
        self.server = server
        node = server.node
        lookup = server.lookup
        commands = server.commands
        batch = server.node.makeBatch()
        plans.reserveCapacity(Self.batchCountMax)
    }

    /// What came of a stretch of bytes.
    struct Progress {
        /// Bytes that need not be presented again.
        var consumedBytes: Int
        /// The latest commit group that any of the replies reflects.
        var sequence: UInt64
        var commandCount: Int
        /// Whether the journal has too much to write; what is left is to be presented again.
        var isBusy: Bool
    }

    /// Executes all whole commands in `bytes` and appends their replies to `replies`.
    ///
    /// - Parameter bytes: What has arrived and was not consumed before. Must stay in place.
    mutating func process(
        _ bytes: UnsafeRawBufferPointer, _ session: inout Session
    ) -> Progress {
        let repliesStart = replies.byteCount
        sequence = 0
        commandCount = 0
        var offset = 0
        // Where to go back to if the batch cannot be executed now.
        var batchStart = Resume(offset: 0, replyMode: session.replyMode)
        while !session.isClosing, offset < bytes.count {
            let found: RESPParser.Found
            do throws(ProtocolError) {
                found = try session.parser.next(
                    UnsafeRawBufferPointer(
                        start: bytes.baseAddress.unsafelyUnwrapped + offset,
                        count: bytes.count &- offset))
            } catch {
                guard flush(session) else { return busy(batchStart, &session) }
                replies.error(bytes: error.message)
                server.statistics.protocolErrors.wrappingAdd(1, ordering: .relaxed)
                session.isClosing = true
                offset = bytes.count
                break
            }
            guard case .command(let byteCount) = found else { break }
            arguments = session.parser.arguments
            if arguments.count > 0 {
                if plans.isEmpty {
                    batchStart = Resume(offset: offset, replyMode: session.replyMode)
                }
                guard dispatch(&session) else { return busy(batchStart, &session) }
                commandCount &+= 1
            }
            offset &+= byteCount
            if batch.count >= Self.batchCountMax || !arguments.areInPlace {
                guard flush(session) else { return busy(batchStart, &session) }
            }
            if replies.byteCount - repliesStart >= Limits.outputBytesMax { break }
        }
        guard flush(session) else { return busy(batchStart, &session) }
        return Progress(
            consumedBytes: offset, sequence: sequence, commandCount: commandCount, isBusy: false)
    }

    private struct Resume {
        var offset: Int
        var replyMode: Session.ReplyMode
    }

    private mutating func busy(_ start: Resume, _ session: inout Session) -> Progress {
        commandCount -= plans.count
        batch.removeAll()
        plans.removeAll(keepingCapacity: true)
        session.parser = RESPParser()
        session.replyMode = start.replyMode
        return Progress(
            consumedBytes: start.offset, sequence: sequence, commandCount: max(0, commandCount),
            isBusy: true)
    }

    // MARK: Dispatch

    /// Handles the command that the parser holds.
    ///
    /// - Returns: false if nothing could be done because the journal is busy.
    @inline(__always)
    private mutating func dispatch(_ session: inout Session) -> Bool {
        let name = arguments[0]
        guard let index = lookup.find(name) else { return reject(bytes: unknown(), &session) }
        let command = commands[index]
        session.lastCommand = command.id
        guard command.accepts(argumentCount: arguments.count) else {
            return reject(Self.wrongArity(server.specs[index].fullName), &session)
        }
        switch command.id {
        case .increment: return add(1, &session)
        case .get: return read(.value, &session)
        default: return dispatchOther(command.id, index, &session)
        }
    }

    private mutating func dispatchOther(
        _ id: CommandID, _ index: Int, _ session: inout Session
    ) -> Bool {
        if let handled = dispatchCounter(id, &session) { return handled }
        // Everything else replies at once, behind what came before it.
        guard flush(session) else { return false }
        let start = replies.byteCount
        let mode = session.takeReplyMode()
        if !server.specs[index].subcommands.isEmpty, arguments.count > 1 {
            runSubcommand(server.specs[index], &session)
        } else {
            run(id, &session)
        }
        if mode != .on, !session.hasTurnedRepliesOn { replies.truncate(to: start) }
        session.hasTurnedRepliesOn = false
        return true
    }

    private mutating func runSubcommand(_ container: CommandSpec, _ session: inout Session) {
        let name = arguments[1]
        guard
            let subcommand = container.subcommands.first(where: {
                name.equalsIgnoringCase($0.name)
            })
        else {
            replies.error(
                bytes: Array("ERR unknown subcommand '".utf8) + name.prefix(128)
                    + Array("'. Try \(container.name.uppercased()) HELP.".utf8))
            return
        }
        guard subcommand.accepts(argumentCount: arguments.count) else {
            replies.error(Self.wrongArity(subcommand.fullName))
            return
        }
        session.lastCommand = subcommand.id
        run(subcommand.id, &session)
    }

    // MARK: Errors

    /// Replies with an error, behind what came before.
    mutating func reject(_ message: String, _ session: inout Session) -> Bool {
        reject(bytes: Array(message.utf8), &session)
    }

    private mutating func reject(bytes message: [UInt8], _ session: inout Session) -> Bool {
        guard flush(session) else { return false }
        if session.takeReplyMode() == .on { replies.error(bytes: message) }
        return true
    }

    static func wrongArity(_ name: String) -> String {
        "ERR wrong number of arguments for '\(name)' command"
    }

    private func unknown() -> [UInt8] {
        var shown: [UInt8] = []
        for index in 1..<max(1, arguments.count) where shown.count < 128 {
            let argument = arguments[index].prefix(128 - shown.count)
            shown += Array("'".utf8) + argument + Array("' ".utf8)
        }
        return Array("ERR unknown command '".utf8) + arguments[0].prefix(128)
            + Array("', with args beginning with: ".utf8) + shown
    }

    // MARK: Batches

    /// Notes how the outcomes of the operations from `first` on become one reply.
    @inline(__always)
    mutating func plan(_ shape: ReplyPlan.Shape, from first: Int, _ session: inout Session) {
        plans.append(
            ReplyPlan(
                shape: shape, isSilent: session.takeReplyMode() != .on,
                first: UInt32(truncatingIfNeeded: first),
                count: UInt32(truncatingIfNeeded: batch.count &- first)))
    }

    /// Executes what has gathered and encodes its replies.
    ///
    /// - Returns: false if nothing could be done because the journal is busy.
    @inline(__always)
    mutating func flush(_ session: borrowing Session) -> Bool {
        plans.isEmpty || flushBatch(session.version)
    }

    private mutating func flushBatch(_ version: RESPVersion) -> Bool {
        switch node.execute(&batch) {
        case .busy: return false
        case .done(let sequence): self.sequence = max(self.sequence, sequence)
        }
        let outcomes = UnsafePointer(batch.outcomes)
        for index in plans.indices {
            let plan = plans[index]
            if !plan.isSilent { replies.encode(plan, outcomes, version) }
        }
        plans.removeAll(keepingCapacity: true)
        batch.removeAll()
        return true
    }

    /// `message` as an error reply of its own.
    static func errorReply(_ message: String) -> ByteBuffer {
        ByteBuffer(string: "-\(message)\r\n")
    }

    /// A reply outside of batches reflects everything up to group `sequence`.
    mutating func noteSequence(_ sequence: UInt64) {
        self.sequence = max(self.sequence, sequence)
    }
}
