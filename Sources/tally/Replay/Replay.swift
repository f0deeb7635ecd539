import NIOCore
import NIOPosix
import Synchronization
import TallyCore

/// Many connections that send updates at once and read counters back.
struct Replay: Sendable {
    let host: String
    let port: Int
    let connections: Int
    let pipeline: Int

    /// What sending took.
    struct Report {
        let count: Int
        let seconds: Double
        let latency: LatencyHistogram

        var text: String {
            func milliseconds(_ share: Double) -> String {
                let hundredths = latency.percentile(share) / 10_000
                let fraction = hundredths % 100
                return "\(hundredths / 100).\(fraction < 10 ? "0" : "")\(fraction) ms"
            }
            return """
                \(Int(Double(count) / max(seconds, 0.000_001))) updates per second, \
                latency of a pipeline: p50 \(milliseconds(0.5)), p99 \(milliseconds(0.99)), \
                p99.9 \(milliseconds(0.999)), longest \(milliseconds(1))
                """
        }
    }

    /// Sends all events, each connection a share of them, and shows progress.
    func send(_ events: [TrafficDay.Event]) async throws -> Report {
        let progress = ProgressBar(total: events.count)
        let clock = ContinuousClock()
        let start = clock.now
        let latency = try await withThrowingTaskGroup(of: LatencyHistogram.self) { group in
            for connection in 0..<connections {
                group.addTask {
                    try await withConnection { client in
                        try await send(events, from: connection, client, progress)
                    }
                }
            }
            var all = LatencyHistogram()
            for try await one in group { all.add(one) }
            return all
        }
        progress.finish()
        let seconds = start.duration(to: clock.now) / .seconds(1)
        return Report(count: events.count, seconds: seconds, latency: latency)
    }

    private func send(
        _ events: [TrafficDay.Event], from first: Int, _ client: ReplayClient,
        _ progress: ProgressBar
    ) async throws -> LatencyHistogram {
        var latency = LatencyHistogram()
        let clock = ContinuousClock()
        var index = first
        while index < events.count {
            var commands = ByteBuffer()
            var count = 0
            while count < pipeline, index < events.count {
                let event = events[index]
                if event.delta == 1 {
                    commands.writeCommand("INCR", event.key)
                } else {
                    commands.writeCommand("INCRBY", event.key, String(event.delta))
                }
                count += 1
                index += connections
            }
            let start = clock.now
            _ = try await client.exchange(commands, replies: count)
            let nanoseconds = start.duration(to: clock.now) / .nanoseconds(1)
            latency.record(nanoseconds: UInt64(nanoseconds), times: UInt64(count))
            progress.advance(by: count)
        }
        return latency
    }

    /// The values of all `keys` that exist.
    func read(keys: [String]) async throws -> [String: Int64] {
        try await withConnection { client in
            var values: [String: Int64] = [:]
            for start in stride(from: 0, to: keys.count, by: 1000) {
                let some = keys[start..<min(start + 1000, keys.count)]
                var commands = ByteBuffer()
                for key in some { commands.writeCommand("GET", key) }
                let replies = try await client.exchange(commands, replies: some.count)
                for (key, reply) in zip(some, replies) {
                    if let reply { values[key] = reply }
                }
            }
            return values
        }
    }

    private func withConnection<Value: Sendable>(
        _ body: @Sendable (ReplayClient) async throws -> Value
    ) async throws -> Value {
        let channel: NIOAsyncChannel<ByteBuffer, ByteBuffer>
        do {
            channel = try await ClientBootstrap(group: .singletonMultiThreadedEventLoopGroup)
                .channelOption(.tcpOption(.tcp_nodelay), value: 1)
                .connect(host: host, port: port) { channel in
                    channel.eventLoop.makeCompletedFuture {
                        try NIOAsyncChannel(wrappingChannelSynchronously: channel)
                    }
                }
        } catch {
            throw ReplayError.cannotConnect("\(error)")
        }
        return try await channel.executeThenClose { inbound, outbound in
            let client = ReplayClient(inbound, outbound)
            return try await body(client)
        }
    }
}

/// One connection that sends commands and reads integers.
final class ReplayClient {
    private var inbound: NIOAsyncChannelInboundStream<ByteBuffer>.AsyncIterator
    private let outbound: NIOAsyncChannelOutboundWriter<ByteBuffer>
    private var received = ByteBuffer()

    init(
        _ inbound: NIOAsyncChannelInboundStream<ByteBuffer>,
        _ outbound: NIOAsyncChannelOutboundWriter<ByteBuffer>
    ) {
        self.inbound = inbound.makeAsyncIterator()
        self.outbound = outbound
    }

    /// Sends commands and waits for as many replies: integers, bulk integers or null.
    func exchange(_ commands: ByteBuffer, replies count: Int) async throws -> [Int64?] {
        try await outbound.write(commands)
        var replies: [Int64?] = []
        replies.reserveCapacity(count)
        while replies.count < count {
            if let reply = try received.readReply() {
                replies.append(reply.value)
            } else {
                guard var more = try await inbound.next() else { throw ReplayError.disconnected }
                received.discardReadBytes()
                received.writeBuffer(&more)
            }
        }
        return replies
    }
}

/// An integer, or nothing.
private struct ReplayReply {
    let value: Int64?
}

extension ByteBuffer {
    fileprivate mutating func writeCommand(_ words: String...) {
        writeString("*\(words.count)\r\n")
        for word in words { writeString("$\(word.utf8.count)\r\n\(word)\r\n") }
    }

    /// The next reply, nil if it has not all arrived.
    fileprivate mutating func readReply() throws -> ReplayReply? {
        let start = readerIndex
        guard let line = readLine() else { return nil }
        switch line.first {
        case ":": return ReplayReply(value: Int64(line.dropFirst()))
        case "$":
            guard line != "$-1" else { return ReplayReply(value: nil) }
            guard let text = readLine() else {
                moveReaderIndex(to: start)
                return nil
            }
            return ReplayReply(value: Int64(text))
        default: throw ReplayError.refused(line)
        }
    }

    private mutating func readLine() -> String? {
        guard let end = readableBytesView.firstIndex(of: UInt8(ascii: "\r")),
            end + 1 < writerIndex
        else { return nil }
        let line = readString(length: end - readerIndex)
        moveReaderIndex(forwardBy: 2)
        return line
    }
}

/// A line on the terminal that shows how far things are.
final class ProgressBar: Sendable {
    private let total: Int
    private let done = Atomic<Int>(0)
    private let shown = Locked<Int>(-1)

    init(total: Int) {
        self.total = total
    }

    func advance(by count: Int) {
        let value = done.wrappingAdd(count, ordering: .relaxed).newValue
        let percent = value * 100 / max(1, total)
        shown.withLock { shown in
            guard percent > shown else { return }
            shown = percent
            let filled = percent * 40 / 100
            let bar =
                String(repeating: "#", count: filled) + String(repeating: ".", count: 40 - filled)
            print("\r[\(bar)] \(percent) %", terminator: "")
            flushOutput()
        }
    }

    func finish() {
        print("")
    }
}
