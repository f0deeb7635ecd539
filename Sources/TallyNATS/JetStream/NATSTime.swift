/// A moment, in nanoseconds since 1970 (UTC), as servers state it: in JSON as RFC 3339 with up to nine
/// decimals.
public struct NATSTime: Hashable, Comparable, Sendable {
    /// Nanoseconds since 1970.
    public var nanoseconds: Int64

    /// A moment.
    public init(nanoseconds: Int64) { self.nanoseconds = nanoseconds }

    /// A moment after 1970; the latest there is for what 63 bits do not reach.
    public init(unsignedNanoseconds: UInt64) { nanoseconds = Int64(clamping: unsignedNanoseconds) }

    /// Nanoseconds since 1970; 0 for what was before.
    public var unsignedNanoseconds: UInt64 { UInt64(max(0, nanoseconds)) }

    /// Orders by time.
    public static func < (first: NATSTime, second: NATSTime) -> Bool {
        first.nanoseconds < second.nanoseconds
    }

    /// Reads `2006-01-02T15:04:05.999999999Z`, also with another offset than `Z`.
    ///
    /// - Returns: nil for anything else, and for what 64 bits of nanoseconds do not reach (1677…2262).
    public init?(_ text: some StringProtocol) {
        var parser = TimeParser(bytes: Array(text.utf8))
        guard let year = parser.number(digits: 4), parser.take("-"),
            let month = parser.number(digits: 2), parser.take("-"),
            let day = parser.number(digits: 2), parser.take("T"),
            let hour = parser.number(digits: 2), parser.take(":"),
            let minute = parser.number(digits: 2), parser.take(":"),
            let second = parser.number(digits: 2),
            (1...12).contains(month), (1...31).contains(day), hour < 24, minute < 60, second <= 60,
            let fraction = parser.fraction(), let offsetMinutes = parser.offset(), parser.isAtEnd
        else { return nil }
        let days = Self.days(year: year, month: month, day: day)
        let seconds = ((days * 24 + hour) * 60 + minute - offsetMinutes) * 60 + second
        let (whole, isTooFar) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
        guard !isTooFar else { return nil }
        let (sum, overflows) = whole.addingReportingOverflow(fraction)
        guard !overflows else { return nil }
        nanoseconds = sum
    }

    /// Days since 1970 of a date of the Gregorian calendar.
    private static func days(year: Int64, month: Int64, day: Int64) -> Int64 {
        // Years that start in March have their leap day at their end.
        let shifted = month > 2 ? year : year - 1
        let era = (shifted >= 0 ? shifted : shifted - 399) / 400
        let yearOfEra = shifted - era * 400
        let dayOfYear = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1
        let dayOfEra = yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear
        return era * 146_097 + dayOfEra - 719_468
    }
}

private struct TimeParser {
    let bytes: [UInt8]
    var position = 0

    init(bytes: [UInt8]) { self.bytes = bytes }

    var isAtEnd: Bool { position == bytes.count }

    mutating func take(_ character: Unicode.Scalar) -> Bool {
        guard position < bytes.count, bytes[position] == UInt8(ascii: character) else {
            return false
        }
        position += 1
        return true
    }

    mutating func number(digits: Int) -> Int64? {
        guard bytes.count - position >= digits,
            let number = Decimals.parse(bytes[position..<(position + digits)])
        else { return nil }
        position += digits
        return Int64(number)
    }

    /// Nanoseconds behind the point; 0 if there is none.
    mutating func fraction() -> Int64? {
        guard take(".") else { return 0 }
        var nanoseconds: Int64 = 0
        var digits = 0
        while position < bytes.count, (0x30...0x39).contains(bytes[position]) {
            guard digits < 9 else { return nil }
            nanoseconds = nanoseconds * 10 + Int64(bytes[position] - 0x30)
            digits += 1
            position += 1
        }
        guard digits > 0 else { return nil }
        for _ in digits..<9 { nanoseconds *= 10 }
        return nanoseconds
    }

    /// Minutes east of UTC.
    mutating func offset() -> Int64? {
        if take("Z") { return 0 }
        let isEast = take("+")
        guard isEast || take("-"), let hours = number(digits: 2), take(":"),
            let minutes = number(digits: 2)
        else { return nil }
        return (isEast ? 1 : -1) * (hours * 60 + minutes)
    }
}

extension NATSTime: Decodable {
    /// Reads it from a JSON string; what cannot be represented, as a time that was never set, is the
    /// earliest moment.
    public init(from decoder: any Decoder) throws {
        let text = try decoder.singleValueContainer().decode(String.self)
        self = NATSTime(text) ?? NATSTime(nanoseconds: .min)
    }
}

extension Duration {
    /// Whole nanoseconds.
    var nanoseconds: Int64 {
        components.seconds * 1_000_000_000 + components.attoseconds / 1_000_000_000
    }
}
