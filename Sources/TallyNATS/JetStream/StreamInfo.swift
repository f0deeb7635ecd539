/// What a stream is and holds, as its leader says.
public struct StreamInfo: Equatable, Sendable, Decodable {
    /// Its settings.
    public var configuration: StreamConfiguration
    /// When it was created: with the name, its identity.
    public var created: NATSTime
    /// What it holds.
    public var state: State
    /// Its replicas; nil on a single server.
    public var cluster: Cluster?

    private enum CodingKeys: String, CodingKey {
        case configuration = "config"
        case created, state, cluster
    }

    /// What a stream holds.
    public struct State: Equatable, Sendable, Decodable {
        /// Messages.
        public var messages: UInt64
        /// Bytes of them.
        public var bytes: UInt64
        /// Sequence of the first message, or of the next one if there is none.
        public var firstSequence: UInt64
        /// Sequence of the last message there has been; 0 before the first.
        public var lastSequence: UInt64
        /// Consumers.
        public var consumers: Int

        private enum CodingKeys: String, CodingKey {
            case messages, bytes
            case firstSequence = "first_seq"
            case lastSequence = "last_seq"
            case consumers = "consumer_count"
        }
    }

    /// A stream's replicas.
    public struct Cluster: Equatable, Sendable, Decodable {
        /// Name of the cluster.
        public var name: String?
        /// Server that leads; nil while there is none.
        public var leader: String?
        /// The other replicas.
        public var replicas: [Replica]?
    }

    /// One replica that does not lead.
    public struct Replica: Equatable, Sendable, Decodable {
        /// Name of its server.
        public var name: String
        /// Whether it has everything and was seen lately.
        public var isCurrent: Bool
        /// Whether it has not been seen for long.
        public var isOffline: Bool
        /// Operations that it has still to do.
        public var lag: UInt64

        private enum CodingKeys: String, CodingKey {
            case name, lag
            case isCurrent = "current"
            case isOffline = "offline"
        }

        /// Reads it from JSON.
        public init(from decoder: any Decoder) throws {
            let fields = try decoder.container(keyedBy: CodingKeys.self)
            name = try fields.decode(String.self, forKey: .name)
            isCurrent = try fields.decodeIfPresent(Bool.self, forKey: .isCurrent) ?? false
            isOffline = try fields.decodeIfPresent(Bool.self, forKey: .isOffline) ?? false
            lag = try fields.decodeIfPresent(UInt64.self, forKey: .lag) ?? 0
        }
    }
}

/// What an account uses of JetStream.
public struct JetStreamAccount: Equatable, Sendable, Decodable {
    /// Bytes in memory.
    public var memoryBytes: UInt64
    /// Bytes on disk.
    public var storageBytes: UInt64
    /// Streams.
    public var streams: Int
    /// Consumers.
    public var consumers: Int
    /// JetStream domain.
    public var domain: String?

    private enum CodingKeys: String, CodingKey {
        case memoryBytes = "memory"
        case storageBytes = "storage"
        case streams, consumers, domain
    }
}
