import NIOCore
import Synchronization
import TallyCluster
import TallyCore
import TallyNode
import TallyRESP

/// What the connections of one event loop share. Touched only on that loop, but for `wake`.
final class LoopContext: @unchecked Sendable {
    // Sendable because everything but `isWaiting` is touched only on the event loop.
    let eventLoop: any EventLoop
    let server: ServerContext
    private var processor: CommandProcessor
    /// Seconds since the server's start, renewed once a second.
    private(set) var nowSeconds: UInt64 = 0
    private(set) var isDraining = false

    private var connections: [ObjectIdentifier: ConnectionHandler] = [:]
    /// Connections that hold replies back or commands unread until the journal moves.
    private var waiting: [ConnectionHandler] = []
    /// Whether the journal's thread must tell this loop about its next group.
    private let isWaiting = Atomic<Bool>(false)
    /// Connections whose commands this turn has gathered, and the bytes that hold their keys. A
    /// connection's index is its number as an owner.
    private var gathered: [(connection: ConnectionHandler, bytes: ByteBuffer)] = []
    private var isTurnEndScheduled = false
    /// When the turn's first commands were read, on the monotonic clock.
    private var turnBegan: UInt64 = 0
    /// Whether what has gathered cannot be executed until the journal moves.
    private(set) var isStalled = false
    private var endTurn: @Sendable () -> Void = {}
    /// Whether the loop is shut down, or about to be.
    private let isOver = Locked(false)
    /// What has come back by logs and has not been dealt with.
    private let landings = Locked<[(Flight, log: Int)]>([])
    /// Flights that have not landed.
    private var flights: [ObjectIdentifier: Flight] = [:]

    init(eventLoop: any EventLoop, server: ServerContext) {
        self.eventLoop = eventLoop
        self.server = server
        processor = CommandProcessor(server: server)
        gathered.reserveCapacity(64)
        endTurn = { [unowned self] in self.turnEnded() }
        processor.landing = { [unowned self] in self.landed($0, $1) }
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

    /// Runs a body on the loop, from any thread, unless it has ended: what comes back from logs and disks then
    /// has nobody to go to.
    private func runLater(_ body: @escaping @Sendable () -> Void) {
        isOver.withLock { isOver in
            if !isOver { eventLoop.execute(body) }
        }
    }

    /// The loop is about to be shut down.
    func end() { isOver.withLock { $0 = true } }

    /// Sends a connection what it has not asked for, from any thread.
    func push(_ bytes: [UInt8], to number: ObjectIdentifier) {
        runLater { self.connections[number]?.push(bytes) }
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

    /// Deals with the whole commands in `bytes`, and moves its reader index behind them.
    ///
    /// They are executed, and their replies sent, when the loop's turn ends: after all connections
    /// that were ready have been read. So their commands share one batch and one commit group, and
    /// the system's code for reading and for writing stays in the caches.
    func process(
        _ bytes: inout ByteBuffer, of connection: ConnectionHandler, _ session: inout Session
    ) -> CommandProcessor.Progress.Stop {
        while true {
            let stop = processOnce(&bytes, of: connection, &session)
            // What others had gathered has left; this one's commands need not wait for theirs.
            guard stop == .launched, !connection.isInFlight else { return stop }
        }
    }

    private func processOnce(
        _ bytes: inout ByteBuffer, of connection: ConnectionHandler, _ session: inout Session
    ) -> CommandProcessor.Progress.Stop {
        if isStalled { return .journalBusy }
        let owner = gathered.count
        if turnBegan == 0 { turnBegan = server.clock.monotonicNanoseconds() }
        gathered.append((connection, bytes))
        // The bytes stay where they are while `gathered` shares them.
        let progress = bytes.withUnsafeReadableBytes {
            processor.process($0, of: owner, &session)
        }
        bytes.moveReaderIndex(forwardBy: progress.consumedBytes)
        if takeOff() {
            handOut()
            gathered.removeAll(keepingCapacity: true)
            return .launched
        }
        // An unfinished command's bytes must not be shared: adding to them would copy them.
        if !processor.hasWork(of: owner) { gathered.removeLast() }
        switch progress.stop {
        case .launched: preconditionFailure("a launch is seen by its flights")
        case .inputEnd: endTurnLater()
        case .repliesLong: finishTurn()
        case .journalBusy: stall()
        case .waiting:
            endTurnLater()
            let waiting = ObjectIdentifier(connection)
            eventLoop.scheduleTask(in: .milliseconds(1)) { [self] in
                connections[waiting]?.waitingEnded()
            }
        case .blocksMissing:
            // What came before it goes on.
            endTurnLater()
            let waiting = ObjectIdentifier(connection)
            server.node.read(progress.missing) { [self] in
                runLater { self.connections[waiting]?.waitingEnded() }
            }
        }
        return progress.stop
    }

    /// So many bytes have been read.
    @inline(__always)
    func noteInput(_ byteCount: Int) {
        processor.counts.inputBytes &+= UInt64(byteCount)
    }

    private func endTurnLater() {
        guard !isTurnEndScheduled else { return }
        isTurnEndScheduled = true
        eventLoop.execute(endTurn)
    }

    private func turnEnded() {
        isTurnEndScheduled = false
        finishTurn()
    }

    /// Executes what has gathered, wakes the journal and hands out the replies.
    func finishTurn() {
        defer { if gathered.isEmpty { turnBegan = 0 } }
        guard !isStalled, !gathered.isEmpty else { return }
        if !processor.flush(), !takeOff() { return stall() }
        server.node.wakeJournal()
        handOut()
        gathered.removeAll(keepingCapacity: true)
        processor.publishCounts()
    }

    // MARK: Flights

    /// Has connections wait for what has been handed to the logs.
    ///
    /// - Returns: whether there was anything.
    private func takeOff() -> Bool {
        guard !processor.launched.isEmpty else { return false }
        for flight in processor.launched {
            flight.setConnections { gathered[$0].connection }
            for connection in flight.waitingConnections { connection.takeOff() }
            flights[ObjectIdentifier(flight)] = flight
        }
        processor.launched.removeAll(keepingCapacity: true)
        server.cluster?.wakeUp()
        return true
    }

    /// A log's outcomes of a flight are known. Called on any thread.
    private func landed(_ flight: Flight, _ log: Int) {
        let isFirst = landings.withLock { landings in
            landings.append((flight, log))
            return landings.count == 1
        }
        if isFirst { runLater { self.land() } }
    }

    private func land() {
        let landed = landings.withLock { landings in
            defer { landings = [] }
            return landings
        }
        for (flight, log) in landed {
            for (stretch, connection) in flight.land(log) {
                guard let connection else { continue }
                handOut(stretch, of: flight, to: connection)
                connection.land()
            }
            if flight.logs == 0 {
                flights[ObjectIdentifier(flight)] = nil
                processor.reuse(flight)
            }
        }
        processor.publishCounts()
        if isStalled { resumeWaiting() }
    }

    /// Replies to a connection's commands, whose outcomes have come back.
    private func handOut(_ stretch: Int, of flight: Flight, to connection: ConnectionHandler) {
        let start = processor.replies.byteCount
        let commandCount = processor.encode(stretch, of: flight)
        let end = processor.replies.byteCount
        processor.counts.outputBytes &+= UInt64(end - start)
        connection.deliver(
            UnsafeRawBufferPointer(rebasing: processor.replies.encoded[start..<end]),
            sequence: 0, commandCount: commandCount, began: 0, elapsed: 0)
        processor.replies.truncate(to: start)
    }

    private func handOut() {
        let elapsed =
            processor.deliveries.isEmpty
            ? 0 : server.clock.monotonicNanoseconds() &- turnBegan
        for delivery in processor.deliveries {
            gathered[delivery.owner].connection.deliver(
                UnsafeRawBufferPointer(rebasing: processor.replies.encoded[delivery.bytes]),
                sequence: delivery.sequence, commandCount: delivery.commandCount,
                began: turnBegan, elapsed: elapsed)
        }
        processor.removeDeliveries()
    }

    /// Nothing more is executed until the journal has moved; what has been is replied to.
    private func stall() {
        isStalled = true
        server.node.wakeJournal()
        handOut()
        isWaiting.store(true, ordering: .sequentiallyConsistent)
        // It may have moved before it was asked to tell.
        guard processor.flush() || takeOff() else { return }
        // What is replied to at once leaves before what has just been handed to the logs.
        handOut()
        eventLoop.execute { self.resumeWaiting() }
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
        runLater { self.resumeWaiting() }
    }

    private func resumeWaiting() {
        if isStalled {
            isStalled = false
            finishTurn()
        }
        var resumed: [ConnectionHandler] = []
        swap(&resumed, &waiting)
        for connection in resumed { connection.journalMoved() }
        if waiting.isEmpty {
            resumed.removeAll(keepingCapacity: true)
            swap(&resumed, &waiting)
        }
    }
}
