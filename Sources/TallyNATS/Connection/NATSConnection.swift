import NIOCore
import NIOSSL
import NIOTLS

#if canImport(FoundationEssentials)
    import FoundationEssentials
#else
    import Foundation
#endif

/// One TCP connection to one server, from its first word to its end. On its event loop only.
///
/// It holds its client until it ends.
final class NATSConnection: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    /// What a connection is made with.
    struct Setup {
        var address: NATSServerAddress
        var authentication: ResolvedAuthentication
        var tlsContext: NIOSSLContext
        /// Name that the certificate must have; nil for the numeric address.
        var tlsServerName: String?
        var options: NATSOptions
    }

    private enum Phase {
        case awaitingInfo, securing, awaitingPong, ready, ended
    }

    let setup: Setup
    private let client: NATSClient
    private let eventLoop: any EventLoop
    private var context: ChannelHandlerContext?
    private var phase = Phase.awaitingInfo
    private var isSecure = false
    /// What the server said of itself; nil until it did.
    private(set) var info: NATSServerInfo?
    private var deadline: Scheduled<Void>?
    /// What the server complained of last: the reason, if it then closes.
    private var lastError: String?

    private var parser: NATSParser
    /// Bytes of an unfinished operation.
    private var input = ByteBuffer()

    /// What has not been given to the channel.
    private var output: ByteBuffer
    private var isFlushScheduled = false
    /// Bytes that the channel has and the system has not.
    private var channelBytes = 0
    /// Of these, bytes that the last flush did not cover.
    private var unflushedBytes = 0

    private var pingTimer: Scheduled<Void>?
    /// Who waits for the answers to pings, in their order; nil is the timer.
    private var pings: [(() -> Void)?] = []
    private var pingsUnanswered = 0

    /// Payloads up to here are copied behind their line; longer ones are written as they are.
    private static let copiedBytesMax = 4 << 10

    init(_ setup: Setup, client: NATSClient) {
        self.setup = setup
        self.client = client
        eventLoop = client.eventLoop
        parser = NATSParser(messageBytesMax: setup.options.messageBytesMax)
        output = ByteBufferAllocator().buffer(capacity: 1 << 10)
        deadline = eventLoop.assumeIsolated().scheduleTask(
            in: TimeAmount(setup.options.connectTimeout)
        ) { self.end(.connectTimedOut) }
    }

    var isReady: Bool { phase == .ready }

    /// Bytes that the system has not taken yet.
    var pendingBytes: Int { channelBytes + output.readableBytes }

    // MARK: Channel

    func handlerAdded(context: ChannelHandlerContext) { self.context = context }

    func handlerRemoved(context: ChannelHandlerContext) {
        self.context = nil
        end(.closedByServer)
    }

    func channelActive(context: ChannelHandlerContext) {
        guard phase != .ended else { return context.close(promise: nil) }
        if setup.options.startsWithTLS { secure() }
        context.fireChannelActive()
    }

    func channelInactive(context: ChannelHandlerContext) {
        end(lastError.map(Self.reason) ?? .closedByServer)
        context.fireChannelInactive()
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if case TLSUserEvent.handshakeCompleted = event {
            isSecure = true
            if phase == .securing { introduce() }
        }
        context.fireUserInboundEventTriggered(event)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        switch error {
        case is NIOSSLError, is NIOSSLExtraError, is BoringSSLError:
            end(lastError.map(Self.reason) ?? .tlsFailed("\(error)"))
        default:
            end(lastError.map(Self.reason) ?? .network("\(error)"))
        }
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard phase != .ended else { return }
        var bytes = unwrapInboundIn(data)
        if input.readableBytes == 0 {
            parse(&bytes)
            if bytes.readableBytes > 0 { keep(bytes) }
        } else {
            input.writeBuffer(&bytes)
            let unread = input.readableBytes
            var whole = ByteBuffer()
            swap(&whole, &input)
            parse(&whole)
            // What was read may be kept by others: the rest gets a buffer of its own.
            if whole.readableBytes == unread { swap(&whole, &input) } else { keep(whole) }
        }
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        flush()
        context.fireChannelReadComplete()
    }

    /// Keeps a copy of `rest` with room for what it is the start of.
    private func keep(_ rest: ByteBuffer) {
        input = ByteBuffer()
        guard rest.readableBytes > 0, phase != .ended else { return }
        input.reserveCapacity(max(parser.bytesExpected, rest.readableBytes))
        input.writeImmutableBuffer(rest)
    }

    private func parse(_ bytes: inout ByteBuffer) {
        do {
            while phase != .ended, let operation = try parser.next(&bytes) { handle(operation) }
        } catch {
            end(.protocolViolation(error))
        }
    }

    // MARK: What the server says

    private func handle(_ operation: NATSServerOperation) {
        switch operation {
        case .message(let message):
            if phase == .ready { client.received(message) }
        case .ping:
            NATSEncoder.pong(into: &output)
            scheduleFlush()
        case .pong: receivedPong()
        case .info(let json): received(json)
        case .ok: break
        case .error(let text): received(error: text)
        }
    }

    private func received(_ json: ByteBuffer) {
        let info: NATSServerInfo
        do {
            info = try JSONDecoder().decode(
                NATSServerInfo.self, from: Data(json.readableBytesView))
        } catch {
            return end(.protocolViolation(.infoInvalid("\(error)")))
        }
        self.info = info
        switch phase {
        case .awaitingInfo:
            guard info.hasHeaders else {
                return end(.serverUnsuitable("headers are switched off"))
            }
            let isWanted = setup.options.requiresTLS || setup.address.requiresTLS
            if isSecure {
                introduce()
            } else if setup.options.startsWithTLS {
                // What it says before the handshake is complete is not to be trusted.
                end(.tlsNotOffered)
            } else if info.requiresTLS || (isWanted && info.offersTLS) {
                secure()
            } else if isWanted {
                end(.tlsNotOffered)
            } else {
                introduce()
            }
        case .awaitingPong, .ready: client.updated(info, on: self)
        case .securing, .ended: break
        }
    }

    private func received(error text: String) {
        lastError = text
        let reason = Self.reason(text)
        if phase != .ready {
            end(reason)
        } else if case .authenticationFailed = reason {
            end(reason)
        } else {
            // The server closes if it is serious; some complaints are of one subject only.
            client.received(error: text)
        }
    }

    private static func reason(_ text: String) -> NATSDisconnectReason {
        let isOfUser = ["authorization", "authentication", "credential"].contains {
            text.lowercased().contains($0)
        }
        return isOfUser ? .authenticationFailed(text) : .serverError(text)
    }

    // MARK: Introduction

    private func secure() {
        guard let context else { return }
        if !setup.options.startsWithTLS { phase = .securing }
        do {
            let handler = try NIOSSLClientHandler(
                context: setup.tlsContext, serverHostname: setup.tlsServerName)
            try context.pipeline.syncOperations.addHandler(handler, position: .first)
        } catch {
            end(.tlsFailed("\(error)"))
        }
    }

    private func introduce() {
        guard let info else { return }
        do {
            let request = try ConnectRequest(
                setup.authentication, info: info, name: setup.options.name, isTLS: isSecure)
            let json = try JSONEncoder().encode(request)
            NATSEncoder.connect(json, into: &output)
        } catch {
            return end(
                (error as? NATSCredentialError).map { .credentials($0) } ?? .network("\(error)"))
        }
        NATSEncoder.ping(into: &output)
        phase = .awaitingPong
        scheduleFlush()
    }

    private func receivedPong() {
        if phase == .awaitingPong, let info {
            phase = .ready
            deadline?.cancel()
            deadline = nil
            schedulePing()
            client.becameReady(self, info)
            return
        }
        pingsUnanswered = 0
        guard !pings.isEmpty else { return }
        pings.removeFirst()?()
    }

    // MARK: Signs of life

    private func schedulePing() {
        pingTimer = eventLoop.assumeIsolated().scheduleTask(
            in: TimeAmount(setup.options.pingInterval)
        ) {
            guard self.phase == .ready else { return }
            guard self.pingsUnanswered < self.setup.options.pingsOutstandingMax else {
                return self.end(.unresponsive)
            }
            self.ping(nil)
            self.schedulePing()
        }
    }

    /// Sends a ping; `completion` is called when it is answered, and never if the connection ends.
    func ping(_ completion: (() -> Void)?) {
        pings.append(completion)
        pingsUnanswered += 1
        NATSEncoder.ping(into: &output)
        scheduleFlush()
    }

    // MARK: Sending

    /// Gives a message to the network.
    func publish(
        _ payload: ByteBuffer, to subject: String, replyTo: some Sequence<UInt8>,
        headers: NATSHeaders?
    ) {
        NATSEncoder.publish(
            subject, replyTo: replyTo, headers: headers, payloadBytes: payload.readableBytes,
            into: &output)
        if payload.readableBytes <= Self.copiedBytesMax {
            output.writeImmutableBuffer(payload)
        } else {
            write(output)
            output = ByteBufferAllocator().buffer(capacity: 1 << 10)
            write(payload)
        }
        output.writeStaticString("\r\n")
        scheduleFlush()
    }

    /// Lets `body` write short operations.
    func send(_ body: (inout ByteBuffer) -> Void) {
        body(&output)
        scheduleFlush()
    }

    private func write(_ buffer: ByteBuffer) {
        channelBytes += buffer.readableBytes
        unflushedBytes += buffer.readableBytes
        context?.write(wrapOutboundOut(buffer), promise: nil)
    }

    /// Flushes once for all that is sent in this turn of the loop, at the end of reading or of the turn.
    private func scheduleFlush() {
        guard !isFlushScheduled else { return }
        isFlushScheduled = true
        eventLoop.assumeIsolated().execute {
            self.isFlushScheduled = false
            self.flush()
        }
    }

    private func flush() {
        guard phase != .ended, let context, output.readableBytes > 0 else { return }
        let count = unflushedBytes + output.readableBytes
        channelBytes += output.readableBytes
        unflushedBytes = 0
        let written = context.eventLoop.makePromise(of: Void.self)
        written.futureResult.assumeIsolated().whenComplete { _ in
            self.channelBytes -= count
            if self.phase == .ready { self.client.wrote() }
        }
        let buffer = output
        output = ByteBufferAllocator().buffer(capacity: 1 << 10)
        context.writeAndFlush(wrapOutboundOut(buffer), promise: written)
    }

    // MARK: End

    /// Ends the connection, once; what has been given to the network is sent first if it can be.
    func end(_ reason: NATSDisconnectReason) {
        guard phase != .ended else { return }
        flush()
        phase = .ended
        deadline?.cancel()
        pingTimer?.cancel()
        pings.removeAll()
        context?.close(promise: nil)
        client.ended(self, reason)
    }
}
