public import TallyCore

/// How the RESP server listens and what it allows. See `docs/configuration.md`.
public struct ServerConfiguration: Sendable {
    /// Address to listen on, numeric or a name.
    public var host = "127.0.0.1"
    /// Port to listen on, 0...65535; 0 lets the system choose, nil is none.
    public var port: Int? = 7379
    /// The same for connections with TLS.
    public var tlsPort: Int?
    /// Event loops, 1...256. The default leaves every second core to the journal, the network and
    /// background work.
    public var threads = 1
    /// Connections at a time, 1...1,000,000.
    public var clientsMax = 10_000
    /// Seconds after which a silent connection is closed, 0...31,536,000; 0 for never.
    public var idleSecondsMax = 0
    /// Whether additions to plain keys may be answered before they are in a cluster's log.
    public var isPlainAnsweredEarly = false
    /// How long one that was answered may stay out of the log before others are answered early no more,
    /// milliseconds.
    public var earlyMillisecondsMax = Limits.earlyMillisecondsMax
    /// Where the data is, for reports.
    public var dataDirectory = ""
    /// When replies may leave, for reports.
    public var durability = Durability.always

    /// The defaults.
    public init() {}
}
