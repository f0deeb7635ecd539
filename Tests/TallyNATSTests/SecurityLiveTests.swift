import Foundation
import Logging
import NIOCore
import NIOPosix
import Testing

@testable import TallyNATS

extension LiveTests {
    @Suite struct Security {
        /// Why a client does not get in.
        private func refusal(
            _ servers: [String], _ change: (inout NATSOptions) -> Void = { _ in }
        ) async throws -> NATSDisconnectReason? {
            let client = try makeClient(servers, change)
            let states = await client.gatherStates()
            client.start()
            let all = try await states.wait {
                $0.contains { if case .waiting = $0 { true } else { $0.isConnected } }
            }
            try await client.close().get()
            for case .waiting(let reason) in all { return reason }
            return nil
        }

        private func isAuthenticationFailure(_ reason: NATSDisconnectReason?) -> Bool {
            if case .authenticationFailed = reason { true } else { false }
        }

        @Test func usersAndTokensAreLetInByTheirSecretOnly() async throws {
            let server = try NATSServer(
                jetStream: false,
                configuration: """
                    authorization { users = [ { user: "ann", password: "right-secret" } ] }
                    """)
            try await server.start()
            let addresses = [server.address]
            #expect(
                try await refusal(addresses) {
                    $0.authentication = .password(user: "ann", password: "right-secret")
                } == nil)
            let wrong = try await refusal(addresses) {
                $0.authentication = .password(user: "ann", password: "wrong-secret")
            }
            #expect(isAuthenticationFailure(wrong), "\(String(describing: wrong))")
            #expect(isAuthenticationFailure(try await refusal(addresses)))
            let tokens = try NATSServer(
                jetStream: false, configuration: "authorization { token: \"token-secret\" }")
            try await tokens.start()
            #expect(
                try await refusal([tokens.address]) { $0.authentication = .token("token-secret") }
                    == nil)
            #expect(
                isAuthenticationFailure(
                    try await refusal([tokens.address]) { $0.authentication = .token("other") }))
        }

        @Test func keysSignWhatTheServerAsks() async throws {
            let identity = Identity(.user)
            let server = try NATSServer(
                jetStream: false,
                configuration: "authorization { users = [ { nkey: \(identity.publicKey) } ] }")
            try await server.start()
            #expect(
                try await refusal([server.address]) {
                    $0.authentication = .nkey(seed: identity.seed)
                } == nil)
            #expect(
                isAuthenticationFailure(
                    try await refusal([server.address]) {
                        $0.authentication = .nkey(seed: Identity(.user).seed)
                    }))
            #expect(
                try await refusal([server.address]) { $0.authentication = .nkey(seed: "SU") }
                    == .credentials(.seedInvalid))
        }

        @Test func credentialFilesAreReadAgainForEveryConnection() async throws {
            let authority = Identity(.operator_)
            let account = Identity(.account)
            let user = Identity(.user)
            let limits =
                #""limits":{"subs":-1,"data":-1,"payload":-1,"imports":-1,"exports":-1,"wildcards":true,"conn":-1,"leaf":-1}"#
            let operatorClaims = try authority.claims(
                of: authority, name: "O", #"{"type":"operator","version":2}"#)
            let accountClaims = try authority.claims(
                of: account, name: "A", #"{"type":"account","version":2,\#(limits)}"#)
            let userClaims = try account.claims(
                of: user, name: "U",
                #"{"type":"user","version":2,"subs":-1,"data":-1,"payload":-1,"pub":{},"sub":{}}"#)
            let server = try NATSServer(
                jetStream: false,
                configuration: """
                    operator: "\(operatorClaims)"
                    resolver: MEMORY
                    resolver_preload: { \(account.publicKey): "\(accountClaims)" }
                    """)
            try await server.start()
            let file = server.directory.appending(path: "user.creds")
            func write(_ claims: String, _ seed: String) throws {
                try """
                -----BEGIN NATS USER JWT-----
                \(claims)
                ------END NATS USER JWT------

                -----BEGIN USER NKEY SEED-----
                \(seed)
                ------END USER NKEY SEED------
                """.write(to: file, atomically: true, encoding: .utf8)
            }
            let client = try makeClient([server.address]) {
                $0.authentication = .credentialsFile(path: file.path)
            }
            let states = await client.gatherStates()
            client.start()
            try await states.wait { states in
                states.contains {
                    if case .waiting(.credentials(.fileUnreadable)) = $0 { true } else { false }
                }
            }
            try write(userClaims, Identity(.user).seed)
            try await states.wait { states in
                states.contains {
                    if case .waiting(.authenticationFailed) = $0 { true } else { false }
                }
            }
            try write(userClaims, user.seed)
            try await client.waitUntilConnected(timeout: .seconds(30))
            try await client.flush()
            try await client.close().get()
        }

        @Test func nothingSecretIsLogged() async throws {
            let identity = Identity(.user)
            let server = try NATSServer(
                jetStream: false,
                configuration: """
                    authorization { users = [
                        { user: "ann", password: "right-secret" }, { nkey: \(identity.publicKey) }
                    ] }
                    """)
            try await server.start()
            let lines = Gathered<String>()
            let stranger = Identity(.user)
            for authentication in [
                NATSAuthentication.password(user: "ann", password: "right-secret"),
                .password(user: "ann", password: "wrong-secret"), .nkey(seed: identity.seed),
                .nkey(seed: stranger.seed), .token("token-secret"),
                .credentials("cred-secret"),
            ] {
                var options = NATSOptions(servers: [server.address])
                options.authentication = authentication
                var logger = Logger(label: "test") { _ in GatheringHandler(lines: lines) }
                logger.logLevel = .trace
                let client = try NATSClient(
                    options: options, eventLoop: MultiThreadedEventLoopGroup.singleton.next(),
                    logger: logger)
                let states = await client.gatherStates()
                client.start()
                try await states.wait {
                    $0.contains { if case .waiting = $0 { true } else { $0.isConnected } }
                }
                try await client.close().get()
                for state in states.all { lines.add("\(state)") }
            }
            #expect(lines.all.count > 5)
            for line in lines.all {
                for secret in ["secret", identity.seed, stranger.seed] {
                    #expect(!line.contains(secret), "\(line)")
                }
            }
        }

        @Test func aForbiddenSubjectIsComplainedOfAndTheConnectionStays() async throws {
            let server = try NATSServer(
                jetStream: false,
                configuration: """
                    authorization { users = [ {
                        user: "ann", password: "x"
                        permissions: { publish: "good", subscribe: ["good", "_INBOX.>"] }
                    } ] }
                    """)
            try await server.start()
            try await withClient(
                [server.address],
                {
                    $0.authentication = .password(user: "ann", password: "x")
                }
            ) { client in
                let complaints = Gathered<String>()
                let _: Bool = await client.onLoop { complete in
                    client.onServerError = { complaints.add($0) }
                    complete(true)
                }
                try await client.publish(ByteBuffer(), subject: "bad")
                _ = try await client.gather("worse")
                let all = try await complaints.wait { $0.count == 2 }
                #expect(all.allSatisfy { $0.contains("Permissions Violation") })
                #expect(await client.state().isConnected)
                let gathered = try await client.gather("good")
                try await client.publish(ByteBuffer(string: "1"), subject: "good")
                try await gathered.wait { $0.count == 1 }
            }
        }

        // MARK: TLS

        private func tlsServer(
            _ more: String = "", isFirst: Bool = false, certificate: String = "server"
        ) throws -> (NATSServer, Certificates) {
            let directory = FileManager.default.temporaryDirectory.appending(
                path: "tally-nats-\(UUID().uuidString)")
            let certificates = try Certificates(in: directory)
            let server = try NATSServer(
                directory: directory,
                configuration: """
                    tls {
                        cert_file: "\(certificates.path("\(certificate).pem"))"
                        key_file: "\(certificates.path("\(certificate).key"))"
                        ca_file: "\(certificates.trust)"
                        \(isFirst ? "handshake_first: true" : "")
                        \(more)
                    }
                    """)
            return (server, certificates)
        }

        @Test func connectionsAreEncryptedWhenTheServerDemandsIt() async throws {
            let (server, certificates) = try tlsServer()
            try await server.start()
            let trusting = try NATSOptions.tls(trustFile: certificates.trust)
            for address in [
                server.address, "tls://localhost:\(server.port)", "nats://localhost:\(server.port)",
            ] {
                try await withClient([address], { $0.tls = trusting }) { client in
                    let gathered = try await client.gather("a")
                    let bytes = (0..<(1 << 20)).map { UInt8(truncatingIfNeeded: $0 &* 13) }
                    try await client.publish(ByteBuffer(bytes: bytes), subject: "a")
                    let all = try await gathered.wait { $0.count == 1 }
                    #expect(Array(all[0].payload.readableBytesView) == bytes)
                }
            }
            // An authority that is not trusted.
            let reason = try await refusal([server.address])
            guard case .tlsFailed? = reason else {
                Issue.record("not refused for TLS: \(String(describing: reason))")
                return
            }
        }

        @Test func theCertificateMustHaveTheServersName() async throws {
            let (server, certificates) = try tlsServer(certificate: "named")
            try await server.start()
            let trusting = try NATSOptions.tls(trustFile: certificates.trust)
            #expect(
                try await refusal([server.address]) {
                    $0.tls = trusting
                    $0.tlsServerName = "named.example"
                } == nil)
            for name in [nil, "other.example"] {
                for host in ["127.0.0.1", "localhost"] {
                    let reason = try await refusal(["\(host):\(server.port)"]) {
                        $0.tls = trusting
                        $0.tlsServerName = name
                    }
                    guard case .tlsFailed? = reason else {
                        Issue.record("not refused for its name: \(String(describing: reason))")
                        return
                    }
                }
            }
        }

        @Test func aCertificateMayBeDemandedOfTheClient() async throws {
            let (server, certificates) = try tlsServer("verify: true")
            try await server.start()
            let named = try NATSOptions.tls(
                trustFile: certificates.trust, certificateFile: certificates.clientCertificate,
                keyFile: certificates.clientKey)
            #expect(try await refusal([server.address]) { $0.tls = named } == nil)
            let nameless = try NATSOptions.tls(trustFile: certificates.trust)
            #expect(try await refusal([server.address]) { $0.tls = nameless } != nil)
            #expect(throws: NATSOptionsError.self) {
                try NATSOptions.tls(certificateFile: certificates.clientCertificate)
            }
            #expect(throws: NATSOptionsError.self) {
                try NATSOptions.tls(trustFile: "/does/not/exist")
            }
        }

        @Test func encryptionMayStartBeforeTheFirstWord() async throws {
            let (server, certificates) = try tlsServer(isFirst: true)
            try await server.start()
            let trusting = try NATSOptions.tls(trustFile: certificates.trust)
            #expect(
                try await refusal([server.address]) {
                    $0.tls = trusting
                    $0.startsWithTLS = true
                } == nil)
        }

        @Test func aServerWithoutTLSIsRefusedWhereItIsDemanded() async throws {
            let server = try NATSServer(jetStream: false)
            try await server.start()
            #expect(
                try await refusal([server.address]) { $0.requiresTLS = true } == .tlsNotOffered)
            #expect(try await refusal(["tls://127.0.0.1:\(server.port)"]) == .tlsNotOffered)
            // Nor is one that speaks before the handshake.
            guard
                case .tlsFailed? = try await refusal([server.address], { $0.startsWithTLS = true })
            else {
                Issue.record("a server that does not start with TLS is accepted")
                return
            }
        }
    }
}

/// Gathers every line of a logger with its metadata.
private struct GatheringHandler: LogHandler {
    let lines: Gathered<String>
    var metadata: Logger.Metadata = [:]
    var logLevel = Logger.Level.trace

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        lines.add("\(event.message) \(event.metadata ?? [:])")
    }
}
