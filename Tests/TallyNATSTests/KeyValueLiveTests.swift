import Foundation
import NIOCore
import Testing

@testable import TallyNATS

extension LiveTests {
    @Suite struct KeyValues {
        /// Watches and keeps what is told.
        final class Watcher: @unchecked Sendable {
            // Sendable because the watch is touched on its loop only.
            let events = Gathered<KeyValueWatchEvent>()
            private let client: NATSClient
            private var watch: KeyValueWatch?

            init(_ bucket: KeyValueBucket, keys: String? = nil) async throws {
                client = bucket.jetStream.client
                let _: Bool = await client.onLoop { complete in
                    self.watch = try? KeyValueWatch(bucket, keys: keys) { self.events.add($0) }
                    complete(true)
                }
            }

            func stop() async {
                let _: Bool = await client.onLoop { complete in
                    self.watch?.stop()
                    complete(true)
                }
            }

            /// Entries in words, `key=value` or what was done with the key.
            var told: [String] {
                events.all.compactMap {
                    switch $0 {
                    case .entry(let entry):
                        entry.isPresent
                            ? "\(entry.key)=\(String(buffer: entry.value))"
                            : "\(entry.key) \(entry.operation)"
                    case .vanished(let key): "\(key) vanished"
                    case .current: "current"
                    default: nil
                    }
                }
            }
        }

        private func bucket(
            _ client: NATSClient, _ change: (inout KeyValueConfiguration) -> Void = { _ in }
        ) async throws -> KeyValueBucket {
            var configuration = KeyValueConfiguration(bucket: "test")
            change(&configuration)
            return try await KeyValueBucket.create(JetStream(client), configuration)
        }

        @Test func keysAreWrittenReadAndGuardedByTheirRevision() async throws {
            let server = try NATSServer()
            try await server.start()
            try await withClient([server.address]) { client in
                let bucket = try await bucket(client)
                #expect(try await bucket.get("a.b") == nil)
                let first = try await bucket.create("a.b", ByteBuffer(string: "1"))
                await #expect(throws: KeyValueError.conflict) {
                    try await bucket.create("a.b", ByteBuffer(string: "2"))
                }
                for source in [MessageSource.leader, .anyReplica] {
                    let entry = try #require(try await bucket.get("a.b", from: source))
                    #expect(entry.revision == first)
                    #expect(entry.key == "a.b")
                    #expect(String(buffer: entry.value) == "1")
                    #expect(entry.created.nanoseconds > 1_700_000_000_000_000_000)
                }
                let second = try await bucket.update(
                    "a.b", ByteBuffer(string: "2"), revision: first)
                #expect(second > first)
                await #expect(throws: KeyValueError.conflict) {
                    try await bucket.update("a.b", ByteBuffer(string: "3"), revision: first)
                }
                await #expect(throws: KeyValueError.conflict) {
                    try await bucket.delete("a.b", revision: first)
                }
                try await bucket.delete("a.b", revision: second)
                #expect(try await bucket.get("a.b") == nil)
                #expect(try await bucket.last("a.b")?.operation == .delete)
                // A deleted key may be created again.
                try await bucket.create("a.b", ByteBuffer(string: "4"))
                #expect(try await bucket.get("a.b").map { String(buffer: $0.value) } == "4")
                try await bucket.purge("a.b")
                #expect(try await bucket.last("a.b")?.operation == .purge)
                try await bucket.create("a.b", ByteBuffer(string: "5"))
                try await bucket.put("c", ByteBuffer(string: "6"))
                try await bucket.put("d", ByteBuffer(string: "7"))
                try await bucket.delete("d")
                #expect(try await Set(bucket.keys()) == ["a.b", "c"])
                #expect(try await bucket.keys(matching: "a.*") == ["a.b"])
                #expect(try await bucket.keys(matching: "nothing.>") == [])
            }
        }

        @Test(arguments: ["", ".a", "a.", "a b", "a*", "é", "a..b", "a>"])
        func badKeysAreRefused(key: String) async throws {
            let client = try makeClient(["127.0.0.1:1"])
            let bucket = try KeyValueBucket(JetStream(client), name: "test")
            await #expect(throws: KeyValueError.keyInvalid(key)) { try await bucket.get(key) }
            await #expect(throws: KeyValueError.keyInvalid(key)) {
                try await bucket.put(key, ByteBuffer())
            }
            await #expect(throws: KeyValueError.notSent(.notConnected)) {
                try await bucket.put("good", ByteBuffer())
            }
            #expect(throws: KeyValueError.bucketInvalid("a.b")) {
                try KeyValueBucket(JetStream(client), name: "a.b")
            }
        }

        @Test func otherClientsSeeTheSameBucket() async throws {
            let server = try NATSServer()
            try await server.start()
            try await withClient([server.address]) { client in
                let bucket = try await bucket(client) {
                    $0.history = 5
                    $0.deleteMarkerLifetime = .seconds(60)
                    $0.metadata = ["a": "b"]
                }
                let configuration = try await JetStream(client).stream(bucket.stream).configuration
                #expect(configuration.messagesPerSubjectMax == 5)
                #expect(configuration.allowsRollup)
                #expect(configuration.deniesDelete)
                #expect(configuration.allowsDirect)
                #expect(configuration.discard == .new)
                #expect(configuration.subjects == ["$KV.test.>"])
                #expect(configuration.deleteMarkerLifetime == .seconds(60))
                let missing = await #expect(throws: KeyValueError.self) {
                    try await KeyValueBucket(JetStream(client), name: "absent").keys()
                }
                guard case .jetStream(let error)? = missing else {
                    Issue.record("\(String(describing: missing))")
                    return
                }
                #expect(error.isAPIError(JetStreamAPIError.Code.streamNotFound))
                try await bucket.deleteBucket()
            }
        }

        @Test func aWatchTellsWhatIsThereAndThenWhatChanges() async throws {
            let server = try NATSServer()
            try await server.start()
            try await withClient([server.address]) { client in
                let bucket = try await bucket(client)
                let empty = try await Watcher(bucket, keys: "x.>")
                try await empty.events.wait { $0.contains(.current) }
                try await bucket.put("a", ByteBuffer(string: "1"))
                try await bucket.put("b", ByteBuffer(string: "1"))
                try await bucket.put("a", ByteBuffer(string: "2"))
                let watcher = try await Watcher(bucket)
                try await watcher.events.wait { $0.contains(.current) }
                #expect(watcher.told == ["b=1", "a=2", "current"])
                try await bucket.put("x.y", ByteBuffer(string: "3"))
                try await bucket.delete("b")
                try await watcher.events.wait { $0.count == 5 }
                #expect(watcher.told.suffix(2) == ["x.y=3", "b delete"])
                try await empty.events.wait { $0.count == 2 }
                #expect(empty.told == ["current", "x.y=3"])
                await watcher.stop()
                await empty.stop()
            }
        }

        @Test func registrationsGoByThemselvesAndWatchersAreTold() async throws {
            let server = try NATSServer()
            try await server.start()
            try await withClient([server.address]) { client in
                let bucket = try await bucket(client) { $0.deleteMarkerLifetime = .seconds(30) }
                let watcher = try await Watcher(bucket)
                try await bucket.create("node.1", ByteBuffer(string: "up"), lifetime: .seconds(1))
                let revision = try await bucket.put(
                    "node.2", ByteBuffer(string: "up"), lifetime: .milliseconds(1_500))
                // Renewed, it stays.
                try await bucket.update(
                    "node.2", ByteBuffer(string: "still"), revision: revision,
                    lifetime: .seconds(3_600))
                try await watcher.events.wait { _ in watcher.told.contains("node.1 expire") }
                #expect(try await bucket.get("node.1") == nil)
                #expect(try await bucket.get("node.2") != nil)
                #expect(try await bucket.keys() == ["node.2"])
                // What has gone may be created again.
                try await bucket.create("node.1", ByteBuffer(string: "back"))
                #expect(try await bucket.get("node.1") != nil)
                await watcher.stop()
                let plain = try await KeyValueBucket.create(
                    JetStream(client), KeyValueConfiguration(bucket: "plain"))
                let refusal = await #expect(throws: KeyValueError.self) {
                    try await plain.put("a", ByteBuffer(), lifetime: .seconds(1))
                }
                guard case .refused(.api(let error))? = refusal else {
                    Issue.record("\(String(describing: refusal))")
                    return
                }
                #expect(error.code == JetStreamAPIError.Code.lifetimeDisabled)
            }
        }

        @Test func aWatchNoticesWhatHappenedWhileItWasInterrupted() async throws {
            let server = try NATSServer()
            try await server.start()
            try await withClient([server.address]) { client in
                let bucket = try await bucket(client)
                for key in ["stays", "changes", "goes", "expires"] {
                    try await bucket.put(key, ByteBuffer(string: "1"))
                }
                let watched = try makeClient([server.address]) {
                    $0.reconnectDelayMin = .milliseconds(500)
                    $0.reconnectDelayMax = .milliseconds(500)
                }
                watched.start()
                try await watched.waitUntilConnected()
                let watcher = try await Watcher(
                    KeyValueBucket(JetStream(watched), name: "test"))
                try await watcher.events.wait { $0.contains(.current) }
                server.stop()
                try await server.start()
                try await client.waitUntilConnected(timeout: .seconds(30))
                try await bucket.put("changes", ByteBuffer(string: "2"))
                try await bucket.delete("goes")
                // Without a trace, as what expires when nobody asked for markers.
                try await JetStream(client).purgeStream("KV_test", subject: "$KV.test.expires")
                try await watcher.events.wait { $0.filter { $0 == .current }.count == 2 }
                let told = watcher.told.drop { $0 != "current" }.dropFirst()
                #expect(Set(told) == ["changes=2", "goes delete", "expires vanished", "current"])
                #expect(told.count == 4)
                #expect(told.last == "current")
                await watcher.stop()
                try await watched.close().get()
            }
        }

        @Test func aBucketThatIsMadeAnewEndsTheWatch() async throws {
            let server = try NATSServer()
            try await server.start()
            try await withClient([server.address]) { client in
                let bucket = try await bucket(client)
                try await bucket.put("a", ByteBuffer(string: "1"))
                let watcher = try await Watcher(bucket)
                try await watcher.events.wait { $0.contains(.current) }
                try await bucket.deleteBucket()
                try await watcher.events.wait { $0.contains(.interrupted(.streamMissing)) }
                _ = try await self.bucket(client)
                try await watcher.events.wait {
                    if case .ended(.streamRecreated) = $0.last { true } else { false }
                }
            }
        }
    }
}
