import TallyCore

/// A clock that moves only when it is told to.
package final class SimulatedClock: Clock {
    private let nanoseconds: Locked<UInt64>
    /// How far the time of day is ahead, milliseconds.
    private let ahead = Locked<Int64>(0)

    /// A clock that starts at a time of its own.
    package init(nanoseconds: UInt64 = 1_700_000_000_000_000_000) {
        self.nanoseconds = Locked(nanoseconds)
    }

    /// Moves on.
    package func advance(nanoseconds step: UInt64) {
        nanoseconds.withLock { $0 += step }
    }

    package func monotonicNanoseconds() -> UInt64 { nanoseconds.withLock { $0 } }

    /// Sets the time of day forwards or backwards.
    package func jump(milliseconds: Int64) {
        ahead.withLock { $0 += milliseconds }
    }

    package func wallMilliseconds() -> UInt64 {
        let now = Int64(monotonicNanoseconds() / 1_000_000)
        return UInt64(now + ahead.withLock { $0 })
    }
}
