public import NIOCore

extension NATSClient {
    // MARK: Subscribing

    /// Calls `handler` with every message that is published to `subject`, also after reconnecting;
    /// what is published while there is no connection is missed.
    ///
    /// - Parameters:
    ///   - subject: With wildcards or without.
    ///   - queue: Of all subscriptions of one queue, one gets a message.
    ///   - handler: Called on the loop; it must not block.
    public func subscribe(
        _ subject: String, queue: String? = nil, handler: @escaping (NATSMessage) -> Void
    ) throws(NATSSubscribeError) -> NATSSubscription {
        eventLoop.preconditionInEventLoop()
        guard state != .closed else { throw .closed }
        do {
            try NATSSubject.check(subject, allowsWildcards: true)
            if let queue { try NATSSubject.check(queue) }
        } catch {
            throw .subjectInvalid(subject, error)
        }
        let id = makeID()
        subscriptions[id] = Subscription(subject: subject, queue: queue, handler: handler)
        if let connection, connection.isReady {
            connection.send {
                NATSEncoder.subscribe(subject, queue: queue, subscription: id, into: &$0)
            }
        }
        return NATSSubscription(id: id)
    }

    /// Ends a subscription. Its handler is not called any more.
    public func unsubscribe(_ subscription: NATSSubscription) {
        eventLoop.preconditionInEventLoop()
        guard subscriptions.removeValue(forKey: subscription.id) != nil else { return }
        guard let connection, connection.isReady else { return }
        connection.send { NATSEncoder.unsubscribe(subscription.id, into: &$0) }
    }

    // MARK: Publishing

    /// Bytes that have been sent but not yet taken by the system.
    public var pendingBytes: Int { connection?.pendingBytes ?? 0 }

    /// Most bytes that a message with its headers may have: what the server says; 0 when not connected.
    public var messageBytesMax: Int {
        if let connection, connection.isReady { connection.info?.messageBytesMax ?? 0 } else { 0 }
    }

    /// Sends a message. That it has been received is not known; use a request to know.
    ///
    /// - Throws: `NATSNotSent`; nothing has left then.
    public func publish(
        _ payload: ByteBuffer, to subject: String, replyTo: String? = nil,
        headers: NATSHeaders? = nil
    ) throws(NATSNotSent) {
        eventLoop.preconditionInEventLoop()
        if let replyTo { try check(replyTo) }
        try check(subject)
        let connection = try sendable(payload.readableBytes, headers)
        connection.publish(payload, to: subject, replyTo: (replyTo ?? "").utf8, headers: headers)
    }

    /// Sends a question and calls `completion` with the first answer, or why there is none: exactly once,
    /// never before this returns.
    ///
    /// - Throws: `NATSNotSent`; nothing has left then, and `completion` is not called.
    public func request(
        _ payload: ByteBuffer, to subject: String, headers: NATSHeaders? = nil, timeout: Duration,
        completion: @escaping (Result<NATSMessage, NATSRequestError>) -> Void
    ) throws(NATSNotSent) {
        eventLoop.preconditionInEventLoop()
        try check(subject)
        let connection = try sendable(payload.readableBytes, headers)
        let reply = requests.add(completion)
        requests.setTimer(
            eventLoop.assumeIsolated().scheduleTask(in: TimeAmount(timeout)) { [weak self] in
                self?.requests.take(reply.number)?.complete(.failure(.timedOut))
            }, for: reply.number)
        connection.publish(payload, to: subject, replyTo: reply.subject.utf8, headers: headers)
    }

    private func check(_ subject: String) throws(NATSNotSent) {
        do {
            try NATSSubject.check(subject)
        } catch {
            throw .subjectInvalid(subject, error)
        }
    }

    private func sendable(
        _ payloadBytes: Int, _ headers: NATSHeaders?
    ) throws(NATSNotSent) -> NATSConnection {
        guard let connection, connection.isReady else {
            throw state == .closed ? .closed : .notConnected
        }
        if case .moving = state { throw .moving }
        let bytes = payloadBytes + (headers?.byteCount ?? 0)
        guard bytes <= messageBytesMax else {
            throw .messageTooLarge(bytes: bytes, bytesMax: messageBytesMax)
        }
        guard
            connection.pendingBytes == 0
                || connection.pendingBytes + bytes <= options.pendingBytesMax
        else {
            hasRefused = true
            throw .pendingBytesFull(bytesMax: options.pendingBytesMax)
        }
        return connection
    }

    /// Calls `completion` when the server has dealt with everything that was sent before; never if the
    /// connection ends first.
    func ping(_ completion: @escaping () -> Void) throws(NATSNotSent) {
        try sendable(0, nil).ping(completion)
    }

    // MARK: Names

    /// What subjects of this client's own start with, with the dot.
    var inboxPrefix: String { requests.prefix }

    /// A name that nobody else has.
    func makeName() -> String {
        var random = SystemRandomNumberGenerator()
        return RequestTable.word(using: &random)
    }
}

/// A subscription of one client.
public struct NATSSubscription: Hashable, Sendable {
    let id: UInt64
}

/// An observation of one client's state.
public struct NATSObservation: Hashable, Sendable {
    let id: UInt64
}
