import TallyCore
import TallyTestSupport
import Testing

struct LZ4BlockTests {
    private func compressed(_ bytes: [UInt8]) -> [UInt8] {
        var target = [UInt8](repeating: 0, count: bytes.count + bytes.count / 200 + 16)
        let count = bytes.withUnsafeBytes { source in
            target.withUnsafeMutableBytes { LZ4Block.compress(source, into: $0) }
        }
        guard let count else {
            Issue.record("\(bytes.count) bytes do not fit")
            return []
        }
        return Array(target[..<count])
    }

    private func decompressed(_ block: [UInt8], byteCount: Int) -> [UInt8]? {
        var target = [UInt8](repeating: 0xee, count: byteCount)
        let isBlock = block.withUnsafeBytes { source in
            target.withUnsafeMutableBytes { LZ4Block.decompress(source, into: $0) }
        }
        return isBlock ? target : nil
    }

    /// Bytes with so many different values that repeat themselves more or less.
    private func sample(_ count: Int, values: UInt8, _ random: inout SeededGenerator) -> [UInt8] {
        var bytes: [UInt8] = []
        while bytes.count < count {
            if bytes.count > 8, random.once(in: 3) {
                let start = Int.random(in: 0..<bytes.count, using: &random)
                let length = Int.random(in: 1...min(300, bytes.count - start), using: &random)
                bytes += bytes[start..<(start + length)]
            } else {
                for _ in 0..<Int.random(in: 1...40, using: &random) {
                    bytes.append(UInt8.random(in: 0...values, using: &random))
                }
            }
        }
        return Array(bytes[..<count])
    }

    @Test func whatIsCompressedComesBack() {
        var random = SeededGenerator(seed: 4)
        for count in Array(0...70) + [255, 256, 300, 4_000, 70_000, 200_000] {
            for values in [0, 1, 9, 255] as [UInt8] {
                let bytes = sample(count, values: values, &random)
                #expect(decompressed(compressed(bytes), byteCount: count) == bytes)
            }
        }
    }

    /// Made by the reference implementation.
    @Test func blocksOfOthersAreRead() {
        let text = Array("abcabcabcabcabcabcabcabcabcabc-tail!".utf8)
        let block: [UInt8] =
            [0x3f, 0x61, 0x62, 0x63, 0x03, 0x00, 0x08, 0x60] + Array("-tail!".utf8)
        #expect(decompressed(block, byteCount: text.count) == text)
    }

    @Test func entriesWithLikeKeysTakeHalf() {
        var random = SeededGenerator(seed: 5)
        var bytes: [UInt8] = []
        for _ in 0..<2_000 {
            let digits = String(Int.random(in: 0..<1_000_000, using: &random))
            let key = "key:" + String(repeating: "0", count: 12 - digits.count) + digits
            bytes += [1, UInt8(key.utf8.count)] + Array(key.utf8)
        }
        #expect(compressed(bytes).count * 100 < bytes.count * 56)
    }

    @Test func whatDoesNotFitIsNotWritten() {
        var random = SeededGenerator(seed: 6)
        let bytes = sample(1_000, values: 255, &random)
        let size = compressed(bytes).count
        for room in 0..<(size + 4) {
            var target = [UInt8](repeating: 0, count: room)
            let count = bytes.withUnsafeBytes { source in
                target.withUnsafeMutableBytes { LZ4Block.compress(source, into: $0) }
            }
            #expect(count == nil || count == size)
            if room < size { #expect(count == nil) }
        }
    }

    /// Whatever comes is told to be a block or not, and nothing is touched beyond it.
    @Test func nonsenseIsRefused() {
        var random = SeededGenerator(seed: 7)
        let bytes = sample(600, values: 20, &random)
        let block = compressed(bytes)
        for count in 0..<block.count {
            #expect(decompressed(Array(block[..<count]), byteCount: bytes.count) != bytes)
        }
        for length in [0, 1, 599, 601] { #expect(decompressed(block, byteCount: length) == nil) }
        for _ in 0..<20_000 {
            var damaged = block
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                damaged[Int.random(in: 0..<damaged.count, using: &random)] = UInt8.random(
                    in: 0...255, using: &random)
            }
            _ = decompressed(damaged, byteCount: bytes.count)
        }
        for _ in 0..<20_000 {
            let noise = (0..<Int.random(in: 0...60, using: &random)).map { _ in
                UInt8.random(in: 0...255, using: &random)
            }
            _ = decompressed(noise, byteCount: Int.random(in: 0...200, using: &random))
        }
    }
}
