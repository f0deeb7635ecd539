import NIOCore

/// What a watch tells.
public enum KeyValueWatchEvent: Equatable, Sendable {
    /// A key has this now; of each key later revisions only.
    case entry(KeyValueEntry)
    /// A key had a value and, when the bucket was read again, was not there: it went while the watch was
    /// interrupted.
    case vanished(key: String)
    /// Everything that the bucket had has been told, for the first time or after an interruption.
    case current
    /// The watch does not hear of changes and tries to again.
    case interrupted(OrderedConsumerEvent.Interruption)
    /// The watch is over: the bucket is another one now.
    case ended(OrderedConsumerEvent.End)
}

/// Follows the keys of a bucket: first what they have, then every change.
///
/// After an interruption the bucket is read again and only what is new is told, so that a key that went
/// in between, even without a trace, is noticed. On the client's loop only. Ends with `stop`; while it runs
/// its client holds it. Remembers every key and its revision.
public final class KeyValueWatch {
    private let bucket: KeyValueBucket
    private let onEvent: (KeyValueWatchEvent) -> Void
    private var consumer: OrderedConsumer?
    private var known: [String: Known] = [:]
    /// Messages of this reading of the bucket; nil when it is complete.
    private var readCount: UInt64? = 0
    private var reading = 0

    private struct Known {
        var revision: UInt64
        var isPresent: Bool
        /// The reading in which it was seen last.
        var reading: Int
    }

    /// Starts to watch.
    ///
    /// - Parameters:
    ///   - keys: A key or keys with wildcards; nil for all.
    ///   - headersOnly: Whether values are left out.
    ///   - onEvent: Called with everything, on the loop.
    /// - Throws: `keyInvalid`.
    public init(
        _ bucket: KeyValueBucket, keys: String? = nil, headersOnly: Bool = false,
        onEvent: @escaping (KeyValueWatchEvent) -> Void
    ) throws(KeyValueError) {
        let keys = keys ?? ">"
        guard KeyValueBucket.isKey(keys, allowsWildcards: true) else { throw .keyInvalid(keys) }
        self.bucket = bucket
        self.onEvent = onEvent
        var options = OrderedConsumerOptions()
        options.start = .lastPerSubject
        options.filterSubject = bucket.prefix + keys
        options.headersOnly = headersOnly
        options.isRepeated = true
        let consumer = OrderedConsumer(
            bucket.jetStream.client, stream: bucket.stream, options: options,
            onEvent: { self.received($0) }, onMessage: { self.received($0) })
        self.consumer = consumer
        consumer.grant(messages: 1_024, bytes: 8 << 20)
    }

    /// Ends the watch. Nothing is called any more.
    public func stop() {
        consumer?.stop()
        consumer = nil
    }

    private func received(_ event: OrderedConsumerEvent) {
        switch event {
        case .started:
            reading += 1
            readCount = 0
            finishReading(pending: consumer?.pendingAtStart ?? 0)
        case .interrupted(let reason): onEvent(.interrupted(reason))
        case .ended(let end):
            consumer = nil
            onEvent(.ended(end))
        case .missing: break
        }
    }

    private func received(_ message: StreamMessage) {
        consumer?.grant(messages: 1, bytes: message.creditBytes)
        if let readCount { self.readCount = readCount + 1 }
        if let entry = KeyValueEntry(
            subject: message.subject, prefix: bucket.prefix, headers: message.headers,
            payload: message.payload, sequence: message.sequence, time: message.time)
        {
            let isNew = known[entry.key].map { $0.revision < entry.revision } ?? true
            known[entry.key] = Known(
                revision: max(entry.revision, known[entry.key]?.revision ?? 0),
                isPresent: isNew ? entry.isPresent : known[entry.key]?.isPresent ?? false,
                reading: reading)
            if isNew { onEvent(.entry(entry)) }
        }
        finishReading(pending: message.pending)
    }

    /// Tells, once, that everything that there was has been read: nothing is pending, or as many messages have
    /// come as were pending at the start.
    private func finishReading(pending: UInt64) {
        guard let readCount, let consumer else { return }
        guard pending == 0 || (readCount > 0 && readCount >= consumer.pendingAtStart) else {
            return
        }
        self.readCount = nil
        let gone = known.filter { $0.value.reading != reading }.sorted { $0.key < $1.key }
        for (key, value) in gone {
            known[key] = nil
            if value.isPresent, self.consumer != nil { onEvent(.vanished(key: key)) }
        }
        if self.consumer != nil { onEvent(.current) }
    }
}

extension KeyValueBucket {
    /// The keys that have a value, in no order.
    ///
    /// - Parameters:
    ///   - keys: A key or keys with wildcards; nil for all.
    ///   - timeout: Longest time it may take.
    public func keys(
        matching keys: String? = nil, timeout: Duration = .seconds(10)
    ) async throws(KeyValueError) -> [String] {
        let result: Result<[String], KeyValueError> = await jetStream.client.onLoop { complete in
            let listing = KeyListing(complete)
            do throws(KeyValueError) {
                listing.watch = try KeyValueWatch(self, keys: keys, headersOnly: true) {
                    listing.received($0)
                }
            } catch {
                return listing.end(.failure(error))
            }
            listing.timer = jetStream.client.eventLoop.assumeIsolated().scheduleTask(
                in: TimeAmount(timeout)
            ) { listing.end(.failure(.jetStream(.request(.timedOut)))) }
        }
        return try result.get()
    }
}

/// Collects keys until all have come.
private final class KeyListing {
    var watch: KeyValueWatch?
    var timer: Scheduled<Void>?
    private var complete: ((Result<[String], KeyValueError>) -> Void)?
    private var found: Set<String> = []

    init(_ complete: @escaping (Result<[String], KeyValueError>) -> Void) {
        self.complete = complete
    }

    func received(_ event: KeyValueWatchEvent) {
        switch event {
        case .entry(let entry):
            if entry.isPresent { found.insert(entry.key) } else { found.remove(entry.key) }
        case .vanished(let key): found.remove(key)
        case .current: end(.success(Array(found)))
        case .interrupted(.streamMissing):
            let code = JetStreamAPIError.Code.streamNotFound
            end(
                .failure(
                    .jetStream(.api(.init(status: 404, code: code, text: "stream not found")))))
        case .interrupted: break
        case .ended: end(.failure(.jetStream(.replyInvalid("the bucket has been made anew"))))
        }
    }

    func end(_ result: Result<[String], KeyValueError>) {
        guard let complete else { return }
        self.complete = nil
        timer?.cancel()
        watch?.stop()
        watch = nil
        complete(result)
    }
}
