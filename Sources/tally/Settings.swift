import Configuration
import TallyCore
import TallyReplication
import TallyServer
import Yams

#if canImport(FoundationEssentials)
    import FoundationEssentials
#else
    import Foundation
#endif

/// Everything that `tally serve` can be told, from flags, environment and a file.
///
/// A setting has one name: `--clients-max` as a flag, `TALLY_CLIENTS_MAX` in the environment,
/// `clients-max` in the file; the first that gives it wins, in that order.
struct Settings: Sendable {
    /// Directory of the data; created if missing.
    var data = ""
    /// Address to listen on.
    var host = "127.0.0.1"
    /// Port to listen on; 0 lets the system choose, nil is none.
    var port: Int? = 7379
    /// The same for connections with TLS.
    var tlsPort: Int?
    var tlsCertificate = ""
    var tlsKey = ""
    /// Whose certificates clients must have; empty if they need none.
    var tlsClientAuthorities = ""
    /// Ports of the HTTP interface, without and with TLS; 0 lets the system choose, nil is none.
    var httpPort: Int?
    var httpsPort: Int?
    /// The file of users; empty if everybody may do everything.
    var users = ""
    /// Whether to refuse to be reached by others without passwords.
    var isProtected = true
    /// Event loops. By default one for every two cores, at least one: the other cores are for the
    /// journal, the network and background work.
    var threads = Settings.defaultThreads
    /// When replies may leave.
    var durability = Durability.always
    /// Partitions of a new data directory; an old one keeps its own.
    var partitions = Limits.partitionsDefault
    /// Connections at a time.
    var clientsMax = 10_000
    /// Seconds after which a silent connection is closed; 0 for never.
    var idleSecondsMax = 0
    /// Memory for records, beyond which they stay on disk; 0 for no limit.
    var memoryLimitBytes = 0
    /// Bits of the fingerprints of the filters of segments on disk; 0 for none.
    var filterBits = Limits.filterBits
    var onceWindowSeconds = Limits.onceWindowSeconds
    var onceMemoryBytes = Limits.onceMemoryBytes
    /// Journal bytes from which on a checkpoint is made.
    var checkpointBytes = Limits.checkpointJournalBytes
    /// Longest time between a change and a checkpoint that holds it, seconds.
    var checkpointSeconds = Limits.checkpointSeconds
    /// Seconds from the beginning of one scrub of all segment files to that of the next; 0 for never.
    var scrubSeconds = Limits.scrubSeconds
    /// Whether additions to plain keys may be answered before they are in a cluster's log.
    var isPlainAnsweredEarly = false
    /// How long one that was answered may stay out of the log before others are answered early no more.
    var earlyMillisecondsMax = Limits.earlyMillisecondsMax
    /// Bytes a second at which other nodes' checkpoints are copied.
    var copyBytesPerSecond = Limits.copyBytesPerSecond
    /// Addresses of the NATS servers of a cluster, separated by commas; empty for a node that is alone.
    var nats = ""
    /// Credentials file for them.
    var natsCredentials: String?
    /// The cluster's name.
    var cluster = "tally"
    /// Where clients and other nodes reach this one, if it is not where it listens.
    var announceHost: String?
    var announcePort: Int?
    var announceTLSPort: Int?
    /// What fails together with this node; empty if nobody has said.
    var zone = ""
    /// How much is logged.
    var logLevel = "info"
    /// `tally`, or `null` to measure everything but the counters.
    var engine = "tally"

    static var defaultThreads: Int { max(1, ProcessInfo.processInfo.activeProcessorCount / 2) }

    /// A setting that was given wrongly, or that does not exist.
    enum Invalid: Error, CustomStringConvertible {
        case unknown(name: String, source: String)
        case notAllowed(name: String, value: String, allowed: String)
        case missing(name: String)
        case unreadable(file: String, reason: String)

        var description: String {
            switch self {
            case .unknown(let name, let source):
                "unknown setting '\(name)' in \(source); there are: "
                    + Settings.names.joined(separator: ", ")
            case .notAllowed(let name, let value, let allowed):
                "setting '\(name)' is '\(value)'; allowed: \(allowed)"
            case .missing(let name):
                "setting '\(name)' is missing: give --\(name), "
                    + "\(Settings.environmentName(name)) or '\(name)' in the configuration file"
            case .unreadable(let file, let reason):
                "cannot read configuration file \(file): \(reason)"
            }
        }
    }

    static let logLevels = ["trace", "debug", "info", "notice", "warning", "error", "critical"]

    /// One setting's name, what it may be, and how it is taken over; false if the value is not
    /// allowed.
    private struct Field: Sendable {
        let name: String
        let allowed: String
        let take: @Sendable (String, inout Settings) -> Bool
    }

    private static let fields: [Field] = [
        Field(name: "data", allowed: "a path") { text, settings in
            settings.data = text
            return !text.isEmpty
        },
        Field(name: "host", allowed: "an address or a host name") { text, settings in
            settings.host = text
            return !text.isEmpty
        },
        port("port") { $1.port = $0 },
        port("tls-port") { $1.tlsPort = $0 },
        port("http-port") { $1.httpPort = $0 },
        port("https-port") { $1.httpsPort = $0 },
        path("tls-certificate") { $1.tlsCertificate = $0 },
        path("tls-key") { $1.tlsKey = $0 },
        path("tls-client-ca") { $1.tlsClientAuthorities = $0 },
        path("users") { $1.users = $0 },
        Field(name: "protected-mode", allowed: "yes, no") { text, settings in
            settings.isProtected = text == "yes"
            return ["yes", "no"].contains(text)
        },
        integer("threads", 1...256) { $1.threads = $0 },
        Field(
            name: "durability",
            allowed: "always, interval=MS with MS in "
                + "\(range(Durability.intervalMillisecondsRange)), none"
        ) { text, settings in
            guard let durability = Durability(text) else { return false }
            settings.durability = durability
            return true
        },
        Field(
            name: "partitions", allowed: "a power of two in \(range(1...Limits.partitionsMax))"
        ) { text, settings in
            guard let count = Int(text), (1...Limits.partitionsMax).contains(count),
                count.nonzeroBitCount == 1
            else { return false }
            settings.partitions = count
            return true
        },
        integer("clients-max", 1...1_000_000) { $1.clientsMax = $0 },
        integer("idle-seconds-max", 0...31_536_000) { $1.idleSecondsMax = $0 },
        Field(
            name: "memory-limit", allowed: "a size such as 512mb or 16gb, at least 1mb; 0 for none"
        ) { text, settings in
            guard let size = ByteSize(text),
                size.bytes == 0 || size.bytes >= Limits.memoryLimitBytesMin
            else {
                return false
            }
            settings.memoryLimitBytes = size.bytes
            return true
        },
        integer("filter-bits", 0...16) { $1.filterBits = $0 },
        integer("once-window-seconds", 1...31_536_000) { $1.onceWindowSeconds = $0 },
        size("once-memory", such: "256mb or 4gb") { $1.onceMemoryBytes = $0 },
        size("checkpoint-bytes", such: "64mb or 1gb") { $1.checkpointBytes = $0 },
        integer("checkpoint-seconds", 1...86_400) { $1.checkpointSeconds = $0 },
        integer("scrub-seconds", 0...31_536_000) { $1.scrubSeconds = $0 },
        size("copy-rate", such: "16mb or 1gb") { $1.copyBytesPerSecond = $0 },
        Field(name: "plain-ack", allowed: "applied, memory") { text, settings in
            settings.isPlainAnsweredEarly = text == "memory"
            return ["applied", "memory"].contains(text)
        },
        integer("memory-ack-milliseconds", 1...Limits.earlyMillisecondsLimit) {
            $1.earlyMillisecondsMax = $0
        },
        path("nats") { $1.nats = $0 },
        path("nats-credentials") { $1.natsCredentials = $0 },
        Field(
            name: "cluster", allowed: "a name of 1 to 32 letters, digits and hyphens"
        ) { text, settings in
            settings.cluster = text
            return ClusterSettings.isName(text)
        },
        Field(name: "announce-host", allowed: "an address or a host name") { text, settings in
            settings.announceHost = text
            return !text.isEmpty
        },
        integer("announce-port", 1...65535) { $1.announcePort = $0 },
        integer("announce-tls-port", 1...65535) { $1.announceTLSPort = $0 },
        Field(name: "zone", allowed: "1 to 64 characters") { text, settings in
            settings.zone = text
            return (1...64).contains(text.utf8.count)
        },
        Field(name: "log-level", allowed: logLevels.joined(separator: ", ")) { text, settings in
            settings.logLevel = text
            return logLevels.contains(text)
        },
        Field(name: "engine", allowed: "tally, null") { text, settings in
            settings.engine = text
            return ["tally", "null"].contains(text)
        },
    ]

    private static func integer(
        _ name: String, _ range: ClosedRange<Int>,
        _ take: @escaping @Sendable (Int, inout Settings) -> Void
    ) -> Field {
        Field(name: name, allowed: self.range(range)) { text, settings in
            guard let value = Int(text), range.contains(value) else { return false }
            take(value, &settings)
            return true
        }
    }

    private static func port(
        _ name: String, _ take: @escaping @Sendable (Int?, inout Settings) -> Void
    ) -> Field {
        Field(name: name, allowed: "\(range(0...65535)), none") { text, settings in
            let value = Int(text)
            guard text == "none" || value.map({ (0...65535).contains($0) }) == true else {
                return false
            }
            take(value, &settings)
            return true
        }
    }

    private static func path(
        _ name: String, _ take: @escaping @Sendable (String, inout Settings) -> Void
    ) -> Field {
        Field(name: name, allowed: "a path") { text, settings in
            take(text, &settings)
            return !text.isEmpty
        }
    }

    private static func size(
        _ name: String, such examples: String,
        _ take: @escaping @Sendable (Int, inout Settings) -> Void
    ) -> Field {
        Field(name: name, allowed: "a size such as \(examples), at least 1mb") { text, settings in
            guard let size = ByteSize(text), size.bytes >= 1 << 20 else { return false }
            take(size.bytes, &settings)
            return true
        }
    }

    private static func range(_ range: ClosedRange<Int>) -> String {
        "\(range.lowerBound)...\(range.upperBound)"
    }

    /// All names, as in the configuration file.
    static var names: [String] { fields.map(\.name) }

    static func environmentName(_ name: String) -> String {
        "TALLY_" + name.uppercased().replacing("-", with: "_")
    }

    /// Reads all settings.
    ///
    /// - Parameters:
    ///   - flags: What the command line gave, by name.
    ///   - file: Path of a YAML (or JSON) file.
    /// - Throws: `Invalid`.
    static func read(
        flags: [String: String], environment: [String: String], file: String?
    ) throws -> Settings {
        try refuseUnknown(environment)
        let reader = ConfigReader(providers: [
            provider(named: "flags", flags),
            EnvironmentVariablesProvider(environmentVariables: environment)
                .prefixKeys(with: "tally"),
            provider(named: file ?? "no file", try file.map(values(inFile:)) ?? [:]),
        ])
        var settings = Settings()
        for field in fields {
            guard let text = reader.string(forKey: ConfigKey([field.name])) else { continue }
            guard field.take(text, &settings) else {
                throw Invalid.notAllowed(name: field.name, value: text, allowed: field.allowed)
            }
        }
        guard !settings.data.isEmpty else { throw Invalid.missing(name: "data") }
        if settings.tlsPort != nil || settings.httpsPort != nil {
            guard !settings.tlsCertificate.isEmpty else {
                throw Invalid.missing(name: "tls-certificate")
            }
            guard !settings.tlsKey.isEmpty else { throw Invalid.missing(name: "tls-key") }
        }
        guard settings.port != nil || settings.tlsPort != nil else {
            throw Invalid.missing(name: "tls-port")
        }
        return settings
    }

    private static func provider(
        named name: String, _ values: [String: String]
    ) -> InMemoryProvider {
        InMemoryProvider(
            name: name,
            values: Dictionary(
                uniqueKeysWithValues: values.map {
                    (AbsoluteConfigKey([$0]), ConfigValue(.string($1), isSecret: false))
                }))
    }

    private static func refuseUnknown(_ environment: [String: String]) throws {
        let known = Set(names.map(environmentName)).union(["TALLY_CONFIG"])
        let given = environment.keys.filter { $0.hasPrefix("TALLY_") }.sorted()
        if let unknown = given.first(where: { !known.contains($0) }) {
            throw Invalid.unknown(name: unknown, source: "the environment")
        }
    }

    /// What a YAML file of `name: value` lines says.
    private static func values(inFile file: String) throws -> [String: String] {
        let text: String
        do {
            text = try String(contentsOf: URL(filePath: file), encoding: .utf8)
        } catch {
            throw Invalid.unreadable(file: file, reason: "no readable UTF-8 file")
        }
        let node: Yams.Node?
        do {
            node = try Yams.compose(yaml: text)
        } catch {
            throw Invalid.unreadable(file: file, reason: "\(error)")
        }
        // A file of comments alone says nothing, and is none the worse for it.
        guard let node, node.scalar?.string.isEmpty != true else { return [:] }
        guard let mapping = node.mapping else {
            throw Invalid.unreadable(file: file, reason: "not a list of 'name: value' lines")
        }
        var values: [String: String] = [:]
        for (key, value) in mapping {
            guard let name = key.string, names.contains(name) else {
                throw Invalid.unknown(name: key.string ?? "?", source: file)
            }
            guard let scalar = value.scalar else {
                throw Invalid.unreadable(file: file, reason: "'\(name)' is not a single value")
            }
            values[name] = scalar.string
        }
        return values
    }
}
