import TallyCore
import TallyTestSupport
import Testing

@testable import TallyEngine

struct StringBlockTests {
    /// Encodes the records, and checks every way of reading them, also of keys that are not there.
    ///
    /// - Returns: the block's size, bytes.
    private static func check(
        _ encoder: inout StringBlockEncoder, _ keys: [[UInt8]], _ rows: [[UInt64]]
    ) -> Int {
        let columnCount = rows[0].count
        let memories = keys.map { key in
            let memory = UnsafeMutableRawBufferPointer.allocate(
                byteCount: key.count, alignment: 1)
            memory.copyBytes(from: key)
            return memory
        }
        defer { for memory in memories { memory.deallocate() } }
        let block = encoder.encode(
            keys: memories.map { UnsafeRawBufferPointer($0) }, values: rows.flatMap { $0 })
        let copy = UnsafeMutableRawBufferPointer.allocate(
            byteCount: block.count + Bits.paddingBytes, alignment: 16)
        defer { copy.deallocate() }
        copy.initializeMemory(as: UInt8.self, repeating: 0xa5)
        copy.copyMemory(from: block)
        let layout = StringBlock.Layout(
            UnsafeRawPointer(copy.baseAddress!), byteCount: block.count, columnCount: columnCount)
        var decoded: [[UInt8]] = []
        layout.forEachKey { decoded.append(Array($0)) }
        #expect(decoded == keys)
        var values = [UInt64](repeating: 0, count: keys.count * columnCount)
        layout.rows.decode(keys.count, &values)
        #expect(values == rows.flatMap { $0 })
        var row = [UInt64](repeating: 0, count: columnCount)
        for (index, memory) in memories.enumerated() {
            let rank = layout.rank(UnsafeRawBufferPointer(memory))
            #expect(rank == index)
            layout.rows.read(index, &row)
            #expect(row == rows[index])
        }
        let present = Set(keys)
        for key in keys {
            let near = [
                key + [0], key + [255], Array(key.dropLast()), Array(key.dropFirst()),
                key.isEmpty ? [7] : key.dropLast() + [key[key.count - 1] &+ 1],
                key.isEmpty ? [9] : key.dropLast() + [key[key.count - 1] &- 1],
            ]
            for other in near where !present.contains(other) {
                let rank = other.withUnsafeBytes { layout.rank($0) }
                if rank != nil { Issue.record("\(other) is not there but has rank \(rank ?? 0)") }
            }
        }
        return block.count
    }

    private static func isLess(_ left: [UInt8], _ right: [UInt8]) -> Bool {
        left.lexicographicallyPrecedes(right)
    }

    @Test(
        arguments: [
            [[]], [[], [0]], [[0], [0, 0], [0, 0, 0]], [[], [255], [255, 255]],
            [[1, 2], [1, 2, 0], [1, 2, 255], [1, 3]],
            [Array(repeating: 7, count: 4096)],
            [Array(repeating: 7, count: 4095), Array(repeating: 7, count: 4096)],
            [Array(repeating: 7, count: 200) + [1], Array(repeating: 7, count: 200) + [2]],
        ] as [[[UInt8]]])
    func boundaryKeys(keys: [[UInt8]]) {
        var encoder = StringBlockEncoder(columnCount: 1)
        for _ in 0..<2 { _ = Self.check(&encoder, keys, keys.map { _ in [0] }) }
        _ = Self.check(&encoder, keys, keys.map { _ in [.max] })
    }

    @Test(arguments: 1...30 as ClosedRange<UInt64>)
    func randomBlocks(seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        let columnCount = [1, 2, 5][Int(seed % 3)]
        var encoder = StringBlockEncoder(columnCount: columnCount)
        for _ in 0..<10 {
            let alphabet = [2, 4, 256].randomElement(using: &random) ?? 2
            let lengthMax = [3, 12, 60, 300].randomElement(using: &random) ?? 3
            var keys: Set<[UInt8]> = []
            for _ in 0..<Int.random(in: 1...StringBlock.recordsMax, using: &random) {
                let length = Int.random(in: 0...lengthMax, using: &random)
                keys.insert(
                    (0..<length).map { _ in
                        UInt8(Int.random(in: 0..<alphabet, using: &random))
                    })
            }
            let rows = keys.map { _ in
                (0..<columnCount).map { _ in
                    random.once(in: 2)
                        ? 0 : random.next() >> UInt64.random(in: 0..<64, using: &random)
                }
            }
            _ = Self.check(&encoder, keys.sorted(by: Self.isLess), rows)
        }
    }

    @Test func numberedKeysAreSmall() {
        var encoder = StringBlockEncoder(columnCount: 1)
        let keys = (0..<64).map { index in
            let digits = String(index * 61 + 1_000_000)
            return Array("key:".utf8)
                + Array(repeating: UInt8(ascii: "0"), count: 12 - digits.count)
                + Array(digits.utf8)
        }
        let byteCount = Self.check(&encoder, keys, keys.map { _ in [5] })
        #expect(byteCount < 64 * 6, "\(byteCount) bytes for 64 records")
    }
}
