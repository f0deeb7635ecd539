public import NIOSSL

extension NATSOptions {
    /// Checks everything that can be checked before connecting.
    ///
    /// - Returns: the servers.
    func check() throws(NATSOptionsError) -> [NATSServerAddress] {
        guard !servers.isEmpty else { throw .serversMissing }
        var addresses: [NATSServerAddress] = []
        for server in servers {
            // The text is not repeated if a secret may be in it.
            guard let address = NATSServerAddress(server) else {
                throw .serverInvalid(server.contains("@") ? "(with credentials in it)" : server)
            }
            addresses.append(address)
        }
        let positive: [(String, Duration)] = [
            ("connectTimeout", connectTimeout), ("reconnectDelayMin", reconnectDelayMin),
            ("reconnectDelayMax", reconnectDelayMax), ("pingInterval", pingInterval),
        ]
        for (name, duration) in positive {
            guard duration > .zero, duration <= .seconds(86_400) else { throw .outOfRange(name) }
        }
        guard moveDelayMax >= .zero, moveDelayMax <= .seconds(60) else {
            throw .outOfRange("moveDelayMax")
        }
        guard reconnectDelayMin <= reconnectDelayMax else { throw .outOfRange("reconnectDelayMin") }
        guard pingsOutstandingMax >= 1 else { throw .outOfRange("pingsOutstandingMax") }
        guard pendingBytesMax >= 1 else { throw .outOfRange("pendingBytesMax") }
        guard (1...(1 << 30)).contains(messageBytesMax) else {
            throw .outOfRange("messageBytesMax")
        }
        do {
            try NATSSubject.check(inboxPrefix)
        } catch {
            throw .inboxPrefixInvalid(inboxPrefix)
        }
        return addresses
    }

    /// TLS settings from PEM files.
    ///
    /// - Parameters:
    ///   - trustFile: Certificates of the authorities that servers' certificates are checked against;
    ///     the system's if nil.
    ///   - certificateFile: The client's certificate with what is between it and its authority.
    ///   - keyFile: The certificate's private key; both or none.
    /// - Throws: `tlsInvalid` if a file cannot be used. Blocks while files are read.
    public static func tls(
        trustFile: String? = nil, certificateFile: String? = nil, keyFile: String? = nil
    ) throws(NATSOptionsError) -> TLSConfiguration {
        var configuration = TLSConfiguration.makeClientConfiguration()
        configuration.minimumTLSVersion = .tlsv12
        guard (certificateFile == nil) == (keyFile == nil) else {
            throw .tlsInvalid("a certificate needs its key, a key its certificate")
        }
        do {
            if let trustFile {
                configuration.trustRoots = .certificates(
                    try NIOSSLCertificate.fromPEMFile(trustFile))
            }
            if let certificateFile, let keyFile {
                configuration.certificateChain = try NIOSSLCertificate.fromPEMFile(certificateFile)
                    .map { .certificate($0) }
                configuration.privateKey = .privateKey(
                    try NIOSSLPrivateKey(file: keyFile, format: .pem))
            }
        } catch {
            throw .tlsInvalid("\(error)")
        }
        return configuration
    }
}
