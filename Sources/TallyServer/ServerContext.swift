import Logging
import Synchronization
import TallyAccess
import TallyCluster
import TallyCore
import TallyNode

/// What all connections share; lives as long as the process.
final class ServerContext: @unchecked Sendable {
    // Sendable because `commands` does not change after `init`.
    let node: Node
    /// This node's cluster; nil if it is alone.
    let cluster: ClusterAccess?
    /// This node's part in it.
    let replica: Replica?
    let access: AccessControl
    let logger: Logger
    let configuration: ServerConfiguration
    let clock: any Clock
    let clients: ClientRegistry
    let statistics = ServerStatistics()
    let cursors = ScanCursors()
    let settings: RuntimeSettings
    let failedLogins: FailedLogins
    let slowLog = SlowLog()
    let metrics = ServerMetrics()
    let latency = LatencyMonitor()
    let monitors = Monitors()
    let pause = Pause()
    let errors = ErrorStatistics()
    private let loopStatistics = Locked<[CommandStatistics]>([])
    let hotKeySamplers = Locked<[HotKeySampler]>([])
    /// Bytes that all connections hold; see `Limits.connectionBytesMax`.
    let connectionBytes = Atomic<Int>(0)
    /// Where clients connect; what the system chose if the configuration left it to it.
    let port: Atomic<Int>
    let tlsPort: Atomic<Int>
    let startedMilliseconds: UInt64
    let startedNanoseconds: UInt64
    /// Forty hexadecimal digits, new at every start.
    let runID: String

    /// All commands, for listing.
    let specs = CommandTable.all
    /// What dispatch needs of them, by the same index.
    let commands: UnsafeMutablePointer<Command>
    let lookup: CommandLookup

    /// The few words of a command's declaration that every call reads.
    struct Command: Sendable {
        let id: CommandID
        let arity: CommandSpec.Arity
        let isWrite: Bool
        /// Of its name.
        let fingerprint: UInt64
        let permission: Permission
        let keys: CommandSpec.Keys
        let spansKeys: Bool
        let isContainer: Bool
        /// Whether it, or one of its subcommands, is for administrators.
        let isAdministration: Bool
        let allowsStrangers: Bool

        init(_ spec: CommandSpec) {
            id = spec.id
            arity = spec.arity
            isWrite = spec.flags.contains(.write)
            fingerprint = CommandFingerprint(name: spec.name).value
            permission = spec.permission
            keys = spec.keys
            spansKeys = spec.spansKeys
            isContainer = !spec.subcommands.isEmpty
            isAdministration = ([spec] + spec.subcommands).contains { $0.permission == .admin }
            allowsStrangers = spec.flags.contains(.noAuth)
        }
    }

    init(
        node: Node, cluster: ClusterAccess? = nil, access: AccessControl,
        configuration: ServerConfiguration,
        clock: any Clock, logger: Logger
    ) {
        self.node = node
        self.cluster = cluster
        replica = cluster?.replica
        self.access = access
        self.logger = logger
        failedLogins = FailedLogins(logger)
        self.configuration = configuration
        self.clock = clock
        clients = ClientRegistry()
        settings = RuntimeSettings(configuration)
        port = Atomic(configuration.port ?? 0)
        tlsPort = Atomic(configuration.tlsPort ?? 0)
        startedMilliseconds = clock.wallMilliseconds()
        startedNanoseconds = clock.monotonicNanoseconds()
        commands = .allocate(capacity: specs.count)
        for (index, spec) in specs.enumerated() {
            (commands + index).initialize(to: Command(spec))
        }
        access.setFailedLogins { [failedLogins, clock, startedNanoseconds] name, address in
            failedLogins.note(
                name, address: address,
                nowSeconds: (clock.monotonicNanoseconds() - startedNanoseconds) / 1_000_000_000)
        }
        lookup = CommandLookup(specs.map(\.name))
        runID = (0..<5).map { _ in Self.hexadecimal(.random(in: 0 ... .max)) }.joined()
    }

    /// When the last checkpoint was made, or the server started, milliseconds since 1970.
    var savedMilliseconds: UInt64 {
        let milliseconds = UInt64(node.checkpoint.milliseconds)
        return milliseconds == 0 ? startedMilliseconds : milliseconds
    }

    /// Room for the counts of another loop.
    func makeCommandStatistics() -> CommandStatistics {
        let statistics = CommandStatistics(commandCount: specs.count)
        loopStatistics.withLock { $0.append(statistics) }
        return statistics
    }

    /// How often each command that was called was, and how long it took, nanoseconds.
    var commandStatistics: [(name: String, calls: UInt64, nanoseconds: UInt64)] {
        let loops = loopStatistics.withLock { $0 }
        return specs.indices.compactMap { index in
            var sum: (calls: UInt64, nanoseconds: UInt64) = (0, 0)
            for loop in loops {
                let read = loop.read(index)
                sum = (sum.calls + read.calls, sum.nanoseconds + read.nanoseconds)
            }
            return sum.calls == 0 ? nil : (specs[index].name, sum.calls, sum.nanoseconds)
        }
    }

    func resetStatistics() {
        statistics.reset()
        errors.reset()
        for loop in loopStatistics.withLock({ $0 }) { loop.reset() }
    }

    var uptimeSeconds: UInt64 {
        (clock.monotonicNanoseconds() - startedNanoseconds) / 1_000_000_000
    }

    private static func hexadecimal(_ word: UInt32) -> String {
        let digits = String(word, radix: 16)
        return String(repeating: "0", count: 8 - digits.count) + digits
    }
}

/// Counts of what has happened, raised once per stretch of commands, not per command.
final class ServerStatistics: Sendable {
    let commands = Atomic<UInt64>(0)
    let connectionsAccepted = Atomic<UInt64>(0)
    let connectionsRefused = Atomic<UInt64>(0)
    let protocolErrors = Atomic<UInt64>(0)
    let inputBytes = Atomic<UInt64>(0)
    let outputBytes = Atomic<UInt64>(0)
    let commitGroups = Atomic<UInt64>(0)

    func reset() {
        commands.store(0, ordering: .relaxed)
        connectionsAccepted.store(0, ordering: .relaxed)
        connectionsRefused.store(0, ordering: .relaxed)
        protocolErrors.store(0, ordering: .relaxed)
        inputBytes.store(0, ordering: .relaxed)
        outputBytes.store(0, ordering: .relaxed)
        commitGroups.store(0, ordering: .relaxed)
    }
}

/// Settings that can be changed while the server runs.
final class RuntimeSettings: Sendable {
    let clientsMax: Atomic<Int>
    /// 0 for never.
    let idleSecondsMax: Atomic<Int>

    init(_ configuration: ServerConfiguration) {
        clientsMax = Atomic(configuration.clientsMax)
        idleSecondsMax = Atomic(configuration.idleSecondsMax)
    }
}
