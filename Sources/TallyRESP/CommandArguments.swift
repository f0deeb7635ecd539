/// A command's arguments, its name first, where the parser found them.
///
/// Valid until the parser looks for the next command; their bytes, if they `areInPlace`, as long as
/// the bytes that were parsed.
public struct CommandArguments {
    @usableFromInline
    struct Argument {
        @usableFromInline var offset: Int32
        @usableFromInline var count: Int32

        @inlinable
        init(offset: Int32, count: Int32) {
            self.offset = offset
            self.count = count
        }
    }

    @usableFromInline let base: UnsafeRawPointer?
    @usableFromInline let slots: UnsafeMutablePointer<Argument>?

    /// How many there are, the name included.
    public let count: Int

    /// Whether they lie where the command arrived; those of an inline command lie elsewhere, and
    /// the next inline command takes their place.
    public let areInPlace: Bool

    /// No command.
    public init() {
        base = nil
        slots = nil
        count = 0
        areInPlace = true
    }

    init(
        _ base: UnsafeRawPointer?, _ slots: UnsafeMutablePointer<Argument>, count: Int,
        areInPlace: Bool
    ) {
        self.base = base
        self.slots = slots
        self.count = count
        self.areInPlace = areInPlace
    }

    /// The argument at `index`, 0 being the command's name. Always has an address.
    @inlinable
    public subscript(index: Int) -> UnsafeRawBufferPointer {
        precondition(index >= 0 && index < count, "no such argument")
        let slot = slots.unsafelyUnwrapped[index]
        return UnsafeRawBufferPointer(
            start: base.unsafelyUnwrapped + Int(slot.offset), count: Int(slot.count))
    }
}
