/// What one command asks of one counter.
///
/// A plain struct whose key points into memory that the caller keeps alive and unchanged until the
/// operation has been applied.
public struct Operation {
    /// What to do. Whether a condition holds is judged when the operation is applied.
    public enum Kind: UInt8, Sendable {
        /// Read the counter.
        case get
        /// Add `operand`, `count` times over; an absent counter starts at 0.
        case add
        /// Set to `operand`.
        case set
        /// Set to `operand` if the counter is absent.
        case setIfAbsent
        /// Set to `operand` if the counter exists.
        case setIfPresent
        /// Remove the counter.
        case delete
        /// Remove every counter of the partition. Has no key.
        case clear
    }

    /// What must hold before a unit of several operations is applied.
    public enum UnitCondition: UInt8, Sendable {
        /// Nothing.
        case none
        /// No key of the unit exists.
        case allAbsent
    }

    /// What to do.
    public var kind: Kind
    /// What must hold for the unit that starts here.
    public var unitCondition: UnitCondition = .none
    /// The partition that holds the key.
    public var partition: UInt16
    /// Length of the key, bytes, at most `Limits.keyBytesMax`.
    public var keyByteCount: UInt32
    /// How often `operand` is added; 1 from a client, more in a journal entry that stands for many.
    public var count: UInt32
    /// How many operations, this one first, are applied as one; 1 for all but commands of many keys.
    public var unitCount: UInt32
    /// The step of `add`, the value of `set…`.
    public var operand: Int64
    /// `KeyHasher`'s hash of the key.
    public var hash: UInt64
    /// The key's first byte.
    public var key: UnsafeRawPointer

    /// An operation on the key of `keyByteCount` bytes at `key`.
    @inlinable
    public init(
        _ kind: Kind, key: UnsafeRawPointer, keyByteCount: Int, hash: UInt64, partition: Int,
        operand: Int64 = 0, count: UInt32 = 1, unitCount: UInt32 = 1
    ) {
        self.kind = kind
        self.partition = UInt16(truncatingIfNeeded: partition)
        self.keyByteCount = UInt32(truncatingIfNeeded: keyByteCount)
        self.count = count
        self.unitCount = unitCount
        self.operand = operand
        self.hash = hash
        self.key = key
    }

    /// Whether this can change state.
    @inlinable
    public var isWrite: Bool { kind != .get }
}

/// What became of one operation.
public struct Outcome: Equatable, Sendable {
    /// How an operation ended.
    public enum Status: UInt8, Sendable {
        /// It took effect; a read always does.
        case applied
        /// Its condition did not hold or there was nothing to remove; nothing changed.
        case unchanged
        /// The sum leaves the 64-bit range; nothing changed.
        case overflow
        /// It would have created a counter while memory is full; nothing changed.
        case memoryFull
        /// It was not applied because the journal has no space; nothing changed.
        case journalFull
    }

    /// How it ended.
    public var status: Status
    /// Whether the counter existed before.
    public var wasPresent: Bool
    /// How many of the `count` additions took effect.
    public var acceptedCount: UInt32
    /// `get`, `set…`, `delete`: the value before, 0 if absent. `add`: the value after.
    public var value: Int64
    /// The latest commit group that this reflects: it must be on disk before anybody may know.
    public var sequence: UInt64 = 0

    /// An outcome in all its parts.
    @inlinable
    public init(
        _ status: Status, wasPresent: Bool, value: Int64, acceptedCount: UInt32 = 0
    ) {
        self.status = status
        self.wasPresent = wasPresent
        self.acceptedCount = acceptedCount
        self.value = value
    }
}
