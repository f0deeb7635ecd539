import ArgumentParser
import TallyRESP
internal import Glibc

/// `tally status`
struct StatusCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status", abstract: "Print how a server is doing.")

    @OptionGroup var options: ConnectionOptions

    /// What is shown: its name, and where INFO has it.
    private static let shown: [(name: String, field: String)] = [
        ("version", "tally_version"), ("up, seconds", "uptime_in_seconds"),
        ("connections", "connected_clients"), ("commands", "total_commands_processed"),
        ("keys", "db0"), ("memory of counters", "used_memory_human"),
        ("memory of the process", "used_memory_rss_human"), ("memory limit", "maxmemory_human"),
        ("durability", "durability"), ("durable sequence", "durable_sequence"),
        ("journal waiting, bytes", "journal_pending_bytes"), ("journal space", "journal_space"),
        ("checkpoint sequence", "checkpoint_sequence"), ("segments in memory", "hot_segments"),
        ("segments on disk", "cold_segments"), ("damaged segments", "damaged_segments"),
    ]

    func run() async throws {
        try await options.withServer { server in
            let fields = try await server.info()
            if options.printsJSON {
                let members = fields.sorted { $0.key < $1.key }.map { name, value in
                    "\(quotedJSON(name)): \(Int64(value).map(String.init) ?? quotedJSON(value))"
                }
                print("{\(members.joined(separator: ", "))}")
                return
            }
            let width = Self.shown.map(\.name.count).max() ?? 0
            for (name, field) in Self.shown {
                let padding = String(repeating: " ", count: width - name.count)
                let value = fields[field] ?? (field == "db0" ? "keys=0" : "-")
                print("\(name)\(padding)  \(value)")
            }
        }
    }
}

/// `tally top`
struct TopCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "top", abstract: "Show rates and sizes of a server, line by line.")

    @OptionGroup var options: ConnectionOptions
    @OptionGroup var pace: PaceOptions

    func run() async throws {
        try await options.withServer { server in
            var before: (fields: [String: String], nanoseconds: UInt64)?
            try await pace.forEachRound(from: 0) { round in
                let now = nowNanoseconds()
                let fields = try await server.info()
                defer { before = (fields, now) }
                guard let before else { return }
                let seconds = Double(max(1, now - before.nanoseconds)) / 1e9
                let rate = { (name: String) -> Int64 in
                    let difference =
                        (Int64(fields[name] ?? "") ?? 0) - (Int64(before.fields[name] ?? "") ?? 0)
                    return Int64((Double(max(0, difference)) / seconds).rounded())
                }
                let values: [(String, String)] = [
                    ("commands/s", "\(rate("total_commands_processed"))"),
                    ("groups/s", "\(rate("journal_groups"))"),
                    ("in B/s", "\(rate("total_net_input_bytes"))"),
                    ("out B/s", "\(rate("total_net_output_bytes"))"),
                    ("clients", fields["connected_clients"] ?? "0"),
                    ("keys", Self.keys(fields["db0"])),
                    (
                        "memory",
                        fields[options.printsJSON ? "used_memory" : "used_memory_human"] ?? "0"
                    ),
                    ("waiting B", fields["journal_pending_bytes"] ?? "0"),
                ]
                print(Self.line(values, isHeader: round % 20 == 1, options.printsJSON))
                fflush(nil)
            }
        }
    }

    private static func keys(_ text: String?) -> String {
        text.map { String($0.dropFirst("keys=".count).prefix { $0 != "," }) } ?? "0"
    }

    private static func line(
        _ values: [(String, String)], isHeader: Bool, _ isJSON: Bool
    ) -> String {
        if isJSON {
            return "{" + values.map { "\(quotedJSON($0.0)): \($0.1)" }.joined(separator: ", ") + "}"
        }
        let pad = { (text: String) in
            String(repeating: " ", count: max(1, 12 - text.count)) + text
        }
        let header = isHeader ? values.map { pad($0.0) }.joined() + "\n" : ""
        return header + values.map { pad($0.1) }.joined()
    }
}

/// `tally watch`
struct WatchCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "watch", abstract: "Show counters and how fast they change, line by line.")

    @OptionGroup var options: ConnectionOptions
    @OptionGroup var pace: PaceOptions
    @Argument(help: "The counters' keys.")
    var counters: [String]

    func run() async throws {
        try await options.withServer { server in
            var before: [Int64?] = []
            try await pace.forEachRound(from: 1) { _ in
                let values = try await server.call(["MGET"] + counters).elements.map(\.integer)
                let parts = zip(counters, values).enumerated().map { index, pair in
                    let last = index < before.count ? before[index] ?? 0 : pair.1 ?? 0
                    let change = (pair.1 ?? 0) &- last
                    if options.printsJSON {
                        return
                            "\(quotedJSON(pair.0)): {\"value\": \(pair.1.map(String.init) ?? "null"), "
                            + "\"change\": \(change)}"
                    }
                    return
                        "\(pair.0) \(pair.1.map(String.init) ?? "-") (\(change >= 0 ? "+" : "")\(change))"
                }
                before = values
                print(
                    options.printsJSON
                        ? "{\(parts.joined(separator: ", "))}" : parts.joined(separator: "   "))
                fflush(nil)
            }
        }
    }
}

/// How often something is shown.
struct PaceOptions: ParsableArguments {
    @Option(help: "Time between two lines, seconds.")
    var interval = 1.0
    @Option(help: "How many lines; 0 goes on until it is ended.")
    var count = 0

    func validate() throws {
        guard interval >= 0.05, interval <= 86_400 else {
            throw ValidationError("--interval must be between 0.05 and 86400")
        }
        guard count >= 0 else { throw ValidationError("--count must not be negative") }
    }

    /// Calls `body` with the number of the round, `first` to `count`.
    func forEachRound(from first: Int, _ body: (Int) async throws -> Void) async throws {
        var round = first
        while true {
            try await body(round)
            if count > 0, round >= count { return }
            round += 1
            try await Task.sleep(for: .milliseconds(Int(interval * 1000)))
        }
    }
}

extension ServerConnection {
    /// What INFO tells, by name.
    func info() async throws -> [String: String] {
        let text = try await call(["INFO"]).text ?? ""
        var fields: [String: String] = [:]
        for line in text.split(whereSeparator: \.isNewline) where !line.hasPrefix("#") {
            guard let colon = line.firstIndex(of: ":") else { continue }
            fields[String(line[..<colon])] = String(line[line.index(after: colon)...])
        }
        return fields
    }
}

private func nowNanoseconds() -> UInt64 { SystemClock().monotonicNanoseconds() }
