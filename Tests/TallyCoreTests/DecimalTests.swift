import TallyCore
import TallyTestSupport
import Testing

struct DecimalTests {
    @Test(
        arguments: [
            ("0", 0), ("7", 7), ("-1", -1), ("10", 10), ("99", 99), ("100", 100),
            ("9223372036854775807", .max), ("-9223372036854775808", .min),
            ("", nil), ("-", nil), ("+1", nil), (" 1", nil), ("1 ", nil), ("01", nil), ("-0", nil),
            ("-01", nil), ("1a", nil), ("a", nil), ("1.0", nil), ("0x10", nil), ("1e3", nil),
            ("9223372036854775808", nil), ("-9223372036854775809", nil),
            ("18446744073709551616", nil), ("99999999999999999999", nil),
            ("100000000000000000000", nil), ("\u{0}", nil), ("/", nil), (":", nil),
        ] as [(String, Int64?)])
    func parsesWhatRedisParses(text: String, expected: Int64?) {
        #expect(text.withBytes(Decimal.parse) == expected)
    }

    @Test func writesWhatItParses() {
        var random = SeededGenerator(seed: 1)
        var values: [Int64] = [.min, .min + 1, -1, 0, 1, 9, 10, 99, 100, 101, .max - 1, .max]
        var power: Int64 = 1
        for _ in 0..<18 {
            power *= 10
            values += [power - 1, power, power + 1, -power, -power + 1, -power - 1]
        }
        for _ in 0..<20_000 {
            values.append(Int64(truncatingIfNeeded: random.next() >> (random.next() & 63)))
        }
        var buffer = [UInt8](repeating: 0, count: Decimal.bytesMax)
        for value in values {
            let count = buffer.withUnsafeMutableBytes { Decimal.write(value, to: $0.baseAddress!) }
            #expect(String(decoding: buffer[..<count], as: UTF8.self) == String(value))
            #expect(count == Decimal.byteCount(value))
        }
    }
}
