import TallyCluster
import Testing

struct TransferPaceTests {
    private static let second: UInt64 = 1_000_000_000

    @Test func manyPiecesTakeAsLongAsTheyShould() {
        var pace = TransferPace(bytesPerSecond: 1_000_000)
        var now = 5 * Self.second
        for _ in 0..<100 { now += pace.delay(after: 50_000, now: now) }
        // A tenth of a second is for nothing.
        #expect(now == 5 * Self.second + 4_900_000_000)
    }

    @Test func whoIsSlowDoesNotWait() {
        var pace = TransferPace(bytesPerSecond: 1_000_000)
        var now = Self.second
        for _ in 0..<20 {
            #expect(pace.delay(after: 50_000, now: now) == 0)
            now += 60_000_000
        }
        // A pause is not made up for but for a little.
        now += 100 * Self.second
        #expect(pace.delay(after: 1_100_000, now: now) == Self.second)
    }
}
