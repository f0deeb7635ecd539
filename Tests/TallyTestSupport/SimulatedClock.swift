import TallyCore

/// A clock that moves only when it is told to.
package final class SimulatedClock: Clock {
    private let nanoseconds: Locked<UInt64>

    /// A clock that starts at a time of its own.
    package init(nanoseconds: UInt64 = 1_700_000_000_000_000_000) {
        self.nanoseconds = Locked(nanoseconds)
    }

    /// Moves on.
    package func advance(nanoseconds step: UInt64) {
        nanoseconds.withLock { $0 += step }
    }

    package func monotonicNanoseconds() -> UInt64 { nanoseconds.withLock { $0 } }

    package func wallMilliseconds() -> UInt64 { nanoseconds.withLock { $0 / 1_000_000 } }
}
