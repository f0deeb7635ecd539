public import Logging
public import NIOCore
public import NIOPosix
import NIOSSL

/// What a client is doing.
public enum NATSConnectionState: Equatable, Sendable {
    /// `start` has not been called.
    case idle
    /// It tries a server.
    case connecting(NATSServerAddress)
    /// It waits before it tries the servers again.
    case waiting(NATSDisconnectReason)
    /// It can send and receive.
    case connected(NATSServerInfo, NATSServerAddress)
    /// It finishes with a server that is going to stop; nothing new is sent.
    case moving(NATSServerAddress)
    /// It is at its end.
    case closed

    /// Whether messages can be sent.
    public var isConnected: Bool {
        if case .connected = self { true } else { false }
    }

    /// Whether a connection is being left.
    public var isMoving: Bool {
        if case .moving = self { true } else { false }
    }
}

/// A client of a NATS cluster: one connection at a time, made again whenever it ends.
///
/// Everything happens on one event loop. What is not marked otherwise must be called there, and every
/// closure is called there; so the data path has neither locks nor hops. Nothing is kept for later:
/// what cannot be sent now fails now. It lives until `close` has been called.
public final class NATSClient: @unchecked Sendable {
    // Sendable because all that changes is touched on `eventLoop` only, which every entry checks.

    /// The loop that everything happens on.
    public let eventLoop: any EventLoop
    /// What it was made with.
    public let options: NATSOptions
    let logger: Logger
    private let tlsContext: NIOSSLContext
    private let tlsDefaultName: String?

    /// What the client is doing.
    public private(set) var state = NATSConnectionState.idle
    /// Called when a server complains of something but keeps the connection, for example of a subject
    /// that the user may not use.
    public var onServerError: ((String) -> Void)?
    /// Called when, after something was refused with `pendingBytesFull`, half of the bytes are gone.
    public var onWritable: (() -> Void)?

    var connection: NATSConnection?
    private var pool: ServerPool
    private var backoff: Backoff
    private var random = SystemRandomNumberGenerator()
    private var retry: Scheduled<Void>?
    private var readySince: NIODeadline?
    private var observers: [(id: UInt64, handler: (NATSConnectionState) -> Void)] = []
    private var lastID: UInt64 = 0
    var subscriptions: [UInt64: Subscription] = [:]
    var hasRefused = false
    var requests: RequestTable
    /// How often a connection has become ready.
    public private(set) var connectionCount = 0

    struct Subscription {
        var subject: String
        var queue: String?
        var handler: (NATSMessage) -> Void
    }

    /// Servers that would be tried: those that were given and those that servers have told of.
    public var knownServers: [NATSServerAddress] { pool.all }

    /// Prepares a client; `start` connects it.
    ///
    /// - Parameters:
    ///   - options: Checked here, once.
    ///   - eventLoop: Where everything happens.
    ///   - logger: Gets changes of the connection; never credentials, never messages.
    /// - Throws: `NATSOptionsError`.
    public init(
        options: NATSOptions,
        eventLoop: any EventLoop = MultiThreadedEventLoopGroup.singleton.next(),
        logger: Logger
    ) throws(NATSOptionsError) {
        let addresses = try options.check()
        self.options = options
        self.eventLoop = eventLoop
        self.logger = logger
        do {
            tlsContext = try NIOSSLContext(configuration: options.tls ?? .makeClientConfiguration())
        } catch {
            throw .tlsInvalid("\(error)")
        }
        tlsDefaultName = addresses.first { !$0.isNumeric }?.host
        pool = ServerPool(addresses)
        backoff = Backoff(min: options.reconnectDelayMin, max: options.reconnectDelayMax)
        requests = RequestTable(inboxPrefix: options.inboxPrefix, using: &random)
    }

    /// Starts to connect, and to connect again whenever the connection ends. From any thread, once.
    public func start() {
        eventLoop.execute {
            guard self.state == .idle else { return }
            self.pool.startRound(using: &self.random)
            self.tryNext(after: .closedByUser)
        }
    }

    /// Ends the connection and all that waits for it. From any thread.
    ///
    /// - Returns: a future that succeeds when nothing more is called.
    @discardableResult
    public func close() -> EventLoopFuture<Void> {
        eventLoop.submit {
            guard self.state != .closed else { return }
            self.retry?.cancel()
            self.state = .closed
            self.connection?.end(.closedByUser)
            self.connection = nil
            self.failAll(.closedByUser)
            self.announce()
            self.observers.removeAll()
            self.subscriptions.removeAll()
        }
    }

    // MARK: Observing

    /// Calls `handler` with the state now and whenever it changes, until `stopObserving`.
    @discardableResult
    public func observe(_ handler: @escaping (NATSConnectionState) -> Void) -> NATSObservation {
        eventLoop.preconditionInEventLoop()
        let id = makeID()
        observers.append((id, handler))
        handler(state)
        return NATSObservation(id: id)
    }

    /// Ends an observation.
    public func stopObserving(_ observation: NATSObservation) {
        eventLoop.preconditionInEventLoop()
        observers.removeAll { $0.id == observation.id }
    }

    private func change(_ state: NATSConnectionState) {
        guard self.state != .closed, self.state != state else { return }
        self.state = state
        announce()
    }

    private func announce() {
        let state = state
        for observer in observers {
            // One of them may have changed the state, or ended another one's observation.
            guard self.state == state else { return }
            if observers.contains(where: { $0.id == observer.id }) { observer.handler(state) }
        }
    }

    func makeID() -> UInt64 {
        lastID += 1
        return lastID
    }

    // MARK: Connecting

    private func tryNext(after reason: NATSDisconnectReason) {
        guard state != .closed else { return }
        guard let address = pool.next() else {
            let delay = backoff.next(using: &random)
            pool.startRound(using: &random)
            change(.waiting(reason))
            retry = eventLoop.assumeIsolated().scheduleTask(in: TimeAmount(delay)) { [weak self] in
                self?.tryNext(after: reason)
            }
            return
        }
        change(.connecting(address))
        guard state == .connecting(address) else { return }
        guard case .credentialsFile = options.authentication else {
            return connect(
                to: address,
                Result { () throws(NATSCredentialError) in
                    try ResolvedAuthentication(options.authentication)
                })
        }
        // Files are not read on the loop.
        let authentication = options.authentication
        NIOThreadPool.singleton.runIfActive(eventLoop: eventLoop) {
            Result { () throws(NATSCredentialError) in try ResolvedAuthentication(authentication) }
        }.assumeIsolated().whenComplete { result in
            guard self.state == .connecting(address) else { return }
            switch result {
            case .success(let resolved): self.connect(to: address, resolved)
            case .failure(let error): self.tryNext(after: .network("\(error)"))
            }
        }
    }

    private func connect(
        to address: NATSServerAddress,
        _ authentication: Result<ResolvedAuthentication, NATSCredentialError>
    ) {
        let resolved: ResolvedAuthentication
        do {
            resolved = try authentication.get()
        } catch {
            logger.error("credentials cannot be used", metadata: ["error": "\(error)"])
            while pool.next() != nil {}
            return tryNext(after: .credentials(error))
        }
        let name = address.tlsName(options.tlsServerName, default: tlsDefaultName)
        let connection = NATSConnection(
            .init(
                address: address, authentication: resolved, tlsContext: tlsContext,
                tlsServerName: name, options: options), client: self)
        self.connection = connection
        let bound = NIOLoopBound(connection, eventLoop: eventLoop)
        ClientBootstrap(group: eventLoop)
            .connectTimeout(TimeAmount(options.connectTimeout))
            .channelOption(.tcpOption(.tcp_nodelay), value: 1)
            .channelOption(
                .recvAllocator,
                value: AdaptiveRecvByteBufferAllocator(
                    minimum: 4 << 10, initial: 64 << 10, maximum: 1 << 20)
            )
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(bound.value)
                }
            }
            .connect(host: address.host, port: address.port)
            .whenFailure { error in bound.value.end(.network("\(error)")) }
    }

    // MARK: What the connection tells

    func becameReady(_ connection: NATSConnection, _ info: NATSServerInfo) {
        guard connection === self.connection, state != .closed else { return }
        readySince = .now()
        connectionCount += 1
        learn(info)
        let inbox = requests.subject
        connection.send { output in
            NATSEncoder.subscribe(inbox, subscription: 0, into: &output)
            for (id, subscription) in subscriptions.sorted(by: { $0.key < $1.key }) {
                NATSEncoder.subscribe(
                    subscription.subject, queue: subscription.queue, subscription: id,
                    into: &output)
            }
        }
        logger.info(
            "connected to NATS",
            metadata: [
                "server": "\(connection.setup.address)", "name": "\(info.serverName)",
                "version": "\(info.version)",
            ])
        change(.connected(info, connection.setup.address))
        if info.isStopping { move(connection) }
    }

    func updated(_ info: NATSServerInfo, on connection: NATSConnection) {
        guard connection === self.connection else { return }
        learn(info)
        if info.isStopping, connection.isReady { move(connection) }
    }

    private func learn(_ info: NATSServerInfo) {
        guard options.usesDiscoveredServers else { return }
        pool.discover(
            info.connectAddresses,
            requiresTLS: connection?.setup.address.requiresTLS ?? false)
    }

    /// Leaves a server that is going to stop, if there is another one, when the answers under way have
    /// come or after a while.
    private func move(_ connection: NATSConnection) {
        let address = connection.setup.address
        guard case .connected = state, pool.all.contains(where: { $0 != address }) else { return }
        logger.notice("NATS server is going to stop", metadata: ["server": "\(address)"])
        change(.moving(address))
        leaveWhenIdle(connection, since: .now())
    }

    private func leaveWhenIdle(_ connection: NATSConnection, since: NIODeadline) {
        guard connection === self.connection, connection.isReady else { return }
        if requests.isEmpty || .now() - since > TimeAmount(options.moveDelayMax) {
            return connection.end(.serverStopping)
        }
        eventLoop.assumeIsolated().scheduleTask(in: .milliseconds(5)) {
            self.leaveWhenIdle(connection, since: since)
        }
    }

    func received(_ message: NATSMessage) {
        if message.subscription == 0 {
            let isRefusal = message.status == 503
            requests.take(for: message)?.complete(
                isRefusal ? .failure(.noResponders) : .success(message))
        } else if let handler = subscriptions[message.subscription]?.handler {
            handler(message)
        }
    }

    func received(error text: String) {
        logger.warning("NATS server complains", metadata: ["error": "\(text)"])
        onServerError?(text)
    }

    func wrote() {
        guard hasRefused, pendingBytes <= options.pendingBytesMax / 2 else { return }
        hasRefused = false
        onWritable?()
    }

    func ended(_ connection: NATSConnection, _ reason: NATSDisconnectReason) {
        guard connection === self.connection else { return }
        self.connection = nil
        hasRefused = false
        let uptime = readySince.map { .now() - $0 }
        readySince = nil
        guard state != .closed else { return }
        logger.notice(
            "NATS connection ended",
            metadata: ["server": "\(connection.setup.address)", "reason": "\(reason)"])
        if let uptime {
            pool.startRound(last: connection.setup.address, using: &random)
            if uptime > .seconds(1) { backoff.reset() }
        }
        // A connection that ends as soon as it is made is not a reason to hurry.
        if let uptime, uptime <= .seconds(1), reason != .serverStopping {
            while pool.next() != nil {}
        }
        let failed = requests.takeAll()
        tryNext(after: reason)
        for request in failed { request.complete(.failure(.disconnected(reason))) }
    }

    private func failAll(_ reason: NATSDisconnectReason) {
        for request in requests.takeAll() { request.complete(.failure(.disconnected(reason))) }
    }
}
