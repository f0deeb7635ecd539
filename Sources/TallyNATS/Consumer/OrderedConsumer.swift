import NIOCore

/// Reads a stream in its order, from one place on, through an ephemeral consumer that is made anew
/// whenever anything is in doubt.
///
/// * Sequences of delivered messages strictly increase; none is delivered twice; none that the stream
///   has is left out.
/// * Never more arrives than credit was granted for, in messages and in bytes.
/// * After each interruption it reads the message it delivered last once more and compares its time: a
///   stream that was rolled back and grew again ends the consumer. (Not with a filter.)
///
/// On the client's loop only. Ends with `stop`; while it runs its client holds it.
public final class OrderedConsumer {
    /// The client it goes through.
    public let client: NATSClient
    /// The stream it reads.
    public let stream: String
    /// What it was made with.
    public let options: OrderedConsumerOptions
    let onMessage: (StreamMessage) -> Void
    let onEvent: (OrderedConsumerEvent) -> Void

    /// Sequence of the last delivered message, or the one before the start.
    public private(set) var lastSequence: UInt64
    /// When the stream was created; nil until that is known.
    public internal(set) var created: NATSTime?
    /// Messages that are delivered without further credit.
    public var creditMessages: Int { credit.messages }
    /// Bytes that are delivered without further credit.
    public var creditBytes: Int { credit.bytes }

    enum Phase: Equatable {
        /// There is no connection, or a retry waits for its time.
        case waiting
        case creating
        /// The last delivered message is read again.
        case comparing
        case reading
        case ended
    }

    var phase = Phase.waiting
    /// Changes whenever what is under way is given up.
    var incarnation = 0
    /// Name of the consumer on the server, if there may be one.
    var name: String?
    /// Time of the last delivered message; nil before the first.
    var lastTime: NATSTime?
    /// Whether the last delivered message is known to be gone, so that there is nothing to compare.
    var isLastGone = false
    /// Messages that the consumer had for its start, when it was made.
    var pendingAtStart: UInt64 = 0
    var consumerSequence: UInt64 = 0
    var credit = Credit()
    var backoff: Backoff
    var random = SystemRandomNumberGenerator()
    var timer: Scheduled<Void>?
    private var subscription: NATSSubscription?
    private var observation: NATSObservation?
    private var isPaused = false
    private var lastHeard = NIODeadline.now()

    /// Starts to read; messages come when credit is granted.
    ///
    /// - Parameters:
    ///   - stream: Name of the stream.
    ///   - options: Numbers outside their ranges are a bug and trap.
    ///   - onMessage: Called with each message.
    ///   - onEvent: Called with everything else that is to be known.
    public init(
        _ client: NATSClient, stream: String, options: OrderedConsumerOptions = .init(),
        onEvent: @escaping (OrderedConsumerEvent) -> Void,
        onMessage: @escaping (StreamMessage) -> Void
    ) {
        client.eventLoop.preconditionInEventLoop()
        precondition(options.areValid, "options of a consumer are out of range")
        precondition(NATSSubject.isName(stream), "not a stream's name")
        self.client = client
        self.stream = stream
        self.options = options
        self.onMessage = onMessage
        self.onEvent = onEvent
        created = options.created
        backoff = Backoff(min: options.retryDelayMin, max: options.retryDelayMax)
        if case .sequence(let first) = options.start {
            lastSequence = first - 1
        } else {
            lastSequence = 0
        }
        // Not now: the caller does not have this object yet.
        client.eventLoop.assumeIsolated().execute { self.observe() }
    }

    private func observe() {
        guard phase != .ended else { return }
        observation = client.observe { state in
            guard self.phase != .ended else { return }
            if state.isConnected {
                self.create()
            } else if self.phase != .waiting, !state.isMoving {
                self.interrupt(.disconnected)
            }
        }
        // It may have been stopped by what it was told meanwhile.
        if phase == .ended, let observation { client.stopObserving(observation) }
    }

    // MARK: Control

    /// Lets so much more be delivered.
    ///
    /// - Parameters:
    ///   - messages: Messages.
    ///   - bytes: Bytes as `StreamMessage.creditBytes` counts them. In all at least `pullBytesMin` must be
    ///     granted for anything to be delivered.
    public func grant(messages: Int, bytes: Int) {
        client.eventLoop.preconditionInEventLoop()
        credit.grant(messages: messages, bytes: bytes)
        pull()
    }

    /// Asks for no more messages. Those that have been asked for still come.
    public func pause() {
        client.eventLoop.preconditionInEventLoop()
        isPaused = true
    }

    /// Goes on after `pause`.
    public func resume() {
        client.eventLoop.preconditionInEventLoop()
        isPaused = false
        pull()
    }

    /// Ends reading. Nothing is called any more.
    public func stop() {
        client.eventLoop.preconditionInEventLoop()
        guard phase != .ended else { return }
        abandon()
        phase = .ended
        if let observation { client.stopObserving(observation) }
    }

    func end(_ end: OrderedConsumerEvent.End) {
        stop()
        onEvent(.ended(end))
    }

    // MARK: Interruptions

    /// Gives up what is under way, says why, and tries again: at once if reading went well before, else
    /// after a growing wait.
    func interrupt(_ reason: OrderedConsumerEvent.Interruption) {
        guard phase != .ended else { return }
        let wasReading = phase == .reading && consumerSequence > 0
        abandon()
        if wasReading { backoff.reset() }
        if reason != .disconnected, client.state.isConnected {
            let incarnation = incarnation
            let delay = wasReading ? .zero : backoff.next(using: &random)
            timer = client.eventLoop.assumeIsolated().scheduleTask(in: TimeAmount(delay)) {
                if self.incarnation == incarnation { self.create() }
            }
        }
        onEvent(.interrupted(reason))
    }

    /// Forgets the consumer, and has the server forget it.
    private func abandon() {
        incarnation += 1
        phase = .waiting
        timer?.cancel()
        timer = nil
        credit.endPull(nil)
        consumerSequence = 0
        if options.isRepeated {
            lastSequence = 0
            lastTime = nil
        }
        if let subscription { client.unsubscribe(subscription) }
        subscription = nil
        guard let name else { return }
        self.name = nil
        // Without an answer: a consumer that stays behind goes when nothing is asked of it.
        try? client.publish(
            ByteBuffer(), to: "\(JetStream.prefix)CONSUMER.DELETE.\(stream).\(name)")
    }

    // MARK: Reading

    /// Subscribes to where the consumer `name` delivers.
    func listen(to name: String) throws(NATSSubscribeError) {
        let incarnation = incarnation
        subscription = try client.subscribe("\(client.inboxPrefix)\(name).*") { message in
            if self.incarnation == incarnation { self.received(message) }
        }
    }

    /// Asks for as many messages as there is credit for, if none are asked for.
    func pull() {
        guard phase == .reading, !isPaused,
            let pull = credit.startPull(
                messagesMax: options.pullMessagesMax, bytesMin: options.pullBytesMin)
        else { return }
        send(pull, expiry: options.pullExpiry)
    }

    /// Asks for the message that was delivered last, to compare it.
    func pullForComparison() {
        send(credit.startUncounted(), expiry: min(options.pullExpiry, options.heartbeat * 4))
    }

    private func send(_ pull: Credit.Pull, expiry: Duration) {
        guard let name else { return }
        let bytes = pull.bytes.map { ",\"max_bytes\":\($0)" } ?? ""
        let request =
            "{\"batch\":\(pull.messages)\(bytes),\"expires\":\(expiry.nanoseconds),"
            + "\"idle_heartbeat\":\(options.heartbeat.nanoseconds)}"
        do {
            try client.publish(
                ByteBuffer(string: request),
                to: "\(JetStream.prefix)CONSUMER.MSG.NEXT.\(stream).\(name)",
                replyTo: "\(client.inboxPrefix)\(name).\(pull.number)")
        } catch {
            return interrupt(.failed(.request(.notSent(error))))
        }
        lastHeard = .now()
        watch()
    }

    /// Looks after a while whether the server is still heard of.
    private func watch() {
        guard timer == nil else { return }
        let patience = TimeAmount(options.heartbeat * 2.5)
        timer = client.eventLoop.assumeIsolated().scheduleTask(deadline: lastHeard + patience) {
            self.timer = nil
            guard self.credit.pull != nil else { return }
            if NIODeadline.now() - self.lastHeard >= patience {
                self.interrupt(.heartbeatsMissed)
            } else {
                self.watch()
            }
        }
    }

    private func received(_ message: NATSMessage) {
        lastHeard = .now()
        guard let delivery = Delivery(message.replyBytes) else {
            if let status = message.status { received(status, message) }
            return
        }
        guard delivery.consumerSequence == consumerSequence + 1 else {
            return interrupt(.messageLost)
        }
        credit.take(bytes: message.byteCount)
        consumerSequence = delivery.consumerSequence
        if phase == .comparing {
            compare(delivery)
        } else if delivery.streamSequence > lastSequence {
            deliver(StreamMessage(message: message, delivery: delivery))
        } else if delivery.streamSequence == lastSequence, delivery.time == lastTime {
            // It has been purged, but this replica does not know yet.
            credit.grant(messages: 1, bytes: message.byteCount)
            pull()
        } else {
            // Only a stream that has gone back can do this.
            interrupt(.streamBehind(lastSequence: delivery.streamSequence))
        }
    }

    private func deliver(_ message: StreamMessage) {
        let incarnation = incarnation
        let expected = lastSequence + 1
        let isComplete = options.filterSubject == nil && options.start != .lastPerSubject
        lastSequence = message.sequence
        lastTime = message.time
        isLastGone = false
        if isComplete, message.sequence > expected {
            onEvent(.missing(expected...(message.sequence - 1)))
        }
        guard phase != .ended else { return }
        onMessage(message)
        if self.incarnation == incarnation { pull() }
    }

    private func compare(_ delivery: Delivery) {
        guard delivery.streamSequence == lastSequence else {
            isLastGone = true
            return interrupt(.lastMessageGone)
        }
        guard delivery.time == lastTime else {
            return end(.historyChanged(sequence: lastSequence))
        }
        phase = .reading
        pull()
    }

    private func received(_ status: Int, _ message: NATSMessage) {
        let text = message.headers?.statusDescription ?? ""
        let number = message.pullNumber
        switch status {
        case 100:
            // The server says how far it is; what it has sent before this has arrived before this.
            if let sent = message.headers?.integer("Nats-Last-Consumer"), sent > consumerSequence {
                interrupt(.messageLost)
            }
        case 404, 408: ended(number)
        case 409 where text.hasPrefix("Batch Completed"): ended(number)
        case 409 where text.hasPrefix("Message Size Exceeds"): ended(number)
        case 409 where text.hasPrefix("Consumer Deleted"): interrupt(.consumerLost)
        case 409 where text.hasPrefix("Leadership Change"): interrupt(.consumerLost)
        case 409 where text.hasPrefix("Server Shutdown"): interrupt(.consumerLost)
        case 503: interrupt(.consumerLost)
        default: interrupt(.refused(status: status, text: text))
        }
    }

    /// The request `number` is over.
    private func ended(_ number: UInt64?) {
        guard let number, credit.pull?.number == number else { return }
        credit.endPull(number)
        if phase == .comparing {
            // It is not there any more.
            isLastGone = true
            interrupt(.lastMessageGone)
        } else {
            pull()
        }
    }
}

extension NATSMessage {
    /// The number of the request that a status is about: the last word of its subject.
    fileprivate var pullNumber: UInt64? {
        let bytes = subjectBytes.readableBytesView
        guard let dot = bytes.lastIndex(of: UInt8(ascii: ".")) else { return nil }
        return Decimals.parse(bytes[(dot + 1)...])
    }
}
