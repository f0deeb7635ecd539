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
        /// Its epoch; 0 if that is not known.
        public var epoch: UInt32
        /// Whether its stream is there; without it, the stream's figures are 0.
        public var hasStream: Bool
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
        let assignment = try await assignment()
        var logs: [LogStatus] = []
        for number in 0..<settings.logs {
            let info = try await stream(number)
            logs.append(
                LogStatus(
                    log: number, epoch: try await history(number)?.epoch ?? 0,
                    hasStream: info != nil, firstSequence: info?.state.firstSequence ?? 0,
                    lastSequence: info?.state.lastSequence ?? 0,
                    byteCount: info?.state.bytes ?? 0, leader: info?.cluster?.leader ?? "",
                    holders: assignment?.holders(ofLog: number) ?? []))
        }
        return Status(nodes: nodes, logs: logs)
    }

    // MARK: What the servers hold

    /// What the cluster says of a log; nil if it says nothing.
    func history(_ log: Int) async throws(ClusterError) -> LogHistory? {
        try await historyWithRevision(log)?.value
    }

    /// The same, and its revision.
    func historyWithRevision(
        _ log: Int
    ) async throws(ClusterError) -> (value: LogHistory, revision: UInt64)? {
        try await read(ClusterSettings.historyKey(ofLog: log), as: LogHistory.self)
    }

    /// Which nodes are to hold which logs; nil if that is not known.
    func assignment() async throws(ClusterError) -> Assignment? {
        try await read(ClusterSettings.assignmentKey, as: Assignment.self)?.value
    }

    private func read<Value: Decodable>(
        _ key: String, as type: Value.Type
    ) async throws(ClusterError) -> (value: Value, revision: UInt64)? {
        do {
            return try await bucket.get(key).map {
                (try JSONDecoder().decode(type, from: $0.value), $0.revision)
            }
        } catch {
            throw .servers("\(error)")
        }
    }

    /// A log's stream; nil if there is none.
    func stream(_ log: Int) async throws(ClusterError) -> StreamInfo? {
        do {
            return try await JetStream(client).stream(settings.stream(ofLog: log))
        } catch  where error.isMissing {
            return nil
        } catch {
            throw .servers("\(error)")
        }
    }

    // MARK: What the nodes say

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

    /// Gives the places of a silent node away at once.
    public func setAbsent(_ node: NodeIdentity) async throws(ClusterError) {
        do {
            _ = try await bucket.put(
                ClusterSettings.absentKey(of: node), ByteBuffer(string: "{}"))
        } catch {
            throw .servers("\(error)")
        }
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
