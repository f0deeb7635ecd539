import TallyCore
import TallyTestSupport
import Testing

struct ValueTests {
    @Test(arguments: [0, 1, 127, 128, 16383, 16384, 1 << 32, UInt64.max >> 1, .max])
    func varintIsReadBack(value: UInt64) {
        var bytes = [UInt8](repeating: 0xaa, count: Varint.bytesMax)
        let count = bytes.withUnsafeMutableBytes { Varint.write(value, to: $0.baseAddress!) }
        var offset = 0
        #expect(bytes.withUnsafeBytes { Varint.read($0, at: &offset) } == value)
        #expect(offset == count)
        for cut in 0..<count {
            var start = 0
            let read = bytes[..<cut].withUnsafeBytes { Varint.read($0, at: &start) }
            #expect(read == nil)
            #expect(start == 0)
        }
    }

    @Test(
        arguments: [
            [0x80, 0x00], [0xff, 0x80, 0x00],
            [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02],
            [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01],
        ] as [[UInt8]])
    func varintRefusesWhatIsTooLong(bytes: [UInt8]) {
        var offset = 0
        #expect(bytes.withUnsafeBytes { Varint.read($0, at: &offset) } == nil)
    }

    @Test(arguments: [0, 1, -1, 63, -64, 64, .max, .min] as [Int64])
    func zigzagIsUndone(value: Int64) {
        #expect(Varint.unzigzag(Varint.zigzag(value)) == value)
        #expect(Varint.zigzag(value) <= value.magnitude &* 2 || value == .min)
    }

    @Test(
        arguments: [
            ("0", 0), ("1", 1), ("100b", 100), ("1k", 1000), ("1kb", 1024), ("2MB", 2 << 20),
            ("3GiB", 3 << 30), ("1g", 1_000_000_000), ("", nil), ("mb", nil), ("-1", nil),
            ("1.5gb", nil), ("1 gb", nil), ("1tb", nil), ("99999999999gb", nil),
        ] as [(String, Int?)])
    func byteSizeIsParsed(text: String, expected: Int?) {
        #expect(ByteSize(text)?.bytes == expected)
    }

    @Test(
        arguments: [
            (0, "0.00B"), (1023, "1023.00B"), (1024, "1.00K"), (1536, "1.50K"),
            (5 << 30, "5.00G"), (Int.max, "8388607.99T"),
        ] as [(Int, String)])
    func byteSizeIsReadable(bytes: Int, expected: String) {
        #expect(ByteSize.readable(bytes) == expected)
    }

    @Test(
        arguments: [
            ("always", .always), ("none", Durability.none),
            ("interval=1", .interval(milliseconds: 1)),
            ("interval=60000", .interval(milliseconds: 60_000)), ("interval=0", nil),
            ("interval=60001", nil), ("interval=", nil), ("interval=-1", nil), ("Always", nil),
            ("", nil), ("interval", nil),
        ] as [(String, Durability?)])
    func durabilityIsParsed(text: String, expected: Durability?) {
        let parsed = Durability(text)
        #expect(parsed == expected)
        if let parsed { #expect(Durability(parsed.description) == parsed) }
    }

    @Test func positionsOrderByEpochFirst() {
        #expect(Position(epoch: 1, sequence: 9) < Position(epoch: 2, sequence: 1))
        #expect(Position(epoch: 2, sequence: 1) < Position(epoch: 2, sequence: 2))
    }

    /// Words that cancel a constant of the hash function do not cancel its seed.
    @Test func chosenWordsDoNotCollide() {
        let hasher = KeyHasher(seed: 12345)
        for constant in [0x9e37_79b9_7f4a_7c15, 0xd1b5_4a32_d192_ed03, 0, .max] as [UInt64] {
            var seen: Set<UInt64> = []
            for number in 0..<1000 {
                var key = withUnsafeBytes(of: constant.littleEndian) { Array($0) }
                key += Array("{a}\(10_000 + number)".utf8)
                seen.insert(key.withUnsafeBytes(hasher.hash))
                seen.insert((key + key).withUnsafeBytes(hasher.hash))
            }
            #expect(seen.count == 2000)
        }
    }

    @Test func hashesDifferBySeedLengthAndByte() {
        let key = "key:000000000001"
        let first = KeyHasher(seed: 1)
        #expect(key.withBytes(first.hash) == key.withBytes(first.hash))
        #expect(key.withBytes(first.hash) != key.withBytes(KeyHasher(seed: 2).hash))
        var seen: Set<UInt64> = []
        for count in 0..<100 {
            let base = [UInt8](repeating: 0, count: count)
            seen.insert(base.withUnsafeBytes(first.hash))
            for index in base.indices {
                var changed = base
                changed[index] = 1
                seen.insert(changed.withUnsafeBytes(first.hash))
            }
        }
        #expect(seen.count == 100 + 99 * 100 / 2)
    }
}
