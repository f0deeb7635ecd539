/// When a key's deadline may be changed.
public enum ExpiryCondition: UInt32, Sendable {
    /// Always.
    case always = 0
    /// If it has none.
    case ifNone = 1
    /// If it has one.
    case ifAny = 2
    /// If that is later; a key without one never ends.
    case ifLater = 3
    /// If that is earlier.
    case ifEarlier = 4
    /// If it has one, and that is earlier.
    case ifAnyEarlier = 5

    /// Whether a deadline may take the place of `old`, nil for none.
    public func holds(_ deadline: Int64, over old: Int64?) -> Bool {
        switch self {
        case .always: true
        case .ifNone: old == nil
        case .ifAny: old != nil
        case .ifLater: old.map { deadline > $0 } ?? false
        case .ifEarlier: old.map { deadline < $0 } ?? true
        case .ifAnyEarlier: old.map { deadline < $0 } ?? false
        }
    }
}

/// What a write makes of a key's deadline.
public enum ExpiryChange: Int64, Sendable {
    /// There is none any more.
    case remove = 0
    /// It stays.
    case keep = 1
    /// It is set.
    case set = 2
    /// It is set if there is none.
    case setIfNone = 3
}

/// A set with more than a value, as its operation's place in rows holds it.
public struct ExtendedSet {
    /// What must hold for the key.
    public enum Condition: Int64, Sendable {
        /// Nothing.
        case none = 0
        /// It is absent.
        case ifAbsent = 1
        /// It exists.
        case ifPresent = 2
    }

    /// The value to be.
    public let value: Int64
    /// What must hold.
    public let condition: Condition
    /// What becomes of the deadline.
    public let expiry: ExpiryChange
    /// The deadline to be, milliseconds since 1970.
    public let deadline: Int64

    /// How many words it takes.
    public static let wordCount = 4

    /// A set in all its parts.
    public init(
        value: Int64, condition: Condition, expiry: ExpiryChange, deadline: Int64
    ) {
        self.value = value
        self.condition = condition
        self.expiry = expiry
        self.deadline = deadline
    }

    /// Whether `words`, of some file, can be one.
    public static func isValid(_ words: UnsafePointer<Int64>) -> Bool {
        Condition(rawValue: words[1]) != nil && ExpiryChange(rawValue: words[2]) != nil
    }

    /// What `words`, which are valid, hold.
    public init(_ words: UnsafePointer<Int64>) {
        value = words[0]
        condition = Condition(rawValue: words[1]).unsafelyUnwrapped
        expiry = ExpiryChange(rawValue: words[2]).unsafelyUnwrapped
        deadline = words[3]
    }

    /// Writes it to `words`.
    public func write(_ words: UnsafeMutablePointer<Int64>) {
        words[0] = value
        words[1] = condition.rawValue
        words[2] = expiry.rawValue
        words[3] = deadline
    }
}

/// A key on its way to another name, as its operations' place in rows holds it: an `ExtendedSet` and how
/// far it has come.
public enum MovedKey {
    /// How many words it takes.
    public static let wordCount = ExtendedSet.wordCount + 1
    /// The word that says how far it has come.
    public static let stateWord = ExtendedSet.wordCount

    /// How far it has come.
    public enum State: Int64, Sendable {
        /// Nothing was found.
        case absent = 0
        /// It was found.
        case found = 1
        /// It has been set.
        case set = 2
    }
}

/// An addition within bounds, as its operation's place in rows holds it.
///
/// Applying it leaves behind it the difference that it made.
public struct ExtendedAdd {
    /// What to add.
    public let delta: Int64
    /// The least sum.
    public let lowerBound: Int64
    /// The greatest sum.
    public let upperBound: Int64
    /// Whether a sum beyond a bound becomes the bound; else nothing is added.
    public let isSaturating: Bool
    /// What becomes of the deadline.
    public let expiry: ExpiryChange
    /// The deadline to be, milliseconds since 1970.
    public let deadline: Int64

    /// How many words it takes.
    public static let wordCount = 6
    /// Which word behind the first holds the difference that it made, once it has been applied.
    public static let differenceWord = 6

    /// An addition in all its parts.
    public init(
        delta: Int64, lowerBound: Int64, upperBound: Int64, isSaturating: Bool,
        expiry: ExpiryChange, deadline: Int64
    ) {
        self.delta = delta
        self.lowerBound = lowerBound
        self.upperBound = upperBound
        self.isSaturating = isSaturating
        self.expiry = expiry
        self.deadline = deadline
    }

    /// Whether `words`, of some file, can be one.
    public static func isValid(_ words: UnsafePointer<Int64>) -> Bool {
        ExpiryChange(rawValue: words[4]) != nil
    }

    /// What `words`, which are valid, hold.
    public init(_ words: UnsafePointer<Int64>) {
        delta = words[0]
        lowerBound = words[1]
        upperBound = words[2]
        isSaturating = words[3] != 0
        expiry = ExpiryChange(rawValue: words[4]).unsafelyUnwrapped
        deadline = words[5]
    }

    /// Writes it to `words`.
    public func write(_ words: UnsafeMutablePointer<Int64>) {
        words[0] = delta
        words[1] = lowerBound
        words[2] = upperBound
        words[3] = isSaturating ? 1 : 0
        words[4] = expiry.rawValue
        words[5] = deadline
    }

    /// What `value` becomes; nil if nothing may be added.
    ///
    /// - Parameters:
    ///   - limits: What no sum may leave, whatever the bounds are.
    ///   - isLimitSaturating: Whether a sum beyond a limit becomes the limit in any case.
    public func sum(
        _ value: Int64, limits: ClosedRange<Int64> = .min ... .max, isLimitSaturating: Bool = false
    ) -> Int64? {
        var sum = Int128(value) + Int128(delta)
        let bounded = min(max(sum, Int128(lowerBound)), Int128(upperBound))
        if bounded != sum {
            guard isSaturating else { return nil }
            sum = bounded
        }
        let limited = min(max(sum, Int128(limits.lowerBound)), Int128(limits.upperBound))
        guard limited == sum || isSaturating || isLimitSaturating else { return nil }
        return Int64(limited)
    }
}
