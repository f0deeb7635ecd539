import CoreMetrics
import NIOCore
import Synchronization
import TallyCore
import TallyNode
import TallyRESP

/// One RESP connection: takes bytes to the command processor and replies to the socket, and stops
/// reading while the client, the disk or a limit says so.
///
/// Synchronous, on its event loop, with no allocation per command.
final class ConnectionHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private let loop: LoopContext
    private let server: ServerContext
    private let client: ClientInfo
    private var session: Session
    private var context: ChannelHandlerContext?
    private var socket: ReplySocket?
    /// Writes that the channel has not finished; while there are any, what follows waits behind them.
    private var channelWrites = 0

    /// Bytes that are not consumed: an unfinished command, or what waits while paused.
    private var input = ByteBuffer()
    private var held = HeldReplies()
    private var isWritable = true
    private var isPaused = false
    private var isWaiting = false
    private var isJournalBusy = false
    /// Whether the first command that was not consumed waits for blocks from the disk, or for time to pass.
    private var isCommandWaiting = false
    /// Stretches of its commands that are on their way through a cluster's logs.
    private var stretchesInFlight = 0
    private var isDraining = false
    private var isClosing = false
    private var countedBytes = 0

    init(loop: LoopContext, client: ClientInfo) {
        self.loop = loop
        self.client = client
        server = loop.server
        session = Session(client: client, users: server.access.users)
    }

    // MARK: Channel

    func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
        loop.add(self)
        client.setPush { [weak loop = self.loop, number = ObjectIdentifier(self)] bytes in
            loop?.push(bytes, to: number)
        }
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        self.context = nil
        loop.remove(self)
        client.setPush(nil)
        server.monitors.remove(client)
        server.clients.remove(client)
        server.connectionBytes.wrappingSubtract(countedBytes, ordering: .relaxed)
        countedBytes = 0
    }

    func channelActive(context: ChannelHandlerContext) {
        // What is encrypted must pass through the channel.
        if !client.isEncrypted { socket = ReplySocket(context.channel) }
        context.read()
    }

    func channelInactive(context: ChannelHandlerContext) {
        socket = nil
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        var bytes = unwrapInboundIn(data)
        client.activeSeconds.store(loop.nowSeconds, ordering: .relaxed)
        guard !isClosing, !session.isClosing else { return }
        loop.noteInput(bytes.readableBytes)
        if input.readableBytes == 0, !isPaused {
            work(&bytes, context)
            if bytes.readableBytes > 0, !session.isClosing, !isClosing {
                input.clear()
                input.writeBuffer(&bytes)
                countBytes(context)
            } else if countedBytes > 0 || client.queuedBytes.load(ordering: .relaxed) > 0 {
                countBytes(context)
            }
        } else {
            input.writeBuffer(&bytes)
            if !isPaused { workOnInput(context) }
            countBytes(context)
        }
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        if !isPaused, !isDraining { context.read() }
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        isWritable = context.channel.isWritable
        countBytes(context)
        if isWritable, isPaused {
            // Not now: the loop may be in the middle of handing out replies.
            context.eventLoop.assumeIsolated().execute { self.resume() }
        }
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        // The client sends no more, but it may still read.
        if case ChannelEvent.inputClosed = event {
            drain()
        } else {
            context.fireUserInboundEventTriggered(event)
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        // The peer went away; nobody is left to be told.
        context.close(promise: nil)
    }

    // MARK: Working

    private func workOnInput(_ context: ChannelHandlerContext) {
        var bytes = ByteBuffer()
        swap(&bytes, &input)
        work(&bytes, context)
        bytes.discardReadBytes()
        swap(&bytes, &input)
        if input.readableBytes == 0, input.capacity > 64 << 10 { input = ByteBuffer() }
    }

    /// Deals with the commands in `bytes` as far as they are whole and limits allow.
    private func work(_ bytes: inout ByteBuffer, _ context: ChannelHandlerContext) {
        while bytes.readableBytes > 0, !isPaused, !session.isClosing, !isClosing {
            let stop = loop.process(&bytes, of: self, &session)
            switch stop {
            case .inputEnd, .repliesLong: break
            case .journalBusy: waitForRoom()
            case .blocksMissing, .waiting: isCommandWaiting = true
            case .launched: break
            }
            if stop == .inputEnd { break }
            pauseIfNeeded()
        }
        if let command = session.lastCommand { client.note(command: command) }
        if session.isClosing { closeWhenDone(context) }
    }

    /// Replies that reflect everything up to group `sequence`: sends them, or holds them back.
    ///
    /// - Parameters:
    ///   - began: When the turn that read their commands began, monotonic nanoseconds.
    ///   - elapsed: How long ago that is.
    func deliver(
        _ replies: UnsafeRawBufferPointer, sequence: UInt64, commandCount: Int, began: UInt64,
        elapsed: UInt64
    ) {
        guard let context, !isClosing else { return }
        client.commandCount.wrappingAdd(UInt64(commandCount), ordering: .relaxed)
        if held.isEmpty, server.node.gate.admits(sequence) {
            send(replies)
            server.metrics.replies.recordNanoseconds(Int64(clamping: elapsed))
        } else {
            held.append(replies, sequence: sequence, commandCount: commandCount, began: began)
            if held.capacityBytes > Limits.connectionBytesUncounted { countBytes(context) }
            waitForJournal()
        }
        pauseIfNeeded()
    }

    /// Gives replies to the socket, and what it does not take to the channel.
    private func send(_ replies: UnsafeRawBufferPointer) {
        var sent = 0
        if channelWrites == 0, let socket {
            guard let count = socket.send(replies) else {
                context?.close(promise: nil)
                return
            }
            sent = count
        }
        if sent < replies.count { sendByChannel(replies[sent...]) }
    }

    private func sendByChannel(_ replies: Slice<UnsafeRawBufferPointer>) {
        guard let context else { return }
        channelWrites += 1
        let written = context.eventLoop.makePromise(of: Void.self)
        written.futureResult.assumeIsolated().whenComplete { _ in self.channelWrites -= 1 }
        context.writeAndFlush(
            wrapOutboundOut(context.channel.allocator.buffer(bytes: replies)), promise: written)
    }

    /// Sends what the client has not asked for; ends the connection if too much is left unread.
    func push(_ bytes: [UInt8]) {
        guard let context, !isClosing else { return }
        if held.isEmpty {
            bytes.withUnsafeBytes { send($0) }
        } else {
            bytes.withUnsafeBytes { held.append($0, sequence: 0, commandCount: 0, began: 0) }
        }
        if held.byteCount + (isWritable ? 0 : bufferedBytes(context)) > Limits.monitorBytesMax {
            context.close(promise: nil)
        }
    }

    // MARK: Waiting

    /// Commands wait, here or with the loop, because the journal has too much to write.
    private func waitForRoom() {
        isJournalBusy = true
        waitForJournal()
    }

    /// What a command waited for, blocks or a moment, is there.
    func waitingEnded() {
        isCommandWaiting = false
        guard let context else { return }
        resume()
        if session.isClosing || isDraining { closeWhenDone(context) }
    }

    /// Whether its commands are on their way through a cluster's logs, so that others must wait.
    var isInFlight: Bool { stretchesInFlight > 0 }

    /// Some of its commands have been handed to the logs.
    func takeOff() {
        stretchesInFlight += 1
        pauseIfNeeded()
    }

    /// Some of its commands have been replied to.
    func land() {
        stretchesInFlight -= 1
        guard let context, !isInFlight else { return }
        resume()
        if session.isClosing || isDraining { closeWhenDone(context) }
    }

    private func waitForJournal() {
        guard !isWaiting else { return }
        isWaiting = true
        loop.wait(self) {
            isJournalBusy ? !loop.isStalled : server.node.gate.admits(held.firstSequence)
        }
    }

    /// The journal has written a group: sends what may leave and goes on.
    func journalMoved() {
        isWaiting = false
        guard let context else { return }
        release()
        if countedBytes > 0 { countBytes(context) }
        isJournalBusy = false
        resume()
        if !held.isEmpty { waitForJournal() }
        if session.isClosing || isDraining { closeWhenDone(context) }
    }

    private func release() {
        guard !held.isEmpty else { return }
        // Sending may call this handler back, so `held` must be at rest meanwhile.
        let now = server.clock.monotonicNanoseconds()
        let admitted = held.takeAdmitted(where: server.node.gate.admits) { began in
            server.metrics.replies.recordNanoseconds(Int64(clamping: now &- began))
        }
        guard let admitted else { return }
        admitted.withUnsafeReadableBytes { send($0) }
        _ = consume admitted
        held.reclaim()
    }

    // MARK: Pausing

    private var mustPause: Bool {
        !isWritable || isJournalBusy || isCommandWaiting || isInFlight
            || held.byteCount >= Limits.outputBytesMax
            || held.commandCount >= Limits.pipelineDepthMax
    }

    /// Stops working and reading: nothing is read that was not asked for.
    private func pauseIfNeeded() {
        if !isPaused, mustPause { isPaused = true }
    }

    private func resume() {
        guard let context, isPaused, !mustPause, !isClosing else { return }
        isPaused = false
        if input.readableBytes > 0 { workOnInput(context) }
        countBytes(context)
        if isDraining {
            closeWhenDone(context)
        } else if !isPaused, !session.isClosing {
            context.read()
        }
    }

    // MARK: Limits

    /// Accounts for what this connection holds, and ends it when all together hold too much.
    ///
    /// May be called while the session's commands are processed, so it leaves `session` alone.
    private func countBytes(_ context: ChannelHandlerContext) {
        let unsent = isWritable ? 0 : bufferedBytes(context)
        let heldBytes =
            held.capacityBytes > Limits.connectionBytesUncounted ? held.capacityBytes : 0
        let queued = client.queuedBytes.load(ordering: .relaxed)
        let bytes = input.capacity + heldBytes + unsent + queued
        client.inputBytes.store(input.readableBytes, ordering: .relaxed)
        client.outputBytes.store(held.byteCount + unsent, ordering: .relaxed)
        let total = server.connectionBytes.wrappingAdd(
            bytes - countedBytes, ordering: .relaxed
        ).newValue
        let isGrowing = bytes > countedBytes
        countedBytes = bytes
        if isGrowing, total > Limits.connectionBytesMax, !isClosing {
            isClosing = true
            Self.tooMuchHeld.withUnsafeBytes { send($0) }
            context.close(promise: nil)
        }
    }

    private static let tooMuchHeld = Array(
        "-ERR connections hold too much unfinished input or unread output, closing this one\r\n"
            .utf8)

    /// Bytes that the socket has not taken.
    private func bufferedBytes(_ context: ChannelHandlerContext) -> Int {
        (try? context.channel.syncOptions?.getOption(.bufferedWritableBytes)) ?? 0
    }

    func closeIfIdle(nowSeconds: UInt64, secondsMax: UInt64) {
        let active = client.activeSeconds.load(ordering: .relaxed)
        if nowSeconds > active, nowSeconds - active > secondsMax {
            context?.close(promise: nil)
        }
    }

    // MARK: Closing

    /// Stops reading, and closes once all that was received is replied to.
    func drain() {
        guard let context, !isDraining else { return }
        isDraining = true
        closeWhenDone(context)
    }

    private func closeWhenDone(_ context: ChannelHandlerContext) {
        loop.finishTurn()
        if loop.isStalled { waitForRoom() }
        guard held.isEmpty, !isJournalBusy, !isCommandWaiting, !isInFlight, !isClosing else {
            return
        }
        if isPaused, !session.isClosing, isWritable == false { return }
        isClosing = true
        input = ByteBuffer()
        // Behind everything written so far.
        let closed = context.eventLoop.makePromise(of: Void.self)
        closed.futureResult.whenComplete { [channel = context.channel] _ in
            channel.close(promise: nil)
        }
        context.writeAndFlush(wrapOutboundOut(ByteBuffer()), promise: closed)
    }
}
