/// One life of one node as a producer of one log: a new one for each start, and after a long silence.
///
/// It carries the time of its making, so that a message of a life that nobody remembers any more can be
/// told from the first message of a new one.
public struct ProducerIdentity: Hashable, Comparable, Sendable, CustomStringConvertible {
    /// When it began, milliseconds since 1970, and 16 random bits.
    public let high: UInt64
    /// Random.
    public let low: UInt64

    /// The identity of these words.
    public init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }

    /// A life that begins at `milliseconds` since 1970.
    public init(milliseconds: UInt64, random: () -> UInt64) {
        high = milliseconds &<< 16 | random() & 0xffff
        low = random()
    }

    /// By the times of their making, then in some order.
    public static func < (first: Self, second: Self) -> Bool {
        (first.high, first.low) < (second.high, second.low)
    }

    /// When it began, milliseconds since 1970.
    public var milliseconds: UInt64 { high &>> 16 }

    /// 32 hexadecimal digits.
    public var description: String {
        [high, low].map { word in
            let digits = String(word, radix: 16)
            return String(repeating: "0", count: 16 - digits.count) + digits
        }.joined()
    }
}
