import NIOCore
import Synchronization
import TallyCore
import TallyNode
import TallyRESP

/// What the connections of one event loop share. Touched only on that loop, but for `wake`.
final class LoopContext: @unchecked Sendable {
    // Sendable because everything but `isWaiting` is touched only on the event loop.
    let eventLoop: any EventLoop
    let server: ServerContext
    var processor: CommandProcessor
    /// Replies on their way to a socket; free again as soon as the system has taken them.
    var scratch = ByteBufferAllocator().buffer(capacity: 16 << 10)
    /// Seconds since the server's start, renewed once a second.
    private(set) var nowSeconds: UInt64 = 0
    private(set) var isDraining = false

    private var connections: [ObjectIdentifier: ConnectionHandler] = [:]
    /// Connections that hold replies back or commands unread until the journal moves.
    private var waiting: [ConnectionHandler] = []
    /// Whether the journal's thread must tell this loop about its next group.
    private let isWaiting = Atomic<Bool>(false)
    /// Replies in `processor.replies` that may leave, and whose they are.
    private var outbox: [(connection: ConnectionHandler, replies: Range<Int>)] = []
    private var isTurnEndScheduled = false
    private var endTurn: @Sendable () -> Void = {}

    init(eventLoop: any EventLoop, server: ServerContext) {
        self.eventLoop = eventLoop
        self.server = server
        processor = CommandProcessor(server: server)
        outbox.reserveCapacity(64)
        endTurn = { [unowned self] in self.turnEnded() }
    }

    func start() {
        eventLoop.scheduleRepeatedTask(initialDelay: .seconds(1), delay: .seconds(1)) { _ in
            self.everySecond()
        }
    }

    // MARK: Connections

    func add(_ connection: ConnectionHandler) {
        connections[ObjectIdentifier(connection)] = connection
        if isDraining { connection.drain() }
    }

    func remove(_ connection: ConnectionHandler) {
        connections[ObjectIdentifier(connection)] = nil
    }

    /// Lets every connection finish what it has received, and then close.
    func drain() {
        isDraining = true
        for connection in connections.values { connection.drain() }
    }

    private func everySecond() {
        nowSeconds = server.uptimeSeconds
        let idleMax = server.settings.idleSecondsMax.load(ordering: .relaxed)
        guard idleMax > 0 else { return }
        for connection in Array(connections.values) {
            connection.closeIfIdle(nowSeconds: nowSeconds, secondsMax: UInt64(idleMax))
        }
    }

    // MARK: Turns

    /// Sends the replies in that range of `processor.replies` when the loop's turn ends: after
    /// all connections that were ready have been read, as Redis does. So their commands share a
    /// commit group, and the system's code for reading and for writing stays in the caches.
    @inline(__always)
    func send(_ replies: Range<Int>, to connection: ConnectionHandler) {
        outbox.append((connection, replies))
    }

    /// Commands have been executed: there are replies to send, and the journal may have work.
    @inline(__always)
    func didExecute() {
        guard !isTurnEndScheduled else { return }
        isTurnEndScheduled = true
        eventLoop.execute(endTurn)
    }

    private func turnEnded() {
        isTurnEndScheduled = false
        server.node.wakeJournal()
        sendAll()
    }

    /// Sends everything in the outbox now.
    func sendAll() {
        for index in outbox.indices {
            let (connection, range) = outbox[index]
            scratch.clear()
            scratch.writeBytes(
                UnsafeRawBufferPointer(rebasing: processor.replies.encoded[range]))
            connection.write(scratch)
        }
        outbox.removeAll(keepingCapacity: true)
        processor.replies.removeAll()
    }

    // MARK: The journal

    /// `connection` waits for the journal; `canGoOn` is asked once more after the journal has
    /// been asked to tell.
    func wait(_ connection: ConnectionHandler, unless canGoOn: () -> Bool) {
        if waiting.isEmpty { waiting.reserveCapacity(64) }
        waiting.append(connection)
        isWaiting.store(true, ordering: .sequentiallyConsistent)
        if canGoOn() { eventLoop.execute { self.resumeWaiting() } }
    }

    /// The journal has moved. Called on its thread.
    func wake() {
        guard isWaiting.load(ordering: .sequentiallyConsistent),
            isWaiting.exchange(false, ordering: .sequentiallyConsistent)
        else { return }
        eventLoop.execute { self.resumeWaiting() }
    }

    private func resumeWaiting() {
        var resumed: [ConnectionHandler] = []
        swap(&resumed, &waiting)
        for connection in resumed { connection.journalMoved() }
        if waiting.isEmpty {
            resumed.removeAll(keepingCapacity: true)
            swap(&resumed, &waiting)
        }
    }
}
