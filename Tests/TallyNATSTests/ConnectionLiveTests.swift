import Foundation
import Logging
import NIOCore
import TallyCore
import Testing

@testable import TallyNATS

extension LiveTests {
    @Suite struct Connections {
        @Test func messagesArriveWithHeadersAndReplySubjects() async throws {
            let server = try NATSServer(jetStream: false)
            try await server.start()
            try await withClient([server.address]) { client in
                let gathered = try await client.gather("a.*")
                var headers = NATSHeaders()
                try headers.add("Key", "value")
                try await client.publish(ByteBuffer(string: "one"), subject: "a.1")
                try await client.publish(ByteBuffer(), subject: "a.2", headers: headers)
                try await client.publish(ByteBuffer(string: "no"), subject: "b.1")
                try await client.publish(ByteBuffer(string: "three"), subject: "a.3")
                let all = try await gathered.wait { $0.count == 3 }
                #expect(all.map(\.subject) == ["a.1", "a.2", "a.3"])
                #expect(all.map { String(buffer: $0.payload) } == ["one", "", "three"])
                #expect(all.map { $0.headers?["Key"] } == [nil, "value", nil])
            }
        }

        @Test func longPayloadsArriveWholeUpToTheServersLimit() async throws {
            let server = try NATSServer(jetStream: false)
            try await server.start()
            try await withClient([server.address]) { client in
                let gathered = try await client.gather("a")
                let sizes = [0, 1, 4_095, 4_096, 4_097, 65_536, 1 << 20]
                for size in sizes {
                    let bytes = (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ size) }
                    try await client.publish(ByteBuffer(bytes: bytes), subject: "a")
                }
                let all = try await gathered.wait { $0.count == sizes.count }
                for (message, size) in zip(all, sizes) {
                    let bytes = (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ size) }
                    #expect(Array(message.payload.readableBytesView) == bytes)
                }
                await #expect(
                    throws: NATSNotSent.messageTooLarge(bytes: 1 << 20 + 1, bytesMax: 1 << 20)
                ) {
                    try await client.publish(
                        ByteBuffer(repeating: 0, count: 1 << 20 + 1), subject: "a")
                }
                // A header counts too.
                var headers = NATSHeaders()
                try headers.add("a", "b")
                await #expect(throws: NATSNotSent.self) {
                    try await client.publish(
                        ByteBuffer(repeating: 0, count: 1 << 20), subject: "a", headers: headers)
                }
                #expect(await client.state().isConnected)
            }
        }

        @Test func requestsAreAnsweredRefusedOrTimeOut() async throws {
            let server = try NATSServer(jetStream: false)
            try await server.start()
            try await withClient([server.address]) { client in
                let _: Bool = await client.onLoop { complete in
                    _ = try? client.subscribe("echo") { message in
                        try? client.publish(message.payload, to: message.replyTo ?? "none")
                    }
                    _ = try? client.subscribe("silent") { _ in }
                    complete(true)
                }
                let answers = try await withThrowingTaskGroup(of: (Int, String).self) { group in
                    for number in 0..<200 {
                        group.addTask {
                            let answer = try await client.request(
                                ByteBuffer(string: "\(number)"), subject: "echo")
                            return (number, String(buffer: answer.payload))
                        }
                    }
                    return try await group.reduce(into: [:]) { $0[$1.0] = $1.1 }
                }
                #expect(answers.count == 200)
                #expect(answers.allSatisfy { "\($0.key)" == $0.value })
                await #expect(throws: NATSRequestError.noResponders) {
                    try await client.request(ByteBuffer(), subject: "nobody")
                }
                await #expect(throws: NATSRequestError.timedOut) {
                    try await client.request(
                        ByteBuffer(), subject: "silent", timeout: .milliseconds(50))
                }
                await #expect(
                    throws: NATSRequestError.notSent(
                        .subjectInvalid("a b", .characterInvalid(0x20)))
                ) { try await client.request(ByteBuffer(), subject: "a b") }
            }
        }

        @Test func unsubscribedSubjectsAreSilentAndQueuesShare() async throws {
            let server = try NATSServer(jetStream: false)
            try await server.start()
            try await withClient([server.address]) { client in
                let gathered = Gathered<String>()
                let _: Bool = await client.onLoop { complete in
                    let gone = try? client.subscribe("a") { _ in gathered.add("gone") }
                    if let gone { client.unsubscribe(gone) }
                    _ = try? client.subscribe("a", queue: "q") { _ in gathered.add("one") }
                    _ = try? client.subscribe("a", queue: "q") { _ in gathered.add("two") }
                    complete(true)
                }
                for _ in 0..<100 { try await client.publish(ByteBuffer(), subject: "a") }
                try await client.flush()
                let all = try await gathered.wait { $0.count >= 100 }
                #expect(all.count == 100)
                #expect(Set(all) == ["one", "two"])
            }
        }

        @Test func aKilledServerIsFoundAgainAndSubscriptionsGoOn() async throws {
            let server = try NATSServer(jetStream: false)
            try await server.start()
            try await withClient([server.address]) { client in
                let states = await client.gatherStates()
                let gathered = try await client.gather("a")
                let _: Bool = await client.onLoop { complete in
                    _ = try? client.subscribe("silent") { _ in }
                    complete(true)
                }
                try await client.flush()
                let pending = Task {
                    await failure {
                        try await client.request(
                            ByteBuffer(), subject: "silent", timeout: .seconds(60))
                    }
                }
                try await Task.sleep(for: .milliseconds(50))
                server.stop()
                let reason = await pending.value
                #expect(reason == .disconnected(.closedByServer), "\(String(describing: reason))")
                try await states.wait {
                    $0.contains { if case .waiting = $0 { true } else { false } }
                }
                await #expect(throws: NATSNotSent.notConnected) {
                    try await client.publish(ByteBuffer(), subject: "a")
                }
                await #expect(throws: NATSRequestError.notSent(.notConnected)) {
                    try await client.request(ByteBuffer(), subject: "a")
                }
                try await server.start()
                try await client.waitUntilConnected(timeout: .seconds(30))
                try await client.publish(ByteBuffer(string: "again"), subject: "a")
                let all = try await gathered.wait { !$0.isEmpty }
                #expect(all.map { String(buffer: $0.payload) } == ["again"])
                #expect(await client.onLoop { $0(client.connectionCount) } == 2)
            }
        }

        @Test func aSilentServerIsGivenUp() async throws {
            let server = try NATSServer(jetStream: false)
            try await server.start()
            defer { server.signal(SIGCONT) }
            try await withClient(
                [server.address],
                {
                    $0.pingInterval = .milliseconds(100)
                    $0.connectTimeout = .milliseconds(300)
                }
            ) { client in
                let states = await client.gatherStates()
                server.signal(SIGSTOP)
                try await states.wait { states in
                    states.contains(.waiting(.connectTimedOut))
                }
                server.signal(SIGCONT)
                try await client.waitUntilConnected(timeout: .seconds(30))
                #expect(await client.onLoop { $0(client.connectionCount) } == 2)
            }
        }

        @Test func whatTheNetworkDoesNotTakeIsBoundedAndRefused() async throws {
            let server = try NATSServer(jetStream: false)
            try await server.start()
            defer { server.signal(SIGCONT) }
            try await withClient([server.address], { $0.pendingBytesMax = 4 << 20 }) { client in
                server.signal(SIGSTOP)
                let writable = Gathered<Bool>()
                let _: Bool = await client.onLoop { complete in
                    client.onWritable = { writable.add(true) }
                    complete(true)
                }
                var refusal: NATSNotSent?
                for _ in 0..<64 where refusal == nil {
                    do throws(NATSNotSent) {
                        try await client.publish(
                            ByteBuffer(repeating: 1, count: 1 << 20 - 100), subject: "a")
                    } catch {
                        refusal = error
                    }
                }
                #expect(refusal == .pendingBytesFull(bytesMax: 4 << 20))
                let pending = await client.onLoop { $0(client.pendingBytes) }
                #expect(pending > 0)
                #expect(pending <= 4 << 20)
                #expect(writable.all.isEmpty)
                server.signal(SIGCONT)
                try await writable.wait { !$0.isEmpty }
                try await client.publish(
                    ByteBuffer(repeating: 1, count: 1 << 20 - 100), subject: "a")
            }
        }

        @Test func aSlowConsumerIsCutOffAndComesBack() async throws {
            let server = try NATSServer(
                jetStream: false,
                configuration: """
                    max_pending: 2MB
                    write_deadline: "200ms"
                    """)
            try await server.start()
            let publisher = try makeClient([server.address])
            publisher.start()
            try await publisher.waitUntilConnected()
            try await withClient([server.address]) { client in
                let states = await client.gatherStates()
                let received = Gathered<Int>()
                let _: Bool = await client.onLoop { complete in
                    _ = try? client.subscribe("flood") { message in
                        received.add(message.payload.readableBytes)
                        if received.all.count == 1 { Thread.sleep(forTimeInterval: 2) }
                    }
                    complete(true)
                }
                try await client.flush()
                try await publisher.publish(ByteBuffer(string: "start"), subject: "flood")
                for _ in 0..<64 {
                    try await publisher.publish(
                        ByteBuffer(repeating: 1, count: 1 << 20 - 100), subject: "flood")
                    try await publisher.flush()
                }
                try await states.wait { states in
                    states.filter(\.isConnected).count == 2
                }
                let before = received.all.count
                try await eventually("messages come again") {
                    try await publisher.publish(ByteBuffer(string: "more"), subject: "flood")
                    return received.all.count > before
                }
            }
            try await publisher.close().get()
        }

        @Test func closingEndsEverything() async throws {
            let server = try NATSServer(jetStream: false)
            try await server.start()
            let client = try makeClient([server.address])
            client.start()
            try await client.waitUntilConnected()
            let states = await client.gatherStates()
            let _: Bool = await client.onLoop { complete in
                _ = try? client.subscribe("silent") { _ in }
                complete(true)
            }
            let pending = Task {
                await failure {
                    try await client.request(ByteBuffer(), subject: "silent", timeout: .seconds(60))
                }
            }
            try await Task.sleep(for: .milliseconds(50))
            try await client.close().get()
            #expect(await pending.value == .disconnected(.closedByUser))
            #expect(states.all.last == .closed)
            await #expect(throws: NATSNotSent.closed) {
                try await client.publish(ByteBuffer(), subject: "a")
            }
            await #expect(throws: NATSRequestError.notSent(.closed)) {
                try await client.waitUntilConnected()
            }
        }

        @Test func othersOfTheClusterAreDiscoveredAndALameDuckIsLeft() async throws {
            let cluster = try NATSCluster(
                configuration: "lame_duck_duration: \"30s\"\nlame_duck_grace_period: \"10s\"")
            try await cluster.start()
            let first = cluster.servers[0]
            try await withClient([first.address]) { client in
                let states = await client.gatherStates()
                let gathered = try await client.gather("a")
                // The routes of the cluster may not be up at once.
                try await eventually("others are known") {
                    await client.onLoop { $0(client.knownServers.count) } == 3
                }
                first.signal(SIGUSR2)
                let all = try await states.wait { $0.filter(\.isConnected).count == 2 }
                #expect(all.contains { $0.isMoving })
                if case .connected(let info, _) = await client.state() {
                    #expect(info.serverName != "n0")
                }
                try await client.publish(ByteBuffer(string: "moved"), subject: "a")
                try await gathered.wait { $0.count == 1 }
            }
        }

        @Test func discoveryCanBeSwitchedOff() async throws {
            let cluster = try NATSCluster()
            try await cluster.start()
            try await withClient(
                [cluster.servers[0].address], { $0.usesDiscoveredServers = false }
            ) { client in
                #expect(await client.onLoop { $0(client.knownServers.count) } == 1)
                let states = await client.gatherStates()
                cluster.servers[0].stop()
                try await states.wait {
                    $0.contains { if case .waiting = $0 { true } else { false } }
                }
                #expect(await !client.state().isConnected)
            }
        }

        @Test func somethingElseThanANATSServerIsNamed() async throws {
            let listener = try await FakeServer { _ in "HTTP/1.1 400 Bad Request\r\n\r\n" }
            let client = try makeClient(["127.0.0.1:\(listener.port)"])
            let states = await client.gatherStates()
            client.start()
            try await states.wait {
                $0.contains(.waiting(.protocolViolation(.operationUnknown("HTTP/1.1"))))
            }
            try await client.close().get()
            try await listener.close()
        }
    }
}
