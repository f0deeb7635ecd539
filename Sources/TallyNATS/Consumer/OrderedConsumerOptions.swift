/// How a stream is read.
public struct OrderedConsumerOptions: Equatable, Sendable {
    /// Where reading starts.
    public enum Start: Equatable, Sendable {
        /// With this sequence, from 1, or the first one above it that the stream has.
        case sequence(UInt64)
        /// With the last message of every subject there is.
        case lastPerSubject
    }

    /// Where reading starts.
    public var start = Start.sequence(1)
    /// Only messages of this subject, which may have wildcards; nil for all.
    public var filterSubject: String?
    /// When the stream was created, if it must be that one.
    public var created: NATSTime?
    /// Whether payloads are left out.
    public var headersOnly = false
    /// Most messages asked for at once, from 1.
    public var pullMessagesMax = 4_096
    /// Bytes of credit that must be there before messages are asked for: the longest message there may be,
    /// with its subject, headers and reply subject.
    public var pullBytesMin = (1 << 20) + (8 << 10)
    /// How often the server gives a sign of life while there is nothing to deliver, from 100 ms; after
    /// two and a half of these without one the consumer is made anew.
    public var heartbeat = Duration.seconds(1)
    /// How long the server keeps one request for messages, at least two heartbeats.
    public var pullExpiry = Duration.seconds(30)
    /// How long the server keeps the consumer when nothing is asked of it.
    public var inactiveMax = Duration.seconds(60)
    /// Wait before the consumer is made anew for the second time in a row; doubles up to `retryDelayMax`.
    public var retryDelayMin = Duration.milliseconds(50)
    /// Longest such wait.
    public var retryDelayMax = Duration.seconds(2)

    /// Whether every interruption makes it start from its start again.
    var isRepeated = false

    /// The defaults: everything from the start.
    public init() {}

    /// Whether the numbers are in their ranges.
    var areValid: Bool {
        pullMessagesMax >= 1 && pullBytesMin >= 1 && heartbeat >= .milliseconds(100)
            && pullExpiry >= heartbeat * 2 && inactiveMax > .zero && retryDelayMin > .zero
            && retryDelayMin <= retryDelayMax && start != .sequence(0)
    }
}

/// What a consumer tells besides messages.
public enum OrderedConsumerEvent: Equatable, Sendable {
    /// It reads, for the first time or again; what the stream was at that moment.
    case started(StreamInfo)
    /// It does not read and tries to again.
    case interrupted(Interruption)
    /// The stream does not have these any more: they were purged or deleted. Told before the message behind
    /// them, only when no filter leaves messages out.
    case missing(ClosedRange<UInt64>)
    /// It will not go on: what it would read next is not what follows what it has delivered.
    case ended(End)

    /// Why reading has stopped for now.
    public enum Interruption: Equatable, Sendable {
        /// The connection ended.
        case disconnected
        /// A message has been lost between server and client.
        case messageLost
        /// The message that was delivered last is not there any more, so that it cannot be compared; reading
        /// goes on behind it.
        case lastMessageGone
        /// The server has given no sign of life.
        case heartbeatsMissed
        /// The server has deleted the consumer, or lost it in a restart.
        case consumerLost
        /// The server refuses to deliver: the status and its words.
        case refused(status: Int, text: String)
        /// The consumer cannot be made.
        case failed(JetStreamError)
        /// There is no such stream.
        case streamMissing
        /// The stream ends before what has been delivered, or before where reading is to start: its leader
        /// has lost messages, or does not know them yet.
        case streamBehind(lastSequence: UInt64)
    }

    /// Why reading is over.
    public enum End: Equatable, Sendable {
        /// There is a stream of the name, but it was created at another time.
        case streamRecreated(created: NATSTime)
        /// The message that was delivered last is another one now: the stream has lost messages and
        /// has got new ones in their place.
        case historyChanged(sequence: UInt64)
    }
}
