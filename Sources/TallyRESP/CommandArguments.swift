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

    /// The same without the first `count` arguments, so that another one is the name.
    public func dropFirst(_ count: Int) -> CommandArguments {
        guard let slots, count < self.count else { return CommandArguments() }
        return CommandArguments(
            base, slots + count, count: self.count - count, areInPlace: areInPlace)
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

/// A command's arguments in memory of their own, for as long as this lives.
public final class StoredCommand {
    private let bytes: UnsafeMutableRawBufferPointer
    private let slots: UnsafeMutablePointer<CommandArguments.Argument>
    private let count: Int

    /// Copies `arguments`.
    public init(copying arguments: CommandArguments) {
        count = arguments.count
        slots = .allocate(capacity: max(1, count))
        let byteCount = (0..<count).reduce(0) { $0 + arguments[$1].count }
        // An argument always has an address, even an empty one.
        bytes = .allocate(byteCount: max(1, byteCount), alignment: 1)
        var offset = 0
        for index in 0..<count {
            let argument = arguments[index]
            UnsafeMutableRawBufferPointer(rebasing: bytes[offset...]).copyMemory(from: argument)
            (slots + index).initialize(
                to: CommandArguments.Argument(offset: Int32(offset), count: Int32(argument.count)))
            offset += argument.count
        }
    }

    deinit {
        slots.deallocate()
        bytes.deallocate()
    }

    /// The arguments, valid as long as this lives.
    public var arguments: CommandArguments {
        CommandArguments(UnsafeRawPointer(bytes.baseAddress), slots, count: count, areInPlace: true)
    }

    /// Memory that this takes, bytes, about.
    public var byteCount: Int { bytes.count + count * 8 + 96 }
}
