internal import Hummingbird
internal import HummingbirdCore
internal import HummingbirdTLS
public import Logging
internal import NIOCore
internal import NIOPosix
internal import NIOSSL
public import ServiceLifecycle
internal import TallyAccess
public import TallyServer

/// Counters, administration, metrics and health over HTTP.
public struct HTTPInterface: Service {
    /// Where to listen.
    public struct Configuration: Sendable {
        /// Address, numeric or a name.
        public var host: String
        /// 0...65535; 0 lets the system choose.
        public var port: Int
        /// For HTTPS; nil for HTTP.
        public var certificates: Certificates?

        /// An interface on this address.
        public init(host: String, port: Int, certificates: Certificates?) {
            self.host = host
            self.port = port
            self.certificates = certificates
        }
    }

    /// The thread of all requests. It stays until the process ends: some of what the web server does when it is shut
    /// down, it does in tasks that nobody can wait for.
    private static let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)

    private let server: RESPServer
    private let registry: PrometheusRegistry
    private let configuration: Configuration
    private let logger: Logger

    /// An interface to a server.
    ///
    /// - Parameter registry: What `/metrics` shows.
    public init(
        server: RESPServer, registry: PrometheusRegistry, configuration: Configuration,
        logger: Logger
    ) {
        self.server = server
        self.registry = registry
        self.configuration = configuration
        self.logger = logger
    }

    /// Listens until it is shut down gracefully.
    ///
    /// - Throws: when the address cannot be listened on.
    public func run() async throws {
        var quiet = logger
        quiet.logLevel = max(logger.logLevel, .warning)
        let builder: HTTPServerBuilder =
            if let certificates = configuration.certificates {
                try .tls(
                    .http1(), tlsConfiguration: certificates.followingConfiguration)
            } else {
                .http1()
            }
        let isSecure = configuration.certificates != nil
        let application = Application(
            router: router(), server: builder,
            configuration: .init(
                address: .hostname(configuration.host, port: configuration.port), serverName: nil),
            onServerRunning: { [logger] channel in
                logger.info(
                    "ready to accept requests",
                    metadata: [
                        "address":
                            "\(channel.localAddress?.ipAddress ?? "?"):\(channel.localAddress?.port ?? 0)",
                        "tls": "\(isSecure ? "yes" : "no")",
                    ])
            }, eventLoopGroupProvider: .shared(Self.group), logger: quiet)
        try await withTaskExecutorPreference(EventLoopExecutor(Self.group.next())) {
            try await application.run()
        }
    }

    private func router() -> Router<TallyContext> {
        let router = Router(context: TallyContext.self)
        router.add(middleware: RequestMetrics())
        router.add(middleware: ProblemMiddleware())
        router.get("health/live") { _, _ in Response(status: .ok) }
        router.get("health/ready") { [server] _, _ in
            guard server.isServing else {
                throw Problem(
                    status: .serviceUnavailable, title: "Not ready",
                    detail: "the server is starting or stopping")
            }
            guard !server.isJournalFull else {
                throw Problem(
                    status: .serviceUnavailable, title: "Not ready",
                    detail: "the journal's disk is full: writes are refused")
            }
            return Response(status: .ok)
        }
        router.get("openapi.json") { _, _ in
            Response(
                status: .ok, headers: [.contentType: "application/json"],
                body: ResponseBody(byteBuffer: ByteBuffer(string: OpenAPI.document)))
        }
        let guarded = router.group()
            .add(middleware: AuthenticationMiddleware(access: server.commands.access))
        guarded.get("metrics") { [server, registry] _, context in
            try server.commands.require(.read, context)
            server.updateMetrics()
            return Response(
                status: .ok,
                headers: [.contentType: "text/plain; version=0.0.4; charset=utf-8"],
                body: ResponseBody(byteBuffer: ByteBuffer(string: registry.text())))
        }
        let first = guarded.group("v1")
        CounterRoutes(commands: server.commands).add(to: first)
        FamilyRoutes(commands: server.commands).add(to: first)
        AdminRoutes(commands: server.commands, server: server).add(to: first)
        return router
    }
}
