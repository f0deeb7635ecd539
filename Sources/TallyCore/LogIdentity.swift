/// Which history files belong to: the same random number in all of them.
public struct LogIdentity: Equatable, Sendable {
    /// The upper half.
    public let high: UInt64
    /// The lower half.
    public let low: UInt64

    /// An identity of two random words.
    public init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }
}
