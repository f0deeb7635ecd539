import TallyCluster
public import TallyCore
import TallyNATS

#if canImport(FoundationEssentials)
    import FoundationEssentials
#else
    import Foundation
#endif

/// What all nodes of a cluster have in common, chosen once and kept with its logs.
public struct ClusterSettings: Codable, Equatable, Sendable {
    /// The version of this form.
    public var version = 1
    /// The cluster's name: a part of the names of its streams.
    public var name: String
    /// Which data it is, 32 hexadecimal digits.
    public var identity: String
    /// How many partitions there are; a power of two.
    public var partitions: Int
    /// How many logs there are; a power of two, at most as many as partitions.
    public var logs: Int
    /// How many servers keep each log.
    public var logReplicas: Int
    /// How many nodes hold each log's partitions.
    public var copies: Int
    /// For how long a silent node keeps its logs, seconds.
    public var absenceSecondsMax: Int
    /// How long what became of a request with a token is remembered at least, seconds.
    public var onceWindowSeconds: Int
    /// Memory that this may take, bytes.
    public var onceMemoryBytes: Int

    /// The settings of a new cluster.
    public init(
        name: String, identity: LogIdentity, partitions: Int = Limits.partitionsDefault,
        logs: Int = Limits.logsDefault, logReplicas: Int = 3, copies: Int = 3,
        absenceSecondsMax: Int = Limits.absenceSeconds,
        onceWindowSeconds: Int = Limits.onceWindowSeconds,
        onceMemoryBytes: Int = Limits.onceMemoryBytes
    ) {
        self.name = name
        self.identity = [identity.high, identity.low].map(Self.hexadecimal).joined()
        self.partitions = partitions
        self.logs = logs
        self.logReplicas = logReplicas
        self.copies = copies
        self.absenceSecondsMax = absenceSecondsMax
        self.onceWindowSeconds = onceWindowSeconds
        self.onceMemoryBytes = onceMemoryBytes
    }

    private static func hexadecimal(_ word: UInt64) -> String {
        let digits = String(word, radix: 16)
        return String(repeating: "0", count: 16 - digits.count) + digits
    }

    /// Which data it is; nil if the text is not what it should be.
    public var logIdentity: LogIdentity? {
        guard identity.utf8.count == 32, let high = UInt64(identity.prefix(16), radix: 16),
            let low = UInt64(identity.suffix(16), radix: 16)
        else { return nil }
        return LogIdentity(high: high, low: low)
    }

    /// What is wrong with them; nil if nothing is.
    public var problem: String? {
        if version != 1 { return "they have version \(version), and this program knows 1" }
        if logIdentity == nil { return "the identity is not 32 hexadecimal digits" }
        if !(1...Limits.partitionsMax).contains(partitions) || partitions.nonzeroBitCount != 1 {
            return "partitions must be a power of two in 1...\(Limits.partitionsMax)"
        }
        if !(1...min(Limits.logsMax, partitions)).contains(logs) || logs.nonzeroBitCount != 1 {
            return "logs must be a power of two in 1...\(min(Limits.logsMax, partitions))"
        }
        if ![1, 3, 5].contains(logReplicas) { return "log replicas must be 1, 3 or 5" }
        if !(1...9).contains(copies) { return "copies must be in 1...9" }
        if absenceSecondsMax < 1 { return "a silent node must keep its logs for a second at least" }
        return nil
    }

    // MARK: Names

    /// Whether a cluster can have this name: letters, digits and hyphens, at most 32.
    public static func isName(_ name: String) -> Bool {
        (1...32).contains(name.utf8.count)
            && name.utf8.allSatisfy {
                switch $0 {
                case UInt8(ascii: "a")...UInt8(ascii: "z"),
                    UInt8(ascii: "A")...UInt8(ascii: "Z"),
                    UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"):
                    true
                default: false
                }
            }
    }

    /// The stream that holds a log.
    public func stream(ofLog number: Int) -> String { "TALLY_\(name)_LOG_\(number)" }

    /// The subject that a log's messages are published to.
    public func subject(ofLog number: Int) -> String { "tally.\(name).log.\(number)" }

    /// The subject on which nodes tell each other of themselves.
    var nodesSubject: String { "tally.\(name).nodes" }

    /// The subject on which operations are passed on to a node.
    func forwardSubject(of node: NodeIdentity) -> String { "tally.\(name).node.\(node).forward" }

    /// The subject on which a node is asked what it holds.
    func verifySubject(of node: NodeIdentity) -> String { "tally.\(name).node.\(node).verify" }

    /// The subject on which a node is asked for its checkpoint.
    func copySubject(of node: NodeIdentity) -> String { "tally.\(name).node.\(node).copy" }

    /// The cluster's bucket, at `client`'s servers.
    func bucket(_ client: NATSClient) -> KeyValueBucket {
        do {
            return try KeyValueBucket(JetStream(client), name: Self.bucket(of: name))
        } catch {
            preconditionFailure("a checked name refused: \(error)")
        }
    }

    /// The bucket of what nodes tell each other.
    static func bucket(of name: String) -> String { "TALLY_\(name)" }

    /// The key of these settings in the bucket.
    static let key = "settings"

    /// The key of who is to hold what.
    static let assignmentKey = "assignment"

    /// The key of a change of the schema.
    static func schemaKey(_ number: UInt64) -> String { "schema.\(number)" }

    /// The number of the change of the schema that a key holds; nil for another key.
    static func schemaNumber(ofKey key: String) -> UInt64? {
        guard key.hasPrefix("schema.") else { return nil }
        return UInt64(key.dropFirst(7))
    }

    /// The key of up to where a log has been trimmed.
    static func floorKey(ofLog number: Int) -> String { "floor.\(number)" }

    /// The key of which stream holds a log.
    static func historyKey(ofLog number: Int) -> String { "history.\(number)" }

    /// The log whose stream a key tells; nil for another key.
    static func log(ofHistoryKey key: String) -> Int? {
        guard key.hasPrefix("history.") else { return nil }
        return Int(key.dropFirst(8))
    }

    /// The key that is there while a node's logs are to go to others.
    static func drainKey(of node: NodeIdentity) -> String { "drain.\(node)" }

    /// The key that is there while a silent node's places are given away.
    static func absentKey(of node: NodeIdentity) -> String { "absent.\(node)" }

    /// The node that such a key is about; nil for another key.
    static func node(ofAbsentKey key: String) -> NodeIdentity? {
        guard key.hasPrefix("absent.") else { return nil }
        return NodeIdentity(String(key.dropFirst(7)))
    }

    /// How a log's stream is to be kept.
    func stream(_ number: Int) -> StreamConfiguration {
        var stream = StreamConfiguration(
            name: stream(ofLog: number), subjects: [subject(ofLog: number)])
        stream.description = "log \(number) of the Tally cluster \(name)"
        stream.replicas = logReplicas
        // What has been acknowledged goes only when nodes hold it in checkpoints.
        stream.discard = .new
        stream.deniesDelete = true
        stream.allowsDirect = true
        stream.metadata = ["tally-cluster": identity]
        return stream
    }
}
