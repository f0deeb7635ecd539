internal import Synchronization
internal import TallyCore

/// The users as they are, which a reload may replace.
public final class UserDirectory: Sendable {
    private let table: Locked<UserTable>
    private let published = Atomic<UInt64>(1)

    /// Begins with these users.
    public init(_ users: UserTable) { table = Locked(users) }

    /// A number that changes with the users, never back.
    @inline(__always)
    public var version: UInt64 { published.load(ordering: .acquiring) }

    /// The users, and `version`.
    public var current: (users: UserTable, version: UInt64) {
        table.withLock { ($0, published.load(ordering: .relaxed)) }
    }

    /// Replaces all users; connections follow with their next command.
    public func replace(with users: UserTable) {
        table.withLock { table in
            table = users
            published.wrappingAdd(1, ordering: .releasing)
        }
    }
}
