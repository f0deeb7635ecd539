public import NIOSSL

/// How a client reaches its servers. See `docs/nats.md`.
public struct NATSOptions: Sendable {
    /// Servers to try, in random order: `nats://host:port`, `tls://host:port` or `host:port`; the port is
    /// 4222 unless said. At least one.
    public var servers: [String]
    /// What the server's lists show of this client.
    public var name = "tally"
    /// Who the client is.
    public var authentication = NATSAuthentication.none
    /// What TLS is made with. Nil: the system's trust roots, and TLS only if a server demands it.
    public var tls: TLSConfiguration?
    /// Refuses servers that do not offer TLS; `tls://` says the same of one server.
    public var requiresTLS = false
    /// Starts TLS before the server has said anything, for servers with `handshake_first`.
    public var startsWithTLS = false
    /// Name that the server's certificate must have, if not the host's from the address. Discovered
    /// servers are addresses: without this they are checked against the first given host name.
    public var tlsServerName: String?
    /// Whether servers that a server tells of are tried too.
    public var usesDiscoveredServers = true
    /// Longest wait for TCP, and then for TLS and the server's consent.
    public var connectTimeout = Duration.seconds(5)
    /// Wait after all servers have been tried for the first time; doubles up to `reconnectDelayMax`.
    /// Each wait is shortened by up to a half, at random.
    public var reconnectDelayMin = Duration.milliseconds(50)
    /// Longest wait between two rounds. There is no last one: a client tries until it is closed.
    public var reconnectDelayMax = Duration.seconds(5)
    /// Time between two pings.
    public var pingInterval = Duration.seconds(5)
    /// Pings without an answer after which a connection is given up, at least 1.
    public var pingsOutstandingMax = 2
    /// Longest wait for answers under way before a server that is going to stop is left.
    public var moveDelayMax = Duration.seconds(2)
    /// Bytes given to a connection and not yet taken by the system, beyond which nothing more is sent.
    public var pendingBytesMax = 16 << 20
    /// Longest message that is accepted, headers included, bytes.
    public var messageBytesMax = 64 << 20
    /// First words of the subjects that answers come to. What the user may subscribe to must match.
    public var inboxPrefix = "_INBOX"

    /// The defaults, for these servers.
    public init(servers: [String]) { self.servers = servers }
}

/// What is wrong with options.
public enum NATSOptionsError: Error, Equatable, Sendable {
    /// No server is given.
    case serversMissing
    /// A server is not `nats://host:port`, `tls://host:port` or `host:port`, or has a user in it.
    case serverInvalid(String)
    /// A number is not in its range.
    case outOfRange(String)
    /// The inbox prefix is not a subject without wildcards.
    case inboxPrefixInvalid(String)
    /// The TLS settings cannot be used: a file is missing or is not what it should be.
    case tlsInvalid(String)
}

/// Where one server listens.
public struct NATSServerAddress: Hashable, Sendable, CustomStringConvertible {
    /// Name or numeric address, without brackets.
    public var host: String
    /// TCP port.
    public var port: Int
    /// Whether TLS is demanded of it.
    public var requiresTLS: Bool

    /// `host:port`, with brackets around what has colons.
    public var description: String {
        host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
    }

    /// Reads an address.
    ///
    /// - Returns: nil if it is none, or has a user's name in it: credentials are given apart, so that
    ///   addresses can be shown.
    public init?(_ text: String) {
        var rest = text[...]
        requiresTLS = false
        if let end = text.range(of: "://") {
            switch text[..<end.lowerBound] {
            case "nats": break
            case "tls": requiresTLS = true
            default: return nil
            }
            rest = text[end.upperBound...]
        }
        if rest.hasSuffix("/") { rest.removeLast() }
        guard !rest.contains(where: { "@/ ?#".contains($0) }) else { return nil }
        var portText: Substring?
        if rest.hasPrefix("[") {
            guard let close = rest.firstIndex(of: "]") else { return nil }
            host = String(rest[rest.index(after: rest.startIndex)..<close])
            let tail = rest[rest.index(after: close)...]
            guard tail.isEmpty || tail.hasPrefix(":") else { return nil }
            if !tail.isEmpty { portText = tail.dropFirst() }
        } else if let colon = rest.lastIndex(of: ":") {
            host = String(rest[..<colon])
            portText = rest[rest.index(after: colon)...]
            guard !host.contains(":") else { return nil }
        } else {
            host = String(rest)
        }
        let port = portText.map { Int($0) } ?? 4222
        guard !host.isEmpty, let port, port > 0, port < 65_536 else { return nil }
        self.port = port
    }

    /// The name that the server's certificate must have; nil if it must have the numeric address.
    ///
    /// - Parameters:
    ///   - wanted: What the options say.
    ///   - name: For numeric addresses, which is what servers tell of others.
    func tlsName(_ wanted: String?, default name: String?) -> String? {
        wanted ?? (isNumeric ? name : host)
    }

    /// Whether the host is numeric.
    var isNumeric: Bool {
        host.contains(":") || host.allSatisfy { $0 == "." || ("0"..."9").contains($0) }
    }
}

extension String {
    fileprivate func range(of text: String) -> Range<Index>? { firstRange(of: text) }
}
