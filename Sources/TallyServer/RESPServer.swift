import CoreMetrics
internal import Glibc
public import Logging
import NIOCore
import NIOPosix
import NIOSSL
public import ServiceLifecycle
import Synchronization
import TallyAccess
public import TallyCluster
public import TallyCore
public import TallyNode

/// Serves a node to Redis clients until it is told to stop.
public final class RESPServer: Service, Sendable {
    private let context: ServerContext
    private let configuration: ServerConfiguration
    private let logger: Logger
    private let certificates: Certificates?
    /// Executes commands that come by other ways.
    public let commands: CommandService
    private let isListening = Atomic<Bool>(false)
    private let loops = Locked<[LoopContext]>([])

    /// Longest time that connections get to finish when the server stops, milliseconds.
    private static let drainMillisecondsMax = 10_000

    /// - Parameters:
    ///   - cluster: The node's cluster; nil if it is alone.
    ///   - access: Who may do what.
    ///   - certificates: For `configuration.tlsPort`.
    ///   - clock: Where time comes from.
    public init(
        node: Node, cluster: ClusterAccess? = nil, access: AccessControl = .open,
        certificates: Certificates? = nil, configuration: ServerConfiguration, clock: any Clock,
        logger: Logger
    ) {
        self.configuration = configuration
        self.logger = logger
        self.certificates = certificates
        context = ServerContext(
            node: node, cluster: cluster, access: access,
            configuration: configuration, clock: clock, logger: logger)
        commands = CommandService(server: context)
        cluster?.replica.setOnRoom { [weak self] in self?.journalMoved() }
    }

    /// The journal has written a group: replies may leave. Called on the journal's thread.
    ///
    /// - Parameter nanoseconds: How long writing it, and syncing it, took.
    public func journalCommitted(nanoseconds: UInt64) {
        context.latency.note(
            .journal, nanoseconds: nanoseconds, seconds: context.clock.wallMilliseconds() / 1000)
        context.metrics.journal.recordNanoseconds(Int64(clamping: nanoseconds))
        context.statistics.commitGroups.wrappingAdd(1, ordering: .relaxed)
        journalMoved()
    }

    /// The journal has room: commands may go on. Called on the journal's thread.
    public func journalMoved() {
        loops.withLock { loops in
            for loop in loops { loop.wake() }
        }
        commands.journalMoved()
    }

    /// A checkpoint has been made.
    public func checkpointFinished(milliseconds: UInt64, byteCount: Int) {
        context.metrics.checkpoints.recordMilliseconds(Int64(clamping: milliseconds))
        context.metrics.checkpointBytes.increment(by: byteCount)
    }

    /// Tells the metrics system everything that is kept elsewhere; to be called before it is asked.
    public func updateMetrics() { context.metrics.update(context) }

    /// What there is to know of each metric.
    public static var metricsHelp: [String: String] { ServerMetrics.help }

    /// Whether writes are refused because the journal's disk is full.
    public var isJournalFull: Bool { context.node.isJournalFull }

    /// What each partition has.
    public var partitions: [PartitionStatus] {
        context.node.partitionStatistics.enumerated().map { number, found in
            PartitionStatus(
                number: number, keys: found.keys, changedBytes: found.changedBytes,
                segmentBytes: found.segmentBytes, coldSegments: found.coldSegments,
                sequence: found.sequence)
        }
    }

    /// Whether clients are served: false before it listens, and once it stops.
    public var isServing: Bool { isListening.load(ordering: .relaxed) }

    /// Listens until it is shut down gracefully, then lets connections finish.
    ///
    /// - Throws: when the address cannot be listened on.
    public func run() async throws {
        let group = MultiThreadedEventLoopGroup(numberOfThreads: configuration.threads)
        let loops = group.makeIterator().map { LoopContext(eventLoop: $0, server: context) }
        self.loops.withLock { $0 = loops }
        for loop in loops { loop.eventLoop.execute { loop.start() } }
        var channels: [any Channel] = []
        do {
            if let port = configuration.port {
                channels.append(try await listen(on: group, loops, port: port, nil))
                context.port.store(channels[0].localAddress?.port ?? port, ordering: .relaxed)
            }
            if let port = configuration.tlsPort, let certificates {
                let channel = try await listen(on: group, loops, port: port, certificates)
                context.tlsPort.store(channel.localAddress?.port ?? port, ordering: .relaxed)
                channels.append(channel)
            }
        } catch {
            for channel in channels { try? await channel.close() }
            try? await group.shutdownGracefully()
            throw error
        }
        for (index, channel) in channels.enumerated() {
            let isPlain = index == 0 && configuration.port != nil
            logger.info(
                "ready to accept connections",
                metadata: [
                    "address": "\(configuration.host):\(channel.localAddress?.port ?? 0)",
                    "tls": "\(isPlain ? "no" : "yes")", "threads": "\(configuration.threads)",
                ])
        }
        isListening.store(true, ordering: .relaxed)
        await withGracefulShutdownHandler { [channels] in
            for channel in channels { try? await channel.closeFuture.get() }
        } onGracefulShutdown: { [channels, self] in
            isListening.store(false, ordering: .relaxed)
            for channel in channels { channel.close(promise: nil) }
        }
        await drain(loops)
        for loop in loops { loop.end() }
        try await group.shutdownGracefully()
    }

    private func listen(
        on group: MultiThreadedEventLoopGroup, _ loops: [LoopContext], port: Int,
        _ certificates: Certificates?
    ) async throws -> any Channel {
        let contexts = Dictionary(
            uniqueKeysWithValues: loops.map { (ObjectIdentifier($0.eventLoop), $0) })
        return try await ServerBootstrap(group: group)
            .serverChannelOption(.backlog, value: 1024)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
            .childChannelOption(.socketOption(.so_keepalive), value: 1)
            .childChannelOption(Self.keepAlive(TCP_KEEPIDLE), value: 300)
            .childChannelOption(Self.keepAlive(TCP_KEEPINTVL), value: 100)
            .childChannelOption(Self.keepAlive(TCP_KEEPCNT), value: 3)
            .childChannelOption(.allowRemoteHalfClosure, value: true)
            .childChannelOption(.autoRead, value: false)
            .childChannelOption(
                .writeBufferWaterMark,
                value: .init(low: Limits.outputBytesMax / 2, high: Limits.outputBytesMax)
            )
            .childChannelInitializer { [context, logger] channel in
                guard let loop = contexts[ObjectIdentifier(channel.eventLoop)] else {
                    preconditionFailure("connection on a strange event loop")
                }
                return channel.eventLoop.makeCompletedFuture {
                    if let certificates {
                        try channel.pipeline.syncOperations.addHandlers(
                            NIOSSLServerHandler(context: certificates.context), HandshakeTimer())
                    }
                    try Self.accept(
                        channel, loop, context, logger, isEncrypted: certificates != nil)
                }
            }
            .bind(host: configuration.host, port: port)
            .get()
    }

    private static func keepAlive(_ name: CInt) -> ChannelOptions.Types.SocketOption {
        .init(level: .tcp, name: .init(rawValue: name))
    }

    private static func accept(
        _ channel: any Channel, _ loop: LoopContext, _ context: ServerContext, _ logger: Logger,
        isEncrypted: Bool
    ) throws {
        let client = ClientInfo(
            id: context.clients.makeID(), address: text(channel.remoteAddress),
            localAddress: text(channel.localAddress), createdSeconds: context.uptimeSeconds,
            channel: channel, isEncrypted: isEncrypted)
        let initial = context.access.users.current.users.initial?.name ?? ""
        client.update { $0.user = initial }
        let clientsMax = context.settings.clientsMax.load(ordering: .relaxed)
        guard context.clients.add(client, countMax: clientsMax) else {
            let refused = context.statistics.connectionsRefused.wrappingAdd(
                1, ordering: .relaxed
            ).newValue
            if refused.nonzeroBitCount == 1 {
                logger.warning(
                    "connection refused: too many clients",
                    metadata: ["clients_max": "\(clientsMax)", "refused": "\(refused)"])
            }
            try channel.pipeline.syncOperations.addHandler(RefusalHandler())
            return
        }
        context.statistics.connectionsAccepted.wrappingAdd(1, ordering: .relaxed)
        try channel.pipeline.syncOperations.addHandler(
            ConnectionHandler(loop: loop, client: client))
    }

    private static func text(_ address: SocketAddress?) -> String {
        guard let address, let ip = address.ipAddress, let port = address.port else { return "?:0" }
        return ip.contains(":") ? "[\(ip)]:\(port)" : "\(ip):\(port)"
    }

    private func drain(_ loops: [LoopContext]) async {
        for loop in loops { loop.eventLoop.execute { loop.drain() } }
        var waited = 0
        while context.clients.count > 0, waited < Self.drainMillisecondsMax {
            try? await Task.sleep(for: .milliseconds(5))
            waited += 5
        }
        let left = context.clients.count
        if left > 0 {
            logger.warning(
                "closing connections that did not finish", metadata: ["count": "\(left)"])
            for client in context.clients.all { client.close() }
        }
    }
}

/// What one partition has.
public struct PartitionStatus: Encodable, Sendable {
    /// Its number, from 0 on.
    public let number: Int
    /// Plain keys and records.
    public let keys: Int
    /// Memory of what has changed since the last checkpoint, bytes.
    public let changedBytes: Int
    /// Memory of segments, bytes.
    public let segmentBytes: Int
    /// Segments that are on disk only.
    public let coldSegments: Int
    /// The commit group of its latest change.
    public let sequence: UInt64
}

/// Tells one connection too many so, and closes it.
private final class RefusalHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    func channelActive(context: ChannelHandlerContext) {
        let closed = context.eventLoop.makePromise(of: Void.self)
        closed.futureResult.whenComplete { [channel = context.channel] _ in
            channel.close(promise: nil)
        }
        let text = ByteBuffer(string: "-ERR max number of clients reached\r\n")
        context.writeAndFlush(wrapOutboundOut(text), promise: closed)
    }
}
