import Foundation
import NIOCore
import TallyTestSupport
import Testing

@testable import TallyNATS

extension LiveTests {
    @Suite struct Consumers {
        /// Publishes `numbers` as text and expects acknowledgements.
        static func publish(
            _ numbers: ClosedRange<Int>, _ client: NATSClient, subject: String = "s"
        ) async throws {
            for number in numbers {
                let outcome = try await JetStream(client).publish(
                    ByteBuffer(string: "\(number)"), subject: subject)
                guard case .acknowledged = outcome else {
                    throw NATSServer.Failure(description: "\(outcome)")
                }
            }
        }

        static func make(_ client: NATSClient) async throws {
            _ = try await JetStream(client).createStream(
                StreamConfiguration(name: "S", subjects: ["s", "s.>"]))
        }

        @Test func everythingComesInOrderAndThenWhatIsNew() async throws {
            let server = try NATSServer()
            try await server.start()
            try await withClient([server.address]) { client in
                try await Self.make(client)
                try await Self.publish(1...300, client)
                let reader = await StreamReader(client, "S", messages: 20)
                try await reader.messages.wait { $0.count == 300 }
                try await Self.publish(301...320, client)
                let all = try await reader.messages.wait { $0.count == 320 }
                #expect(all.map(\.sequence) == Array(1...320))
                #expect(reader.payloads == (1...320).map { "\($0)" })
                #expect(all.allSatisfy { $0.subject == "s" })
                #expect(zip(all, all.dropFirst()).allSatisfy { $0.time <= $1.time })
                let stored = try await JetStream(client).message(ofStream: "S", sequence: 7)
                #expect(stored?.time == all[6].time)
                #expect(all[299].pending == 0)
                #expect(reader.events.all.count == 1)
                // From another place.
                let tail = await StreamReader(client, "S") { $0.start = .sequence(318) }
                try await tail.messages.wait { $0.count == 3 }
                #expect(tail.sequences == [318, 319, 320])
                await reader.stop()
                await tail.stop()
            }
        }

        @Test func replySubjectsOfTheSecondFormAreUnderstood() async throws {
            let server = try NATSServer(configuration: "feature_flags { js_ack_fc_v2: true }")
            try await server.start()
            try await withClient([server.address]) { client in
                try await Self.make(client)
                try await Self.publish(1...50, client)
                let reader = await StreamReader(client, "S", messages: 7)
                try await reader.messages.wait { $0.count == 50 }
                #expect(reader.sequences == Array(1...50))
                let reply = reader.messages.all[0].message.replyTo ?? ""
                #expect(reply.split(separator: ".").count >= 11)
                await reader.stop()
            }
        }

        @Test func neverMoreArrivesThanCreditWasGranted() async throws {
            let server = try NATSServer()
            try await server.start()
            try await withClient([server.address]) { client in
                try await Self.make(client)
                try await Self.publish(1...100, client)
                let reader = await StreamReader(
                    client, "S", messages: 10, returnsCredit: false
                ) { $0.pullBytesMin = 200 }
                try await reader.messages.wait { $0.count == 10 }
                try await Task.sleep(for: .milliseconds(500))
                #expect(reader.sequences.count == 10)
                // Bytes bound it too: of a message each.
                let size = reader.messages.all[0].creditBytes
                await reader.onConsumer { $0.grant(messages: 5, bytes: 0) }
                try await reader.messages.wait { $0.count == 15 }
                await reader.onConsumer { consumer in
                    consumer.pause()
                    consumer.grant(messages: 100, bytes: 0)
                }
                try await Task.sleep(for: .milliseconds(300))
                #expect(reader.sequences.count == 15)
                await reader.onConsumer { $0.resume() }
                try await reader.messages.wait { $0.count == 100 }
                #expect(reader.sequences == Array(1...100))
                let left = await reader.onConsumer { ($0.creditMessages, $0.creditBytes) }
                let used = reader.messages.all.map(\.creditBytes).reduce(0, +)
                #expect(left.0 == 15)
                #expect(left.1 == 16 << 20 - used)
                #expect(used >= 100 * size - 100)
                await reader.stop()
                let poor = await StreamReader(
                    client, "S", messages: 100, bytes: 1_000, returnsCredit: false
                ) { $0.pullBytesMin = 200 }
                try await poor.messages.wait { !$0.isEmpty }
                try await Task.sleep(for: .milliseconds(500))
                #expect(poor.messages.all.map(\.creditBytes).reduce(0, +) <= 1_000)
                #expect(poor.messages.all.count < 100)
                #expect(poor.events.all.count == 1)
                await poor.stop()
            }
        }

        @Test func aDeletedConsumerIsMadeAnew() async throws {
            let server = try NATSServer()
            try await server.start()
            try await withClient([server.address]) { client in
                try await Self.make(client)
                try await Self.publish(1...10, client)
                let reader = await StreamReader(client, "S")
                for round in 1...5 {
                    try await reader.messages.wait { $0.count == round * 10 }
                    let name = try #require(await reader.onConsumer { $0.name })
                    let deleted = try await client.request(
                        ByteBuffer(), subject: "$JS.API.CONSUMER.DELETE.S.\(name)")
                    #expect(String(buffer: deleted.payload).contains("\"success\":true"))
                    try await Self.publish((round * 10 + 1)...(round * 10 + 10), client)
                }
                try await reader.messages.wait { $0.count == 60 }
                #expect(reader.sequences == Array(1...60))
                #expect(reader.events.all.filter { $0 == .interrupted(.consumerLost) }.count == 5)
                await reader.stop()
            }
        }

        @Test func aConsumerThatVanishedWhileNothingWasAskedIsMadeAnew() async throws {
            let server = try NATSServer()
            try await server.start()
            try await withClient([server.address]) { client in
                try await Self.make(client)
                try await Self.publish(1...10, client)
                let reader = await StreamReader(
                    client, "S", messages: 5, returnsCredit: false)
                try await reader.messages.wait { $0.count == 5 }
                let name = try #require(await reader.onConsumer { $0.name })
                _ = try await client.request(
                    ByteBuffer(), subject: "$JS.API.CONSUMER.DELETE.S.\(name)")
                await reader.onConsumer { $0.grant(messages: 5, bytes: 0) }
                try await reader.messages.wait { $0.count == 10 }
                #expect(reader.sequences == Array(1...10))
                #expect(reader.events.all.contains(.interrupted(.consumerLost)))
                await reader.stop()
            }
        }

        @Test func aRestartedServerIsReadOnWithoutLossOrRepetition() async throws {
            let server = try NATSServer()
            try await server.start()
            try await withClient([server.address]) { client in
                try await Self.make(client)
                let reader = await StreamReader(client, "S")
                for round in 1...3 {
                    let first = (round - 1) * 20 + 1
                    try await Self.publish(first...(first + 19), client)
                    if round != 2 { try await reader.messages.wait { $0.count == round * 20 } }
                    server.stop()
                    try await server.start()
                    try await client.waitUntilConnected(timeout: .seconds(30))
                }
                try await reader.messages.wait { $0.count == 60 }
                #expect(reader.sequences == Array(1...60))
                #expect(reader.payloads == (1...60).map { "\($0)" })
                #expect(reader.events.all.contains(.interrupted(.disconnected)))
                await reader.stop()
            }
        }

        @Test func aFrozenServerIsNoticedByItsSilence() async throws {
            let server = try NATSServer()
            try await server.start()
            defer { server.signal(SIGCONT) }
            try await withClient([server.address]) { client in
                try await Self.make(client)
                try await Self.publish(1...5, client)
                let reader = await StreamReader(client, "S")
                try await reader.messages.wait { $0.count == 5 }
                server.signal(SIGSTOP)
                try await reader.events.wait { $0.contains(.interrupted(.heartbeatsMissed)) }
                server.signal(SIGCONT)
                try await Self.publish(6...10, client)
                try await reader.messages.wait { $0.count == 10 }
                #expect(reader.sequences == Array(1...10))
                await reader.stop()
            }
        }

        @Test func whatWasPurgedIsToldAsMissing() async throws {
            let server = try NATSServer()
            try await server.start()
            try await withClient([server.address]) { client in
                try await Self.make(client)
                try await Self.publish(1...20, client)
                let reader = await StreamReader(
                    client, "S", messages: 5, returnsCredit: false)
                try await reader.messages.wait { $0.count == 5 }
                try await JetStream(client).purgeStream("S", below: 11)
                await reader.onConsumer { $0.grant(messages: 100, bytes: 0) }
                try await reader.messages.wait { $0.count == 15 }
                #expect(reader.sequences == Array(1...5) + Array(11...20))
                #expect(reader.events.all.last == .missing(6...10))
                await reader.stop()
                // The same when reading starts where nothing is any more.
                let late = await StreamReader(client, "S") { $0.start = .sequence(3) }
                try await late.messages.wait { $0.count == 10 }
                #expect(late.events.all.last == .missing(3...10))
                // And when what was read last is gone after an interruption.
                try await JetStream(client).purgeStream("S")
                server.stop()
                try await server.start()
                try await client.waitUntilConnected(timeout: .seconds(30))
                try await Self.publish(21...22, client)
                try await late.messages.wait { $0.count == 12 }
                #expect(late.sequences.suffix(2) == [21, 22])
                await late.stop()
            }
        }

        @Test func aDeletedStreamIsToldAndAnotherOneIsNeverReadOn() async throws {
            let server = try NATSServer()
            try await server.start()
            try await withClient([server.address]) { client in
                try await Self.make(client)
                try await Self.publish(1...5, client)
                let reader = await StreamReader(client, "S")
                try await reader.messages.wait { $0.count == 5 }
                let created = await reader.onConsumer { $0.created }
                try await JetStream(client).deleteStream("S")
                try await reader.events.wait { $0.contains(.interrupted(.streamMissing)) }
                try await Self.make(client)
                try await Self.publish(1...10, client)
                let recreated = try await JetStream(client).stream("S").created
                #expect(recreated != created)
                try await reader.events.wait {
                    $0.last == .ended(.streamRecreated(created: recreated))
                }
                #expect(reader.sequences == Array(1...5))
                // Also when it is known from the start which stream is wanted.
                let other = await StreamReader(client, "S") { $0.created = created }
                try await other.events.wait {
                    $0 == [.ended(.streamRecreated(created: recreated))]
                }
                #expect(other.sequences.isEmpty)
            }
        }

        @Test func aStreamThatEndsBeforeTheStartIsWaitedFor() async throws {
            let server = try NATSServer()
            try await server.start()
            try await withClient([server.address]) { client in
                try await Self.make(client)
                try await Self.publish(1...5, client)
                let reader = await StreamReader(client, "S") { $0.start = .sequence(8) }
                try await reader.events.wait {
                    $0.contains(.interrupted(.streamBehind(lastSequence: 5)))
                }
                try await Self.publish(6...9, client)
                try await reader.messages.wait { $0.count == 2 }
                #expect(reader.sequences == [8, 9])
                await reader.stop()
            }
        }

        /// A stream that is put back to an older copy of its disk and grows again has other messages at the same
        /// sequences: nothing may be read on as if they followed.
        @Test func aStreamThatWentBackAndGrewAgainEndsTheConsumer() async throws {
            let server = try NATSServer()
            try await server.start()
            let store = server.directory.appending(path: "store")
            let copy = server.directory.appending(path: "copy")
            try await withClient([server.address]) { client in
                try await Self.make(client)
                try await Self.publish(1...10, client)
                server.stop()
                try FileManager.default.copyItem(at: store, to: copy)
                try await server.start()
                try await client.waitUntilConnected(timeout: .seconds(30))
                let reader = await StreamReader(client, "S")
                try await Self.publish(11...15, client)
                try await reader.messages.wait { $0.count == 15 }
                server.stop()
                try FileManager.default.removeItem(at: store)
                try FileManager.default.copyItem(at: copy, to: store)
                try await server.start()
                try await client.waitUntilConnected(timeout: .seconds(30))
                try await reader.events.wait {
                    $0.contains(.interrupted(.streamBehind(lastSequence: 10)))
                }
                try await Self.publish(111...116, client)
                try await reader.events.wait {
                    $0.last == .ended(.historyChanged(sequence: 15))
                }
                #expect(reader.sequences == Array(1...15))
            }
        }

        @Test func aConsumerThatIsStoppedIsSilentAndGone() async throws {
            let server = try NATSServer()
            try await server.start()
            try await withClient([server.address]) { client in
                try await Self.make(client)
                try await Self.publish(1...5, client)
                let reader = await StreamReader(client, "S")
                try await reader.messages.wait { $0.count == 5 }
                await reader.stop()
                try await eventually("the server has no consumer") {
                    try await JetStream(client).stream("S").state.consumers == 0
                }
                try await Self.publish(6...10, client)
                try await Task.sleep(for: .milliseconds(100))
                #expect(reader.sequences == Array(1...5))
                #expect(reader.events.all.count == 1)
            }
        }
    }
}

/// Deliveries that are lost on their way, which real servers do not do to order.
@Suite(.serialized) struct LostDeliveryTests {
    @Test(arguments: [[2], [1], [5], [2, 4], [1, 2, 3, 4, 5], [3, 3, 3]] as [[UInt64]])
    func whatIsLostOnTheWayIsReadAgain(lost: [UInt64]) async throws {
        let stream = ScriptedStream(lastSequence: 5, lost: lost)
        let server = try await FakeServer { stream.answer($0) }
        try await withClient(["127.0.0.1:\(server.port)"]) { client in
            let reader = await StreamReader(client, "S") {
                $0.heartbeat = .seconds(30); $0.pullExpiry = .seconds(60)
            }
            try await reader.messages.wait { $0.last?.sequence == 5 }
            #expect(reader.sequences == [1, 2, 3, 4, 5])
            #expect(reader.payloads == ["1", "2", "3", "4", "5"])
            #expect(reader.events.all.contains(.interrupted(.messageLost)))
            #expect(!reader.events.all.contains { if case .missing = $0 { true } else { false } })
            await reader.stop()
        }
        try await server.close()
    }
}
