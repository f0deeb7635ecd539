import Logging
import NIOCore
import ServiceLifecycle
import TallyAccess
import TallyServer
import UnixSignals

/// Users and certificates as the settings say, and their reload.
struct ServerAccess: Sendable {
    let control: AccessControl
    let certificates: Certificates?

    /// Why a server would not be safe as it is set up.
    struct Unsafe: Error, CustomStringConvertible {
        let description: String
    }

    /// Reads users and certificates.
    ///
    /// - Throws: What is wrong with them.
    init(_ settings: Settings, _ logger: Logger) throws {
        let users = UserDirectory(
            settings.users.isEmpty ? .open : try UsersFile.read(settings.users))
        let certificates =
            settings.tlsPort == nil && settings.httpsPort == nil
            ? nil
            : try Certificates(
                CertificateFiles(
                    certificate: settings.tlsCertificate, key: settings.tlsKey,
                    clientAuthorities: settings.tlsClientAuthorities.isEmpty
                        ? nil : settings.tlsClientAuthorities))
        self.certificates = certificates
        let file = settings.users
        control = AccessControl(users: users) {
            let table = file.isEmpty ? nil : try UsersFile.read(file)
            try certificates?.reload()
            if let table { users.replace(with: table) }
            logger.notice(
                "users and certificates have been read again",
                metadata: ["users": "\(users.current.users.all.count)"])
        }
    }

    /// Refuses to let everybody on the network in.
    ///
    /// - Throws: `Unsafe`.
    func check(_ settings: Settings) throws(Unsafe) {
        guard settings.isProtected, !Self.isLoopback(settings.host) else { return }
        if let open = control.users.current.users.initial, open.permissions != [] {
            throw Unsafe(
                description: "host \(settings.host) can be reached by others, and user "
                    + "'\(open.name)' needs no password: name users in a file (--users), listen on "
                    + "127.0.0.1, or, if the network is safe, give --protected-mode no")
        }
    }

    /// Whether nobody but this machine can reach an address.
    private static func isLoopback(_ host: String) -> Bool {
        guard let address = try? SocketAddress.makeAddressResolvingHost(host, port: 0) else {
            return false
        }
        switch address {
        case .v4: return address.ipAddress?.hasPrefix("127.") == true
        case .v6: return address.ipAddress == "::1"
        case .unixDomainSocket: return true
        }
    }
}

/// Reads users and certificates again on SIGHUP.
struct ReloadService: Service {
    let control: AccessControl
    let logger: Logger

    func run() async throws {
        for await _ in await UnixSignalsSequence(trapping: .sighup).cancelOnGracefulShutdown() {
            do {
                try control.reload()
            } catch {
                logger.error(
                    "users and certificates are as they were",
                    metadata: ["error": "\(error)"])
            }
        }
    }
}
