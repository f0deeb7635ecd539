/// Decides how long a node waits between one message to a log and the next.
///
/// Brokers pay for messages more than for what is in them. While messages come back about as fast as they can the next
/// one leaves at once; when they take longer, because somebody on their way is busy, the next one waits for a part of
/// what they take longer, so that more goes into it. As TCP Vegas does, it takes delay for the sign of congestion.
struct LogPace {
    /// The shortest time from taking a message on to its return, in this window and in the one before, nanoseconds.
    private var shortest: (now: UInt64, before: UInt64) = (.max, .max)
    private var windowEnd: UInt64 = 0
    /// When the next message may be taken on, monotonic nanoseconds.
    private(set) var notBefore: UInt64 = 0

    private static let windowNanoseconds: UInt64 = 60_000_000_000
    private static let waitNanosecondsMax: UInt64 = 8_000_000

    /// A message that was taken on at `begun` has come back; monotonic nanoseconds.
    mutating func landed(begun: UInt64, now: UInt64) {
        let duration = now - min(begun, now)
        if now >= windowEnd {
            shortest = (.max, shortest.now)
            windowEnd = now + Self.windowNanoseconds
        }
        shortest.now = min(shortest.now, duration)
        // What comes and goes from message to message is no congestion.
        let usual = 2 * min(shortest.now, shortest.before)
        let delay = duration - min(duration, usual)
        notBefore = now + min(delay / 2, Self.waitNanosecondsMax)
    }
}
