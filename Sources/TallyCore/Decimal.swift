/// Signed 64-bit integers as decimal text, exactly as Redis reads and writes them.
public enum Decimal {
    /// Most bytes that `write` produces.
    public static let bytesMax = 20

    /// The integer that `text` spells, or nil.
    ///
    /// Accepts what Redis accepts for a counter: an optional `-`, no `+`, no spaces, no leading
    /// zeros, no `-0`, within 64 signed bits.
    ///
    /// - Complexity: O(*n*), *n* at most 20.
    public static func parse(_ text: UnsafeRawBufferPointer) -> Int64? {
        guard let first = text.first, text.count <= bytesMax else { return nil }
        if text.count == 1 {
            let digit = first &- UInt8(ascii: "0")
            return digit <= 9 ? Int64(digit) : nil
        }
        let isNegative = first == UInt8(ascii: "-")
        var offset = isNegative ? 1 : 0
        let lead = text[offset] &- UInt8(ascii: "0")
        guard lead >= 1, lead <= 9 else { return nil }
        var magnitude = UInt64(lead)
        offset &+= 1
        while offset < text.count {
            let digit = text[offset] &- UInt8(ascii: "0")
            guard digit <= 9 else { return nil }
            let (tens, tensOverflow) = magnitude.multipliedReportingOverflow(by: 10)
            let (sum, sumOverflow) = tens.addingReportingOverflow(UInt64(digit))
            guard !tensOverflow, !sumOverflow else { return nil }
            magnitude = sum
            offset &+= 1
        }
        if isNegative {
            guard magnitude <= 1 << 63 else { return nil }
            return Int64(bitPattern: 0 &- magnitude)
        }
        return magnitude < 1 << 63 ? Int64(magnitude) : nil
    }

    /// The unsigned integer that `text` spells, or nil: digits only, no leading zeros, within 64 bits.
    ///
    /// - Complexity: O(*n*), *n* at most 20.
    public static func parseUnsigned(_ text: UnsafeRawBufferPointer) -> UInt64? {
        guard let first = text.first, text.count <= bytesMax else { return nil }
        if first == UInt8(ascii: "0"), text.count > 1 { return nil }
        var value: UInt64 = 0
        for byte in text {
            let digit = byte &- UInt8(ascii: "0")
            guard digit <= 9 else { return nil }
            let (tens, tensOverflow) = value.multipliedReportingOverflow(by: 10)
            let (sum, sumOverflow) = tens.addingReportingOverflow(UInt64(digit))
            guard !tensOverflow, !sumOverflow else { return nil }
            value = sum
        }
        return value
    }

    /// Writes `value` at `target`, which has room for `bytesMax` bytes.
    ///
    /// - Returns: the number of bytes written.
    /// - Complexity: O(digits). Never allocates.
    public static func write(_ value: Int64, to target: UnsafeMutableRawPointer) -> Int {
        var magnitude = value.magnitude
        var target = target
        var written = 0
        if value < 0 {
            target.storeBytes(of: UInt8(ascii: "-"), as: UInt8.self)
            target += 1
            written = 1
        }
        if magnitude < 10 {
            target.storeBytes(of: UInt8(truncatingIfNeeded: magnitude) &+ 0x30, as: UInt8.self)
            return written &+ 1
        }
        let digits = digitCount(magnitude)
        var end = target + digits
        while magnitude >= 100 {
            let (quotient, pair) = magnitude.quotientAndRemainder(dividingBy: 100)
            end -= 2
            storePair(pair, at: end)
            magnitude = quotient
        }
        if magnitude >= 10 {
            storePair(magnitude, at: target)
        } else {
            target.storeBytes(of: UInt8(truncatingIfNeeded: magnitude) &+ 0x30, as: UInt8.self)
        }
        return written &+ digits
    }

    /// How many bytes `write` produces for `value`.
    public static func byteCount(_ value: Int64) -> Int {
        digitCount(value.magnitude) &+ (value < 0 ? 1 : 0)
    }

    private static func digitCount(_ magnitude: UInt64) -> Int {
        var bound: UInt64 = 10
        for digits in 1..<20 {
            if magnitude < bound { return digits }
            bound = bound &* 10
        }
        // 10^19 fits in 64 bits, 10^20 does not; the loop's last bound has wrapped.
        return magnitude < 10_000_000_000_000_000_000 ? 19 : 20
    }

    @inline(__always)
    private static func storePair(_ pair: UInt64, at target: UnsafeMutableRawPointer) {
        let tens = (pair &* 103) &>> 10
        let ones = pair &- tens &* 10
        let text = UInt16(truncatingIfNeeded: tens &+ 0x30 | (ones &+ 0x30) &<< 8)
        target.storeBytes(of: text.littleEndian, as: UInt16.self)
    }
}
