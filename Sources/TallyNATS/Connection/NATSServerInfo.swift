/// What a server says of itself.
public struct NATSServerInfo: Equatable, Sendable, Decodable {
    /// Identity of the running server.
    public var serverID: String
    /// Name of the server.
    public var serverName: String
    /// Version of the server's software.
    public var version: String
    /// Longest message with its headers, bytes.
    public var messageBytesMax: Int
    /// Whether headers are allowed.
    public var hasHeaders: Bool
    /// Whether it has JetStream.
    public var hasJetStream: Bool
    /// Name of the cluster it belongs to.
    public var cluster: String?
    /// JetStream domain.
    public var domain: String?
    /// Whether a user must be named.
    var requiresAuthentication: Bool
    /// Whether TLS must be used.
    var requiresTLS: Bool
    /// Whether TLS may be used.
    var offersTLS: Bool
    /// What is to be signed.
    var nonce: String?
    /// Servers of the cluster, `host:port`.
    var connectAddresses: [String]
    /// Whether it is going to stop.
    var isStopping: Bool

    private enum CodingKeys: String, CodingKey {
        case serverID = "server_id"
        case serverName = "server_name"
        case version
        case messageBytesMax = "max_payload"
        case hasHeaders = "headers"
        case hasJetStream = "jetstream"
        case cluster, domain, nonce
        case requiresAuthentication = "auth_required"
        case requiresTLS = "tls_required"
        case offersTLS = "tls_available"
        case connectAddresses = "connect_urls"
        case isStopping = "ldm"
    }

    /// Reads it from JSON; what is missing is taken as the protocol says.
    public init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        serverID = try fields.decodeIfPresent(String.self, forKey: .serverID) ?? ""
        serverName = try fields.decodeIfPresent(String.self, forKey: .serverName) ?? ""
        version = try fields.decodeIfPresent(String.self, forKey: .version) ?? ""
        messageBytesMax =
            try fields.decodeIfPresent(Int.self, forKey: .messageBytesMax) ?? 1 << 20
        hasHeaders = try fields.decodeIfPresent(Bool.self, forKey: .hasHeaders) ?? false
        hasJetStream = try fields.decodeIfPresent(Bool.self, forKey: .hasJetStream) ?? false
        cluster = try fields.decodeIfPresent(String.self, forKey: .cluster)
        domain = try fields.decodeIfPresent(String.self, forKey: .domain)
        nonce = try fields.decodeIfPresent(String.self, forKey: .nonce)
        requiresAuthentication =
            try fields.decodeIfPresent(Bool.self, forKey: .requiresAuthentication) ?? false
        requiresTLS = try fields.decodeIfPresent(Bool.self, forKey: .requiresTLS) ?? false
        offersTLS = try fields.decodeIfPresent(Bool.self, forKey: .offersTLS) ?? false
        connectAddresses =
            try fields.decodeIfPresent([String].self, forKey: .connectAddresses) ?? []
        isStopping = try fields.decodeIfPresent(Bool.self, forKey: .isStopping) ?? false
    }
}

/// What a client says of itself.
struct ConnectRequest: Encodable {
    var verbose = false
    var pedantic = false
    var headers = true
    var no_responders = true
    var echo = true
    var `protocol` = 1
    var lang = "swift"
    var version = "1.0.0"
    var tls_required: Bool
    var name: String
    var user: String?
    var pass: String?
    var auth_token: String?
    var jwt: String?
    var nkey: String?
    var sig: String?

    /// - Throws: `NATSCredentialError` if what the server wants signed cannot be.
    init(
        _ authentication: ResolvedAuthentication, info: NATSServerInfo, name: String, isTLS: Bool
    ) throws(NATSCredentialError) {
        self.name = name
        tls_required = isTLS
        user = authentication.user
        pass = authentication.password
        auth_token = authentication.token
        jwt = authentication.jwt
        guard let key = authentication.key else { return }
        guard let nonce = info.nonce else {
            // A server without users does not ask.
            guard info.requiresAuthentication else { return }
            throw .nonceMissing
        }
        if jwt == nil { nkey = key.publicKey }
        sig = try key.signature(of: nonce)
    }
}
