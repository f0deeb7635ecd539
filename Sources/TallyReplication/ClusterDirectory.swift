internal import NIOCore
import TallyCluster
import TallyCore
public import TallyNATS
public import TallyStorage

#if canImport(FoundationEssentials)
    import FoundationEssentials
#else
    import Foundation
#endif

/// Why a cluster cannot be made, or found.
public enum ClusterError: Error, Sendable, CustomStringConvertible {
    /// There is none of this name.
    case missing(String)
    /// There is one of this name already.
    case exists(String)
    /// Its settings are not what they should be.
    case settings(String)
    /// The servers do not answer, or refuse.
    case servers(String)

    /// One line for an operator.
    public var description: String {
        switch self {
        case .missing(let name): "there is no cluster '\(name)'; make it with tally cluster init"
        case .exists(let name): "there is a cluster '\(name)' already"
        case .settings(let reason): "the cluster's settings cannot be used: \(reason)"
        case .servers(let reason): "the NATS servers cannot be used: \(reason)"
        }
    }
}

/// Where a cluster's nodes find what they have in common.
public struct ClusterDirectory: Sendable {
    private let jetStream: JetStream

    /// The directory at `client`'s servers.
    public init(_ client: NATSClient) { jetStream = JetStream(client) }

    /// Makes a cluster: its bucket, its logs and, when all of those are there, its settings.
    ///
    /// What an interrupted attempt has made is used again.
    ///
    /// - Parameter origin: What some node's directory holds, if the cluster is to go on from such: its logs then
    ///   wait for a recovery.
    public func create(
        _ settings: ClusterSettings, from origin: Manifest? = nil
    ) async throws(ClusterError) {
        if let problem = settings.problem { throw .settings(problem) }
        if let origin, Set(origin.logs.values.map(\.schema.changeCount)).count > 1 {
            throw .settings(
                "the directory is from while the schema was being changed; take another node's, or another backup"
            )
        }
        do {
            var configuration = KeyValueConfiguration(
                bucket: ClusterSettings.bucket(of: settings.name))
            configuration.description = "what the nodes of a Tally cluster tell each other"
            configuration.replicas = settings.logReplicas
            configuration.deleteMarkerLifetime = .seconds(60)
            let bucket = try await KeyValueBucket.create(jetStream, configuration)
            if try await bucket.get(ClusterSettings.key) != nil {
                throw ClusterError.exists(settings.name)
            }
            for number in 0..<settings.logs {
                let info = try await jetStream.createStream(settings.stream(number))
                // Not from nothing, if there is something.
                let history = LogHistory(
                    epoch: origin?.logs.values.map(\.state.epoch).max() ?? 1,
                    streamNanoseconds: info.created.unsignedNanoseconds,
                    startSequence: origin == nil
                        ? 0 : max(1, origin?.logs[number]?.state.sequence ?? 1),
                    origin: nil)
                try await bucket.put(
                    ClusterSettings.historyKey(ofLog: number), Self.encoded(history))
            }
            if let schema = origin?.latestSchema {
                try await bucket.put(
                    ClusterSettings.schemaKey(0), ByteBuffer(bytes: schema.bytes))
            }
            _ = try await bucket.create(ClusterSettings.key, Self.encoded(settings))
        } catch let error as ClusterError {
            throw error
        } catch {
            throw .servers("\(error)")
        }
    }

    static func encoded(_ value: some Encodable) throws -> ByteBuffer {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys]
        return ByteBuffer(bytes: try encoder.encode(value))
    }

    /// Sees to it that there is no cluster `name` yet.
    public func checkMissing(_ name: String) async throws(ClusterError) {
        do throws(ClusterError) {
            _ = try await settings(of: name)
        } catch {
            if case .missing = error { return }
            throw error
        }
        throw .exists(name)
    }

    /// The settings of the cluster `name`.
    public func settings(of name: String) async throws(ClusterError) -> ClusterSettings {
        let found: KeyValueEntry?
        do {
            let bucket = try KeyValueBucket(jetStream, name: ClusterSettings.bucket(of: name))
            found = try await bucket.get(ClusterSettings.key)
        } catch .jetStream(let error) where error.isMissing {
            throw .missing(name)
        } catch {
            throw .servers("\(error)")
        }
        guard let found else { throw .missing(name) }
        let settings: ClusterSettings
        do {
            settings = try JSONDecoder().decode(
                ClusterSettings.self, from: Data(found.value.readableBytesView))
        } catch {
            throw .settings("\(error)")
        }
        if let problem = settings.problem { throw .settings(problem) }
        return settings
    }
}

extension JetStreamError {
    /// Whether it says that there is no such stream.
    var isMissing: Bool { isAPIError(JetStreamAPIError.Code.streamNotFound) }
}
