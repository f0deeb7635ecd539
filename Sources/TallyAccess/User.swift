internal import TallyCore

/// Somebody who may use the server: what they must know, and what they may do.
public final class User: Sendable {
    /// As in `AUTH name password`.
    public let name: String
    /// Each of them will do.
    public let passwords: [PasswordHash]
    /// Whether any password will do, and none.
    public let needsNoPassword: Bool
    /// Whether they may log in.
    public let isEnabled: Bool
    /// What they may do.
    public let permissions: Permission
    /// Globs of the keys that they may touch, as they were written; nil for all keys.
    public let keys: [String]?
    private let patterns: [GlobPattern]

    /// The user that connections are before they say who they are.
    public static let defaultName = "default"

    /// A user in all parts.
    public init(
        name: String, passwords: [PasswordHash] = [], needsNoPassword: Bool = false,
        isEnabled: Bool = true, permissions: Permission = .all, keys: [String]? = nil
    ) {
        self.name = name
        self.passwords = passwords
        self.needsNoPassword = needsNoPassword
        self.isEnabled = isEnabled
        self.permissions = permissions
        self.keys = keys
        patterns = (keys ?? []).map { GlobPattern($0) }
    }

    /// Whether there is nothing that they may not do.
    public var isUnrestricted: Bool { permissions == .all && keys == nil }

    /// Whether they may touch the key of this name.
    ///
    /// - Complexity: O(patterns × length of the name).
    public func mayTouch(_ key: UnsafeRawBufferPointer) -> Bool {
        keys == nil || patterns.contains { $0.matches(key) }
    }
}

/// All users, at one time.
public struct UserTable: Sendable {
    private let users: [String: User]

    /// These users; of two of one name the last one.
    ///
    /// Without one called `default`, who does not log in may do nothing.
    public init(_ users: [User]) {
        self.users = Dictionary(users.map { ($0.name, $0) }, uniquingKeysWith: { $1 })
    }

    /// One user, `default`, who needs no password and may do everything.
    public static let open = UserTable([User(name: User.defaultName, needsNoPassword: true)])

    /// The user of this name, nil if there is none.
    public func find(_ name: String) -> User? { users[name] }

    /// All users, by name.
    public var all: [User] { users.values.sorted { $0.name < $1.name } }

    /// Who connections are before they say who they are; nil if that is nobody.
    public var initial: User? {
        users[User.defaultName].flatMap { $0.isEnabled && $0.needsNoPassword ? $0 : nil }
    }
}
