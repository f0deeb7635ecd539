import ArgumentParser
internal import Glibc

#if canImport(FoundationEssentials)
    import FoundationEssentials
#else
    import Foundation
#endif

/// Where a server is, who asks, and how answers are printed.
struct ConnectionOptions: ParsableArguments {
    @Option(name: .shortAndLong, help: "Address of the server.")
    var host = "127.0.0.1"
    @Option(name: .shortAndLong, help: "Port of the server.")
    var port = 7379
    @Option(help: "User to log in as.")
    var user: String?
    @Option(help: "File of the user's password; - is standard input.")
    var passwordFile: String?
    @Flag(name: .customLong("tls"), help: "Connect with TLS.")
    var usesTLS = false
    @Option(help: "PEM file of those whose certificates are believed.")
    var cacert: String?
    @Option(name: .customLong("cert"), help: "PEM file of a certificate to show.")
    var certificate: String?
    @Option(help: "PEM file of its private key.")
    var key: String?
    @Option(name: .customLong("timeout"), help: "Longest time to connect, seconds.")
    var timeoutSeconds = 5
    @Flag(name: .customLong("json"), help: "Print JSON, for scripts.")
    var printsJSON = false

    /// Name and password, nil if nobody is to log in.
    ///
    /// - Throws: `ValidationError`.
    func credentials() throws -> (String, String)? {
        guard user != nil || passwordFile != nil else { return nil }
        guard let file = passwordFile else {
            throw ValidationError("--user needs --password-file")
        }
        let text: String?
        if file == "-" {
            text = PasswordCommand.readPassword()
        } else {
            text = (try? String(contentsOf: URL(filePath: file), encoding: .utf8))?
                .split(separator: "\n", omittingEmptySubsequences: false).first.map(String.init)
        }
        guard let text else { throw ValidationError("cannot read the password from \(file)") }
        return (user ?? "default", text)
    }
}

/// How the program ends when it talks to a server.
enum ClientExit {
    /// There is no such counter.
    static let absent = ExitCode(1)
    /// The server has refused.
    static let refused = ExitCode(2)
    /// The server cannot be reached.
    static let unreachable = ExitCode(69)
}

extension ConnectionOptions {
    /// Connects, calls `body`, and turns what goes wrong into words and an exit code.
    func withServer(_ body: (ServerConnection) async throws -> Void) async throws {
        do {
            let connection = try await ServerConnection.open(self)
            try await body(connection)
            await connection.close()
        } catch let failure as ServerConnection.Failure {
            writeError("tally: \(failure)\n")
            if case .refused = failure { throw ClientExit.refused }
            throw ClientExit.unreachable
        }
    }
}

/// Text as a JSON string.
func quotedJSON(_ text: String) -> String {
    var quoted = "\""
    for scalar in text.unicodeScalars {
        switch scalar {
        case "\"": quoted += "\\\""
        case "\\": quoted += "\\\\"
        case "\n": quoted += "\\n"
        case "\r": quoted += "\\r"
        case "\t": quoted += "\\t"
        case _ where scalar.value < 32:
            let digits = String(scalar.value, radix: 16)
            quoted += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
        default: quoted.unicodeScalars.append(scalar)
        }
    }
    return quoted + "\""
}
