import ArgumentParser
import TallyReplication

extension ClusterCommand {
    /// `tally cluster verify`.
    struct VerifyCommand: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "verify",
            abstract: "Compare what the nodes of a cluster hold, log by log.",
            discussion: """
                Every node that serves a log makes a checkpoint that is cut at the same message, and reads it from \
                its disk; everything goes on meanwhile. Ends with 1 if some node holds something else than the \
                others, or cannot say.
                """)

        @OptionGroup var servers: NATSServers
        @Option(help: "One log's number; all of them unless said.")
        var log: Int?
        @Flag(help: "Print JSON.")
        var json = false

        func run() async throws {
            let verdicts = try await servers.withCluster { client, settings in
                if let log, !(0..<settings.logs).contains(log) {
                    throw ValidationError("the cluster has the logs 0 to \(settings.logs - 1)")
                }
                let nodes = try await ClusterObserver(settings, client).hear(
                    for: .milliseconds(700))
                var verdicts: [ClusterVerifier.Verdict] = []
                for number in log.map({ $0...$0 }) ?? 0...(settings.logs - 1) {
                    verdicts.append(
                        try await ClusterVerifier(settings, client).verify(log: number, nodes))
                }
                return verdicts
            }
            if json {
                try ClusterCommand.printJSON(verdicts)
            } else {
                print(Self.text(verdicts))
            }
            if !verdicts.allSatisfy(\.isSame) { throw ExitCode.failure }
        }

        private static func text(_ verdicts: [ClusterVerifier.Verdict]) -> String {
            var rows = [["LOG", "MESSAGE", "NODES", "RECORDS", "RESULT"]]
            for verdict in verdicts {
                let records = Set(verdict.holdings.map(\.records)).sorted()
                rows.append([
                    "\(verdict.log)", verdict.sequence == 0 ? "-" : "\(verdict.sequence)",
                    "\(verdict.holdings.count)",
                    records.isEmpty ? "-" : records.map(String.init).joined(separator: " or "),
                    verdict.isSame
                        ? "the same"
                        : verdict.holdings.isEmpty ? "nobody serves it" : "DIFFERENT OR UNKNOWN",
                ])
            }
            let details = verdicts.lazy.filter { !$0.isSame }.flatMap { verdict in
                verdict.holdings.map { holding in
                    "log \(verdict.log), node \(holding.node): "
                        + (holding.problem ?? "\(holding.records) records, \(holding.sum ?? "-")")
                }
            }
            return ([TextTable.text(rows)] + details).joined(separator: "\n")
        }
    }
}
