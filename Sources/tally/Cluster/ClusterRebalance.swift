import ArgumentParser
import TallyCluster
import TallyReplication

extension ClusterCommand {
    /// `tally cluster rebalance`.
    struct RebalanceCommand: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "rebalance",
            abstract: "Give the places of nodes that are not there to others at once.",
            discussion: """
                A node that is silent keeps its places for some minutes, since most come back. This does not wait: \
                the other nodes copy what it has had, until every log has its copies again. A node that comes back \
                gets its share as a new one does. Waits until everything is served as it should be.
                """)

        @OptionGroup var servers: NATSServers
        @Option(help: "Longest time to wait, seconds.")
        var timeout = 600

        func run() async throws {
            try await servers.withCluster { client, settings in
                let observer = ClusterObserver(settings, client)
                let before = try await observer.status(listening: .seconds(2))
                let present = Set(before.nodes.map(\.node))
                let missing = Set(before.logs.flatMap(\.holders)).subtracting(present).sorted()
                for node in missing {
                    try await observer.setAbsent(node)
                    print("\(node) is not there: its places go to others")
                }
                try await wait(observer, settings)
                let moved = try await observer.status().logs.map { log in
                    Set(log.holders).subtracting(before.logs[log.log].holders).count
                }
                print(
                    "\(moved.reduce(0, +)) copies have moved; every log is served as it should be")
            }
        }

        /// Waits until all nodes that are to hold a log serve it, and are as many as they can be.
        private func wait(
            _ observer: ClusterObserver, _ settings: ClusterSettings
        ) async throws {
            let clock = ContinuousClock()
            let deadline = clock.now + .seconds(timeout)
            while clock.now < deadline {
                let status = try await observer.status()
                let available = status.nodes.filter { !$0.isDraining }.count
                let isDone = status.logs.allSatisfy { log in
                    log.holders.count >= min(settings.copies, available)
                        && log.holders.allSatisfy { holder in
                            status.nodes.contains {
                                $0.node == holder && $0.logs[log.log]?.phase == .serving
                            }
                        }
                }
                if isDone { return }
            }
            writeError(
                "tally: some log is still served by too few nodes after \(timeout) seconds\n")
            throw ExitCode.failure
        }
    }
}
