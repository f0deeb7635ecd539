public import NIOCore

extension NATSClient {
    /// Waits until the client is connected. From any thread.
    ///
    /// - Throws: `timedOut`, or `notSent(closed)` if it has been closed.
    public func waitUntilConnected(
        timeout: Duration = .seconds(10)
    ) async throws(NATSRequestError) {
        let result: Result<Void, NATSRequestError> = await onLoop { complete in
            let waiting = Waiting(complete)
            let observation = self.observe { state in
                if state.isConnected { waiting.end(.success(())) }
                if state == .closed { waiting.end(.failure(.notSent(.closed))) }
            }
            let timer = self.eventLoop.assumeIsolated().scheduleTask(in: TimeAmount(timeout)) {
                waiting.end(.failure(.timedOut))
            }
            waiting.whenEnded {
                timer.cancel()
                // Not now: the observers may be being called.
                self.eventLoop.assumeIsolated().execute { self.stopObserving(observation) }
            }
        }
        try result.get()
    }

    /// Sends a message. From any thread.
    public func publish(
        _ payload: ByteBuffer, subject: String, headers: NATSHeaders? = nil
    ) async throws(NATSNotSent) {
        let result: Result<Void, NATSNotSent> = await onLoop { complete in
            complete(
                Result { () throws(NATSNotSent) in
                    try self.publish(payload, to: subject, headers: headers)
                })
        }
        try result.get()
    }

    /// Sends a question and waits for its first answer. From any thread.
    public func request(
        _ payload: ByteBuffer, subject: String, headers: NATSHeaders? = nil,
        timeout: Duration = .seconds(5)
    ) async throws(NATSRequestError) -> NATSMessage {
        let result: Result<NATSMessage, NATSRequestError> = await onLoop { complete in
            do throws(NATSNotSent) {
                try self.request(
                    payload, to: subject, headers: headers, timeout: timeout
                ) { complete($0.map(\.copied)) }
            } catch {
                complete(.failure(.notSent(error)))
            }
        }
        return try result.get()
    }

    /// Waits until the server has dealt with all that has been sent. From any thread.
    public func flush(timeout: Duration = .seconds(5)) async throws(NATSRequestError) {
        let result: Result<Void, NATSRequestError> = await onLoop { complete in
            let waiting = Waiting(complete)
            do throws(NATSNotSent) {
                try self.ping { waiting.end(.success(())) }
            } catch {
                return waiting.end(.failure(.notSent(error)))
            }
            let timer = self.eventLoop.assumeIsolated().scheduleTask(in: TimeAmount(timeout)) {
                waiting.end(.failure(.timedOut))
            }
            waiting.whenEnded { timer.cancel() }
        }
        try result.get()
    }

    /// Runs `body` on the loop and returns what it completes with.
    public func onLoop<Value: Sendable>(
        _ body: @escaping @Sendable (_ complete: @escaping @Sendable (Value) -> Void) -> Void
    ) async -> Value {
        await withCheckedContinuation { continuation in
            eventLoop.execute { body { continuation.resume(returning: $0) } }
        }
    }
}

/// Something that ends once, whichever of its ends comes first.
private final class Waiting<Value> {
    private var complete: ((Value) -> Void)?
    private var cleanUp: (() -> Void)?

    init(_ complete: @escaping (Value) -> Void) { self.complete = complete }

    func end(_ value: Value) {
        guard let complete else { return }
        self.complete = nil
        complete(value)
        cleanUp?()
        cleanUp = nil
    }

    /// Calls `body` at the end, now if it has been.
    func whenEnded(_ body: @escaping () -> Void) {
        if complete == nil { body() } else { cleanUp = body }
    }
}
