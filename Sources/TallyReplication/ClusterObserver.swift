import NIOCore
import NIOFoundationCompat
public import TallyCluster
public import TallyNATS

#if canImport(FoundationEssentials)
    import FoundationEssentials
#else
    import Foundation
#endif

/// What a cluster looks like from outside, and how it is told what is wanted of it.
public struct ClusterObserver: Sendable {
    private let settings: ClusterSettings
    private let client: NATSClient

    /// An observer of the cluster with these settings.
    public init(_ settings: ClusterSettings, _ client: NATSClient) {
        self.settings = settings
        self.client = client
    }

    private var bucket: KeyValueBucket { settings.bucket(client) }

    /// A log and its stream.
    public struct LogStatus: Codable, Sendable {
        /// Its number.
        public var log: Int
        /// The stream's first message.
        public var firstSequence: UInt64
        /// The stream's last message.
        public var lastSequence: UInt64
        /// Bytes that it takes on each of its servers.
        public var byteCount: UInt64
        /// The server that leads it; empty if none does.
        public var leader: String
        /// Who is to hold it, the preferred primary first.
        public var holders: [NodeIdentity]
    }

    /// Everything that is known of a cluster.
    public struct Status: Codable, Sendable {
        /// The nodes that were heard.
        public var nodes: [NodeRecord]
        /// The logs.
        public var logs: [LogStatus]
    }

    /// Listens to the nodes for a while, and asks for the logs' streams.
    public func status(listening: Duration = .milliseconds(700)) async throws(ClusterError)
        -> Status
    {
        let nodes = try await hear(for: listening)
        do {
            let assignment = try await bucket.get(ClusterSettings.assignmentKey).map {
                try JSONDecoder().decode(Assignment.self, from: $0.value)
            }
            var logs: [LogStatus] = []
            for number in 0..<settings.logs {
                let info = try await JetStream(client).stream(settings.stream(ofLog: number))
                logs.append(
                    LogStatus(
                        log: number, firstSequence: info.state.firstSequence,
                        lastSequence: info.state.lastSequence, byteCount: info.state.bytes,
                        leader: info.cluster?.leader ?? "",
                        holders: assignment?.holders[number] ?? []))
            }
            return Status(nodes: nodes, logs: logs)
        } catch {
            throw .servers("\(error)")
        }
    }

    /// The nodes that say something within a time.
    public func hear(for duration: Duration) async throws(ClusterError) -> [NodeRecord] {
        let heard = Heard()
        let subscription: NATSSubscription? = await client.onLoop { [client, settings] complete in
            complete(
                try? client.subscribe(settings.nodesSubject) { message in
                    let decoded = try? JSONDecoder().decode(
                        NodeSpeech.self, from: message.payload)
                    if let record = decoded?.record { heard.records[record.node] = record }
                })
        }
        guard let subscription else { throw .servers("the connection is closed") }
        try? await Task.sleep(for: duration)
        return await client.onLoop { [client] complete in
            client.unsubscribe(subscription)
            complete(heard.records.values.sorted { $0.node < $1.node })
        }
    }

    private final class Heard: @unchecked Sendable {
        // Sendable because it is touched only on the client's loop.
        var records: [NodeIdentity: NodeRecord] = [:]
    }

    /// Says whether a node's logs are to go to others.
    public func setDraining(_ node: NodeIdentity, _ isDraining: Bool) async throws(ClusterError) {
        do {
            let key = ClusterSettings.drainKey(of: node)
            if isDraining {
                _ = try await bucket.put(key, ByteBuffer(string: "{}"))
            } else {
                _ = try await bucket.delete(key)
            }
        } catch {
            throw .servers("\(error)")
        }
    }
}
