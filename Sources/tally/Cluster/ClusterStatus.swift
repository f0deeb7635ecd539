import ArgumentParser
import NIOCore
import TallyCluster
import TallyNATS
import TallyReplication

#if canImport(FoundationEssentials)
    import FoundationEssentials
#else
    import Foundation
#endif

extension ClusterCommand {
    /// Prints what a script asked for.
    static func printJSON(_ value: some Encodable) throws {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .prettyPrinted]
        print(String(decoding: try encoder.encode(value), as: UTF8.self))
    }

    /// `tally cluster status`.
    struct StatusCommand: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "status", abstract: "Show a cluster's nodes and logs.",
            discussion: "Ends with 1 if some log is served by fewer nodes than it should be.")

        @OptionGroup var servers: NATSServers
        @Flag(help: "Print JSON.")
        var json = false

        func run() async throws {
            let (status, settings) = try await servers.withCluster { client, settings in
                (try await ClusterObserver(settings, client).status(), settings)
            }
            if json {
                try ClusterCommand.printJSON(status)
            } else {
                print(Self.text(status))
            }
            let wanted = min(settings.copies, max(1, status.nodes.filter { !$0.isDraining }.count))
            let isWhole = status.logs.allSatisfy { log in
                status.nodes.filter { $0.logs[log.log]?.phase == .serving }.count >= wanted
            }
            if !isWhole { throw ExitCode.failure }
        }

        private static func text(_ status: ClusterObserver.Status) -> String {
            var rows = [["NODE", "ADDRESS", "ZONE", "LOGS", "PRIMARY OF", "LAG", "STATE"]]
            for node in status.nodes {
                let lag = node.logs.map { number, progress in
                    Int(clamping: status.logs[number].lastSequence)
                        - Int(clamping: progress.sequence)
                }.max()
                rows.append([
                    String(node.node.description.prefix(8)),
                    "\(node.address.host):\(node.address.port ?? node.address.tlsPort ?? 0)",
                    node.zone.isEmpty ? "-" : node.zone, "\(node.logs.count)",
                    "\(status.logs.filter { $0.holders.first == node.node }.count)",
                    lag.map { "\(max(0, $0))" } ?? "-", state(node),
                ])
            }
            var logs = [
                ["LOG", "EPOCH", "MESSAGES", "BYTES", "LEADER", "SERVED BY", "HELD TO BE BY"]
            ]
            for log in status.logs {
                let serving = status.nodes.filter { $0.logs[log.log]?.phase == .serving }
                logs.append([
                    "\(log.log)", "\(log.epoch)",
                    log.hasStream ? "\(log.firstSequence)-\(log.lastSequence)" : "gone",
                    "\(log.byteCount)",
                    log.leader.isEmpty ? "none" : log.leader,
                    serving.map { String($0.node.description.prefix(8)) }.joined(separator: " "),
                    log.holders.map { String($0.description.prefix(8)) }.joined(separator: " "),
                ])
            }
            return TextTable.text(rows) + "\n\n" + TextTable.text(logs)
        }

        private static func state(_ node: NodeRecord) -> String {
            var words: [String] = []
            if node.isDraining { words.append("draining") }
            for phase in [NodeRecord.Phase.halted, .copying, .following] {
                let count = node.logs.values.filter { $0.phase == phase }.count
                if count > 0 { words.append("\(count) \(phase.rawValue)") }
            }
            return words.isEmpty ? "serving" : words.joined(separator: ", ")
        }
    }

    /// `tally cluster drain`.
    struct DrainCommand: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "drain",
            abstract: "Have a node's logs go to others, before it is stopped.",
            discussion: "Waits until the node has none left.")

        @OptionGroup var servers: NATSServers
        @Argument(help: "The node's name or its beginning, or its address HOST:PORT.")
        var node: String
        @Flag(help: "Have it take logs again.")
        var undo = false
        @Option(help: "Longest time to wait, seconds.")
        var timeout = 600

        func run() async throws {
            try await servers.withCluster { client, settings in
                let observer = ClusterObserver(settings, client)
                let found = try await find(observer)
                try await observer.setDraining(found.node, !undo)
                guard !undo else { return print("\(found.node) takes logs again") }
                try await wait(for: found.node, observer)
            }
        }

        private func find(_ observer: ClusterObserver) async throws -> NodeRecord {
            let nodes = try await observer.hear(for: .seconds(1))
            let found = nodes.filter { record in
                let ports = [record.address.port, record.address.tlsPort].compactMap(\.self)
                return record.node.description.hasPrefix(node)
                    || ports.contains { "\(record.address.host):\($0)" == node }
            }
            guard let first = found.first, found.count == 1 else {
                throw ValidationError(
                    found.isEmpty
                        ? "no node '\(node)' is there; there are: "
                            + nodes.map(\.node.description).joined(separator: ", ")
                        : "several nodes are called so")
            }
            return first
        }

        private func wait(for node: NodeIdentity, _ observer: ClusterObserver) async throws {
            let clock = ContinuousClock()
            let deadline = clock.now + .seconds(timeout)
            while clock.now < deadline {
                let nodes = try await observer.hear(for: .milliseconds(700))
                let left = nodes.first { $0.node == node }?.logs.count ?? 0
                if left == 0 { return print("\(node) has no logs left") }
            }
            writeError("tally: the node still has logs after \(timeout) seconds\n")
            throw ExitCode.failure
        }
    }
}

extension NATSServers {
    /// Runs `body` with a connection and the cluster's settings; ends with an error that says what is wrong.
    func withCluster<Value: Sendable>(
        _ body: (NATSClient, ClusterSettings) async throws -> Value
    ) async throws -> Value {
        let client = try connect()
        do {
            try await client.waitUntilConnected()
            let settings = try await ClusterDirectory(client).settings(of: cluster)
            let value = try await body(client, settings)
            try? await client.close().get()
            return value
        } catch {
            try? await client.close().get()
            if error is ValidationError || error is ExitCode { throw error }
            writeError("tally: \(error)\n")
            throw ExitCode.failure
        }
    }
}
