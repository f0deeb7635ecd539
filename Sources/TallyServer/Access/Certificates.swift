internal import NIOCore
public import NIOSSL
internal import NIOTLS
internal import TallyCore

/// Where a server's certificate is, and whom it believes.
public struct CertificateFiles: Sendable {
    /// A PEM file of the certificate, and those that it leans on behind it.
    public let certificate: String
    /// A PEM file of its private key.
    public let key: String
    /// A PEM file of those whose certificates clients must have; nil if they need none.
    public let clientAuthorities: String?

    /// Files of these paths.
    public init(certificate: String, key: String, clientAuthorities: String?) {
        self.certificate = certificate
        self.key = key
        self.clientAuthorities = clientAuthorities
    }
}

/// What TLS connections are made with; read again when the files have changed.
public final class Certificates: Sendable {
    private let files: CertificateFiles
    private let current: Locked<Loaded>

    private struct Loaded: Sendable {
        let context: NIOSSLContext
        let configuration: TLSConfiguration
    }

    /// Why the files are of no use.
    public struct Unusable: Error, CustomStringConvertible {
        /// In words.
        public let description: String
    }

    /// Reads the files.
    ///
    /// - Throws: `Unusable`.
    public init(_ files: CertificateFiles) throws(Unusable) {
        self.files = files
        current = Locked(try Self.load(files))
    }

    /// Reads the files again; new connections then have what is in them.
    ///
    /// - Throws: `Unusable`; then everything stays as it is.
    public func reload() throws(Unusable) {
        let loaded = try Self.load(files)
        current.withLock { $0 = loaded }
    }

    var context: NIOSSLContext { current.withLock { $0.context } }

    /// How others may set up TLS so that new connections have what was read last.
    public var followingConfiguration: TLSConfiguration {
        var configuration = current.withLock { $0.configuration }
        configuration.sslContextCallback = { [self] _, promise in
            var latest = NIOSSLContextConfigurationOverride()
            let configuration = current.withLock { $0.configuration }
            latest.certificateChain = configuration.certificateChain
            latest.privateKey = configuration.privateKey
            promise.succeed(latest)
        }
        return configuration
    }

    private static func load(_ files: CertificateFiles) throws(Unusable) -> Loaded {
        do {
            let configuration = try configuration(files)
            return Loaded(
                context: try NIOSSLContext(configuration: configuration),
                configuration: configuration)
        } catch let unusable as Unusable {
            throw unusable
        } catch {
            throw Unusable(
                description: "the certificate \(files.certificate) does not go with the key "
                    + "\(files.key): \(error)")
        }
    }

    private static func configuration(
        _ files: CertificateFiles
    ) throws(Unusable) -> TLSConfiguration {
        let chain: [NIOSSLCertificateSource]
        do {
            chain = try NIOSSLCertificate.fromPEMFile(files.certificate).map { .certificate($0) }
        } catch {
            throw Unusable(
                description: "cannot read the certificate \(files.certificate): \(error)")
        }
        let key: NIOSSLPrivateKeySource
        do {
            key = .privateKey(try NIOSSLPrivateKey(file: files.key, format: .pem))
        } catch {
            throw Unusable(description: "cannot read the private key \(files.key): \(error)")
        }
        var configuration = TLSConfiguration.makeServerConfiguration(
            certificateChain: chain, privateKey: key)
        configuration.minimumTLSVersion = .tlsv12
        if let authorities = files.clientAuthorities {
            do {
                let trusted = try NIOSSLCertificate.fromPEMFile(authorities)
                configuration.trustRoots = .certificates(trusted)
            } catch {
                throw Unusable(
                    description: "cannot read the authorities \(authorities): \(error)")
            }
            configuration.certificateVerification = .noHostnameVerification
        }
        return configuration
    }
}

/// Ends a connection that does not finish its handshake in time.
final class HandshakeTimer: ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = NIOAny

    private var timeout: Scheduled<Void>?

    func handlerAdded(context: ChannelHandlerContext) {
        timeout = context.eventLoop.assumeIsolated().scheduleTask(
            in: .milliseconds(Limits.handshakeMillisecondsMax)
        ) { context.close(promise: nil) }
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if case TLSUserEvent.handshakeCompleted = event { timeout?.cancel() }
        context.fireUserInboundEventTriggered(event)
    }

    func handlerRemoved(context: ChannelHandlerContext) { timeout?.cancel() }
}
