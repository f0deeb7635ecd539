import Synchronization
public import TallyAccess
import TallyCluster
import TallyCore
import TallyNode
public import TallyRESP

/// Executes commands that do not come from a client of Redis: the same commands, by the same rules.
public final class CommandService: Sendable {
    private let server: ServerContext
    private let workers = Locked<[Worker]>([])
    private let waiters = Locked<[CheckedContinuation<Void, Never>]>([])
    private let hasWaiters = Atomic<Bool>(false)

    private static let workersKept = 16

    init(server: ServerContext) { self.server = server }

    /// Whoever may use the server.
    public var access: AccessControl { server.access }

    /// Executes commands one after the other, and waits until what they reflect is on disk.
    ///
    /// - Parameters:
    ///   - commands: The arguments of each.
    ///   - user: Who sends them; nil for somebody who has not logged in.
    ///   - address: Where they come from.
    /// - Returns: a reply for each.
    public func run(
        _ commands: [[[UInt8]]], as user: User?, address: String
    ) async -> [RESPValue] {
        let worker = take()
        defer { put(worker) }
        worker.begin(commands, user, address, server)
        while true {
            switch worker.step(server) {
            case .done: break
            case .busy:
                server.node.wakeJournal()
                try? await Task.sleep(for: .milliseconds(1))
                continue
            case .missing(let blocks):
                await withCheckedContinuation { continuation in
                    server.node.read(blocks) { continuation.resume() }
                }
                continue
            case .launched(let flight):
                server.cluster?.wakeUp()
                await worker.wait(for: flight)
                worker.land(flight)
                continue
            }
            server.node.wakeJournal()
            await waitUntilAdmitted(worker.sequence)
            return worker.replies()
        }
    }

    private func take() -> Worker { workers.withLock { $0.popLast() } ?? Worker(server) }

    private func put(_ worker: Worker) {
        worker.end()
        workers.withLock { workers in
            if workers.count < Self.workersKept { workers.append(worker) }
        }
    }

    private func waitUntilAdmitted(_ sequence: UInt64) async {
        while !server.node.gate.admits(sequence) {
            await withCheckedContinuation { continuation in
                waiters.withLock { $0.append(continuation) }
                hasWaiters.store(true, ordering: .sequentiallyConsistent)
                // It may have moved before it was asked to tell.
                if server.node.gate.admits(sequence) { journalMoved() }
            }
        }
    }

    /// The journal has moved: replies may leave.
    func journalMoved() {
        guard hasWaiters.exchange(false, ordering: .sequentiallyConsistent) else { return }
        let resumed = waiters.withLock { waiters in
            defer { waiters = [] }
            return waiters
        }
        for waiter in resumed { waiter.resume() }
    }
}

/// What executes the commands of one request at a time.
private final class Worker: @unchecked Sendable {
    // Sendable because one request at a time has it.
    private var processor: CommandProcessor
    private var session: SessionBox?
    private var input: UnsafeMutableRawBufferPointer?
    private var offset = 0
    private var output: [UInt8] = []
    private(set) var sequence: UInt64 = 0

    private final class SessionBox {
        var session: Session
        init(_ session: consuming Session) { self.session = session }
    }

    enum Step {
        case done
        case busy
        case missing([NeededBlock])
        /// Commands are on their way through a cluster's logs.
        case launched(Flight)
    }

    init(_ server: ServerContext) {
        processor = CommandProcessor(server: server)
        processor.answersEarly = false
        processor.landing = { [unowned self] _, log in landed(log) }
    }

    deinit { input?.deallocate() }

    func begin(
        _ commands: [[[UInt8]]], _ user: User?, _ address: String, _ server: ServerContext
    ) {
        let bytes = commands.flatMap { encodedCommand($0) }
        let input = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 1)
        input.copyBytes(from: bytes)
        self.input = input
        let client = ClientInfo(
            id: server.clients.makeID(), address: address, localAddress: "",
            createdSeconds: server.uptimeSeconds, channel: nil)
        var session = Session(client: client, users: server.access.users)
        session.version = .three
        if let user { session.access = SessionAccess(user, server.access.users.version) }
        client.update { $0.user = user?.name ?? "" }
        self.session = SessionBox(session)
        (offset, output, sequence) = (0, [], 0)
    }

    func end() {
        input?.deallocate()
        input = nil
        session = nil
        output = []
    }

    func step(_ server: ServerContext) -> Step {
        guard let input, let session else { return .done }
        while true {
            guard processor.flush() else { return held() }
            let progress = processor.process(
                UnsafeRawBufferPointer(rebasing: input[offset...]), of: 0, &session.session)
            offset += progress.consumedBytes
            guard progress.stop != .journalBusy, processor.flush() else { return held() }
            takeDeliveries()
            switch progress.stop {
            case .repliesLong: continue
            case .inputEnd: return .done
            case .journalBusy, .waiting, .launched: return .busy
            case .blocksMissing: return .missing(progress.missing)
            }
        }
    }

    private func takeDeliveries() {
        for delivery in processor.deliveries {
            output += processor.replies.encoded[delivery.bytes]
            sequence = max(sequence, delivery.sequence)
        }
        processor.removeDeliveries()
        processor.publishCounts()
    }

    /// What is waited for before anything else is done.
    private func held() -> Step {
        takeDeliveries()
        guard let flight = processor.launched.popLast() else { return .busy }
        return .launched(flight)
    }

    // MARK: Flights

    /// The logs that the flight under way has come back by, and who waits for all of them.
    private let landings = Locked<Landings>(Landings())

    private struct Landings {
        var logs: UInt64 = 0
        var awaited: (logs: UInt64, continuation: CheckedContinuation<Void, Never>)?
    }

    /// On any thread.
    private func landed(_ log: Int) {
        let continuation = landings.withLock { landings in
            landings.logs |= 1 &<< UInt64(log)
            guard let awaited = landings.awaited, awaited.logs == landings.logs else {
                return nil as CheckedContinuation<Void, Never>?
            }
            landings.awaited = nil
            return awaited.continuation
        }
        continuation?.resume()
    }

    /// Waits until a flight, the only one under way, has come back by all of its logs.
    func wait(for flight: Flight) async {
        let logs = flight.logs
        await withCheckedContinuation { continuation in
            let isBack = landings.withLock { landings in
                if landings.logs == logs { return true }
                landings.awaited = (logs, continuation)
                return false
            }
            if isBack { continuation.resume() }
        }
    }

    /// Encodes the replies of a flight that has come back.
    func land(_ flight: Flight) {
        landings.withLock { $0.logs = 0 }
        for stretch in flight.planned.stretches.indices where flight.waiting[stretch] != 0 {
            let start = processor.replies.byteCount
            _ = processor.encode(stretch, of: flight)
            output += processor.replies.encoded[start..<processor.replies.byteCount]
            processor.replies.truncate(to: start)
        }
        processor.reuse(flight)
        processor.publishCounts()
    }

    func replies() -> [RESPValue] {
        var reader = ReplyReader()
        reader.append(output)
        var values: [RESPValue] = []
        while let value = try? reader.next() { values.append(value) }
        return values
    }
}
