public import TallyCore

/// Decides when a node's messages to one log are sent, and again, and when their outcome is known.
///
/// One message is in flight at a time, and it is sent verbatim until it has come back, or has surely not
/// been stored: so the log holds what this producer has sent in order and without a gap.
public struct LogProducer: Sendable {
    /// A message that has been taken on.
    private struct Flight {
        let sequence: UInt64
        /// When it was taken on, and when it was last sent, monotonic nanoseconds.
        let begun: UInt64
        var sent: UInt64?
        /// Whether an attempt may have been stored.
        var isUncertain = false
        /// Whether the broker has said that it is stored.
        var isStored = false
        /// Whether an answer to the latest attempt is awaited.
        var isAwaited = false
    }

    /// What a message's end means for those who wait for it.
    public enum End: Equatable, Sendable {
        /// It has been applied.
        case applied
        /// It is in the log and void, or will never be in it: nothing has changed, and nothing will.
        case void
    }

    /// Who this producer is at present.
    public private(set) var identity: ProducerIdentity
    private var nextSequence: UInt64 = 1
    private var flight: Flight?
    /// When a message was last taken on, monotonic nanoseconds.
    private var lastUsed: UInt64 = 0

    /// A producer that has not sent anything.
    public init(identity: ProducerIdentity) { self.identity = identity }

    /// Whether a message is in flight.
    public var isBusy: Bool { flight != nil }

    /// When the message in flight was taken on, monotonic nanoseconds.
    public var flightBegun: UInt64? { flight?.begun }

    /// Whether the message in flight is, or may be, stored.
    public var isUncertain: Bool {
        flight.map { $0.isUncertain || $0.isStored || $0.isAwaited } ?? false
    }

    // MARK: Sending

    /// Takes on the next message.
    ///
    /// - Parameters:
    ///   - now: Monotonic nanoseconds.
    ///   - fresh: Makes a new identity, for a producer that has been silent for so long that it may have
    ///     been forgotten.
    /// - Returns: the message's producer and number.
    public mutating func begin(
        now: UInt64, fresh: () -> ProducerIdentity
    ) -> (producer: ProducerIdentity, sequence: UInt64) {
        precondition(flight == nil, "a message is in flight")
        // One that is new may have been made long before it was needed.
        let silence = Limits.producerHorizonMilliseconds / 2 * 1_000_000
        if nextSequence == 1 || now - lastUsed > silence { renew(fresh()) }
        lastUsed = now
        flight = Flight(sequence: nextSequence, begun: now)
        return (identity, nextSequence)
    }

    /// Begins a new life. Nothing may be in flight that could still be stored.
    private mutating func renew(_ identity: ProducerIdentity) {
        self.identity = identity
        nextSequence = 1
    }

    /// Whether the message in flight is to be sent now, for the first time or again.
    public func isDue(now: UInt64) -> Bool {
        guard let flight else { return false }
        guard let sent = flight.sent else { return true }
        // Once it is stored it comes back by itself; if it does not, sending it again does no harm.
        let retry = Limits.publishRetryMilliseconds * 1_000_000
        return now - sent >= (flight.isAwaited || flight.isStored ? 2 * retry : retry / 8)
    }

    /// It has been given to the broker.
    public mutating func didSend(now: UInt64) {
        // An attempt that is answered no more may still be stored.
        if flight?.isAwaited == true { flight?.isUncertain = true }
        flight?.sent = now
        flight?.isAwaited = true
    }

    // MARK: What comes back

    /// The broker says that it is stored.
    public mutating func acknowledged(_ sequence: UInt64) {
        guard flight?.sequence == sequence else { return }
        flight?.isStored = true
        flight?.isAwaited = false
    }

    /// The broker says that this attempt has surely not been stored, or it has surely not been sent.
    public mutating func refused(_ sequence: UInt64) {
        guard flight?.sequence == sequence else { return }
        flight?.isAwaited = false
    }

    /// What became of this attempt is not known.
    public mutating func lost(_ sequence: UInt64) {
        guard flight?.sequence == sequence else { return }
        flight?.isAwaited = false
        flight?.isUncertain = true
    }

    /// Gives up the message in flight if it has surely not been stored.
    ///
    /// - Returns: whether it is given up; its number is then the next one's.
    public mutating func giveUp() -> Bool {
        guard flight != nil, !isUncertain else { return false }
        flight = nil
        return true
    }

    /// A message of this node's has come back by the log.
    ///
    /// - Returns: what that means for the message in flight; nil if it is another.
    public mutating func returned(
        _ header: LogMessage.Header, _ void: LogFollower.Void?, fresh: () -> ProducerIdentity
    ) -> End? {
        guard let flight, header.producer == identity, header.producerSequence == flight.sequence
        else { return nil }
        switch void {
        case nil:
            self.flight = nil
            nextSequence += 1
            return .applied
        case .duplicate:
            // The one that counted came before, and ended the flight; this cannot be it.
            return nil
        case .unknownProducer, .wrongTime, .pastEpoch:
            self.flight = nil
            renew(fresh())
            return .void
        }
    }
}
