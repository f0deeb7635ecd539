import Testing

@testable import TallyCluster

struct LogPaceTests {
    private static let millisecond: UInt64 = 1_000_000

    /// Lets messages come back after so many milliseconds, one behind the other.
    ///
    /// - Returns: how long the pace has the next one wait after each, nanoseconds.
    private func waits(
        _ milliseconds: [UInt64], _ pace: inout LogPace, now: inout UInt64
    ) -> [UInt64] {
        milliseconds.map {
            let begun = max(now, pace.notBefore)
            now = begun + $0 * Self.millisecond
            pace.landed(begun: begun, now: now)
            return pace.notBefore - now
        }
    }

    @Test func nothingWaitsWhileMessagesComeBackAsEver() {
        var pace = LogPace()
        var now: UInt64 = 0
        #expect(waits([4, 4, 5, 7, 4, 8, 4], &pace, now: &now).allSatisfy { $0 == 0 })
    }

    @Test func whatTakesLongerIsWaitedForInPart() {
        var pace = LogPace()
        var now: UInt64 = 0
        #expect(
            waits([2, 6, 10, 1000, 2], &pace, now: &now)
                == [0, 1, 3, 8, 0].map { $0 * Self.millisecond })
    }

    /// What was once possible is forgotten when it is no more.
    @Test func theShortestTimeIsOfTheLastTwoMinutes() {
        var pace = LogPace()
        var now: UInt64 = 0
        #expect(waits([1, 9], &pace, now: &now).last == 7 * Self.millisecond / 2)
        for _ in 0..<3 {
            now += 61_000 * Self.millisecond
            _ = waits([9, 10, 11], &pace, now: &now)
        }
        #expect(waits([9, 12, 18], &pace, now: &now).allSatisfy { $0 == 0 })
    }
}
