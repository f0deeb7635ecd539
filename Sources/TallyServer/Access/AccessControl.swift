import Logging
import Synchronization
public import TallyAccess
import TallyCore

/// Who may use a server, how they prove it, and how their list is read again.
public struct AccessControl: Sendable {
    /// The users as they are.
    public let users: UserDirectory
    /// Checks their passwords.
    public let authenticator: Authenticator
    /// Reads users and certificates again; throws what an administrator should know.
    public let reload: @Sendable () throws -> Void
    private let failedLogins = Shared()

    /// Where failed logins are noted, once there is a server.
    private final class Shared: Sendable {
        private let note = Locked<(@Sendable (String, String) -> Void)?>(nil)

        func withLock<Result>(
            _ body: (inout (@Sendable (String, String) -> Void)?) -> Result
        ) -> Result { note.withLock(body) }
    }

    func setFailedLogins(_ note: @escaping @Sendable (String, String) -> Void) {
        failedLogins.withLock { $0 = note }
    }

    /// - Parameter reload: Reads the users again and puts them into `users`.
    public init(users: UserDirectory, reload: @escaping @Sendable () throws -> Void) {
        self.users = users
        authenticator = Authenticator(users)
        self.reload = reload
    }

    /// Notes that somebody gave a wrong password: their name and address.
    public func onFailedLogin(_ name: String, _ address: String) {
        failedLogins.withLock { $0 }?(name, address)
    }

    /// Everybody may do everything.
    public static var open: AccessControl {
        AccessControl(users: UserDirectory(.open)) {}
    }
}

/// Who a connection is, and what they may do.
struct SessionAccess {
    /// Nobody before they have logged in, unless a user needs no password for it.
    private(set) var user: User?
    /// Whether there is nothing that they may not do, so that nothing needs to be asked.
    private(set) var isUnrestricted: Bool
    /// The version of the users that this is of.
    private(set) var version: UInt64

    /// A connection that has not logged in.
    init(_ directory: UserDirectory) {
        let (users, version) = directory.current
        self.version = version
        user = users.initial
        isUnrestricted = user?.isUnrestricted ?? false
    }

    /// A connection that has logged in.
    init(_ user: User, _ version: UInt64) {
        self.user = user
        self.version = version
        isUnrestricted = user.isUnrestricted
    }

    /// What the connection may do now that users have changed; nobody, if its user is gone or disabled.
    mutating func follow(_ directory: UserDirectory) {
        let (users, version) = directory.current
        self.version = version
        user = user.flatMap { users.find($0.name) }.flatMap { $0.isEnabled ? $0 : nil }
        isUnrestricted = user?.isUnrestricted ?? false
    }
}

/// An attempt to log in, whose outcome comes from another thread.
final class Login: Sendable {
    private let result = Locked<Authenticator.Result?>(nil)

    var outcome: Authenticator.Result? { result.withLock { $0 } }

    func end(_ outcome: Authenticator.Result) { result.withLock { $0 = outcome } }
}

/// Logs failed logins, at most one a second, and how many there were between.
final class FailedLogins: Sendable {
    private let logger: Logger
    private let state = Locked<(lastSeconds: UInt64, unsaid: Int, total: Int)>((0, 0, 0))

    init(_ logger: Logger) { self.logger = logger }

    /// How many there have been.
    var count: Int { state.withLock { $0.total } }

    /// - Parameters:
    ///   - name: As it was given; shortened, and nothing in it can break a line.
    ///   - nowSeconds: Since the server's start.
    func note(_ name: String, address: String, nowSeconds: UInt64) {
        let unsaid = state.withLock { state -> Int? in
            state.total += 1
            guard state.total == 1 || nowSeconds > state.lastSeconds else {
                state.unsaid += 1
                return nil
            }
            defer { state = (nowSeconds, 0, state.total) }
            return state.unsaid
        }
        guard let unsaid else { return }
        logger.warning(
            "a login failed",
            metadata: [
                "user": "\(name.prefix(64).debugDescription)", "address": "\(address)",
                "others_since_last": "\(unsaid)",
            ])
    }
}
