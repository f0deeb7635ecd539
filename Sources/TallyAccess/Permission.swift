/// What a user may do, apart from which keys.
public struct Permission: OptionSet, Hashable, Sendable {
    /// One bit for each.
    public let rawValue: UInt8

    /// The permissions of these bits.
    @inlinable
    public init(rawValue: UInt8) { self.rawValue = rawValue }

    /// Reading counters, and what the server tells of itself.
    public static let read = Permission(rawValue: 1)
    /// Changing counters; who changes one is told its value.
    public static let write = Permission(rawValue: 2)
    /// Changing the schema and settings, backups and imports, removing everything, and seeing others.
    public static let admin = Permission(rawValue: 4)

    /// All of them.
    public static let all: Permission = [.read, .write, .admin]

    /// The names of single permissions, as users' files spell them.
    public static let names: [(name: String, permission: Permission)] = [
        ("read", .read), ("write", .write), ("admin", .admin),
    ]
}
