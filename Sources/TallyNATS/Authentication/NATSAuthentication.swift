#if canImport(FoundationEssentials)
    import FoundationEssentials
#else
    import Foundation
#endif

/// Who a client says it is. Never logged.
public enum NATSAuthentication: Sendable {
    /// Nobody.
    case none
    /// A name and its password.
    case password(user: String, password: String)
    /// A secret that is a name too.
    case token(String)
    /// A key pair whose public key the server knows, from its seed `SU…`.
    case nkey(seed: String)
    /// A file with a JWT and a seed, as `nsc` writes it; read again for every connection, so that it
    /// may be replaced while the client runs.
    case credentialsFile(path: String)
    /// The contents of such a file.
    case credentials(String)
}

extension NATSAuthentication: CustomStringConvertible, CustomReflectable {
    /// What kind it is, without the secret.
    public var description: String {
        switch self {
        case .none: "none"
        case .password: "password"
        case .token: "token"
        case .nkey: "nkey"
        case .credentialsFile(let path): "credentials in \(path)"
        case .credentials: "credentials"
        }
    }

    /// Nothing, so that whoever prints options prints no secret.
    public var customMirror: Mirror { Mirror(self, children: []) }
}

/// What is wrong with credentials. Never contains any of them.
public enum NATSCredentialError: Error, Equatable, Sendable {
    /// The file cannot be read; `reason` is the system's.
    case fileUnreadable(path: String, reason: String)
    /// There is no `-----BEGIN NATS USER JWT-----` with something behind it.
    case jwtMissing
    /// There is no `-----BEGIN USER NKEY SEED-----` with something behind it.
    case seedMissing
    /// The seed is not base32 of 36 bytes.
    case seedInvalid
    /// The seed has been mistyped or damaged.
    case seedChecksumWrong
    /// The key is an account's or an operator's.
    case seedNotOfUser
    /// The server asks for a signature without saying of what.
    case nonceMissing
    /// The library cannot sign.
    case signingFailed
}

/// What a `CONNECT` says of who connects.
struct ResolvedAuthentication: Sendable {
    var user: String?
    var password: String?
    var token: String?
    var jwt: String?
    var key: NKey?

    /// Reads what is to be read. Blocks while a file is read.
    init(_ authentication: NATSAuthentication) throws(NATSCredentialError) {
        switch authentication {
        case .none: break
        case .password(let user, let password):
            self.user = user
            self.password = password
        case .token(let token): self.token = token
        case .nkey(let seed): key = try NKey(seed: seed)
        case .credentials(let text): try read(text)
        case .credentialsFile(let path):
            let text: String
            do {
                text = try String(contentsOfFile: path, encoding: .utf8)
            } catch {
                throw .fileUnreadable(path: path, reason: "\(error)")
            }
            try read(text)
        }
    }

    private mutating func read(_ text: String) throws(NATSCredentialError) {
        guard let jwt = Self.block("NATS USER JWT", of: text) else { throw .jwtMissing }
        guard let seed = Self.block("USER NKEY SEED", of: text) else { throw .seedMissing }
        self.jwt = jwt
        key = try NKey(seed: seed)
    }

    /// The line behind `-----BEGIN name-----`; the number of dashes differs between writers.
    private static func block(_ name: String, of text: String) -> String? {
        var isNext = false
        for line in text.split(whereSeparator: \.isNewline) {
            let content = line.drop { $0 == " " || $0 == "\t" }
            let isMark = content.hasPrefix("---")
            if isNext, isMark { return nil }
            let trimmed = content.prefix { !$0.isWhitespace }
            if isNext, !trimmed.isEmpty { return String(trimmed) }
            isNext = isMark && content.contains("BEGIN \(name)")
        }
        return nil
    }
}
