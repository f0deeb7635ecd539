/// A node's name, the same for all its lives: 40 hexadecimal digits, as Redis Cluster has them.
public struct NodeIdentity: Hashable, Comparable, Codable, Sendable, CustomStringConvertible {
    /// The digits.
    public let description: String

    /// Nil if the text is not 40 lower-case hexadecimal digits.
    public init?(_ text: String) {
        guard text.utf8.count == 40,
            text.utf8.allSatisfy({ (48...57).contains($0) || (97...102).contains($0) })
        else { return nil }
        description = text
    }

    /// A name that nobody else has.
    public init(random: () -> UInt64) {
        var digits = ""
        for _ in 0..<3 {
            let word = String(random(), radix: 16)
            digits += String(repeating: "0", count: 16 - word.count) + word
        }
        description = String(digits.prefix(40))
    }

    /// In the order of their digits.
    public static func < (first: Self, second: Self) -> Bool {
        first.description < second.description
    }

    /// Reads the digits.
    public init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        let text = try container.decode(String.self)
        guard let identity = NodeIdentity(text) else {
            throw DecodingError.dataCorruptedError(
                in: container, debugDescription: "a node's name has 40 hexadecimal digits")
        }
        self = identity
    }

    /// Writes the digits.
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(description)
    }
}

/// Where clients and other nodes reach a node.
public struct NodeAddress: Codable, Equatable, Sendable {
    /// A name or an address.
    public var host: String
    /// For connections without TLS, nil for none.
    public var port: Int?
    /// For connections with TLS, nil for none.
    public var tlsPort: Int?

    /// An address in all its parts.
    public init(host: String, port: Int?, tlsPort: Int?) {
        self.host = host
        self.port = port
        self.tlsPort = tlsPort
    }
}

/// What a node tells the others of itself, several times a second.
public struct NodeRecord: Codable, Equatable, Sendable {
    /// How a node stands with a log.
    public enum Phase: String, Codable, Sendable {
        /// It copies a peer's checkpoint.
        case copying
        /// It follows, and is still behind.
        case following
        /// It follows closely, and serves.
        case serving
        /// It cannot go on.
        case halted
    }

    /// How far a node has come with a log.
    public struct Progress: Codable, Equatable, Sendable {
        /// How it stands with it.
        public var phase: Phase
        /// The epoch of the log that it is in; 0 for none.
        public var epoch: UInt32
        /// The last message that it has applied.
        public var sequence: UInt64
        /// The last message that a checkpoint on its disk holds.
        public var durableSequence: UInt64

        /// A progress in all its parts.
        public init(phase: Phase, epoch: UInt32, sequence: UInt64, durableSequence: UInt64) {
            self.phase = phase
            self.epoch = epoch
            self.sequence = sequence
            self.durableSequence = durableSequence
        }
    }

    /// Who it is.
    public var node: NodeIdentity
    /// When it started, milliseconds since 1970.
    public var startedMilliseconds: UInt64
    /// Where it is reached.
    public var address: NodeAddress
    /// What fails together with it; empty if nobody has said.
    public var zone: String
    /// The program's version.
    public var version: String
    /// Whether its logs are to go to others.
    public var isDraining: Bool
    /// How many changes of the schema its partitions have.
    public var schemaChanges: UInt64
    /// Its logs, by their numbers.
    public var logs: [Int: Progress]

    /// A record in all its parts.
    public init(
        node: NodeIdentity, startedMilliseconds: UInt64, address: NodeAddress, zone: String,
        version: String, isDraining: Bool = false, schemaChanges: UInt64 = 0,
        logs: [Int: Progress] = [:]
    ) {
        self.node = node
        self.startedMilliseconds = startedMilliseconds
        self.address = address
        self.zone = zone
        self.version = version
        self.isDraining = isDraining
        self.schemaChanges = schemaChanges
        self.logs = logs
    }
}
