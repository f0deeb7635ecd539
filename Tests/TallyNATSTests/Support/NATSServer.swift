import Foundation
import TallyCore

/// A real nats-server, started by a test and ended by its process number.
final class NATSServer: Sendable {
    let directory: URL
    let port: Int
    private let process = Locked<Process?>(nil)

    struct Failure: Error, CustomStringConvertible {
        var description: String
    }

    /// The server's program: named by the environment, on the path, or installed in the repository.
    static let binary: String? = {
        let environment = ProcessInfo.processInfo.environment
        if let named = environment["TALLY_NATS_SERVER"] {
            return FileManager.default.isExecutableFile(atPath: named) ? named : nil
        }
        let repository = URL(filePath: #filePath).deletingLastPathComponent()
            .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        let directories =
            (environment["PATH"] ?? "").split(separator: ":").map(String.init)
            + [repository.appending(path: ".venv/bin").path]
        return directories.map { "\($0)/nats-server" }
            .first { FileManager.default.isExecutableFile(atPath: $0) }
    }()

    static let missing =
        "no nats-server: run Scripts/install-test-tools.sh, or name one in TALLY_NATS_SERVER"

    var address: String { "nats://127.0.0.1:\(port)" }

    /// Writes the configuration; `start` starts the server.
    ///
    /// - Parameter configuration: Lines besides the port, the name and the store.
    init(
        name: String = "one", port: Int? = nil, directory: URL? = nil, jetStream: Bool = true,
        configuration: String = ""
    ) throws {
        self.port = try port ?? Self.freePorts(1)[0]
        self.directory =
            directory
            ?? FileManager.default.temporaryDirectory.appending(
                path: "tally-nats-\(UUID().uuidString)")
        try FileManager.default.createDirectory(
            at: self.directory, withIntermediateDirectories: true)
        let store =
            jetStream
            ? """
            jetstream {
                store_dir: "\(self.directory.appending(path: "store").path)"
                sync_interval: always
            }
            """ : ""
        try """
        server_name: \(name)
        listen: "127.0.0.1:\(self.port)"
        \(store)
        \(configuration)
        """.write(to: configurationFile, atomically: true, encoding: .utf8)
    }

    deinit {
        stop()
        try? FileManager.default.removeItem(at: directory)
    }

    private var configurationFile: URL { directory.appending(path: "server.conf") }

    private var logFile: URL { directory.appending(path: "log") }

    /// What the server has logged.
    var log: String { (try? String(contentsOf: logFile, encoding: .utf8)) ?? "" }

    var processID: Int32? { process.withLock { $0?.processIdentifier } }

    /// Starts the server and waits until it accepts connections.
    func start() async throws {
        guard let binary = Self.binary else { throw Failure(description: Self.missing) }
        let started = Process()
        started.executableURL = URL(filePath: binary)
        started.arguments = ["-c", configurationFile.path, "-l", logFile.path]
        started.standardOutput = FileHandle.nullDevice
        started.standardError = FileHandle.nullDevice
        try started.run()
        Orphans.add(started.processIdentifier)
        process.withLock { $0 = started }
        for _ in 0..<1_000 {
            if Self.accepts(port) { return }
            guard started.isRunning else { break }
            try await Task.sleep(for: .milliseconds(10))
        }
        throw Failure(description: "nats-server does not start: \(log.suffix(2_000))")
    }

    /// Asks the server to do something, for example to stop or to become a lame duck.
    func signal(_ signal: Int32) {
        if let processID { kill(processID, signal) }
    }

    /// Kills the server at once and waits for its end.
    func stop() {
        guard
            let ended = process.withLock({ process in
                defer { process = nil }
                return process
            })
        else { return }
        kill(ended.processIdentifier, SIGKILL)
        ended.waitUntilExit()
        Orphans.remove(ended.processIdentifier)
    }

    // MARK: Ports

    /// Ports of the loopback address that nobody listens on.
    static func freePorts(_ count: Int) throws -> [Int] {
        var sockets: [Int32] = []
        defer { for socket in sockets { close(socket) } }
        return try (0..<count).map { _ in
            let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
            sockets.append(descriptor)
            var address = loopback(port: 0)
            var length = socklen_t(MemoryLayout<sockaddr_in>.size)
            let isBound = withUnsafeMutablePointer(to: &address) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    bind(descriptor, $0, length) == 0 && getsockname(descriptor, $0, &length) == 0
                }
            }
            guard isBound else { throw Failure(description: "no port is free") }
            return Int(UInt16(bigEndian: address.sin_port))
        }
    }

    private static func accepts(_ port: Int) -> Bool {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(descriptor) }
        var address = loopback(port: port)
        return withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
            }
        }
    }

    private static func loopback(port: Int) -> sockaddr_in {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = in_port_t(port).bigEndian
        address.sin_addr.s_addr = in_addr_t(0x7f00_0001).bigEndian
        return address
    }
}

/// Servers that are ended when the tests' process ends.
private enum Orphans {
    private static let processes = Locked<Set<Int32>>([])
    private static let registration: Void = {
        atexit { Orphans.endAll() }
    }()

    static func add(_ process: Int32) {
        registration
        processes.withLock { _ = $0.insert(process) }
    }

    static func remove(_ process: Int32) {
        processes.withLock { _ = $0.remove(process) }
    }

    private static func endAll() {
        processes.withLock { for process in $0 { kill(process, SIGKILL) } }
    }
}

/// Three servers with JetStream that replicate.
final class NATSCluster: Sendable {
    let servers: [NATSServer]

    var addresses: [String] { servers.map(\.address) }

    init(configuration: String = "") throws {
        let ports = try NATSServer.freePorts(6)
        let routes = ports[3...].map { "\"nats://127.0.0.1:\($0)\"" }.joined(separator: ", ")
        servers = try (0..<3).map { index in
            try NATSServer(
                name: "n\(index)", port: ports[index],
                configuration: """
                    cluster {
                        name: tests
                        listen: "127.0.0.1:\(ports[index + 3])"
                        routes: [\(routes)]
                    }
                    \(configuration)
                    """)
        }
    }

    func start() async throws {
        for server in servers { try await server.start() }
    }

    func server(named name: String) -> NATSServer? {
        name.hasPrefix("n") ? Int(name.dropFirst()).map { servers[$0] } : nil
    }
}
