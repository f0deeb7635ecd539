import Logging
import NIOCore
import ServiceLifecycle
import TallyCluster
import TallyCore
import TallyNATS
import TallyNode
import TallyReplication

/// The parts of a node that is in a cluster.
struct ClusterServer {
    let node: Node
    let replica: Replica
    let replication: ReplicationService

    /// Finds the cluster and prepares this node's part in it.
    init(
        _ settings: Settings, _ configuration: NodeConfiguration, _ clock: SystemClock,
        _ logger: Logger
    ) async throws {
        let client = try NATSClient(
            options: NATSServers.options(settings.nats, credentials: settings.natsCredentials),
            logger: logger
        ).started()
        let cluster: ClusterSettings
        do {
            try await client.waitUntilConnected(timeout: .seconds(30))
            cluster = try await ClusterDirectory(client).settings(of: settings.cluster)
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
        let node = Node(
            following: identity, partitionCount: cluster.partitions, clock: clock,
            configuration: configuration)
        let random = configuration.random
        let logs = (0..<cluster.logs).map { number in
            ReplicatedLog(
                number: number,
                partitions: Replica.partitions(
                    ofLog: number, logCount: cluster.logs, partitionCount: cluster.partitions),
                cluster: identity, node: node, state: LogState(epoch: 1, streamNanoseconds: 0),
                makeIdentity: {
                    ProducerIdentity(milliseconds: clock.wallMilliseconds(), random: random)
                })
        }
        self.node = node
        replica = Replica(node: node, logs: logs)
        replication = ReplicationService(replica, cluster, client, clock: clock, logger: logger)
        logger.info(
            "cluster found",
            metadata: [
                "cluster": "\(cluster.name)", "partitions": "\(cluster.partitions)",
                "logs": "\(cluster.logs)",
            ])
    }
}
