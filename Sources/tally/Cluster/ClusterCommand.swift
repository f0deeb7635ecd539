import ArgumentParser
import Logging
import NIOCore
import TallyCluster
import TallyCore
import TallyNATS
import TallyNode
import TallyReplication
import TallyStorage

/// `tally cluster …`: what is done to a cluster as a whole.
struct ClusterCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "cluster", abstract: "Make and look after a cluster.",
        subcommands: [
            InitCommand.self, StatusCommand.self, VerifyCommand.self, DrainCommand.self,
            RebalanceCommand.self, RecoverCommand.self,
        ])

    /// `tally cluster init`.
    struct InitCommand: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "init", abstract: "Make a cluster: its logs, and what its nodes share.")

        @OptionGroup var servers: NATSServers
        @Option(help: "Partitions; a power of two.")
        var partitions = Limits.partitionsDefault
        @Option(help: "Logs; a power of two, at most as many as partitions.")
        var logs = Limits.logsDefault
        @Option(help: "Servers that keep each log: 1, 3 or 5.")
        var replicas = 3
        @Option(help: "Nodes that hold each log's partitions.")
        var copies = 3
        @Option(help: "How long a silent node keeps its logs, seconds.")
        var absenceSeconds = Limits.absenceSeconds
        @Option(help: "How long what became of a request with a token is remembered, seconds.")
        var onceWindowSeconds = Limits.onceWindowSeconds

        @Option(
            help: """
                A data directory that no server has open, whose data the cluster is to go on with: that of a node that \
                was alone, which becomes a node's of the cluster, or that of a node of a cluster whose NATS servers \
                have lost everything, or of a backup of one.
                """)
        var from: String?

        func run() async throws {
            guard ClusterSettings.isName(servers.cluster) else {
                throw ValidationError("a cluster's name is 1 to 32 letters, digits and hyphens")
            }
            if let problem = settings(nil).problem { throw ValidationError(problem) }
            let client = try servers.connect()
            let settings: ClusterSettings
            let origin: Manifest?
            do {
                try await client.waitUntilConnected()
                let directory = ClusterDirectory(client)
                // Before anything is changed.
                try await directory.checkMissing(servers.cluster)
                origin = try from.map(open)
                settings = self.settings(origin)
                try await directory.create(settings, from: origin)
            } catch {
                try? await client.close().get()
                writeError("tally: \(error)\n")
                throw ExitCode.failure
            }
            try? await client.close().get()
            print(
                "cluster '\(settings.name)' made: \(settings.logs) logs on \(replicas) servers each, "
                    + "\(settings.partitions) partitions")
            if origin != nil {
                print("start its nodes, then have their data go on: tally cluster recover --yes")
            }
        }

        private func settings(_ origin: Manifest?) -> ClusterSettings {
            ClusterSettings(
                name: servers.cluster,
                identity: origin?.identity
                    ?? LogIdentity(
                        high: .random(in: .min ... .max), low: .random(in: .min ... .max)),
                partitions: origin?.partitions.count ?? partitions,
                logs: origin?.logCount ?? logs, logReplicas: replicas,
                copies: copies, absenceSecondsMax: absenceSeconds,
                onceWindowSeconds: onceWindowSeconds)
        }

        /// What a directory holds, as a cluster's.
        private func open(_ path: String) throws -> Manifest {
            try ClusterConversion.convert(
                DirectoryDisk(path: path, isCreated: false), clock: SystemClock(),
                configuration: NodeConfiguration(), logCount: logs,
                nodeName: NodeIdentity(random: { .random(in: .min ... .max) }).description)
        }
    }
}

/// Which NATS servers, and which of their clusters.
struct NATSServers: ParsableArguments {
    @Option(help: "Addresses of NATS servers, separated by commas: nats://HOST:PORT.")
    var nats: String
    @Option(help: "Credentials file for them.")
    var natsCredentials: String?
    @Option(help: "The cluster's name.")
    var cluster = "tally"

    /// A client that connects to them.
    func connect() throws -> NATSClient {
        try NATSClient(
            options: Self.options(nats, credentials: natsCredentials),
            logger: Logger(label: "tally", factory: { _ in SwiftLogNoOpLogHandler() })
        ).started()
    }

    static func options(_ servers: String, credentials: String?) -> NATSOptions {
        var options = NATSOptions(
            servers: servers.split(separator: ",").map {
                String($0).trimmingPrefix(" ").description
            })
        if let credentials { options.authentication = .credentialsFile(path: credentials) }
        return options
    }
}

extension NATSClient {
    /// The same, trying to connect.
    func started() -> NATSClient {
        start()
        return self
    }
}
