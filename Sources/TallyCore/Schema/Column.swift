/// What happens to an update that would leave a column's range.
public enum BoundPolicy: UInt8, Sendable {
    /// It is refused and changes nothing.
    case reject = 0
    /// It goes as far as the range does.
    case saturate = 1
}

/// One number of a family's records.
public struct Column: Equatable, Sendable {
    /// Its number in the family, never used again for another.
    public let number: UInt32
    /// Its name, unique in the family.
    public let name: String
    /// What stands behind the last dot of a key that means this column, unique in the family; nil
    /// for none.
    public var suffix: String?
    /// The width that most values fit into, bits. Advice.
    public var hintBits: Int
    /// The width that all values fit into, bits: `max` follows from it.
    public var maxBits: Int
    /// The least value.
    public let min: Int64
    /// The value of a record that nobody has written.
    public let defaultValue: Int64
    /// What happens at `min` and `max`.
    public var bound: BoundPolicy

    /// A column in all its parts.
    public init(
        number: UInt32, name: String, suffix: String? = nil, hintBits: Int = 16,
        maxBits: Int = 64, min: Int64 = 0, defaultValue: Int64 = 0, bound: BoundPolicy = .reject
    ) {
        self.number = number
        self.name = name
        self.suffix = suffix
        self.hintBits = hintBits
        self.maxBits = maxBits
        self.min = min
        self.defaultValue = defaultValue
        self.bound = bound
    }

    /// The greatest value: all of `maxBits` bits, and 2^63 − 1 for 64.
    public var max: Int64 { maxBits >= 63 ? .max : (1 << Int64(maxBits)) - 1 }
}
