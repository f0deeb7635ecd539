/// What JetStream says when it refuses something.
public struct JetStreamAPIError: Error, Hashable, Sendable, Decodable {
    /// Kind of error, as in HTTP.
    public var status: Int
    /// Exact error: the server's `err_code`.
    public var code: Int
    /// The server's words.
    public var text: String

    /// The errors that mean something to a caller; there are many more.
    public enum Code {
        /// The account may have no more.
        public static let accountResourcesExceeded = 10002
        /// The request cannot be understood.
        public static let badRequest = 10003
        /// There is no leader now.
        public static let notAvailable = 10008
        /// No consumer has this name.
        public static let consumerNotFound = 10014
        /// No message has this sequence or subject.
        public static let messageNotFound = 10037
        /// JetStream is off for the account.
        public static let notEnabledForAccount = 10039
        /// The stream's settings cannot be.
        public static let streamConfigurationInvalid = 10052
        /// The message is longer than the stream allows.
        public static let messageTooLarge = 10054
        /// There is another stream of this name.
        public static let streamNameInUse = 10058
        /// No stream has this name.
        public static let streamNotFound = 10059
        /// The message is for another stream than it has reached.
        public static let streamMismatch = 10060
        /// The stream's or the subject's last sequence is another one.
        public static let wrongLastSequence = 10071
        /// The server has JetStream off.
        public static let notEnabled = 10076
        /// The stream could not store the message; the words say why.
        public static let storeFailed = 10077
        /// Headers are longer than the stream allows.
        public static let headersTooLarge = 10097
        /// Nothing may be added to the stream.
        public static let streamSealed = 10109
        /// A message with the same id is being stored.
        public static let duplicateInProcess = 10158
        /// The subject's last sequence is another one, or is just changing.
        public static let wrongLastSequenceNow = 10164
        /// The lifetime is not one.
        public static let lifetimeInvalid = 10165
        /// The stream does not let messages have lifetimes.
        public static let lifetimeDisabled = 10166
        /// Too many requests wait.
        public static let tooManyRequests = 10167
    }

    private enum CodingKeys: String, CodingKey {
        case status = "code"
        case code = "err_code"
        case text = "description"
    }

    /// An error.
    public init(status: Int, code: Int, text: String) {
        self.status = status
        self.code = code
        self.text = text
    }

    /// Reads it from JSON.
    public init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        status = try fields.decodeIfPresent(Int.self, forKey: .status) ?? 0
        code = try fields.decodeIfPresent(Int.self, forKey: .code) ?? 0
        text = try fields.decodeIfPresent(String.self, forKey: .text) ?? ""
    }

    /// Whether a publish that gets this answer is surely not in the stream and never will be.
    ///
    /// These are the errors that servers up to 2.15 find before they store a message or hand it to the
    /// stream's replicas. All others, and those of later versions, leave it open: a message "in process"
    /// may be stored or lost, a store that fails here may succeed on another replica.
    public var isSureRefusal: Bool {
        switch code {
        case Code.accountResourcesExceeded, Code.messageTooLarge, Code.streamMismatch,
            Code.wrongLastSequence, Code.wrongLastSequenceNow, Code.headersTooLarge,
            Code.streamSealed, Code.lifetimeInvalid, Code.lifetimeDisabled:
            true
        case Code.storeFailed:
            // Limits of the stream, checked alike by every replica.
            text.hasPrefix("maximum messages") || text.hasPrefix("maximum bytes")
                || text.hasPrefix("message too large")
        default: false
        }
    }
}

/// Why JetStream has not done what it was asked for.
public enum JetStreamError: Error, Equatable, Sendable {
    /// It refuses.
    case api(JetStreamAPIError)
    /// It has not answered.
    case request(NATSRequestError)
    /// Its answer is not what it should be.
    case replyInvalid(String)
    /// A name cannot be a stream's.
    case nameInvalid(String)

    /// Whether it refuses with this code.
    public func isAPIError(_ code: Int) -> Bool {
        if case .api(let error) = self { error.code == code } else { false }
    }
}
