import NIOCore
import Synchronization
import TallyCore

/// What others may know of a connection, and how they may end it.
final class ClientInfo: Sendable {
    let id: UInt64
    let address: String
    let localAddress: String
    let createdSeconds: UInt64
    let isEncrypted: Bool
    private let channel: (any Channel)?
    private let details = Locked(Details())
    /// Uptime of the server when the connection last said something.
    let activeSeconds: Atomic<UInt64>
    /// Bytes of an unfinished command.
    let inputBytes = Atomic<Int>(0)
    /// Reply bytes that wait for the disk or for the reader.
    let outputBytes = Atomic<Int>(0)
    /// Commands that wait for EXEC, −1 without MULTI, and the memory that they take, bytes.
    let queuedCount = Atomic<Int>(-1)
    let queuedBytes = Atomic<Int>(0)
    /// How many keys it watches.
    let watchedCount = Atomic<Int>(0)
    let commandCount = Atomic<UInt64>(0)
    /// What it was told before it was in a cluster's log.
    let earlyAnswers = EarlyAnswers()
    private let lastCommand = Atomic<UInt8>(.max)

    struct Details: Sendable {
        var name = ""
        var user = ""
        var libraryName = ""
        var libraryVersion = ""
        var protocolVersion = 2
        var isNoEvict = false
        var isNoTouch = false
    }

    init(
        id: UInt64, address: String, localAddress: String, createdSeconds: UInt64,
        channel: (any Channel)?, isEncrypted: Bool = false
    ) {
        self.id = id
        self.address = address
        self.localAddress = localAddress
        self.createdSeconds = createdSeconds
        self.channel = channel
        self.isEncrypted = isEncrypted
        activeSeconds = Atomic(createdSeconds)
    }

    /// The address without the port.
    var host: String {
        String(address.prefix(upTo: address.lastIndex(of: ":") ?? address.endIndex))
    }

    var current: Details { details.withLock { $0 } }

    func update(_ change: (inout Details) -> Void) {
        details.withLock { change(&$0) }
    }

    func note(command: CommandID) {
        lastCommand.store(command.rawValue, ordering: .relaxed)
    }

    /// How a connection is sent what it has not asked for.
    private let pushing = Locked<(@Sendable ([UInt8]) -> Void)?>(nil)

    func setPush(_ push: (@Sendable ([UInt8]) -> Void)?) { pushing.withLock { $0 = push } }

    /// Sends the connection something that it has not asked for, from any thread.
    func push(_ bytes: [UInt8]) { pushing.withLock { $0 }?(bytes) }

    /// Ends the connection, from any thread.
    func close() {
        channel?.close(promise: nil)
    }

    /// One line of CLIENT LIST, without the line's end.
    func line(nowSeconds: UInt64) -> String {
        let details = current
        let command = CommandID(rawValue: lastCommand.load(ordering: .relaxed))
        let flags =
            (queuedCount.load(ordering: .relaxed) >= 0 ? "x" : "")
            + (details.isNoEvict ? "e" : "") + (details.isNoTouch ? "T" : "")
        let fields: [(String, String)] = [
            ("id", "\(id)"), ("addr", address), ("laddr", localAddress), ("fd", "-1"),
            ("name", details.name), ("age", "\(nowSeconds - createdSeconds)"),
            ("idle", "\(nowSeconds - min(nowSeconds, activeSeconds.load(ordering: .relaxed)))"),
            ("flags", flags.isEmpty ? "N" : flags), ("db", "0"), ("sub", "0"), ("psub", "0"),
            ("ssub", "0"), ("multi", "\(queuedCount.load(ordering: .relaxed))"),
            ("watch", "\(watchedCount.load(ordering: .relaxed))"),
            ("qbuf", "\(inputBytes.load(ordering: .relaxed))"), ("qbuf-free", "0"),
            ("argv-mem", "0"), ("multi-mem", "\(queuedBytes.load(ordering: .relaxed))"),
            ("rbs", "0"), ("rbp", "0"), ("obl", "0"),
            ("oll", "0"), ("omem", "\(outputBytes.load(ordering: .relaxed))"),
            ("tot-mem", "0"), ("events", "r"),
            ("cmd", command.flatMap(CommandNames.fullName) ?? "NULL"),
            ("user", details.user.isEmpty ? "(none)" : details.user),
            ("redir", "-1"), ("resp", "\(details.protocolVersion)"),
            ("lib-name", details.libraryName), ("lib-ver", details.libraryVersion),
            ("tot-cmds", "\(commandCount.load(ordering: .relaxed))"),
        ]
        return fields.map { "\($0.0)=\($0.1)" }.joined(separator: " ")
    }
}

/// All connections.
final class ClientRegistry: Sendable {
    private let clients = Locked<[UInt64: ClientInfo]>([:])
    private let nextID = Atomic<UInt64>(1)

    var count: Int { clients.withLock { $0.count } }

    func makeID() -> UInt64 {
        nextID.wrappingAdd(1, ordering: .relaxed).oldValue
    }

    /// Adds a connection unless there are `countMax` already.
    func add(_ client: ClientInfo, countMax: Int) -> Bool {
        clients.withLock { clients in
            guard clients.count < countMax else { return false }
            clients[client.id] = client
            return true
        }
    }

    func remove(_ client: ClientInfo) {
        clients.withLock { _ = $0.removeValue(forKey: client.id) }
    }

    /// All connections, oldest first.
    var all: [ClientInfo] {
        clients.withLock { Array($0.values) }.sorted { $0.id < $1.id }
    }
}

/// Names of commands by their identity.
enum CommandNames {
    private static let names: [CommandID: String] = {
        var names: [CommandID: String] = [:]
        for spec in CommandTable.all {
            names[spec.id] = spec.name
            for subcommand in spec.subcommands { names[subcommand.id] = subcommand.fullName }
        }
        return names
    }()

    static func fullName(_ id: CommandID) -> String? { names[id] }
}
