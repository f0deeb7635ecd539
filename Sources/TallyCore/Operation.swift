/// What one command asks of one counter, or of one record.
///
/// A plain struct whose key points into memory that the caller keeps alive and unchanged until the
/// operation has been applied.
public struct Operation {
    /// What to do. Whether a condition holds is judged when the operation is applied.
    ///
    /// The first six are about one number: a plain key's, or one column of a family's record.
    public enum Kind: UInt8, Sendable {
        /// Read the number.
        case get
        /// Add `operand`, `count` times over; an absent plain key starts at 0.
        case add
        /// Set to `operand`.
        case set
        /// Set to `operand` if the key is absent, or the column at its default.
        case setIfAbsent
        /// Set to `operand` if the key exists, or the column is not at its default.
        case setIfPresent
        /// Remove the key, or set the column to its default.
        case delete
        /// Read the first `count` columns of a record to `rows[operand…]`, if the family's version
        /// is still `column`; without columns just tell whether there is a record.
        case readRecord
        /// Set the columns that `count` pairs of column number and value at `rows[operand…]` name.
        case setColumns
        /// The same, and set all others to their defaults.
        case setRecord
        /// Set all columns to their defaults.
        case deleteRecord
        /// Remove everything from the partition, its schema excepted. Has no key.
        case clear
        /// Put the records of import number `operand` over those that there are; the key is where they
        /// are.
        case importRuns
        /// Change the partition's schema as the key's bytes, a `SchemaChange`'s text, say.
        case changeSchema
        /// Apply the `unitCount` − 1 operations that follow as one, but judge each, or each unit among
        /// them, by itself. `operand` says which keys of the batch's it watches, 0 for none. If it is a request
        /// that is to be executed once, `rows[count - 1…]` says more of it, and `hash` is that of its token;
        /// if not, `count` is 0. Has no key.
        case transaction
        /// Tell how many plain keys and records the partition has. Has no key.
        case countKeys
        /// Read a plain key's deadline.
        case readExpiry
        /// Give a plain key the deadline `operand`, milliseconds since 1970, if `count`, an
        /// `ExpiryCondition`, holds.
        case expire
        /// Take a plain key's deadline away.
        case persist
        /// Set as the `ExtendedSet` at `rows[operand…]` says.
        case extendedSet
        /// Add as the `ExtendedAdd` at `rows[operand…]` says.
        case extendedAdd
        /// Read a plain key's value and deadline to the `MovedKey` at `rows[operand…]`.
        case readForMove
        /// Set a plain key to what `readForMove` has found, if it has found anything.
        case setMoved
        /// Remove a plain key if `setMoved` has taken effect.
        case deleteMoved
        /// Remember what became of the request whose token the key's bytes are: its fingerprint, how many
        /// words there are, and those words are at `rows[operand…]`.
        case remember
        /// Raise the floor of what is remembered to `operand`, milliseconds since 1970. Has no key.
        case raiseFloor

        /// Whether this can give a key a deadline.
        @inlinable @inline(__always)
        public var setsDeadline: Bool {
            switch self {
            case .expire, .extendedSet, .extendedAdd, .setMoved: true
            default: false
            }
        }
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
    /// Length of the key, bytes, at most `Limits.keyBytesMax`; 0 for an integer key.
    public var keyByteCount: UInt16
    /// What the key is.
    public let keyKind: KeyKind
    /// How often `operand` is added, 1 from a client, more in a journal entry that stands for many;
    /// or how many columns or pairs there are.
    public var count: UInt32
    /// How many operations, this one first, are applied as one; 1 for all but commands of many keys.
    public var unitCount: UInt32
    /// The step of `add`, the value of `set…`, or a place in the batch's rows.
    public var operand: Int64
    /// `KeyHasher`'s hash of the key, of an integer key's place in its partition.
    public var hash: UInt64
    /// The key's address, or the integer that it is.
    @usableFromInline let keyWord: UInt64
    /// The family's number, 0 for plain keys.
    public var family: UInt32 = 0
    /// The column's number, or the family's version.
    public var column: UInt32 = 0

    /// An operation on the key of `keyByteCount` bytes at `key`.
    @inlinable @inline(__always)
    public init(
        _ kind: Kind, key: UnsafeRawPointer, keyByteCount: Int, hash: UInt64, partition: Int,
        operand: Int64 = 0, count: UInt32 = 1, unitCount: UInt32 = 1
    ) {
        self.kind = kind
        self.partition = UInt16(truncatingIfNeeded: partition)
        self.keyByteCount = UInt16(truncatingIfNeeded: keyByteCount)
        keyKind = .string
        self.count = count
        self.unitCount = unitCount
        self.operand = operand
        self.hash = hash
        keyWord = UInt64(UInt(bitPattern: key))
    }

    /// An operation on an integer key.
    @inlinable @inline(__always)
    public init(
        _ kind: Kind, integerKey: UInt64, hash: UInt64, partition: Int, operand: Int64 = 0,
        count: UInt32 = 1
    ) {
        self.kind = kind
        self.partition = UInt16(truncatingIfNeeded: partition)
        keyByteCount = 0
        keyKind = .integer
        self.count = count
        unitCount = 1
        self.operand = operand
        self.hash = hash
        keyWord = integerKey
    }

    /// The first byte of a key of bytes.
    @inlinable @inline(__always)
    public var key: UnsafeRawPointer {
        UnsafeRawPointer(bitPattern: UInt(truncatingIfNeeded: keyWord)).unsafelyUnwrapped
    }

    /// The bytes of a key of bytes.
    public var keyBytes: UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: key, count: Int(keyByteCount))
    }

    /// An integer key.
    @inlinable @inline(__always)
    public var integerKey: UInt64 { keyWord }

    /// Whether this is about a key, rather than a partition.
    @inline(__always)
    public var namesKey: Bool {
        switch kind {
        case .clear, .changeSchema, .importRuns, .transaction, .countKeys, .remember, .raiseFloor:
            false
        default: true
        }
    }

    /// Whether this may change every key of its partition.
    public var changesAllKeys: Bool {
        switch kind {
        case .clear, .changeSchema, .importRuns: true
        default: false
        }
    }

    /// Whether this begins a transaction of one operation that is to be executed once and watches no keys.
    @inlinable @inline(__always)
    public var isRequestOfOne: Bool {
        kind == .transaction && unitCount == 2 && count > 0 && operand == 0
    }

    /// Whether this can change state.
    @inlinable @inline(__always)
    public var isWrite: Bool {
        switch kind {
        case .get, .readRecord, .readExpiry, .readForMove, .transaction, .countKeys: false
        default: true
        }
    }
}

/// What became of one operation.
public struct Outcome: Equatable, Sendable {
    /// How an operation ended. Nothing has changed but after `applied`.
    public enum Status: UInt8, Sendable {
        /// It took effect; a read always does.
        case applied
        /// Its condition did not hold or there was nothing to remove.
        case unchanged
        /// The sum leaves the 64-bit range.
        case overflow
        /// A value lies outside of its column's range.
        case outOfBounds
        /// The family takes updates of known keys only, and this one was never set.
        case unknownKey
        /// The family's deletions are final, and this key was deleted.
        case deletedKey
        /// The family or the column is not what it was when the operation was made.
        case schemaChanged
        /// The schema cannot be changed so.
        case schemaRefused
        /// There are plain keys that only a record of the new family could have.
        case keysInTheWay
        /// It would have created a counter while memory is full.
        case memoryFull
        /// It was not applied because the journal has no space.
        case journalFull
        /// It was not applied because what the disk holds of its key cannot be read.
        case unreadable
        /// Its token was another command's.
        case tokenReused
        /// Its token is older than what is remembered.
        case tokenTooOld
        /// Its token is from the future.
        case tokenTooNew
        /// It was executed before, but its reply cannot be told again.
        case replyLost
        /// It was not applied because the log that it must go through cannot be reached.
        case logUnavailable
        /// Whether it was, or will be, applied is not known: the log has not answered in time.
        case outcomeUnknown
        /// It was not applied because a message with all of its command would be too long.
        case messageTooLong
    }

    /// How it ended.
    public var status: Status
    /// Whether the counter or the record existed before, or the column was not at its default.
    public var wasPresent: Bool
    /// How many of the `count` additions took effect.
    public var acceptedCount: UInt32
    /// `get`, `set…`, `delete`: the value before, 0 or the default if absent. `add…`: the value after.
    /// `readExpiry`: the deadline, milliseconds since 1970, `noDeadline` if there is none.
    /// `setColumns`: how many columns were at their defaults and no longer are.
    public var value: Int64
    /// The latest commit group that this reflects: it must be on disk before anybody may know.
    public var sequence: UInt64 = 0

    /// Stands for the sequence of what is not in the log yet.
    public static let noSequence = UInt64.max

    /// The deadline of a key that has none.
    public static let noDeadline: Int64 = -1

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

    /// An outcome that changed nothing, of a key about which nothing is told.
    @inlinable
    public init(refused status: Status) {
        self.init(status, wasPresent: false, value: 0)
    }
}
