import TallyCore
import TallyTestSupport
import Testing

struct PartitionPlaceTests {
    private static let counts = (0...10).map { 1 << $0 }

    private static func keys(_ random: inout SeededGenerator) -> [UInt64] {
        let special: [UInt64] = [
            0, 1, 255, 256, 4095, 4096, (1 << 18) - 1, 1 << 18, .max, .max - 1,
        ]
        return special
            + (0..<2000).map { _ in random.next() >> UInt64.random(in: 0..<60, using: &random) }
    }

    @Test(arguments: counts)
    func keysComeBackFromTheirPlacesInOrder(count: Int) {
        var random = SeededGenerator(seed: UInt64(count))
        var last: [Int: UInt64] = [:]
        for key in Set(Self.keys(&random)).sorted() {
            let number = PartitionPlace.partition(of: key, count: count)
            let place = PartitionPlace(number: number, count: count)
            let compact = place.compact(key)
            #expect(place.expand(compact) == key)
            #expect(PartitionPlace.compact(key, count: count) == compact)
            if let last = last[number] { #expect(compact > last) }
            last[number] = compact
        }
    }

    /// Every place is that of a key, so that none can lead astray.
    @Test(arguments: counts)
    func placesBelongToTheirPartition(count: Int) {
        var random = SeededGenerator(seed: 7)
        for number in Set([0, count / 2, count - 1]) {
            let place = PartitionPlace(number: number, count: count)
            for _ in 0..<500 {
                let compact = random.next() / UInt64(count)
                let key = place.expand(compact)
                #expect(PartitionPlace.partition(of: key, count: count) == number)
                #expect(place.compact(key) == compact)
            }
        }
    }

    @Test func doublingSplitsEachPartitionInTwo() {
        var random = SeededGenerator(seed: 8)
        for key in Self.keys(&random) {
            for count in Self.counts.dropLast() {
                let coarse = PartitionPlace.partition(of: key, count: count)
                #expect(PartitionPlace.partition(of: key, count: count * 2) / 2 == coarse)
            }
        }
    }

    /// Ids that only rise reach all partitions soon, and no partition gets much more than its share.
    @Test func risingKeysAreSpread() {
        var shares = [Int](repeating: 0, count: 64)
        for key in UInt64(1_000_000)..<3_000_000 {
            shares[PartitionPlace.partition(of: key, count: 64)] += 1
        }
        #expect(shares.allSatisfy { $0 > 20_000 && $0 < 45_000 })
    }
}
