/// How a column's numbers become the unsigned ones that blocks hold: the default is 0, so that
/// records of defaults need no space.
public struct ColumnCoding: Equatable, Sendable {
    /// The column's number in its family, never used again for another.
    public let column: UInt32
    /// The number that takes no space.
    public let defaultValue: Int64
    /// Whether numbers below the default occur, so that those near it on both sides are small.
    public let isSigned: Bool

    /// A coding of numbers around `defaultValue`.
    public init(column: UInt32, defaultValue: Int64 = 0, isSigned: Bool = false) {
        self.column = column
        self.defaultValue = defaultValue
        self.isSigned = isSigned
    }

    /// The unsigned form of `value`; differences wrap around, so every value has one.
    @inline(__always)
    public func encode(_ value: Int64) -> UInt64 {
        let difference = value &- defaultValue
        guard isSigned else { return UInt64(bitPattern: difference) }
        return UInt64(bitPattern: difference &<< 1 ^ difference &>> 63)
    }

    /// The value of an unsigned form.
    @inline(__always)
    public func decode(_ coded: UInt64) -> Int64 {
        guard isSigned else { return Int64(bitPattern: coded) &+ defaultValue }
        let magnitude = Int64(bitPattern: coded &>> 1)
        return (magnitude ^ -Int64(bitPattern: coded & 1)) &+ defaultValue
    }
}
