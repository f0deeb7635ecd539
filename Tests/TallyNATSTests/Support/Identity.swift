import Crypto
import Foundation

@testable import TallyNATS

/// Keys and signed claims as `nsc` makes them, for servers with operators and accounts.
struct Identity {
    enum Kind: UInt8 {
        case operator_ = 112
        case account = 0
        case user = 160
    }

    let kind: Kind
    private let key = Curve25519.Signing.PrivateKey()

    init(_ kind: Kind) { self.kind = kind }

    var publicKey: String {
        Self.encoded([kind.rawValue] + Array(key.publicKey.rawRepresentation))
    }

    var seed: String {
        Self.encoded(
            [18 << 3 | kind.rawValue >> 5, (kind.rawValue & 31) << 3]
                + Array(key.rawRepresentation))
    }

    private static func encoded(_ bytes: [UInt8]) -> String {
        let checksum = CRC16.checksum(bytes[...])
        return Base32.encode(bytes + [UInt8(checksum & 0xff), UInt8(checksum >> 8)])
    }

    /// What this identity says of `subject`: a JWT.
    func claims(of subject: Identity, name: String, _ nats: String) throws -> String {
        let header = #"{"typ":"JWT","alg":"ed25519-nkey"}"#
        let body =
            #"{"jti":"\#(name)","iat":1700000000,"iss":"\#(publicKey)","name":"\#(name)","#
            + #""sub":"\#(subject.publicKey)","nats":\#(nats)}"#
        let signed = "\(Self.base64(Data(header.utf8))).\(Self.base64(Data(body.utf8)))"
        let signature = try key.signature(for: Data(signed.utf8))
        return "\(signed).\(Self.base64(signature))"
    }

    private static func base64(_ data: Data) -> String {
        data.base64EncodedString().replacing("+", with: "-").replacing("/", with: "_")
            .replacing("=", with: "")
    }
}

/// An authority, a server's and a client's certificate in files, made with openssl.
struct Certificates {
    let directory: URL

    var trust: String { path("ca.pem") }
    var clientCertificate: String { path("client.pem") }
    var clientKey: String { path("client.key") }

    func path(_ name: String) -> String { directory.appending(path: name).path }

    init(in directory: URL) throws {
        self.directory = directory
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        try run(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-days", "2", "-subj", "/CN=test authority", "-keyout", path("ca.key"), "-out", trust)
        try issue("server", "subjectAltName=DNS:localhost,IP:127.0.0.1")
        try issue("named", "subjectAltName=DNS:named.example")
        try issue("client", "subjectAltName=DNS:client")
    }

    private func issue(_ name: String, _ alternative: String) throws {
        try run(
            "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
            "/CN=\(name)", "-keyout", path("\(name).key"), "-out", path("\(name).csr"))
        try (alternative + "\n").write(
            toFile: path("\(name).ext"), atomically: true, encoding: .utf8)
        try run(
            "x509", "-req", "-in", path("\(name).csr"), "-CA", trust, "-CAkey", path("ca.key"),
            "-CAcreateserial", "-days", "2", "-extfile", path("\(name).ext"), "-out",
            path("\(name).pem"))
    }

    private func run(_ arguments: String...) throws {
        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/env")
        process.arguments = ["openssl"] + arguments
        process.standardOutput = FileHandle.nullDevice
        process.standardError = FileHandle.nullDevice
        try process.run()
        process.waitUntilExit()
        guard process.terminationStatus == 0 else {
            throw NATSServer.Failure(description: "openssl \(arguments) fails")
        }
    }
}
