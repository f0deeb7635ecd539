import Synchronization
import TallyCore
import TallyNode
import TallyRESP

/// TIME, CONFIG and INFO.
extension CommandProcessor {
    mutating func time() {
        let milliseconds = server.clock.wallMilliseconds()
        replies.array(2)
        replies.bulk("\(milliseconds / 1000)")
        replies.bulk("\(milliseconds % 1000 * 1000)")
    }

    mutating func info(_ session: borrowing Session) {
        var sections: [String] = []
        for index in 1..<max(1, arguments.count) {
            sections.append(arguments[index].text.lowercased())
        }
        let all = server.node.countAll()
        noteSequence(all.sequence)
        publishCounts()
        replies.verbatim(
            InfoReport(server: server, counters: all.count).text(sections), session.version)
    }

    // MARK: CONFIG

    mutating func configGet(_ version: RESPVersion) {
        let patterns = (2..<arguments.count).map { arguments[$0].text }
        var found: [(name: String, parameter: ConfigParameter)] = []
        for parameter in ConfigParameter.all {
            let pattern = patterns.first { GlobPattern($0.lowercased()).matches(parameter.name) }
            guard let pattern else { continue }
            // A name that was spelled out comes back as it was spelled.
            let isName = pattern.lowercased() == parameter.name
            found.append((isName ? pattern : parameter.name, parameter))
        }
        replies.map(found.count, version)
        for (name, parameter) in found {
            replies.bulk(name)
            replies.bulk(parameter.value(server))
        }
    }

    /// Changes all the settings or none.
    mutating func configSet() {
        let count = arguments.count
        guard count % 2 == 0 else { return replies.error(Self.wrongArity("config|set")) }
        var changes: [() -> Void] = []
        var seen: Set<String> = []
        for index in stride(from: 2, to: count, by: 2) {
            let name = arguments[index].text
            let value = arguments[index + 1].text
            guard
                let parameter = ConfigParameter.all.first(where: { $0.name == name.lowercased() })
            else {
                return replies.error(
                    "ERR Unknown option or number of arguments for CONFIG SET - '\(name)'")
            }
            let failed = "ERR CONFIG SET failed (possibly related to argument '\(name)') - "
            guard seen.insert(parameter.name).inserted else {
                return replies.error(failed + "duplicate parameter")
            }
            guard let prepare = parameter.prepare else {
                return replies.error(failed + "can't set immutable config")
            }
            switch prepare(value, server) {
            case .success(let change): changes.append(change)
            case .failure(let refusal): return replies.error(failed + refusal.reason)
            }
        }
        for change in changes { change() }
        replies.simple("OK")
    }
}

/// A setting as CONFIG GET and CONFIG SET see it, under Redis's name where Redis has one.
struct ConfigParameter: Sendable {
    struct Refusal: Error {
        let reason: String
    }

    let name: String
    let value: @Sendable (ServerContext) -> String
    /// Checks a new value and returns what applies it; nil for what only a restart changes.
    var prepare: (@Sendable (String, ServerContext) -> Result<() -> Void, Refusal>)?

    static let all: [ConfigParameter] = [
        ConfigParameter(name: "appendfsync") { server in
            switch server.configuration.durability {
            case .always: "always"
            case .interval: "everysec"
            case .none: "no"
            }
        },
        ConfigParameter(name: "appendonly") { _ in "yes" },
        ConfigParameter(name: "bind") { $0.configuration.host },
        ConfigParameter(name: "databases") { _ in "1" },
        ConfigParameter(name: "dir") { $0.configuration.dataDirectory },
        ConfigParameter(name: "durability") { $0.configuration.durability.description },
        ConfigParameter(
            name: "latency-monitor-threshold",
            value: { "\($0.latency.thresholdMilliseconds.load(ordering: .relaxed))" },
            prepare: { text, server in
                integer(text, in: 0...1_000_000).map { value in
                    { server.latency.thresholdMilliseconds.store(value, ordering: .relaxed) }
                }
            }),
        ConfigParameter(
            name: "slowlog-log-slower-than",
            value: { "\($0.slowLog.thresholdMicroseconds.load(ordering: .relaxed))" },
            prepare: { text, server in
                integer(text, in: -1...1_000_000_000).map { value in
                    { server.slowLog.thresholdMicroseconds.store(value, ordering: .relaxed) }
                }
            }),
        ConfigParameter(
            name: "slowlog-max-len",
            value: { "\($0.slowLog.countMax.load(ordering: .relaxed))" },
            prepare: { text, server in
                integer(text, in: 0...10_000).map { value in
                    { server.slowLog.countMax.store(value, ordering: .relaxed) }
                }
            }),
        ConfigParameter(name: "io-threads") { "\($0.configuration.threads)" },
        ConfigParameter(
            name: "maxclients",
            value: { "\($0.settings.clientsMax.load(ordering: .relaxed))" },
            prepare: { text, server in
                integer(text, in: 1...1_000_000).map { value in
                    { server.settings.clientsMax.store(value, ordering: .relaxed) }
                }
            }),
        ConfigParameter(
            name: "maxmemory",
            value: { "\($0.node.memoryBytesMax ?? 0)" },
            prepare: { text, server in
                memory(text).map { bytes in
                    { server.node.memoryBytesMax = bytes == 0 ? nil : bytes }
                }
            }),
        ConfigParameter(name: "maxmemory-policy") { _ in "noeviction" },
        ConfigParameter(name: "port") { "\($0.port.load(ordering: .relaxed))" },
        ConfigParameter(name: "proto-max-bulk-len") { _ in "\(Limits.bulkBytesMax)" },
        ConfigParameter(name: "save") { _ in "" },
        ConfigParameter(name: "tcp-keepalive") { _ in "300" },
        ConfigParameter(name: "tls-port") { "\($0.tlsPort.load(ordering: .relaxed))" },
        ConfigParameter(
            name: "timeout",
            value: { "\($0.settings.idleSecondsMax.load(ordering: .relaxed))" },
            prepare: { text, server in
                integer(text, in: 0...31_536_000).map { value in
                    { server.settings.idleSecondsMax.store(value, ordering: .relaxed) }
                }
            }),
    ]

    private static func integer(_ text: String, in range: ClosedRange<Int>) -> Result<Int, Refusal>
    {
        guard let value = Int(text) else {
            return .failure(Refusal(reason: "argument couldn't be parsed into an integer"))
        }
        guard range.contains(value) else {
            return .failure(
                Refusal(
                    reason: "argument must be between \(range.lowerBound) and "
                        + "\(range.upperBound) inclusive"))
        }
        return .success(value)
    }

    private static func memory(_ text: String) -> Result<Int, Refusal> {
        guard let bytes = ByteSize(text)?.bytes else {
            return .failure(Refusal(reason: "argument must be a memory value"))
        }
        return .success(bytes)
    }
}
