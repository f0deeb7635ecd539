import Foundation
import NIOCore
import Testing

@testable import TallyNATS

extension LiveTests {
    @Suite struct Streams {
        @Test func streamsAreMadeChangedDescribedAndDeleted() async throws {
            let server = try NATSServer()
            try await server.start()
            try await withClient([server.address]) { client in
                let jetStream = JetStream(client)
                var configuration = StreamConfiguration(name: "S", subjects: ["s.>"])
                configuration.discard = .new
                configuration.bytesMax = 1 << 20
                configuration.messageBytesMax = 100_000
                configuration.duplicateWindow = .seconds(60)
                configuration.deniesDelete = true
                configuration.allowsDirect = true
                configuration.metadata = ["owner": "test"]
                let made = try await jetStream.createStream(configuration)
                #expect(made.state.lastSequence == 0)
                #expect(made.created.nanoseconds > 1_700_000_000_000_000_000)
                #expect(made.configuration.duplicateWindow == .seconds(60))
                #expect(made.configuration.metadata["owner"] == "test")
                #expect(made.configuration.bytesMax == 1 << 20)
                // The same once more changes nothing; something else is refused.
                #expect(try await jetStream.createStream(configuration).created == made.created)
                configuration.messageBytesMax = 200_000
                await #expect(throws: JetStreamError.self) {
                    try await jetStream.createStream(configuration)
                }
                let changed = try await jetStream.updateStream(configuration)
                #expect(changed.configuration.messageBytesMax == 200_000)
                #expect(changed.created == made.created)
                let account = try await jetStream.account()
                #expect(account.streams == 1)
                try await jetStream.deleteStream("S")
                let missing = await #expect(throws: JetStreamError.self) {
                    try await jetStream.stream("S")
                }
                #expect(missing?.isAPIError(JetStreamAPIError.Code.streamNotFound) == true)
                await #expect(throws: JetStreamError.nameInvalid("a.b")) {
                    try await jetStream.stream("a.b")
                }
            }
        }

        @Test func publishesAreAcknowledgedRefusedOrDuplicates() async throws {
            let server = try NATSServer()
            try await server.start()
            try await withClient([server.address]) { client in
                let jetStream = JetStream(client)
                var configuration = StreamConfiguration(name: "S", subjects: ["s.*"])
                configuration.messageBytesMax = 1_000
                configuration.messagesMax = 4
                configuration.discard = .new
                _ = try await jetStream.createStream(configuration)
                func publish(
                    _ text: String, _ expectations: PublishExpectations = .init(),
                    subject: String = "s.a"
                ) async throws -> PublishOutcome {
                    try await jetStream.publish(
                        ByteBuffer(string: text), subject: subject, expectations)
                }
                func code(_ outcome: PublishOutcome) -> Int? {
                    if case .refused(.api(let error)) = outcome { error.code } else { nil }
                }
                typealias Acknowledgement = PublishAcknowledgement
                let first = Acknowledgement(stream: "S", sequence: 1)
                #expect(
                    try await publish("1", .init(messageID: "one", lastSequence: 0))
                        == .acknowledged(first))
                var again = first
                again.isDuplicate = true
                #expect(
                    try await publish("1", .init(messageID: "one")) == .acknowledged(again))
                // A single server looks at the sequence first: a refusal is of this attempt only.
                #expect(
                    code(try await publish("1", .init(messageID: "one", lastSequence: 0)))
                        == JetStreamAPIError.Code.wrongLastSequence)
                #expect(
                    code(try await publish("2", .init(lastSequence: 5)))
                        == JetStreamAPIError.Code.wrongLastSequence)
                #expect(
                    try await publish("2", .init(stream: "S", lastSequence: 1))
                        == .acknowledged(Acknowledgement(stream: "S", sequence: 2)))
                #expect(
                    code(try await publish("3", .init(stream: "T")))
                        == JetStreamAPIError.Code.streamMismatch)
                #expect(
                    code(try await publish("3", .init(lastSubjectSequence: 1)))
                        == JetStreamAPIError.Code.wrongLastSequence)
                #expect(
                    try await publish("3", .init(lastSubjectSequence: 0), subject: "s.b")
                        == .acknowledged(Acknowledgement(stream: "S", sequence: 3)))
                #expect(
                    code(try await publish(String(repeating: "x", count: 1_001)))
                        == JetStreamAPIError.Code.messageTooLarge)
                #expect(
                    code(try await publish("4", .init(lifetime: .seconds(1))))
                        == JetStreamAPIError.Code.lifetimeDisabled)
                _ = try await publish("4")
                #expect(code(try await publish("5")) == JetStreamAPIError.Code.storeFailed)
                #expect(try await publish("1", subject: "nobody") == .refused(.noResponders))
                await #expect(
                    throws: NATSNotSent.headerInvalid(.valueInvalid(name: "Nats-Msg-Id"))
                ) { try await publish("6", .init(messageID: "a\r\nb")) }
                #expect(try await jetStream.stream("S").state.messages == 4)
            }
        }

        @Test func singleMessagesAreFoundAndPurgedOnesAreNot() async throws {
            let server = try NATSServer()
            try await server.start()
            try await withClient([server.address]) { client in
                let jetStream = JetStream(client)
                var configuration = StreamConfiguration(name: "S", subjects: ["s.*"])
                configuration.allowsDirect = true
                _ = try await jetStream.createStream(configuration)
                var headers = NATSHeaders()
                try headers.add("Key", "value")
                for number in 1...10 {
                    let outcome = try await jetStream.publish(
                        ByteBuffer(string: "\(number)"), subject: "s.\(number % 2)",
                        headers: headers)
                    guard case .acknowledged = outcome else { throw NATSRequestError.timedOut }
                }
                var times: [NATSTime] = []
                for source in [MessageSource.leader, .anyReplica] {
                    let message = try #require(
                        try await jetStream.message(ofStream: "S", sequence: 4, from: source))
                    #expect(message.sequence == 4)
                    #expect(message.subject == "s.0")
                    #expect(message.headers?["Key"] == "value")
                    #expect(String(buffer: message.payload) == "4")
                    times.append(message.time)
                    let last = try await jetStream.lastMessage(
                        ofStream: "S", subject: "s.1", from: source)
                    #expect(last?.sequence == 9)
                    #expect(
                        try await jetStream.message(ofStream: "S", sequence: 11, from: source)
                            == nil)
                    #expect(
                        try await jetStream.lastMessage(ofStream: "S", subject: "s.9", from: source)
                            == nil)
                }
                #expect(times[0] == times[1])
                #expect(try await jetStream.purgeStream("S", below: 5) == 4)
                #expect(try await jetStream.message(ofStream: "S", sequence: 4) == nil)
                #expect(try await jetStream.purgeStream("S", subject: "s.0") == 3)
                let state = try await jetStream.stream("S").state
                #expect(state.firstSequence == 5)
                #expect(state.lastSequence == 10)
                #expect(state.messages == 3)
            }
        }

        @Test func outcomesThatNobodyKnowsAreToldApart() async throws {
            let server = try NATSServer()
            try await server.start()
            defer { server.signal(SIGCONT) }
            try await withClient([server.address]) { client in
                let jetStream = JetStream(client)
                _ = try await jetStream.createStream(
                    StreamConfiguration(name: "S", subjects: ["s"]))
                server.signal(SIGSTOP)
                #expect(
                    try await jetStream.publish(
                        ByteBuffer(string: "1"), subject: "s", .init(messageID: "1"),
                        timeout: .milliseconds(100)) == .unknown(.timedOut))
                let pending = client.eventLoop.makePromise(of: PublishOutcome.self)
                try await client.eventLoop.submit {
                    try jetStream.publish(
                        ByteBuffer(string: "2"), to: "s", .init(messageID: "2"),
                        timeout: .seconds(60)
                    ) { pending.succeed($0) }
                }.get()
                try await eventually("it has been sent") {
                    await client.onLoop { $0(client.pendingBytes) } == 0
                }
                server.stop()
                let outcome = try await pending.futureResult.get()
                guard case .unknown(.disconnected) = outcome else {
                    Issue.record("the outcome is taken as known: \(outcome)")
                    return
                }
                await #expect(throws: NATSNotSent.notConnected) {
                    try await jetStream.publish(ByteBuffer(), subject: "s")
                }
                try await server.start()
                try await client.waitUntilConnected(timeout: .seconds(30))
                // Retried under the same id, each is there exactly once.
                for id in ["1", "2"] {
                    let outcome = try await jetStream.publish(
                        ByteBuffer(string: id), subject: "s", .init(messageID: id))
                    guard case .acknowledged = outcome else {
                        Issue.record("\(outcome)")
                        return
                    }
                }
                #expect(try await jetStream.stream("S").state.messages == 2)
            }
        }

        @Test func aMessageOfAMebibyteIsStoredAndRead() async throws {
            let server = try NATSServer(configuration: "max_payload: 2MB")
            try await server.start()
            try await withClient([server.address]) { client in
                let jetStream = JetStream(client)
                _ = try await jetStream.createStream(
                    StreamConfiguration(name: "S", subjects: ["s"]))
                let bytes = (0..<(1 << 20)).map { UInt8(truncatingIfNeeded: $0 &* 7) }
                for number in 1...4 {
                    let outcome = try await jetStream.publish(
                        ByteBuffer(bytes: bytes), subject: "s", .init(messageID: "\(number)"))
                    #expect(
                        outcome
                            == .acknowledged(.init(stream: "S", sequence: UInt64(number))))
                }
                let reader = await StreamReader(client, "S", bytes: 3 << 20)
                let all = try await reader.messages.wait { $0.count == 4 }
                #expect(all.allSatisfy { Array($0.payload.readableBytesView) == bytes })
                await reader.stop()
            }
        }
    }
}
