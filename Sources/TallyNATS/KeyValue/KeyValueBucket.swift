public import NIOCore

/// Keys and values in a stream: what other NATS clients call a key-value bucket.
///
/// The `async` functions may be called from any thread; those with a completion, on the client's loop.
public struct KeyValueBucket: Sendable {
    /// JetStream that it goes through.
    public let jetStream: JetStream
    /// Its name.
    public let name: String

    /// Name of the stream that holds it.
    public var stream: String { "KV_\(name)" }

    /// What precedes keys in subjects.
    var prefix: String { "$KV.\(name)." }

    /// A bucket that exists, or will before it is used.
    public init(_ jetStream: JetStream, name: String) throws(KeyValueError) {
        let isName =
            !name.isEmpty && name.utf8.count <= 200
            && name.utf8.allSatisfy { Self.isWordCharacter($0) || $0 == 0x5f || $0 == 0x2d }
        guard isName else { throw .bucketInvalid(name) }
        self.jetStream = jetStream
        self.name = name
    }

    /// Creates a bucket; one that exists with the same settings is left as it is.
    public static func create(
        _ jetStream: JetStream, _ configuration: KeyValueConfiguration
    ) async throws(KeyValueError) -> KeyValueBucket {
        let bucket = try KeyValueBucket(jetStream, name: configuration.bucket)
        do {
            _ = try await jetStream.createStream(configuration.stream)
        } catch {
            throw .jetStream(error)
        }
        return bucket
    }

    /// Deletes the bucket with all its keys.
    public func deleteBucket() async throws(KeyValueError) {
        do {
            try await jetStream.deleteStream(stream)
        } catch {
            throw .jetStream(error)
        }
    }

    // MARK: Reading

    /// The value of `key`; nil if it has none.
    ///
    /// - Parameter source: The leader sees every write that was acknowledged.
    public func get(
        _ key: String, from source: MessageSource = .leader
    ) async throws(KeyValueError) -> KeyValueEntry? {
        let entry = try await last(key, from: source)
        return entry?.isPresent == true ? entry : nil
    }

    /// What was done with `key` last, a deletion too; nil if nothing is known of it.
    public func last(
        _ key: String, from source: MessageSource = .leader
    ) async throws(KeyValueError) -> KeyValueEntry? {
        let subject = try subject(key)
        do {
            return try await jetStream.lastMessage(
                ofStream: stream, subject: subject, from: source
            ).flatMap { entry($0) }
        } catch {
            throw .jetStream(error)
        }
    }

    private func entry(_ message: StoredMessage) -> KeyValueEntry? {
        KeyValueEntry(
            subject: message.subject, prefix: prefix, headers: message.headers,
            payload: message.payload, sequence: message.sequence, time: message.time)
    }

    // MARK: Writing

    /// Gives `key` a value, whatever it has.
    ///
    /// - Parameter lifetime: When the value goes; whole seconds, rounded up; nil for never. The bucket must
    ///   have `deleteMarkerLifetime`. With more than one value of history the one before comes back.
    /// - Returns: the revision.
    @discardableResult
    public func put(
        _ key: String, _ value: ByteBuffer, lifetime: Duration? = nil
    ) async throws(KeyValueError) -> UInt64 {
        try await write(.put(value), to: key, lifetime: lifetime)
    }

    /// Gives `key` a value if it has revision `revision`, a deletion's too.
    ///
    /// - Throws: `conflict` if it has another one.
    @discardableResult
    public func update(
        _ key: String, _ value: ByteBuffer, revision: UInt64, lifetime: Duration? = nil
    ) async throws(KeyValueError) -> UInt64 {
        try await write(.put(value), to: key, revision: revision, lifetime: lifetime)
    }

    /// Gives `key` a value if it has none.
    ///
    /// - Throws: `conflict` if it has one.
    @discardableResult
    public func create(
        _ key: String, _ value: ByteBuffer, lifetime: Duration? = nil
    ) async throws(KeyValueError) -> UInt64 {
        do {
            return try await write(.put(value), to: key, revision: 0, lifetime: lifetime)
        } catch .conflict {
            guard let last = try await last(key), !last.isPresent else { throw .conflict }
            return try await write(
                .put(value), to: key, revision: last.revision, lifetime: lifetime)
        }
    }

    /// Removes the value of `key`, whether it has one or not; its history stays.
    @discardableResult
    public func delete(
        _ key: String, revision: UInt64? = nil
    ) async throws(KeyValueError) -> UInt64 {
        try await write(.delete, to: key, revision: revision)
    }

    /// Removes the value of `key` with its history.
    ///
    /// - Parameter markerLifetime: How long it stays known that it was purged; nil for ever.
    @discardableResult
    public func purge(
        _ key: String, revision: UInt64? = nil, markerLifetime: Duration? = nil
    ) async throws(KeyValueError) -> UInt64 {
        try await write(.purge, to: key, revision: revision, lifetime: markerLifetime)
    }

    /// What is written to a key.
    public enum Change: Equatable, Sendable {
        /// A value.
        case put(ByteBuffer)
        /// Its end.
        case delete
        /// Its end and that of its history.
        case purge
    }

    /// Writes `change` from any thread.
    private func write(
        _ change: Change, to key: String, revision: UInt64? = nil, lifetime: Duration? = nil
    ) async throws(KeyValueError) -> UInt64 {
        let result: Result<UInt64, KeyValueError> = await jetStream.client.onLoop { complete in
            write(
                change, to: key, revision: revision, lifetime: lifetime, completion: complete)
        }
        return try result.get()
    }

    /// Writes `change`, on the loop.
    ///
    /// - Parameters:
    ///   - revision: The revision that the key must have, 0 if none at all; nil for any.
    ///   - lifetime: How long what is written stays.
    ///   - completion: Called once with the revision, perhaps before this returns.
    public func write(
        _ change: Change, to key: String, revision: UInt64? = nil, lifetime: Duration? = nil,
        completion: @escaping (Result<UInt64, KeyValueError>) -> Void
    ) {
        var headers = NATSHeaders()
        var payload = ByteBuffer()
        switch change {
        case .put(let value): payload = value
        case .delete: headers.write("KV-Operation", "DEL")
        case .purge:
            headers.write("KV-Operation", "PURGE")
            headers.write("Nats-Rollup", "sub")
        }
        do throws(KeyValueError) {
            let subject = try subject(key)
            do throws(NATSNotSent) {
                try jetStream.publish(
                    payload, to: subject,
                    PublishExpectations(lastSubjectSequence: revision, lifetime: lifetime),
                    headers: headers
                ) { completion(Self.result($0)) }
            } catch {
                throw .notSent(error)
            }
        } catch {
            completion(.failure(error))
        }
    }

    private static func result(_ outcome: PublishOutcome) -> Result<UInt64, KeyValueError> {
        switch outcome {
        case .acknowledged(let acknowledgement): .success(acknowledgement.sequence)
        case .refused(.api(let error))
        where error.code == JetStreamAPIError.Code.wrongLastSequence
            || error.code == JetStreamAPIError.Code.wrongLastSequenceNow:
            .failure(.conflict)
        case .refused(let refusal): .failure(.refused(refusal))
        case .unknown(let uncertainty): .failure(.outcomeUnknown(uncertainty))
        }
    }

    // MARK: Keys

    private static func isWordCharacter(_ byte: UInt8) -> Bool {
        switch byte {
        case 0x30...0x39, 0x41...0x5a, 0x61...0x7a: true
        default: false
        }
    }

    private func subject(_ key: String) throws(KeyValueError) -> String {
        guard Self.isKey(key, allowsWildcards: false) else { throw .keyInvalid(key) }
        return prefix + key
    }

    /// Whether `key` is one, or with wildcards a set of keys.
    static func isKey(_ key: String, allowsWildcards: Bool) -> Bool {
        let others = allowsWildcards ? "-/_=.*>" : "-/_=."
        guard key.utf8.allSatisfy({ isWordCharacter($0) || others.utf8.contains($0) }) else {
            return false
        }
        return (try? NATSSubject.check(key, allowsWildcards: allowsWildcards)) != nil
    }
}
