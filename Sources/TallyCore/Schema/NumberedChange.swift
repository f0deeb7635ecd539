/// A change of a cluster's schema, and its place among all of them: every log applies them in this order,
/// each once.
public struct NumberedChange: Equatable, Sendable, CustomStringConvertible {
    /// From 1.
    public let number: UInt64
    /// The change.
    public let change: SchemaChange

    /// A change at its place.
    public init(number: UInt64, change: SchemaChange) {
        self.number = number
        self.change = change
    }

    /// The change that `description` had given as these bytes; nil if it is none.
    public init?(bytes: UnsafeRawBufferPointer) {
        guard bytes.first == UInt8(ascii: "@"),
            let space = bytes.firstIndex(of: UInt8(ascii: " ")),
            let number = Decimal.parseUnsigned(UnsafeRawBufferPointer(rebasing: bytes[1..<space])),
            let change = SchemaChange(
                bytes: UnsafeRawBufferPointer(rebasing: bytes[(space + 1)...]))
        else { return nil }
        self.init(number: number, change: change)
    }

    /// `@`, the number, and the change in its shortest form.
    public var description: String { "@\(number) \(change)" }
}
