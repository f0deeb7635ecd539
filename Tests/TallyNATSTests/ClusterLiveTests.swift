import Foundation
import NIOCore
import Testing

@testable import TallyNATS

extension LiveTests {
    /// Three servers that sync every write.
    @Suite struct Clusters {
        /// Publishes as a journal does: one message at a time, retried verbatim under its id until its outcome
        /// is known; remembers what was acknowledged.
        final class Journal: Sendable {
            let acknowledged = Gathered<(sequence: UInt64, text: String)>()
            let troubles = Gathered<String>()
            private let client: NATSClient

            init(_ client: NATSClient) { self.client = client }

            func publish(_ numbers: ClosedRange<Int>) async throws {
                for number in numbers { try await publish("\(number)") }
            }

            private func publish(_ text: String) async throws {
                for _ in 0..<2_000 {
                    let trouble: String
                    do throws(NATSNotSent) {
                        let outcome = try await JetStream(client).publish(
                            ByteBuffer(string: text), subject: "s",
                            .init(messageID: text, stream: "S"), timeout: .seconds(2))
                        if case .acknowledged(let acknowledgement) = outcome {
                            acknowledged.add((acknowledgement.sequence, text))
                            return
                        }
                        trouble = "\(outcome)"
                    } catch {
                        trouble = "\(error)"
                    }
                    troubles.add(trouble)
                    try await Task.sleep(for: .milliseconds(20))
                }
                throw NATSServer.Failure(description: "\(text) is never acknowledged")
            }
        }

        private func withStream(
            _ body: (NATSCluster, NATSClient, NATSClient) async throws -> Void
        ) async throws {
            let cluster = try NATSCluster()
            try await cluster.start()
            try await withClient(cluster.addresses) { writing in
                try await withClient(cluster.addresses) { reading in
                    var configuration = StreamConfiguration(name: "S", subjects: ["s"])
                    configuration.replicas = 3
                    configuration.discard = .new
                    configuration.allowsDirect = true
                    let settled = configuration
                    try await eventually("the cluster makes a stream") {
                        (try? await JetStream(writing).createStream(settled)) != nil
                    }
                    try await body(cluster, writing, reading)
                }
            }
        }

        /// What was read is what the stream holds, and every acknowledged message is at its sequence.
        private func check(
            _ journal: Journal, _ reader: StreamReader, _ client: NATSClient
        ) async throws {
            let last = try #require(journal.acknowledged.all.map(\.sequence).max())
            try await reader.messages.wait { $0.last?.sequence ?? 0 >= last }
            let read = Dictionary(
                uniqueKeysWithValues: zip(reader.sequences, reader.payloads))
            #expect(zip(reader.sequences, reader.sequences.dropFirst()).allSatisfy { $0 < $1 })
            #expect(reader.sequences.first == 1)
            for (sequence, text) in journal.acknowledged.all { #expect(read[sequence] == text) }
            let fresh = await StreamReader(client, "S")
            try await fresh.messages.wait { $0.last?.sequence ?? 0 >= last }
            let pairs = zip(fresh.sequences, fresh.payloads).prefix { $0.0 <= last }
            for (sequence, text) in pairs { #expect(read[sequence] == text) }
            #expect(pairs.count == read.keys.filter { $0 <= last }.count)
            await fresh.stop()
            await reader.stop()
        }

        @Test func replicasAreDescribed() async throws {
            try await withStream { cluster, writing, _ in
                let info = try await JetStream(writing).stream("S")
                #expect(info.configuration.replicas == 3)
                #expect(info.cluster?.name == "tests")
                #expect(info.cluster?.replicas?.count == 2)
                #expect(info.cluster?.leader.flatMap { cluster.server(named: $0) } != nil)
            }
        }

        @Test func aChangeOfTheLeaderLosesNothing() async throws {
            try await withStream { _, writing, reading in
                let journal = Journal(writing)
                let reader = await StreamReader(reading, "S")
                async let published: Void = journal.publish(1...300)
                for round in 1...3 {
                    _ = try await journal.acknowledged.wait { $0.count >= round * 60 }
                    let before = try await JetStream(reading).stream("S").cluster?.leader
                    try await JetStream(reading).stepDownLeader(ofStream: "S")
                    try await eventually("another server leads") {
                        let now = try? await JetStream(reading).stream("S").cluster?.leader
                        return now != nil && now != before
                    }
                }
                try await published
                try await check(journal, reader, writing)
            }
        }

        @Test func killedServersLoseNothingThatWasAcknowledged() async throws {
            try await withStream { cluster, writing, reading in
                let journal = Journal(writing)
                let reader = await StreamReader(reading, "S")
                async let published: Void = journal.publish(1...200)
                _ = try await journal.acknowledged.wait { $0.count >= 50 }
                // The stream's leader, then the server that the writer is connected to.
                let leader = try await JetStream(reading).stream("S").cluster?.leader
                let first = try #require(leader.flatMap { cluster.server(named: $0) })
                first.stop()
                _ = try await journal.acknowledged.wait { $0.count >= 100 }
                try await first.start()
                try await eventually("all replicas are current") {
                    guard let info = try? await JetStream(reading).stream("S").cluster else {
                        return false
                    }
                    return info.leader != nil && info.replicas?.count == 2
                        && info.replicas?.allSatisfy { $0.isCurrent && !$0.isOffline } == true
                }
                try await writing.waitUntilConnected(timeout: .seconds(30))
                guard case .connected(let info, _) = await writing.state(),
                    let second = cluster.server(named: info.serverName)
                else {
                    Issue.record("the writer is not connected")
                    return
                }
                second.stop()
                _ = try await journal.acknowledged.wait { $0.count >= 150 }
                try await second.start()
                try await published
                try await check(journal, reader, writing)
            }
        }

        @Test func withoutAMajorityNothingIsAcknowledgedAndReadingGoesOnAfterwards() async throws {
            try await withStream { cluster, writing, reading in
                let journal = Journal(writing)
                let reader = await StreamReader(reading, "S")
                try await journal.publish(1...20)
                try await reader.messages.wait { $0.count == 20 }
                for server in cluster.servers.dropFirst() { server.stop() }
                try await eventually("one server is left") {
                    guard case .connected(let info, _) = await writing.state() else { return false }
                    return info.serverName == "n0"
                }
                let outcome = try await JetStream(writing).publish(
                    ByteBuffer(string: "21"), subject: "s", .init(messageID: "21"),
                    timeout: .seconds(1))
                if case .acknowledged = outcome { Issue.record("acknowledged by one of three") }
                for server in cluster.servers.dropFirst() { try await server.start() }
                try await journal.publish(21...40)
                try await check(journal, reader, writing)
            }
        }
    }
}
