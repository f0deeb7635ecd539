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

    /// Bytes that are not consumed: an unfinished command, or what waits while paused.
    private var input = ByteBuffer()
    private var held = HeldReplies()
    private var isWritable = true
    private var isPaused = false
    private var isWaiting = false
    private var isJournalBusy = false
    private var isDraining = false
    private var isClosing = false
    private var countedBytes = 0

    init(loop: LoopContext, client: ClientInfo) {
        self.loop = loop
        self.client = client
        server = loop.server
        session = Session(client: client)
    }

    // MARK: Channel

    func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
        loop.add(self)
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        self.context = nil
        loop.remove(self)
        server.clients.remove(client)
        server.connectionBytes.wrappingSubtract(countedBytes, ordering: .relaxed)
        countedBytes = 0
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        var bytes = unwrapInboundIn(data)
        server.statistics.inputBytes.wrappingAdd(
            UInt64(bytes.readableBytes), ordering: .relaxed)
        client.activeSeconds.store(loop.nowSeconds, ordering: .relaxed)
        guard !isClosing, !session.isClosing else { return }
        if input.readableBytes == 0, !isPaused {
            work(&bytes, context)
            if bytes.readableBytes > 0, !session.isClosing {
                input.clear()
                input.writeBuffer(&bytes)
                countBytes(context)
            }
        } else {
            input.writeBuffer(&bytes)
            if !isPaused { workOnInput(context) }
            countBytes(context)
        }
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        isWritable = context.channel.isWritable
        countBytes(context)
        if isWritable { resumeIfPossible(context) }
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

    /// Executes the commands in `bytes` as far as they are whole and limits allow.
    private func work(_ bytes: inout ByteBuffer, _ context: ChannelHandlerContext) {
        while bytes.readableBytes > 0, !isPaused, !session.isClosing {
            let start = loop.processor.replies.byteCount
            let progress = bytes.withUnsafeReadableBytes { loop.processor.process($0, &session) }
            bytes.moveReaderIndex(forwardBy: progress.consumedBytes)
            finish(progress, repliesStart: start)
            if progress.isBusy {
                isJournalBusy = true
                waitForJournal()
            }
            if progress.consumedBytes == 0, !progress.isBusy { break }
            pauseIfNeeded(context)
        }
        if session.isClosing { closeWhenDone(context) }
    }

    private func finish(
        _ progress: CommandProcessor.Progress, repliesStart: Int
    ) {
        let replies = repliesStart..<loop.processor.replies.byteCount
        guard progress.commandCount > 0 || !replies.isEmpty else { return }
        server.statistics.commands.wrappingAdd(
            UInt64(progress.commandCount), ordering: .relaxed)
        if let command = session.lastCommand { client.note(command: command) }
        loop.didExecute()
        guard !replies.isEmpty else { return }
        server.statistics.outputBytes.wrappingAdd(UInt64(replies.count), ordering: .relaxed)
        if held.isEmpty, server.node.gate.admits(progress.sequence) {
            loop.send(replies, to: self)
            if replies.upperBound >= Limits.outputBytesMax { loop.sendAll() }
        } else {
            held.append(
                UnsafeRawBufferPointer(rebasing: loop.processor.replies.encoded[replies]),
                sequence: progress.sequence, commandCount: progress.commandCount)
            if held.byteCount > Limits.connectionBytesUncounted, let context {
                countBytes(context)
            }
            waitForJournal()
        }
    }

    /// Hands replies to the socket.
    func write(_ replies: ByteBuffer) {
        context?.writeAndFlush(wrapOutboundOut(replies), promise: nil)
    }

    // MARK: Waiting

    private func waitForJournal() {
        guard !isWaiting else { return }
        isWaiting = true
        loop.wait(self) {
            isJournalBusy
                ? !server.node.isBusy
                : server.node.gate.admits(held.firstSequence)
        }
    }

    /// The journal has written a group: sends what may leave and goes on.
    func journalMoved() {
        isWaiting = false
        guard let context else { return }
        release()
        isJournalBusy = false
        resumeIfPossible(context)
        if !held.isEmpty { waitForJournal() }
        if session.isClosing || isDraining { closeWhenDone(context) }
    }

    private func release() {
        guard !held.isEmpty else { return }
        // What left before these were held back goes first.
        loop.sendAll()
        loop.scratch.clear()
        held.release(into: &loop.scratch, where: server.node.gate.admits)
        if loop.scratch.readableBytes > 0 {
            write(loop.scratch)
        }
    }

    // MARK: Pausing

    private var mustPause: Bool {
        !isWritable || isJournalBusy || held.byteCount >= Limits.outputBytesMax
            || held.commandCount >= Limits.pipelineDepthMax
    }

    private func pauseIfNeeded(_ context: ChannelHandlerContext) {
        guard !isPaused, mustPause else { return }
        isPaused = true
        setReading(false, context)
    }

    private func resumeIfPossible(_ context: ChannelHandlerContext) {
        guard isPaused, !mustPause, !isClosing else { return }
        isPaused = false
        if input.readableBytes > 0 { workOnInput(context) }
        countBytes(context)
        if isDraining {
            closeWhenDone(context)
        } else if !isPaused, !session.isClosing {
            setReading(true, context)
        }
    }

    private func setReading(_ isOn: Bool, _ context: ChannelHandlerContext) {
        // A channel that is already closed refuses; then nothing is read anyway.
        try? context.channel.syncOptions?.setOption(.autoRead, value: isOn)
    }

    // MARK: Limits

    /// Accounts for what this connection holds, and ends it when all together hold too much.
    private func countBytes(_ context: ChannelHandlerContext) {
        let unsent = isWritable ? 0 : bufferedBytes(context)
        let bytes = input.capacity + held.byteCount + unsent
        client.inputBytes.store(input.readableBytes, ordering: .relaxed)
        client.outputBytes.store(held.byteCount + unsent, ordering: .relaxed)
        let total = server.connectionBytes.wrappingAdd(
            bytes - countedBytes, ordering: .relaxed
        ).newValue
        let isGrowing = bytes > countedBytes
        countedBytes = bytes
        if isGrowing, total > Limits.connectionBytesMax, !isClosing {
            loop.sendAll()
            write(
                CommandProcessor.errorReply(
                    "ERR connections hold too much unfinished input or unread output, "
                        + "closing this one"))
            session.isClosing = true
            isClosing = true
            context.close(promise: nil)
        }
    }

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
        setReading(false, context)
        closeWhenDone(context)
    }

    private func closeWhenDone(_ context: ChannelHandlerContext) {
        loop.sendAll()
        guard held.isEmpty, !isJournalBusy, !isClosing else { return }
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
