public import NIOCore

/// What a publish asks of the stream besides storing the message.
public struct PublishExpectations: Equatable, Sendable {
    /// A message with an id that the stream remembers is not stored again.
    public var messageID: String?
    /// Stored only by this stream.
    public var stream: String?
    /// Stored only if this is the stream's last sequence.
    public var lastSequence: UInt64?
    /// Stored only if this is the subject's last sequence; 0 if it must have none.
    public var lastSubjectSequence: UInt64?
    /// Removed after this time, rounded up to whole seconds. The stream must allow it.
    public var lifetime: Duration?

    /// Nothing but what is given.
    public init(
        messageID: String? = nil, stream: String? = nil, lastSequence: UInt64? = nil,
        lastSubjectSequence: UInt64? = nil, lifetime: Duration? = nil
    ) {
        self.messageID = messageID
        self.stream = stream
        self.lastSequence = lastSequence
        self.lastSubjectSequence = lastSubjectSequence
        self.lifetime = lifetime
    }

    /// Adds what is expected to `headers`.
    func add(to headers: inout NATSHeaders) throws(NATSHeaders.Problem) {
        if let messageID { try headers.add("Nats-Msg-Id", messageID) }
        if let stream { try headers.add("Nats-Expected-Stream", stream) }
        if let lastSequence {
            headers.write("Nats-Expected-Last-Sequence", String(lastSequence))
        }
        if let lastSubjectSequence {
            headers.write("Nats-Expected-Last-Subject-Sequence", String(lastSubjectSequence))
        }
        if let lifetime {
            let seconds = lifetime.components
            let whole = seconds.seconds + (seconds.attoseconds > 0 ? 1 : 0)
            headers.write("Nats-TTL", String(max(1, whole)))
        }
    }
}

/// Where a stream has stored a message.
public struct PublishAcknowledgement: Equatable, Sendable, Decodable {
    /// The stream.
    public var stream: String
    /// Sequence of the message; of the first one if this is a repetition.
    public var sequence: UInt64
    /// Whether the stream already had a message of this id.
    public var isDuplicate: Bool
    /// JetStream domain.
    public var domain: String?

    private enum CodingKeys: String, CodingKey {
        case stream, domain
        case sequence = "seq"
        case isDuplicate = "duplicate"
    }

    /// An acknowledgement.
    public init(
        stream: String, sequence: UInt64, isDuplicate: Bool = false, domain: String? = nil
    ) {
        self.stream = stream
        self.sequence = sequence
        self.isDuplicate = isDuplicate
        self.domain = domain
    }

    /// Reads it from JSON.
    public init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        stream = try fields.decode(String.self, forKey: .stream)
        sequence = try fields.decode(UInt64.self, forKey: .sequence)
        isDuplicate = try fields.decodeIfPresent(Bool.self, forKey: .isDuplicate) ?? false
        domain = try fields.decodeIfPresent(String.self, forKey: .domain)
    }

    /// Reads an acknowledgement as servers write it, `{"stream":"S", "seq": 7}` or with
    /// `,"duplicate": true`, without a decoder; nil for anything else.
    init?(plain payload: ByteBuffer) {
        var scanner = PlainScanner(payload)
        guard scanner.take("{\"stream\":\""), let stream = scanner.plainText(),
            scanner.take("\",\"seq\":"), let sequence = scanner.number()
        else { return nil }
        self.init(stream: stream, sequence: sequence)
        if scanner.take(",\"duplicate\":true") { isDuplicate = true }
        guard scanner.take("}"), scanner.isAtEnd, sequence > 0 else { return nil }
    }
}

/// Reads JSON of a known shape; spaces between its parts do not matter.
private struct PlainScanner {
    private let bytes: ByteBufferView
    private var position: Int

    init(_ buffer: ByteBuffer) {
        bytes = buffer.readableBytesView
        position = bytes.startIndex
    }

    var isAtEnd: Bool { position == bytes.endIndex }

    mutating func take(_ text: StaticString) -> Bool {
        var index = position
        for offset in 0..<text.utf8CodeUnitCount {
            while index < bytes.endIndex, bytes[index] == 0x20 { index += 1 }
            guard index < bytes.endIndex, bytes[index] == text.utf8Start[offset] else {
                return false
            }
            index += 1
        }
        position = index
        return true
    }

    /// The text up to the next quote, if it has no escapes.
    mutating func plainText() -> String? {
        let text = bytes[position...].prefix { $0 != UInt8(ascii: "\"") && $0 != 0x5c }
        guard !text.isEmpty else { return nil }
        position = text.endIndex
        return String(decoding: text, as: UTF8.self)
    }

    mutating func number() -> UInt64? {
        while position < bytes.endIndex, bytes[position] == 0x20 { position += 1 }
        let digits = bytes[position...].prefix { (0x30...0x39).contains($0) }
        guard let number = Decimals.parse(digits) else { return nil }
        position = digits.endIndex
        return number
    }
}

/// What has become of a message that was sent to a stream.
public enum PublishOutcome: Equatable, Sendable {
    /// The stream has it, as durably as it is set up to.
    case acknowledged(PublishAcknowledgement)
    /// This attempt is surely not in the stream and will not be. An earlier one may be, also of the same
    /// id: a single server looks at expected sequences before it looks at ids.
    case refused(Refusal)
    /// It may be in the stream, now or later.
    case unknown(Uncertainty)

    /// Why a message is surely not stored.
    public enum Refusal: Equatable, Sendable {
        /// The stream refuses it.
        case api(JetStreamAPIError)
        /// No stream listens to the subject, or the stream has no leader now.
        case noResponders
    }

    /// Why it is not known whether a message is stored.
    public enum Uncertainty: Equatable, Sendable {
        /// No answer came in time.
        case timedOut
        /// The connection ended before the answer.
        case disconnected(NATSDisconnectReason)
        /// An error that leaves it open, such as "duplicate message id is in process".
        case api(JetStreamAPIError)
        /// The answer is not an acknowledgement.
        case replyInvalid(String)
    }

    init(_ result: Result<NATSMessage, NATSRequestError>) {
        switch result {
        case .success(let message):
            if let plain = PublishAcknowledgement(plain: message.payload) {
                self = .acknowledged(plain)
                return
            }
            switch JetStream.read(message.payload) as Result<PublishAcknowledgement, JetStreamError>
            {
            case .success(let acknowledgement) where acknowledgement.sequence > 0:
                self = .acknowledged(acknowledgement)
            case .success: self = .unknown(.replyInvalid("the sequence is 0"))
            case .failure(.api(let error)):
                self = error.isSureRefusal ? .refused(.api(error)) : .unknown(.api(error))
            case .failure(let error): self = .unknown(.replyInvalid("\(error)"))
            }
        case .failure(.noResponders): self = .refused(.noResponders)
        case .failure(.timedOut): self = .unknown(.timedOut)
        case .failure(.disconnected(let reason)): self = .unknown(.disconnected(reason))
        // Requests throw this; they do not complete with it.
        case .failure(.notSent): preconditionFailure("a request that was not sent has completed")
        }
    }
}

extension JetStream {
    /// Sends a message to the stream that listens to `subject` and calls `completion` once with what has
    /// become of it, never before this returns. On the loop.
    ///
    /// - Parameters:
    ///   - payload: Not copied if it is long. With its headers at most `messageBytesMax` of the client.
    ///   - subject: Subject of the stream.
    ///   - expectations: What the stream checks.
    ///   - headers: Further headers.
    ///   - timeout: Longest wait for the answer; nil for `self.timeout`.
    ///   - completion: Called on the loop.
    /// - Throws: `NATSNotSent`; nothing has left then, and `completion` is not called.
    public func publish(
        _ payload: ByteBuffer, to subject: String, _ expectations: PublishExpectations = .init(),
        headers: NATSHeaders? = nil, timeout: Duration? = nil,
        completion: @escaping (PublishOutcome) -> Void
    ) throws(NATSNotSent) {
        var headers = headers ?? NATSHeaders()
        do {
            try expectations.add(to: &headers)
        } catch {
            throw .headerInvalid(error)
        }
        try client.request(
            payload, to: subject, headers: headers.isEmpty ? nil : headers,
            timeout: timeout ?? self.timeout
        ) { completion(PublishOutcome($0)) }
    }

    /// The same from any thread.
    public func publish(
        _ payload: ByteBuffer, subject: String, _ expectations: PublishExpectations = .init(),
        headers: NATSHeaders? = nil, timeout: Duration? = nil
    ) async throws(NATSNotSent) -> PublishOutcome {
        let result: Result<PublishOutcome, NATSNotSent> = await client.onLoop { complete in
            do throws(NATSNotSent) {
                try publish(
                    payload, to: subject, expectations, headers: headers, timeout: timeout
                ) { complete(.success($0)) }
            } catch {
                complete(.failure(error))
            }
        }
        return try result.get()
    }
}
