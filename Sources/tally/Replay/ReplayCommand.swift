import ArgumentParser
import TallyCore

#if canImport(FoundationEssentials)
    import FoundationEssentials
#else
    import Foundation
#endif

/// `tally replay`: sends updates to a running server and checks every count.
struct ReplayCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "replay",
        abstract: "Send a file of updates, or a made-up day, to a server and check all counts.",
        discussion: """
            The file has one update per line: a key, or a key and a delta with white space \
            between. Afterwards every counter must have moved by exactly the sum of its deltas, \
            so nobody else may update these keys meanwhile.
            """)

    @Argument(help: "The file; - for standard input; none for a made-up day.")
    var file: String?
    @Option(help: "Address of the server.")
    var host = "127.0.0.1"
    @Option(help: "Port of the server.")
    var port = 7379
    @Option(help: "Connections at a time.")
    var connections = 50
    @Option(help: "Commands sent before their replies are awaited.")
    var pipeline = 16
    @Option(help: "Posts of the made-up day.")
    var posts = 200_000
    @Option(help: "Seed of the made-up day.")
    var seed: UInt64 = 1

    func validate() throws {
        guard (1...10_000).contains(connections) else {
            throw ValidationError("--connections must be in 1...10000")
        }
        guard (1...10_000).contains(pipeline) else {
            throw ValidationError("--pipeline must be in 1...10000")
        }
        guard (1...100_000_000).contains(posts) else {
            throw ValidationError("--posts must be in 1...100000000")
        }
    }

    func run() async throws {
        let events = try readEvents()
        guard !events.isEmpty else { throw ValidationError("there is nothing to replay") }
        let replay = Replay(
            host: host, port: port, connections: connections, pipeline: pipeline)
        let totals = Self.totals(events)
        print(
            "\(events.count) updates of \(totals.count) counters through \(connections) "
                + "connections, pipeline \(pipeline)")
        do {
            let before = try await replay.read(keys: Array(totals.keys))
            let report = try await replay.send(events)
            print(report.text)
            let after = try await replay.read(keys: Array(totals.keys))
            try check(totals, before, after)
        } catch let error as ReplayError {
            print("FAILED: \(error)")
            throw ExitCode.failure
        }
    }

    /// Compares how far every counter has moved with what was sent.
    private func check(
        _ totals: [String: Int64], _ before: [String: Int64], _ after: [String: Int64]
    ) throws {
        let top = totals.keys.sorted { (after[$0] ?? 0, $1) > (after[$1] ?? 0, $0) }.prefix(10)
        print("\ntop counters")
        for key in top { print("  \(key)  \(after[key] ?? 0)") }
        let wrong = totals.filter { key, total in
            (after[key] ?? 0) &- (before[key] ?? 0) != total
        }
        guard wrong.isEmpty else {
            for (key, total) in wrong.sorted(by: { $0.key < $1.key }).prefix(10) {
                print(
                    "  \(key) moved by \((after[key] ?? 0) &- (before[key] ?? 0)), not by \(total)")
            }
            throw ReplayError.wrongCounts(wrong.count)
        }
        print("\nOK: all \(totals.count) counters equal their exact totals")
    }

    private static func totals(_ events: [TrafficDay.Event]) -> [String: Int64] {
        var totals: [String: Int64] = [:]
        for event in events { totals[event.key, default: 0] &+= event.delta }
        return totals
    }

    private func readEvents() throws -> [TrafficDay.Event] {
        guard let file else { return TrafficDay.events(posts: posts, seed: seed) }
        let data = try Data(contentsOf: URL(filePath: file == "-" ? "/dev/stdin" : file))
        var events: [TrafficDay.Event] = []
        for (index, line) in data.split(separator: UInt8(ascii: "\n")).enumerated() {
            let words = line.split { $0 == UInt8(ascii: " ") || $0 == 9 || $0 == 13 }
            guard let first = words.first else { continue }
            let delta =
                words.count == 1
                ? 1 : Array(words[1]).withUnsafeBytes { Decimal.parse($0) }
            guard let delta, words.count <= 2 else {
                throw ValidationError("line \(index + 1) is not a key, or a key and a delta")
            }
            events.append(
                TrafficDay.Event(key: String(decoding: first, as: UTF8.self), delta: delta))
        }
        return events
    }
}

/// Why a replay did not succeed.
enum ReplayError: Error, CustomStringConvertible {
    case refused(String)
    case disconnected
    case cannotConnect(String)
    case wrongCounts(Int)

    var description: String {
        switch self {
        case .refused(let reply): "the server answered: \(reply)"
        case .disconnected: "the server closed a connection"
        case .cannotConnect(let reason): "cannot connect: \(reason)"
        case .wrongCounts(let count): "\(count) counters are wrong"
        }
    }
}
