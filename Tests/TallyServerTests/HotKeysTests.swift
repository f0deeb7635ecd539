import TallyTestSupport
import Testing

@testable import TallyServer

struct HotKeysTests {
    private func key(_ number: Int) -> HotKey { HotKey(family: 0, key: Array("\(number)".utf8)) }

    /// A key that is seen more often than one time in `capacity` is never missed, whatever comes between, and
    /// what is said of it is never too little, nor too much by more than its error.
    @Test(arguments: UInt64(1)...20)
    func whatIsSeenOftenIsFound(seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        var hotKeys = HotKeys(capacity: 16)
        var seen: [Int: Int] = [:]
        for _ in 0..<20_000 {
            // Three keys of ten per cent each among very many.
            let number =
                random.once(in: 3)
                ? Int.random(in: 0..<3, using: &random)
                : Int.random(in: 3..<100_000, using: &random)
            seen[number, default: 0] += 1
            hotKeys.note(hash: UInt64(number), seconds: 0) { key(number) }
        }
        #expect(hotKeys.total == 20_000 && hotKeys.entries.count == 16)
        for number in 0..<3 {
            let found = hotKeys.entries.first { $0.key == key(number) }
            guard let found else {
                Issue.record("key \(number) is missed")
                continue
            }
            let count = Double(seen[number]!)
            #expect(found.count >= count && found.count - found.error <= count)
        }
    }

    @Test func whatIsSeenNoMoreFades() {
        var hotKeys = HotKeys(capacity: 2)
        for _ in 0..<100 { hotKeys.note(hash: 1, seconds: 10) { key(1) } }
        hotKeys.fade(to: 11)
        #expect(hotKeys.entries[0].count == 87.5 && hotKeys.total == 87.5)
        hotKeys.fade(to: 60)
        #expect(hotKeys.entries[0].count < 0.2)
        // Time that runs backwards changes nothing.
        hotKeys.note(hash: 2, seconds: 5) { key(2) }
        #expect(hotKeys.entries[1].count == 1)
        // One that is cold is the first to go.
        hotKeys.note(hash: 3, seconds: 60) { key(3) }
        #expect(hotKeys.entries.map(\.key) == [key(3), key(2)])
    }

    /// One operation in so many is looked at, on average, and never always the same one of a pattern.
    @Test func gapsAreSpread() {
        var state: UInt64 = 1
        let gaps = (0..<10_000).map { _ in HotKeySampler.gap(&state) }
        #expect(gaps.allSatisfy { (1..<(2 * HotKeySampler.ratio)).contains($0) })
        #expect(abs(gaps.reduce(0, +) / 10_000 - HotKeySampler.ratio) <= 8)
        #expect(Set(gaps).count > 400)
    }
}
