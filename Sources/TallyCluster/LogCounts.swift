public import Synchronization

/// What has become of a node's messages to one log. Any thread.
public final class LogCounts: Sendable {
    /// Messages that were taken on.
    public let messages = Atomic<UInt64>(0)
    /// Attempts to have them stored.
    public let attempts = Atomic<UInt64>(0)
    /// Bytes of the messages.
    public let bytes = Atomic<UInt64>(0)
    /// Batches of commands that were told that nothing was changed, because the log could not be reached.
    public let refused = Atomic<UInt64>(0)
    /// Batches of commands that were told that nobody knows.
    public let unknown = Atomic<UInt64>(0)
    /// Additions that were answered before they were in the log, in messages that were taken on.
    public let early = Atomic<UInt64>(0)
    /// Those of them that were given up, because this node can follow the log no further.
    public let earlyLost = Atomic<UInt64>(0)
    /// When the message in flight was taken on, monotonic nanoseconds; 0 for none.
    public let flightBegun = Atomic<UInt64>(0)

    init() {}
}
