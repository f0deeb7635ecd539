import NIOCore
import NIOPosix
import NIOSSL
import TallyCore
import TallyRESP

/// A connection to a server, for the commands of a person or a script.
final class ServerConnection: Sendable {
    /// Why there is no reply.
    enum Failure: Error, CustomStringConvertible {
        case unreachable(String)
        case refused(String)
        case closed

        var description: String {
            switch self {
            case .unreachable(let reason): "cannot reach the server: \(reason)"
            case .refused(let reason): reason
            case .closed: "the server closed the connection"
            }
        }
    }

    private let channel: any Channel
    private let replies: ReplyQueue

    private init(_ channel: any Channel, _ replies: ReplyQueue) {
        self.channel = channel
        self.replies = replies
    }

    /// Connects, and logs in if there is somebody to log in as.
    ///
    /// - Throws: `Failure`.
    static func open(_ options: ConnectionOptions) async throws -> ServerConnection {
        let replies = ReplyQueue()
        let context: NIOSSLContext?
        do {
            context = try options.usesTLS ? NIOSSLContext(configuration: tls(options)) : nil
        } catch {
            throw Failure.unreachable("\(error)")
        }
        let host = options.host
        let bootstrap = ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .connectTimeout(.seconds(Int64(options.timeoutSeconds)))
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    if let context {
                        let name = SocketAddress.isIPAddress(host) ? nil : host
                        try channel.pipeline.syncOperations.addHandler(
                            NIOSSLClientHandler(context: context, serverHostname: name))
                    }
                    try channel.pipeline.syncOperations.addHandler(ReplyHandler(replies))
                }
            }
        let channel: any Channel
        do {
            channel = try await bootstrap.connect(host: host, port: options.port).get()
        } catch {
            throw Failure.unreachable("\(host):\(options.port): \(error)")
        }
        let connection = ServerConnection(channel, replies)
        if let (name, password) = try options.credentials() {
            _ = try await connection.call(["HELLO", "3", "AUTH", name, password])
        } else {
            _ = try await connection.call(["HELLO", "3"])
        }
        return connection
    }

    private static func tls(_ options: ConnectionOptions) throws -> TLSConfiguration {
        var configuration = TLSConfiguration.makeClientConfiguration()
        if let authorities = options.cacert { configuration.trustRoots = .file(authorities) }
        if let certificate = options.certificate, let key = options.key {
            configuration.certificateChain = try NIOSSLCertificate.fromPEMFile(certificate)
                .map { .certificate($0) }
            configuration.privateKey = .privateKey(try NIOSSLPrivateKey(file: key, format: .pem))
        }
        return configuration
    }

    /// Sends a command and returns its reply.
    ///
    /// - Throws: `Failure`, `refused` for an error reply.
    func call(_ words: [String]) async throws -> RESPValue {
        let bytes = encodedCommand(words.map { Array($0.utf8) })
        let reply: RESPValue = try await withCheckedThrowingContinuation { continuation in
            replies.wait(continuation)
            channel.writeAndFlush(ByteBuffer(bytes: bytes), promise: nil)
        }
        if case .error(let reason) = reply { throw Failure.refused(reason) }
        return reply
    }

    func close() async { try? await channel.close() }
}

/// Those who wait for replies, in order.
private final class ReplyQueue: Sendable {
    private let state = Locked<
        (waiting: [CheckedContinuation<RESPValue, any Error>], isClosed: Bool)
    >(
        ([], false))

    func wait(_ continuation: CheckedContinuation<RESPValue, any Error>) {
        let isClosed = state.withLock { state in
            if !state.isClosed { state.waiting.append(continuation) }
            return state.isClosed
        }
        if isClosed { continuation.resume(throwing: ServerConnection.Failure.closed) }
    }

    func resume(_ value: RESPValue) {
        state.withLock { $0.waiting.isEmpty ? nil : $0.waiting.removeFirst() }?.resume(
            returning: value)
    }

    func end(_ error: any Error) {
        let waiting = state.withLock { state in
            defer { state = ([], true) }
            return state.waiting
        }
        for continuation in waiting { continuation.resume(throwing: error) }
    }
}

/// Takes replies from the bytes that arrive.
private final class ReplyHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private let replies: ReplyQueue
    private var reader = ReplyReader()

    init(_ replies: ReplyQueue) { self.replies = replies }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        reader.append(unwrapInboundIn(data).readableBytesView)
        do {
            while let reply = try reader.next() { replies.resume(reply) }
        } catch {
            replies.end(
                ServerConnection.Failure.unreachable("what answers there is no such server"))
            context.close(promise: nil)
        }
    }

    func channelInactive(context: ChannelHandlerContext) {
        replies.end(ServerConnection.Failure.closed)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        replies.end(ServerConnection.Failure.unreachable("\(error)"))
        context.close(promise: nil)
    }
}

extension SocketAddress {
    /// Whether a host is a number, which no certificate's name is.
    static func isIPAddress(_ host: String) -> Bool {
        (try? SocketAddress(ipAddress: host, port: 0)) != nil
    }
}
