import ArgumentParser
import TallyCluster
import TallyReplication

extension ClusterCommand {
    /// `tally cluster recover`.
    struct RecoverCommand: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "recover",
            abstract: "Have logs that nobody can follow any more go on from what the nodes have.",
            discussion: """
                For logs whose streams were lost, rebuilt or fell back: a new epoch begins with the state of the node \
                that has come furthest, and the others copy it. What no node has applied is lost. Without --yes it \
                only shows what it would do.
                """)

        @OptionGroup var servers: NATSServers
        @Option(help: "One log's number; all that nobody serves unless said.")
        var log: Int?
        @Flag(help: "Do it.")
        var yes = false
        @Flag(help: "Do it although nodes that may have come further are not there.")
        var acceptLoss = false

        func run() async throws {
            try await servers.withCluster { client, settings in
                if let log, !(0..<settings.logs).contains(log) {
                    throw ValidationError("the cluster has the logs 0 to \(settings.logs - 1)")
                }
                let recovery = ClusterRecovery(settings, client)
                let nodes = try await ClusterObserver(settings, client).hear(for: .seconds(1))
                var plans: [ClusterRecovery.Plan] = []
                var refusals: [ClusterRecovery.Refusal] = []
                let broken = try await recovery.broken(nodes)
                for number in log.map({ [$0] }) ?? broken {
                    do {
                        plans.append(try await recovery.plan(log: number, nodes))
                    } catch let refusal as ClusterRecovery.Refusal {
                        refusals.append(refusal)
                    }
                }
                for refusal in refusals { writeError("tally: \(refusal)\n") }
                if !plans.isEmpty { print(Self.text(plans)) }
                if plans.isEmpty, refusals.isEmpty { print("every log is served by some node") }
                guard yes else { return }
                if !acceptLoss, let reason = plans.lazy.compactMap(Self.loss).first {
                    writeError("tally: \(reason), or go on with --accept-loss\n")
                    throw ExitCode.failure
                }
                for plan in plans {
                    try await recovery.carryOut(plan)
                    print("log \(plan.log) goes on in epoch \(plan.epoch)")
                }
                if !refusals.isEmpty { throw ExitCode.failure }
            }
        }

        /// What may be lost by a plan, and what could be done against that; nil for nothing.
        private static func loss(_ plan: ClusterRecovery.Plan) -> String? {
            if !plan.missing.isEmpty {
                return "nodes that may have come further with log \(plan.log) are not there: "
                    + plan.missing.map(\.description).joined(separator: ", ") + "; start them"
            }
            if plan.lostMessages > 0 {
                return
                    "log \(plan.log) is there, with \(plan.lostMessages) messages that no node has applied; "
                    + "see why nodes have stopped with it"
            }
            return nil
        }

        private static func text(_ plans: [ClusterRecovery.Plan]) -> String {
            var rows = [["LOG", "EPOCH", "FROM NODE", "AT MESSAGE", "STREAM ENDS AT", "MISSING"]]
            for plan in plans {
                rows.append([
                    "\(plan.log)", "\(plan.epoch)", "\(plan.origin)", "\(plan.sequence)",
                    plan.streamSequence.map(String.init) ?? "gone",
                    plan.missing.map { String($0.description.prefix(8)) }.joined(separator: " "),
                ])
            }
            return TextTable.text(rows)
        }
    }
}
