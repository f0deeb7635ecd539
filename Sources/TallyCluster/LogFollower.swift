public import TallyCore

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
        /// It has been trimmed beyond what this replica has.
        case trimmed(first: UInt64)
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
            case .trimmed(let first): "it begins with message \(first), beyond what is here"
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
    /// The latest message that was noted is recognised when it comes again: another one in its place means
    /// that this is not the log that was followed.
    ///
    /// - Throws: `Halt`; nothing has been noted then, and the log must not be followed further.
    /// - Complexity: O(bytes), O(producers) from time to time.
    public mutating func receive(
        sequence: UInt64, milliseconds: UInt64, _ bytes: UnsafeRawBufferPointer
    ) throws(Halt) -> Verdict {
        guard sequence > state.sequence else {
            if sequence == state.sequence { try compare(bytes) }
            return .old
        }
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

    /// Whether a message is the one that was noted last.
    private func compare(_ bytes: UnsafeRawBufferPointer) throws(Halt) {
        let mark = (try? LogMessage(bytes)).map { message in
            LogState.Mark(
                producer: message.header.producer,
                producerSequence: message.header.producerSequence, checksum: message.checksum)
        }
        guard mark == state.mark else {
            throw .otherHistory("message \(state.sequence) is another one")
        }
    }

    /// It is known now which stream holds the log.
    mutating func setStream(nanoseconds: UInt64) { state.streamNanoseconds = nanoseconds }

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
