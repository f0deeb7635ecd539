import TallyCore
import TallyTestSupport
import Testing

@testable import TallyEngine

/// A block's bytes with the padding that readers expect.
private final class PaddedBlock {
    let bytes: UnsafeMutableRawBufferPointer
    let byteCount: Int

    init(_ block: UnsafeRawBufferPointer) {
        byteCount = block.count
        bytes = .allocate(byteCount: block.count + Bits.paddingBytes, alignment: 16)
        // Whatever lies behind a block must not matter.
        bytes.initializeMemory(as: UInt8.self, repeating: 0xa5)
        bytes.copyMemory(from: block)
    }

    deinit { bytes.deallocate() }

    func layout(columnCount: Int) -> IntegerBlock.Layout {
        IntegerBlock.Layout(
            UnsafeRawPointer(bytes.baseAddress!), byteCount: byteCount, columnCount: columnCount)
    }
}

struct IntegerBlockTests {
    /// Encodes the records, and checks every way of reading them, also of keys that are not there.
    private static func check(
        _ encoder: inout IntegerBlockEncoder, _ keys: [UInt64], _ rows: [[UInt64]],
        absent: [UInt64] = []
    ) -> Int {
        let columnCount = rows[0].count
        let block = PaddedBlock(
            encoder.encode(keys: keys, values: rows.flatMap { $0 }, count: keys.count))
        let layout = block.layout(columnCount: columnCount)
        var decodedKeys = [UInt64](repeating: 0, count: keys.count)
        var decodedValues = [UInt64](repeating: 0, count: keys.count * columnCount)
        layout.decode(firstKey: keys[0], keys: &decodedKeys, values: &decodedValues)
        #expect(decodedKeys == keys)
        #expect(decodedValues == rows.flatMap { $0 })
        var row = [UInt64](repeating: 0, count: columnCount)
        for (index, key) in keys.enumerated() {
            let rank = layout.rank(key &- keys[0])
            guard rank == index else {
                Issue.record("key \(key), number \(index), has rank \(rank ?? -1)")
                continue
            }
            layout.rows.read(index, &row)
            if row != rows[index] { Issue.record("\(row) instead of \(rows[index])") }
        }
        let present = Set(keys)
        for key in absent + keys.flatMap({ [$0 &+ 1, $0 &- 1] }) where !present.contains(key) {
            guard key > keys[0] else { continue }
            if let rank = layout.rank(key &- keys[0]) {
                Issue.record("absent key \(key) has rank \(rank)")
            }
        }
        return block.byteCount
    }

    @Test(
        arguments: [
            [0], [.max], [0, .max], [0, 1, 2, 3], [5, 7], [1 << 63, (1 << 63) + 1, .max - 1, .max],
            Array(0..<256), (0..<256).map { $0 * 3 + 7 }, (0..<200).map { $0 << 56 },
            (0..<100).map { ($0 / 10) << 18 + ($0 % 10) * 2 }, (0..<256).map { $0 * $0 * $0 },
            (0..<64).map { (1 << $0) - 1 },
        ] as [[UInt64]])
    func boundaryKeys(keys: [UInt64]) {
        var encoder = IntegerBlockEncoder(columnCount: 1)
        _ = Self.check(
            &encoder, keys, keys.indices.map { [UInt64($0) + 1] }, absent: [0, .max, 1 << 63])
    }

    @Test(
        arguments: [
            [[1]], [[.max]], [[.max - 1], [1], [.max]],
            [[0, 1], [1, 0], [.max, .max], [0, .max]],
            [[1 << 63, 0, 0], [0, 0, 1], [0, 1, 0], [0, 0, 1 << 63]],
            Array(repeating: [0, 0, 0, 1], count: 256), Array(repeating: [.max, .max], count: 256),
            (0..<64).map { [1 << $0] }, (0..<64).map { [0, (1 << $0) - 1, 1] },
            [Array(repeating: 1, count: 64), Array(repeating: 0, count: 63) + [5]],
        ] as [[[UInt64]]])
    func boundaryValues(rows: [[UInt64]]) {
        var encoder = IntegerBlockEncoder(columnCount: rows[0].count)
        for _ in 0..<2 {
            _ = Self.check(&encoder, rows.indices.map { UInt64($0) * 2 }, rows)
        }
    }

    @Test(arguments: 1...40 as ClosedRange<UInt64>)
    func randomBlocks(seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        let columnCount = [1, 2, 2, 3, 5, 17].randomElement(using: &random) ?? 1
        var encoder = IntegerBlockEncoder(columnCount: columnCount)
        for _ in 0..<20 {
            let recordsMax = IntegerBlockEncoder.recordsMax(columnCount: columnCount)
            let count = Int.random(in: 1...recordsMax, using: &random)
            var keys: Set<UInt64> = []
            var key = UInt64.random(
                in: 0...(1 << UInt64.random(in: 0..<50, using: &random)), using: &random)
            let (gapBits, jumpBits) = (
                Int.random(in: 0..<20, using: &random), Int.random(in: 5..<45, using: &random)
            )
            while keys.count < count {
                keys.insert(key)
                let bits = random.once(in: 20) ? jumpBits : gapBits
                key += 1 + UInt64.random(in: 0..<(1 << bits), using: &random)
            }
            let valueBits = (0..<columnCount).map { _ in Int.random(in: 0..<64, using: &random) }
            let rows = keys.map { _ in
                let row = valueBits.map {
                    random.once(in: 2) ? 0 : UInt64.random(in: 0...Bits.mask($0), using: &random)
                }
                return row.allSatisfy { $0 == 0 } ? row.dropLast() + [1] : row
            }
            let absent = (0..<50).map { _ in UInt64.random(in: 0...key, using: &random) }
            _ = Self.check(&encoder, keys.sorted(), rows, absent: absent)
        }
    }

    /// What real ids cost: bursts of neighbours far apart from one another.
    @Test func burstsAreSmall() {
        var random = SeededGenerator(seed: 1)
        var keys: [UInt64] = []
        var key: UInt64 = 1 << 51
        while keys.count < 128 {
            for _ in 0..<40 {
                keys.append(key)
                key += 1 + UInt64.random(in: 0..<14, using: &random)
            }
            key = (key >> 18 + 1) << 18 + 77
        }
        keys = Array(keys.prefix(128))
        var encoder = IntegerBlockEncoder(columnCount: 2)
        let byteCount = Self.check(&encoder, keys, keys.map { _ in [0, 1] })
        #expect(byteCount < 150, "\(byteCount) bytes for 128 records")
    }

    @Test func broadwordSelectFindsEveryBit() {
        var random = SeededGenerator(seed: 1)
        for _ in 0..<2000 {
            let word = random.next() & (random.once(in: 2) ? random.next() : .max)
            var rest = word
            for rank in 0..<word.nonzeroBitCount {
                #expect(Bits.select(word, rank) == rest.trailingZeroBitCount)
                rest &= rest - 1
            }
        }
    }
}
