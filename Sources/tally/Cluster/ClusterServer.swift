import Logging
import NIOCore
import ServiceLifecycle
import TallyCluster
import TallyCore
import TallyNATS
import TallyNode
import TallyReplication
import TallyServer
import TallyStorage

/// The parts of a node that is in a cluster.
struct ClusterServer {
    let node: Node
    let replica: Replica
    let replication: ReplicationService
    let threads: BackgroundThreads

    /// Finds the cluster and prepares this node's part in it.
    init(
        _ settings: Settings, _ configuration: NodeConfiguration,
        _ checkpoints: CheckpointConfiguration, _ clock: SystemClock, _ logger: Logger
    ) async throws {
        let client = try NATSClient(
            options: NATSServers.options(settings.nats, credentials: settings.natsCredentials),
            logger: logger
        ).started()
        let cluster: ClusterSettings
        do {
            cluster = try await Self.find(settings.cluster, client, logger)
        } catch {
            try? await client.close().get()
            throw error
        }
        guard let identity = cluster.logIdentity else {
            preconditionFailure("settings without an identity passed")
        }
        var configuration = configuration
        configuration.onceWindowSeconds = cluster.onceWindowSeconds
        configuration.onceMemoryBytes = cluster.onceMemoryBytes
        // Clients' threads read while the logs' thread applies.
        configuration.threads = max(2, configuration.threads)
        let data = ClusterData(
            identity: identity, partitionCount: cluster.partitions, logCount: cluster.logs)
        let started = clock.monotonicNanoseconds()
        let opening: ReplicaOpening<DirectoryDisk>
        do {
            opening = try ReplicaOpening(
                disk: DirectoryDisk(path: settings.data), clock: clock,
                configuration: configuration, data: data,
                newName: NodeIdentity(random: configuration.random).description)
        } catch {
            try? await client.close().get()
            throw error
        }
        let random = configuration.random
        let logs = (0..<cluster.logs).map { number in
            ReplicatedLog(
                number: number, partitions: data.partitions(ofLog: number), cluster: identity,
                node: opening.node, state: opening.state(ofLog: number),
                makeIdentity: {
                    ProducerIdentity(milliseconds: clock.wallMilliseconds(), random: random)
                })
        }
        node = opening.node
        let life = ProducerIdentity(milliseconds: clock.wallMilliseconds(), random: random)
        let remotes = (0..<cluster.logs).map { number in
            RemoteLog(
                number: number, partitions: data.partitions(ofLog: number), cluster: identity,
                node: opening.node, identity: life)
        }
        let replica = Replica(node: node, logs: logs, remotes: remotes)
        self.replica = replica
        let target = LogTarget(
            replica, clock: clock, isCovered: { [replica] in replica.view?.isPrimary($0) == true })
        let threads = BackgroundThreads(
            node: node, opening.checkpointer, opening.residency,
            Expiry(node: node, target: target), clock: clock, configuration: checkpoints,
            logger: logger)
        self.threads = threads
        guard let name = NodeIdentity(opening.manifest.nodeName) else {
            try? await client.close().get()
            throw StorageError.damagedFile("manifest", reason: "the node has no name")
        }
        let own = NodeRecord(
            node: name, startedMilliseconds: clock.wallMilliseconds(),
            address: NodeAddress(
                host: settings.announceHost ?? settings.host,
                port: settings.announcePort ?? settings.port,
                tlsPort: settings.announceTLSPort ?? settings.tlsPort),
            zone: settings.zone, version: ServerIdentity.version)
        let replication = ReplicationService(
            replica, cluster, client, checkpoints: CheckpointPort(opening.copies),
            copyBytesPerSecond: settings.copyBytesPerSecond, own: own,
            clock: clock, logger: logger,
            onEnd: { threads.stop() })
        target.onSubmitted = { replication.wakeUp() }
        self.replication = replication
        for damage in opening.damage { BackgroundThreads.report(damage, logger) }
        logger.info(
            "cluster found",
            metadata: [
                "cluster": "\(cluster.name)", "node": "\(name)",
                "partitions": "\(cluster.partitions)",
                "logs": "\(cluster.logs)", "counters": "\(node.countAll().count)",
                "messages": "\(opening.manifest.position.sequence)",
                "milliseconds": "\((clock.monotonicNanoseconds() - started) / 1_000_000)",
            ])
    }

    /// The settings of a cluster, however long its servers take to answer: they may be starting, too, or
    /// choosing leaders.
    private static func find(
        _ name: String, _ client: NATSClient, _ logger: Logger
    ) async throws -> ClusterSettings {
        while true {
            let reason: String
            do {
                try await client.waitUntilConnected(timeout: .seconds(5))
                return try await ClusterDirectory(client).settings(of: name)
            } catch NATSRequestError.timedOut {
                reason = "none is connected to"
            } catch ClusterError.servers(let told) {
                reason = told
            }
            logger.warning("waiting for the NATS servers", metadata: ["reason": "\(reason)"])
            try await Task.sleep(for: .seconds(1))
        }
    }
}
