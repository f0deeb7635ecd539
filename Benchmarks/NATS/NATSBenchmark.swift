import Dispatch
import Logging
import NIOCore
import NIOPosix
import TallyNATS

/// Publishes as a replicated journal does, one message in flight for each stream, and reads it all back.
///
///     NATSBenchmark nats://127.0.0.1:4222,nats://127.0.0.1:4223 --replicas 3 --streams 1 --bytes 32768 --seconds 5
@main
struct NATSBenchmark {
    var servers: [String] = []
    var replicas = 1
    var streams = 1
    var bytes = 32 << 10
    var seconds = 5.0

    static func main() async throws {
        var benchmark = NATSBenchmark()
        var arguments = CommandLine.arguments.dropFirst()
        while let argument = arguments.popFirst() {
            switch argument {
            case "--replicas": benchmark.replicas = Int(arguments.popFirst() ?? "") ?? 1
            case "--streams": benchmark.streams = Int(arguments.popFirst() ?? "") ?? 1
            case "--bytes": benchmark.bytes = Int(arguments.popFirst() ?? "") ?? 1
            case "--seconds": benchmark.seconds = Double(arguments.popFirst() ?? "") ?? 1
            default: benchmark.servers = argument.split(separator: ",").map(String.init)
            }
        }
        try await benchmark.run()
    }

    func run() async throws {
        var logger = Logger(label: "benchmark")
        logger.logLevel = .error
        let client = try NATSClient(
            options: NATSOptions(servers: servers),
            eventLoop: MultiThreadedEventLoopGroup.singleton.next(), logger: logger)
        client.start()
        try await client.waitUntilConnected()
        let jetStream = JetStream(client)
        for index in 0..<streams {
            var configuration = StreamConfiguration(name: "B\(index)", subjects: ["b.\(index)"])
            configuration.replicas = replicas
            configuration.discard = .new
            _ = try await jetStream.createStream(configuration)
        }
        // Elections of the streams' leaders are not what is measured.
        for index in 0..<streams {
            while true {
                let outcome = try await jetStream.publish(
                    ByteBuffer(repeating: 1, count: bytes), subject: "b.\(index)")
                if case .acknowledged = outcome { break }
                try await Task.sleep(for: .milliseconds(50))
            }
        }
        let latencies = await publish(jetStream)
        let sorted = latencies.sorted()
        let mean = latencies.reduce(0, +) / Double(max(1, latencies.count))
        print(
            "publish: \(streams) streams of \(replicas), \(bytes) bytes:",
            "\(Int(Double(sorted.count) / seconds)) messages/s,",
            "\(Int(Double(sorted.count * bytes) / seconds / 1e6)) MB/s,",
            "mean \(Self.rounded(mean)) ms, p50 \(Self.rounded(sorted[sorted.count / 2])) ms,",
            "p99 \(Self.rounded(sorted[sorted.count * 99 / 100])) ms")
        let began = DispatchTime.now()
        let count = await read(client)
        let elapsed = Double(DispatchTime.now().uptimeNanoseconds - began.uptimeNanoseconds) / 1e9
        print(
            "read: \(count) messages, \(Int(Double(count * bytes) / elapsed / 1e6)) MB/s,",
            "one stream")
        for index in 0..<streams { try await jetStream.deleteStream("B\(index)") }
        try await client.close().get()
    }

    private static func rounded(_ milliseconds: Double) -> Double {
        (milliseconds * 100).rounded() / 100
    }

    /// One message in flight for each stream, until the time is over.
    ///
    /// - Returns: milliseconds to each acknowledgement.
    private func publish(_ jetStream: JetStream) async -> [Double] {
        let (streams, bytes, seconds) = (streams, bytes, seconds)
        return await jetStream.client.onLoop { complete in
            let run = Run(jetStream, bytes: bytes, seconds: seconds, left: streams, complete)
            for index in 0..<streams { run.publish(to: "b.\(index)") }
        }
    }

    /// Reads the first stream to its end.
    ///
    /// - Returns: messages.
    private func read(_ client: NATSClient) async -> Int {
        await client.onLoop { complete in
            let reading = Reading(client, complete)
            reading.consumer?.grant(messages: 2_048, bytes: 32 << 20)
        }
    }
}

/// Publishes on the loop until the time is over.
private final class Run {
    private let jetStream: JetStream
    private let payload: ByteBuffer
    private let deadline: NIODeadline
    private var left: Int
    private var latencies: [Double] = []
    private var number = 0
    private let complete: ([Double]) -> Void

    init(
        _ jetStream: JetStream, bytes: Int, seconds: Double, left: Int,
        _ complete: @escaping ([Double]) -> Void
    ) {
        self.jetStream = jetStream
        payload = ByteBuffer(bytes: (0..<bytes).map { UInt8(truncatingIfNeeded: $0 &* 31) })
        deadline = .now() + .nanoseconds(Int64(seconds * 1e9))
        self.left = left
        self.complete = complete
    }

    func publish(to subject: String) {
        let began = NIODeadline.now()
        number += 1
        do {
            try jetStream.publish(payload, to: subject, .init(messageID: "\(number)")) { outcome in
                guard case .acknowledged = outcome else { fatalError("\(outcome)") }
                let now = NIODeadline.now()
                self.latencies.append(Double((now - began).nanoseconds) / 1e6)
                if now < self.deadline {
                    self.publish(to: subject)
                } else {
                    self.left -= 1
                    if self.left == 0 { self.complete(self.latencies) }
                }
            }
        } catch {
            fatalError("\(error)")
        }
    }
}

/// Reads a stream on the loop until nothing is pending.
private final class Reading {
    private(set) var consumer: OrderedConsumer?
    private var count = 0

    init(_ client: NATSClient, _ complete: @escaping (Int) -> Void) {
        consumer = OrderedConsumer(client, stream: "B0", onEvent: { _ in }) { message in
            self.count += 1
            if message.pending == 0 {
                self.consumer?.stop()
                self.consumer = nil
                complete(self.count)
            } else {
                self.consumer?.grant(messages: 1, bytes: message.creditBytes)
            }
        }
    }
}
