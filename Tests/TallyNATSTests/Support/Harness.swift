import Logging
import NIOCore
import NIOPosix
import TallyCore
import Testing

@testable import TallyNATS

/// Tests with real servers: one after the other, so that machines with few cores keep up.
@Suite(.serialized, .enabled(if: NATSServer.binary != nil, Comment(rawValue: NATSServer.missing)))
struct LiveTests {}

/// Gathers what closures on a loop are called with, and lets tests wait for it.
final class Gathered<Element: Sendable>: Sendable {
    private let elements = Locked<[Element]>([])

    func add(_ element: Element) { elements.withLock { $0.append(element) } }

    var all: [Element] { elements.withLock { $0 } }

    struct TimedOut: Error {}

    /// Waits, for at most half a minute, until `condition` holds of what has been gathered.
    @discardableResult
    func wait(
        _ sourceLocation: SourceLocation = #_sourceLocation,
        until condition: ([Element]) -> Bool
    ) async throws -> [Element] {
        for _ in 0..<6_000 {
            let now = all
            if condition(now) { return now }
            try await Task.sleep(for: .milliseconds(5))
        }
        Issue.record("not gathered: \(all.suffix(20))", sourceLocation: sourceLocation)
        throw TimedOut()
    }
}

/// Waits, for at most half a minute, until `condition` holds.
func eventually(
    _ what: String, _ sourceLocation: SourceLocation = #_sourceLocation,
    _ condition: () async throws -> Bool
) async throws {
    for _ in 0..<600 {
        if try await condition() { return }
        try await Task.sleep(for: .milliseconds(50))
    }
    Issue.record("never: \(what)", sourceLocation: sourceLocation)
}

/// How `body` fails; nil if it does not.
func failure<Value>(_ body: () async throws -> Value) async -> NATSRequestError? {
    do {
        _ = try await body()
        return nil
    } catch {
        return error as? NATSRequestError
    }
}

/// Runs `body` with a client, which is closed afterwards.
func withClient<Result>(
    _ servers: [String], _ change: (inout NATSOptions) -> Void = { _ in },
    _ body: (NATSClient) async throws -> Result
) async throws -> Result {
    let client = try makeClient(servers, change)
    client.start()
    do {
        try await client.waitUntilConnected(timeout: .seconds(30))
        let result = try await body(client)
        try await client.close().get()
        return result
    } catch {
        try await client.close().get()
        throw error
    }
}

func makeClient(
    _ servers: [String], _ change: (inout NATSOptions) -> Void = { _ in }
) throws -> NATSClient {
    var options = NATSOptions(servers: servers)
    options.reconnectDelayMax = .milliseconds(200)
    change(&options)
    var logger = Logger(label: "test")
    logger.logLevel = .critical
    return try NATSClient(
        options: options, eventLoop: MultiThreadedEventLoopGroup.singleton.next(), logger: logger)
}

extension NATSClient {
    /// Gathers what is published to `subject` from now on.
    func gather(_ subject: String) async throws -> Gathered<NATSMessage> {
        let gathered = Gathered<NATSMessage>()
        let result: Result<Void, NATSSubscribeError> = await onLoop { complete in
            complete(
                Result { () throws(NATSSubscribeError) in
                    _ = try self.subscribe(subject) { gathered.add($0) }
                })
        }
        try result.get()
        return gathered
    }

    /// Gathers the states that the client has, from the present one on.
    func gatherStates() async -> Gathered<NATSConnectionState> {
        let gathered = Gathered<NATSConnectionState>()
        let _: Bool = await onLoop { complete in
            self.observe { gathered.add($0) }
            complete(true)
        }
        return gathered
    }

    func state() async -> NATSConnectionState {
        await onLoop { complete in complete(self.state) }
    }
}

/// Reads a stream and keeps what it gets.
final class StreamReader: @unchecked Sendable {
    // Sendable because the consumer is touched on its loop only.
    let messages = Gathered<StreamMessage>()
    let events = Gathered<OrderedConsumerEvent>()
    private let client: NATSClient
    private var consumer: OrderedConsumer?

    /// - Parameter returnsCredit: Whether every message's credit is granted again.
    init(
        _ client: NATSClient, _ stream: String, messages: Int = 1_000, bytes: Int = 16 << 20,
        returnsCredit: Bool = true,
        _ change: @Sendable (inout OrderedConsumerOptions) -> Void = { _ in }
    ) async {
        self.client = client
        var options = OrderedConsumerOptions()
        options.heartbeat = .milliseconds(200)
        options.pullExpiry = .seconds(2)
        change(&options)
        let settled = options
        let _: Bool = await client.onLoop { complete in
            let consumer = OrderedConsumer(
                client, stream: stream, options: settled, onEvent: { self.events.add($0) },
                onMessage: { message in
                    self.messages.add(message)
                    if returnsCredit {
                        self.consumer?.grant(messages: 1, bytes: message.creditBytes)
                    }
                })
            consumer.grant(messages: messages, bytes: bytes)
            self.consumer = consumer
            complete(true)
        }
    }

    func onConsumer<Value: Sendable>(
        _ body: @escaping @Sendable (OrderedConsumer) -> Value
    ) async -> Value {
        await client.onLoop { complete in complete(body(self.consumer!)) }
    }

    func stop() async {
        await onConsumer { $0.stop() }
    }

    var sequences: [UInt64] { messages.all.map(\.sequence) }

    var payloads: [String] { messages.all.map { String(buffer: $0.payload) } }
}
