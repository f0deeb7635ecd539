internal import Glibc
import TallyCore

/// The machine's own clocks.
struct SystemClock: Clock {
    func monotonicNanoseconds() -> UInt64 { Self.now(CLOCK_MONOTONIC) }

    func wallMilliseconds() -> UInt64 { Self.now(CLOCK_REALTIME) / 1_000_000 }

    private static func now(_ clock: clockid_t) -> UInt64 {
        var time = timespec()
        clock_gettime(clock, &time)
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }
}
