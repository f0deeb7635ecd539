import TallyAccess
import Yams

#if canImport(FoundationEssentials)
    import FoundationEssentials
#else
    import Foundation
#endif

/// The file of users: a YAML mapping from names to what they must know and may do.
///
///     likes:
///       password: scrypt$16384$8$1$…        or passwords, a list; `tally password` makes them
///       may: [read, write]
///       keys: ["like:*"]                    all keys if it is missing
enum UsersFile {
    /// What is wrong with a file of users.
    struct Invalid: Error, CustomStringConvertible {
        let file: String
        let reason: String

        var description: String { "users in \(file): \(reason)" }
    }

    /// Reads all users.
    ///
    /// - Throws: `Invalid`, which names what is wrong, and shows nothing of passwords.
    static func read(_ file: String) throws(Invalid) -> UserTable {
        let text: String
        do {
            text = try String(contentsOf: URL(filePath: file), encoding: .utf8)
        } catch {
            throw Invalid(file: file, reason: "no readable UTF-8 file")
        }
        let node: Yams.Node?
        do {
            node = try Yams.compose(yaml: text)
        } catch {
            throw Invalid(file: file, reason: "no YAML")
        }
        guard let node, node.scalar?.string.isEmpty != true else {
            throw Invalid(file: file, reason: "it names nobody, so nobody could log in")
        }
        guard let mapping = node.mapping else {
            throw Invalid(file: file, reason: "not a mapping of names")
        }
        var users: [User] = []
        do throws(Problem) {
            for (key, value) in mapping {
                guard let name = key.string, !name.isEmpty, !name.contains(where: \.isWhitespace)
                else { throw Problem("a user's name must be a word") }
                guard !users.contains(where: { $0.name == name }) else {
                    throw Problem("'\(name)' is there twice")
                }
                users.append(try user(name, value))
            }
        } catch {
            throw Invalid(file: file, reason: error.reason)
        }
        return UserTable(users)
    }

    private struct Problem: Error {
        let reason: String

        init(_ reason: String) { self.reason = reason }
    }

    private static func user(_ name: String, _ node: Yams.Node) throws(Problem) -> User {
        guard let fields = node.mapping else {
            throw Problem("'\(name)' is not a mapping of password, may, keys, enabled")
        }
        var passwords: [PasswordHash] = []
        var needsNoPassword = false
        var permissions: Permission?
        var keys: [String]?
        var isEnabled = true
        for (key, value) in fields {
            switch key.string {
            case "password", "passwords":
                for text in try texts(value, "\(name)'s \(key.string ?? "")") {
                    guard let hash = try? PasswordHash(text) else {
                        throw Problem(
                            "a password of '\(name)' is not what `tally password` makes")
                    }
                    passwords.append(hash)
                }
            case "without-password":
                needsNoPassword = try flag(value, "\(name)'s without-password")
            case "may":
                var all: Permission = []
                for text in try texts(value, "\(name)'s may") {
                    guard let named = Permission.names.first(where: { $0.name == text }) else {
                        throw Problem(
                            "'\(name)' may '\(text)'; there are: read, write, admin")
                    }
                    all.insert(named.permission)
                }
                permissions = all
            case "keys": keys = try texts(value, "\(name)'s keys")
            case "enabled": isEnabled = try flag(value, "\(name)'s enabled")
            default:
                throw Problem(
                    "'\(name)' has a field '\(key.string ?? "?")'; there are: password, passwords, "
                        + "without-password, may, keys, enabled")
            }
        }
        guard let permissions else {
            throw Problem("'\(name)' needs a field 'may': a list of read, write, admin")
        }
        guard needsNoPassword != !passwords.isEmpty else {
            throw Problem("'\(name)' needs a password, or 'without-password: true'")
        }
        return User(
            name: name, passwords: passwords, needsNoPassword: needsNoPassword,
            isEnabled: isEnabled, permissions: permissions, keys: keys)
    }

    private static func texts(_ node: Yams.Node, _ what: String) throws(Problem) -> [String] {
        if let scalar = node.scalar { return [scalar.string] }
        guard let sequence = node.sequence else {
            throw Problem("\(what): not a value or a list of values")
        }
        var texts: [String] = []
        for element in sequence {
            guard let scalar = element.scalar else {
                throw Problem("\(what): not a list of values")
            }
            texts.append(scalar.string)
        }
        return texts
    }

    private static func flag(_ node: Yams.Node, _ what: String) throws(Problem) -> Bool {
        guard let flag = node.bool else { throw Problem("\(what) must be true or false") }
        return flag
    }
}
