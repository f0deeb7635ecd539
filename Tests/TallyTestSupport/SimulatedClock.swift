public import TallyCore
import Synchronization

/// A clock that moves only when it is told to.
public final class SimulatedClock: Clock {
    private let nanoseconds: Mutex<UInt64>

    /// A clock that starts at a time of its own.
    public init(nanoseconds: UInt64 = 1_700_000_000_000_000_000) {
        self.nanoseconds = Mutex(nanoseconds)
    }

    /// Moves on.
    public func advance(nanoseconds step: UInt64) {
        nanoseconds.withLock { $0 += step }
    }

    public func monotonicNanoseconds() -> UInt64 { nanoseconds.withLock { $0 } }

    public func wallMilliseconds() -> UInt64 { nanoseconds.withLock { $0 / 1_000_000 } }
}
