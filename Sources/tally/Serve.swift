import ArgumentParser
import CoreMetrics
import Logging
import ServiceLifecycle
import TallyCluster
import TallyCore
import TallyHTTP
import TallyNode
import TallyReplication
import TallyServer
import TallyStorage
import UnixSignals

#if canImport(FoundationEssentials)
    import FoundationEssentials
#else
    import Foundation
#endif
internal import CTallyIntrinsics
internal import Glibc

/// `tally serve`: one node, until it is told to stop.
struct Serve: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Serve counters to Redis clients.",
        discussion: """
            Every setting can also be given in the environment (TALLY_PORT for --port) or in a \
            YAML file (port: 7379); flags win over the environment, which wins over the file.
            """)

    @Option(help: "Directory of the data; created if missing.")
    var data: String?
    @Option(help: "Address to listen on (default 127.0.0.1).")
    var host: String?
    @Option(help: "Port to listen on, 0 to let the system choose, or none (default 7379).")
    var port: String?
    @Option(help: "Port for connections with TLS (default none).")
    var tlsPort: String?
    @Option(help: "Port of the HTTP interface (default none).")
    var httpPort: String?
    @Option(help: "Port of the HTTP interface with TLS (default none).")
    var httpsPort: String?
    @Option(help: "PEM file of the server's certificate.")
    var tlsCertificate: String?
    @Option(help: "PEM file of its private key.")
    var tlsKey: String?
    @Option(
        name: .customLong("tls-client-ca"),
        help: "PEM file of those whose certificates clients must have.")
    var tlsClientCA: String?
    @Option(help: "File of users and what they may do; without one everybody may do everything.")
    var users: String?
    @Option(help: "no, to be reached by others without passwords (default yes).")
    var protectedMode: String?
    @Option(help: "Event loops (default: one for every two cores).")
    var threads: String?
    @Option(help: "When replies may leave: always, interval=MS or none (default always).")
    var durability: String?
    @Option(help: "Partitions of a new data directory (default \(Limits.partitionsDefault)).")
    var partitions: String?
    @Option(help: "Connections at a time (default 10000).")
    var clientsMax: String?
    @Option(help: "Seconds after which a silent connection is closed, 0 for never (default 0).")
    var idleSecondsMax: String?
    @Option(help: "Memory for records; what does not fit stays on disk (default none).")
    var memoryLimit: String?
    @Option(help: "Bits a key of the filters of what is on disk, 0 to 16 (default 3).")
    var filterBits: String?
    @Option(help: "How long what became of a request with a token is remembered, seconds.")
    var onceWindowSeconds: String?
    @Option(help: "Memory for that, such as 256mb; what is oldest goes before.")
    var onceMemory: String?
    @Option(help: "Journal size from which on a checkpoint is made (default 256mb).")
    var checkpointBytes: String?
    @Option(help: "Longest time between a change and a checkpoint, seconds (default 300).")
    var checkpointSeconds: String?
    @Option(help: "Time between two scrubs of all segment files, 0 for never (default 86400).")
    var scrubSeconds: String?
    @Option(help: "Bytes a second at which other nodes' checkpoints are copied (default 64mb).")
    var copyRate: String?
    @Option(
        help:
            "In a cluster, when INCR of a plain key is answered: applied or memory (default applied)."
    )
    var plainAck: String?
    @Option(help: "How old what was answered from memory may become (default 1000).")
    var memoryAckMilliseconds: String?
    @Option(help: "Addresses of a cluster's NATS servers, separated by commas (default none).")
    var nats: String?
    @Option(help: "Credentials file for them.")
    var natsCredentials: String?
    @Option(help: "The cluster's name (default tally).")
    var cluster: String?
    @Option(help: "Where clients and other nodes reach this one (default host).")
    var announceHost: String?
    @Option(help: "The same, the port (default port).")
    var announcePort: String?
    @Option(
        name: .customLong("announce-tls-port"),
        help: "The same, the port for TLS (default tls-port).")
    var announceTLSPort: String?
    @Option(help: "What fails together with this node, such as a rack (default none).")
    var zone: String?
    @Option(help: "trace, debug, info, notice, warning, error or critical (default info).")
    var logLevel: String?
    @Option(help: ArgumentHelp("tally, or null to measure without counters.", visibility: .hidden))
    var engine: String?
    @Option(help: "A YAML file of settings.")
    var config: String?

    func run() async throws {
        let environment = ProcessInfo.processInfo.environment
        let settings: Settings
        do {
            settings = try Settings.read(
                flags: flags, environment: environment, file: config ?? environment["TALLY_CONFIG"])
        } catch let error as Settings.Invalid {
            throw ValidationError(error.description)
        }
        try await Server(settings: settings).run()
    }

    private var flags: [String: String] {
        let given: [String: String?] = [
            "data": data, "host": host, "port": port, "threads": threads,
            "tls-port": tlsPort, "http-port": httpPort, "https-port": httpsPort,
            "tls-certificate": tlsCertificate, "tls-key": tlsKey,
            "tls-client-ca": tlsClientCA, "users": users, "protected-mode": protectedMode,
            "durability": durability, "partitions": partitions, "clients-max": clientsMax,
            "idle-seconds-max": idleSecondsMax, "memory-limit": memoryLimit,
            "filter-bits": filterBits, "once-window-seconds": onceWindowSeconds,
            "once-memory": onceMemory,
            "checkpoint-bytes": checkpointBytes, "checkpoint-seconds": checkpointSeconds,
            "scrub-seconds": scrubSeconds, "copy-rate": copyRate,
            "plain-ack": plainAck, "memory-ack-milliseconds": memoryAckMilliseconds,
            "nats": nats, "nats-credentials": natsCredentials, "cluster": cluster,
            "announce-host": announceHost, "announce-port": announcePort,
            "announce-tls-port": announceTLSPort, "zone": zone,
            "log-level": logLevel, "engine": engine,
        ]
        return given.compactMapValues { $0 }
    }
}

/// Chooses the real parts, joins them, and runs them from start to stop.
private struct Server {
    let settings: Settings

    func run() async throws {
        // Segments come and go, and must leave no holes.
        tally_keep_large_memory_apart(Limits.largeMemoryBytes)
        let logger = makeLogger()
        raiseFileLimit(logger)
        if settings.engine == "null" {
            logger.warning("nothing is counted: the null engine answers, for measurements only")
        }
        let clock = SystemClock()
        let access = try access(logger)
        if !settings.nats.isEmpty { return try await runInCluster(access, clock, logger) }
        let opening = try open(clock, logger)
        let registry = PrometheusRegistry(help: RESPServer.metricsHelp)
        if settings.httpPort != nil || settings.httpsPort != nil {
            MetricsSystem.bootstrap(registry)
        }
        let server = RESPServer(
            node: opening.node, access: access.control, certificates: access.certificates,
            configuration: serverConfiguration, clock: clock, logger: logger)
        let journal = CommitterThread(opening.committer, node: opening.node) { event in
            handle(event, server, logger)
        }
        journal.start()
        let threads = BackgroundThreads(
            node: opening.node, opening.checkpointer, opening.residency, opening.expiry,
            clock: clock, configuration: checkpointConfiguration, logger: logger)
        threads.start(server)
        let group = ServiceGroup(
            configuration: ServiceGroupConfiguration(
                services: [
                    .init(service: ReloadService(control: access.control, logger: logger)),
                    .init(service: server),
                ] + interfaces(server, registry, access, logger).map { .init(service: $0) },
                gracefulShutdownSignals: [.sigterm, .sigint], logger: logger))
        do {
            try await group.run()
        } catch {
            threads.stop()
            journal.stop()
            logger.critical("cannot serve", metadata: ["error": "\(error)"])
            throw ExitCode.failure
        }
        threads.stop()
        journal.stop()
        logger.info("stopped; the journal is sealed")
    }

    /// Serves a node whose journal is a cluster's logs.
    private func runInCluster(
        _ access: ServerAccess, _ clock: SystemClock, _ logger: Logger
    ) async throws {
        let cluster: ClusterServer
        do {
            cluster = try await ClusterServer(
                settings, nodeConfiguration, checkpointConfiguration, clock, logger)
        } catch {
            logger.critical("cannot join the cluster", metadata: ["error": "\(error)"])
            throw ExitCode.failure
        }
        let server = RESPServer(
            node: cluster.node,
            cluster: ClusterAccess(
                replica: cluster.replica, wakeUp: { cluster.replication.wakeUp() },
                changeSchema: { cluster.replication.changeSchema($0, $1) }), access: access.control,
            certificates: access.certificates, configuration: serverConfiguration, clock: clock,
            logger: logger)
        cluster.threads.start(server)
        let registry = PrometheusRegistry(help: RESPServer.metricsHelp)
        if settings.httpPort != nil || settings.httpsPort != nil {
            MetricsSystem.bootstrap(registry)
        }
        let group = ServiceGroup(
            configuration: ServiceGroupConfiguration(
                services: [
                    .init(service: cluster.replication),
                    .init(service: ReloadService(control: access.control, logger: logger)),
                    .init(service: server),
                ] + interfaces(server, registry, access, logger).map { .init(service: $0) },
                gracefulShutdownSignals: [.sigterm, .sigint], logger: logger))
        do {
            try await group.run()
        } catch {
            logger.critical("cannot serve", metadata: ["error": "\(error)"])
            throw ExitCode.failure
        }
        logger.info("stopped")
    }

    private func interfaces(
        _ server: RESPServer, _ registry: PrometheusRegistry, _ access: ServerAccess,
        _ logger: Logger
    ) -> [HTTPInterface] {
        [(settings.httpPort, nil), (settings.httpsPort, access.certificates)].compactMap {
            (port, certificates) in
            port.map {
                HTTPInterface(
                    server: server, registry: registry,
                    configuration: .init(
                        host: settings.host, port: $0, certificates: certificates),
                    logger: logger)
            }
        }
    }

    private func access(_ logger: Logger) throws -> ServerAccess {
        do {
            let access = try ServerAccess(settings, logger)
            try access.check(settings)
            return access
        } catch {
            logger.critical("not started", metadata: ["error": "\(error)"])
            throw ExitCode.failure
        }
    }

    private func open(
        _ clock: SystemClock, _ logger: Logger
    ) throws -> NodeOpening<DirectoryDisk> {
        do {
            let disk = try DirectoryDisk(path: settings.data)
            let started = clock.monotonicNanoseconds()
            let opening = try NodeOpening(
                disk: disk, clock: clock, configuration: nodeConfiguration)
            let milliseconds = (clock.monotonicNanoseconds() - started) / 1_000_000
            report(opening, milliseconds: milliseconds, logger)
            return opening
        } catch {
            logger.critical("cannot open the data directory", metadata: ["error": "\(error)"])
            throw ExitCode.failure
        }
    }

    private func report(
        _ opening: NodeOpening<DirectoryDisk>, milliseconds: UInt64, _ logger: Logger
    ) {
        let scan = opening.scan
        logger.info(
            "data directory opened",
            metadata: [
                "path": "\(settings.data)", "durability": "\(settings.durability)",
                "counters": "\(opening.node.countAll().count)",
                "checkpoint": "\(opening.manifest?.position.sequence ?? 0)",
                "groups": "\(scan.lastSequence)", "entries": "\(scan.entryCount)",
                "clean": "\(scan.endedCleanly)",
                "milliseconds": "\(milliseconds)",
            ])
        if scan.isTorn {
            logger.notice("the journal's tail was torn by a crash and has been cut off")
        }
        if !scan.unreadable.isEmpty {
            logger.warning(
                "a journal file of unknown content has been set aside",
                metadata: ["files": "\(scan.unreadable.joined(separator: " "))"])
        }
        if scan.lostGroups > 0 {
            logger.warning(
                "groups that were never synced are lost; their files have been set aside",
                metadata: ["groups": "\(scan.lostGroups)"])
        }
        for damage in opening.damage { BackgroundThreads.report(damage, logger) }
        if opening.node.isJournalFull {
            logger.error("no space for the journal: writes are refused until there is")
        }
    }

    private func handle(_ event: JournalEvent, _ server: RESPServer, _ logger: Logger) {
        switch event {
        case .committed(let nanoseconds): server.journalCommitted(nanoseconds: nanoseconds)
        case .spaceReady: server.journalMoved()
        case .spaceExhausted(let error):
            logger.error(
                "no space for another journal file: when those at hand are full, writes are refused",
                metadata: ["error": "\(error)"])
            server.journalMoved()
        case .spaceRegained: logger.notice("the journal has space again: writes are accepted")
        case .failed(let error):
            logger.critical(
                "the journal failed: ending, so that nothing is acknowledged that may be lost",
                metadata: ["error": "\(error)"])
            // At once: whatever ran longer could acknowledge more.
            _exit(EXIT_FAILURE)
        }
    }

    private var checkpointConfiguration: CheckpointConfiguration {
        var configuration = CheckpointConfiguration()
        configuration.journalBytesMax = settings.checkpointBytes
        configuration.secondsMax = settings.checkpointSeconds
        configuration.scrubSeconds = settings.scrubSeconds
        return configuration
    }

    private var nodeConfiguration: NodeConfiguration {
        var configuration = NodeConfiguration()
        configuration.durability = settings.durability
        configuration.journal.isZeroed = true
        configuration.partitionCount = settings.partitions
        configuration.threads = settings.threads
        configuration.memoryBytesMax =
            settings.memoryLimitBytes == 0 ? nil : settings.memoryLimitBytes
        configuration.filterBits = settings.filterBits
        configuration.onceWindowSeconds = settings.onceWindowSeconds
        configuration.onceMemoryBytes = settings.onceMemoryBytes
        configuration.isNull = settings.engine == "null"
        return configuration
    }

    private var serverConfiguration: ServerConfiguration {
        var configuration = ServerConfiguration()
        configuration.host = settings.host
        configuration.port = settings.port
        configuration.tlsPort = settings.tlsPort
        configuration.threads = settings.threads
        configuration.clientsMax = settings.clientsMax
        configuration.idleSecondsMax = settings.idleSecondsMax
        configuration.dataDirectory = settings.data
        configuration.durability = settings.durability
        configuration.isPlainAnsweredEarly = settings.isPlainAnsweredEarly
        configuration.earlyMillisecondsMax = settings.earlyMillisecondsMax
        return configuration
    }

    private func makeLogger() -> Logger {
        let level = Logger.Level(rawValue: settings.logLevel) ?? .info
        LoggingSystem.bootstrap { label in
            var handler = StreamLogHandler.standardError(label: label)
            handler.logLevel = level
            return handler
        }
        return Logger(label: "tally")
    }

    /// A connection is a file: makes room for as many as may come.
    private func raiseFileLimit(_ logger: Logger) {
        var limit = rlimit()
        let files = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)
        guard getrlimit(files, &limit) == 0 else { return }
        let wanted = rlim_t(settings.clientsMax + 64)
        guard limit.rlim_cur < wanted else { return }
        limit.rlim_max = max(limit.rlim_max, wanted)
        limit.rlim_cur = wanted
        if setrlimit(files, &limit) == 0 { return }
        getrlimit(files, &limit)
        limit.rlim_cur = limit.rlim_max
        _ = setrlimit(files, &limit)
        logger.warning(
            "the system allows fewer connections than clients-max",
            metadata: ["files": "\(limit.rlim_max)", "clients_max": "\(settings.clientsMax)"])
    }
}
