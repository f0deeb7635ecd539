public import TallyCore

/// What a replica knows of one log: how far it has come, and what every producer has sent.
///
/// Part of the state, the same on every replica at one sequence, and of every checkpoint.
public struct LogState: Equatable, Sendable {
    /// What a producer has sent.
    public struct Window: Equatable, Sendable {
        /// The number of its latest message.
        public var sequence: UInt64
        /// When that was, in log time, milliseconds since 1970.
        public var milliseconds: UInt64

        /// A window in both its parts.
        public init(sequence: UInt64, milliseconds: UInt64) {
            self.sequence = sequence
            self.milliseconds = milliseconds
        }
    }

    /// By which a message is recognised when a replica comes back to it.
    public struct Mark: Equatable, Sendable {
        /// Who has sent it.
        public var producer: ProducerIdentity
        /// Its number among the producer's.
        public var producerSequence: UInt64
        /// Of all its bytes.
        public var checksum: UInt32

        /// A mark in all its parts.
        public init(producer: ProducerIdentity, producerSequence: UInt64, checksum: UInt32) {
            self.producer = producer
            self.producerSequence = producerSequence
            self.checksum = checksum
        }
    }

    /// Which history of the log.
    public var epoch: UInt32
    /// Which stream holds it: when it was created, nanoseconds since 1970.
    public var streamNanoseconds: UInt64
    /// The latest message, 0 before the first.
    public var sequence: UInt64 = 0
    /// That message, nil before the first.
    public var mark: Mark?
    /// Log time: the latest time stamp of any message, milliseconds since 1970.
    public var milliseconds: UInt64 = 0
    /// Producers that have not been silent for long.
    public var windows: [ProducerIdentity: Window] = [:]

    /// A log before its first message.
    public init(epoch: UInt32, streamNanoseconds: UInt64) {
        self.epoch = epoch
        self.streamNanoseconds = streamNanoseconds
    }
}

/// Decides, message by message, what of a log is to be applied.
///
/// Every replica of the log decides the same: nothing matters but the messages and their time stamps.
public struct LogFollower: Sendable {
    /// Why a message is not applied, on any replica.
    public enum Void: Equatable, Sendable {
        /// It has been applied before.
        case duplicate
        /// Its producer is not known any more, or was never.
        case unknownProducer
        /// Its producer began too long before, or after, the log's time.
        case wrongTime
        /// It belongs to a history that has ended.
        case pastEpoch
    }

    /// Why this replica cannot go on.
    public enum Halt: Error, Equatable, Sendable, CustomStringConvertible {
        /// Messages are missing before this one.
        case missing(expected: UInt64, found: UInt64)
        /// A producer's messages are missing before this one.
        case producerGap(ProducerIdentity, expected: UInt64, found: UInt64)
        /// It cannot be read.
        case unreadable(LogMessage.ReadError)
        /// It belongs to another cluster or another log.
        case foreign
        /// A history has begun that this replica does not know.
        case newerEpoch(UInt32)
        /// The log is not the one that this replica has followed.
        case otherHistory(String)
        /// What it asks for cannot be read or judged here.
        case notApplied(String)

        /// One line for an operator.
        public var description: String {
            switch self {
            case .missing(let expected, let found):
                "message \(expected) is missing, the next there is is \(found)"
            case .producerGap(let producer, let expected, let found):
                "message \(expected) of producer \(producer) is missing, the next there is is \(found)"
            case .unreadable(let error): "a message cannot be read: \(error)"
            case .foreign: "a message belongs to another cluster or another log"
            case .newerEpoch(let epoch): "epoch \(epoch) has begun without this replica"
            case .otherHistory(let reason): "the log is not the one that was followed: \(reason)"
            case .notApplied(let reason): "a message cannot be applied: \(reason)"
            }
        }
    }

    /// What is to be done with a message.
    public enum Verdict {
        /// It was seen before, by this follower.
        case old
        /// It is to be applied.
        case apply(LogMessage)
        /// It is not to be applied.
        case void(LogMessage.Header, Void)
    }

    private let cluster: LogIdentity
    private let log: UInt32
    /// How far it has come.
    public private(set) var state: LogState

    /// Goes on with `state`.
    public init(cluster: LogIdentity, log: UInt32, state: LogState) {
        self.cluster = cluster
        self.log = log
        self.state = state
    }

    /// Decides what becomes of the message at `sequence`, and takes note of it.
    ///
    /// - Parameter milliseconds: The message's time stamp, since 1970.
    /// - Throws: `Halt`; nothing has been noted then, and the log must not be followed further.
    /// - Complexity: O(bytes), O(producers) from time to time.
    public mutating func receive(
        sequence: UInt64, milliseconds: UInt64, _ bytes: UnsafeRawBufferPointer
    ) throws(Halt) -> Verdict {
        guard sequence > state.sequence else { return .old }
        guard sequence == state.sequence + 1 else {
            throw .missing(expected: state.sequence + 1, found: sequence)
        }
        let message: LogMessage
        do throws(LogMessage.ReadError) {
            message = try LogMessage(bytes)
        } catch {
            throw .unreadable(error)
        }
        let header = message.header
        guard header.cluster == cluster, header.log == log else { throw .foreign }
        guard header.epoch <= state.epoch else { throw .newerEpoch(header.epoch) }
        let now = max(state.milliseconds, milliseconds)
        let judged = try judge(header, now)
        state.sequence = sequence
        state.milliseconds = now
        state.mark = LogState.Mark(
            producer: header.producer, producerSequence: header.producerSequence,
            checksum: message.checksum)
        if let judged { return .void(header, judged) }
        state.windows[header.producer] = LogState.Window(
            sequence: header.producerSequence, milliseconds: now)
        forgetSilent(now)
        return .apply(message)
    }

    /// Why a message is void; nil if it is not.
    private func judge(_ header: LogMessage.Header, _ now: UInt64) throws(Halt) -> Void? {
        guard header.epoch == state.epoch else { return .pastEpoch }
        if let window = state.windows[header.producer], !isSilent(window, now) {
            guard header.producerSequence > window.sequence else { return .duplicate }
            guard header.producerSequence == window.sequence + 1 else {
                throw .producerGap(
                    header.producer, expected: window.sequence + 1, found: header.producerSequence)
            }
            return nil
        }
        guard header.producerSequence == 1 else { return .unknownProducer }
        let began = header.producer.milliseconds
        guard began + Limits.producerHorizonMilliseconds >= now,
            began <= now + Limits.producerFutureMilliseconds
        else { return .wrongTime }
        return nil
    }

    /// Whether a producer has been silent for so long that no message of its first days can come.
    private func isSilent(_ window: LogState.Window, _ now: UInt64) -> Bool {
        window.milliseconds + Limits.producerHorizonMilliseconds
            + Limits.producerFutureMilliseconds < now
    }

    /// Forgets producers that count as unknown already.
    private mutating func forgetSilent(_ now: UInt64) {
        guard state.windows.count > Limits.producersKept else { return }
        state.windows = state.windows.filter { !isSilent($0.value, now) }
    }
}
