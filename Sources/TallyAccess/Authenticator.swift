internal import Crypto
internal import Dispatch
internal import Synchronization
internal import TallyCore

/// Checks passwords, one after the other, on a thread of its own, because that is slow on purpose.
///
/// A password that was right is known again by a keyed hash, so that connections that come often cost
/// little. Whether a user exists makes no difference to the time that it takes.
public final class Authenticator: Sendable {
    private let users: UserDirectory
    private let queue = DispatchQueue(label: "passwords")
    private let key = SymmetricKey(size: .bits256)
    private let state = Locked(State())
    private let stranger = PasswordHash(of: Array("nobody".utf8))

    private struct State {
        /// Keyed hashes of names and passwords that were right.
        var known: Set<[UInt8]> = []
        var knownVersion: UInt64 = 0
        /// How many are being checked, by address.
        var pending: [String: Int] = [:]
        var pendingCount = 0
    }

    /// Most passwords that are being checked or wait for it, and how many of those from one address.
    private static let pendingMax = 64
    private static let pendingPerAddressMax = 4
    private static let knownMax = 4096

    /// Checks the passwords of these users.
    public init(_ users: UserDirectory) { self.users = users }

    /// How an attempt to log in has ended.
    public enum Result: Sendable {
        case admitted(User)
        case refused
        /// Too many passwords are being checked.
        case busy
    }

    /// Checks who somebody says they are, and calls `body` with the outcome, now or later, on some thread.
    ///
    /// - Parameter address: Where they are, to bound what one of them can ask for.
    public func check(
        _ name: String, password: [UInt8], address: String,
        _ body: @escaping @Sendable (Result) -> Void
    ) {
        let (table, version) = users.current
        let user = table.find(name)
        if let user, user.isEnabled, user.needsNoPassword { return body(.admitted(user)) }
        let mark = mark(name, password)
        let isKnown = state.withLock { state in
            if state.knownVersion != version {
                state.known = []
                state.knownVersion = version
            }
            return state.known.contains(mark)
        }
        if isKnown, let user, user.isEnabled { return body(.admitted(user)) }
        guard begin(address) else { return body(.busy) }
        queue.async { [self] in
            let hashes = user.map(\.passwords).flatMap { $0.isEmpty ? nil : $0 } ?? [stranger]
            var isRight = false
            for hash in hashes where hash.matches(password) { isRight = true }
            end(address)
            guard isRight, let user, user.isEnabled, !user.passwords.isEmpty else {
                return body(.refused)
            }
            state.withLock { state in
                guard state.knownVersion == version else { return }
                if state.known.count >= Self.knownMax { state.known.removeAll() }
                state.known.insert(mark)
            }
            body(.admitted(user))
        }
    }

    private func mark(_ name: String, _ password: [UInt8]) -> [UInt8] {
        var authentication = HMAC<SHA256>(key: key)
        authentication.update(data: Array(name.utf8))
        authentication.update(data: [0])
        authentication.update(data: password)
        return Array(authentication.finalize())
    }

    private func begin(_ address: String) -> Bool {
        state.withLock { state in
            guard state.pendingCount < Self.pendingMax,
                state.pending[address, default: 0] < Self.pendingPerAddressMax
            else { return false }
            state.pendingCount += 1
            state.pending[address, default: 0] += 1
            return true
        }
    }

    private func end(_ address: String) {
        state.withLock { state in
            state.pendingCount -= 1
            let left = state.pending[address, default: 1] - 1
            state.pending[address] = left > 0 ? left : nil
        }
    }
}
