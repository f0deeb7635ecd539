/// The port through which all time is read, so that a simulation can drive it.
public protocol Clock: Sendable {
    /// Nanoseconds since an arbitrary start; never runs backwards.
    func monotonicNanoseconds() -> UInt64
    /// Milliseconds since 1970-01-01 UTC; may jump.
    func wallMilliseconds() -> UInt64
}
