import TallyAccess

/// What a command is, apart from what it does: declared once in `CommandTable`, and read by
/// dispatch, arity checks and everything that lists commands.
struct CommandSpec: Sendable {
    /// In lower case; a subcommand's without its container.
    let name: String
    let id: CommandID
    let arity: Arity
    let flags: [Flag]
    let keys: Keys
    let group: Group
    let since: String
    let summary: String
    let complexity: String
    let tips: [String]
    let subcommands: [CommandSpec]
    /// `container|name` for a subcommand.
    let fullName: String

    /// How many arguments a command takes, its name included.
    struct Arity: Sendable {
        /// Exactly so many, or, negated, at least so many; as Redis gives it.
        let value: Int32

        @inline(__always)
        func accepts(_ count: Int) -> Bool {
            value >= 0 ? count == Int(value) : count >= -Int(value)
        }
    }

    enum Flag: String, Sendable {
        case write, readonly, denyoom, admin, noscript, loading, stale, fast
        case noAuth = "no_auth"
        case allowBusy = "allow_busy"
    }

    enum Group: String, Sendable {
        case string, hash, generic, schema, connection, server, transactions, cluster
    }

    /// Which arguments are keys.
    enum Keys: Sendable {
        case none
        /// The first argument.
        case first
        /// All arguments from the first on.
        case all
        /// Every second argument from the first on.
        case pairs
        /// The second argument.
        case second
        /// The first two arguments.
        case firstTwo

        /// First key, last key (negative: from the end) and step, as Redis gives them.
        var range: (first: Int, last: Int, step: Int) {
            switch self {
            case .none: (0, 0, 0)
            case .first: (1, 1, 1)
            case .all: (1, -1, 1)
            case .pairs: (1, -1, 2)
            case .second: (2, 2, 1)
            case .firstTwo: (1, 2, 1)
            }
        }
    }

    init(
        _ name: String, _ id: CommandID, arity: Int32, _ flags: [Flag] = [], keys: Keys = .none,
        _ group: Group, since: String, _ summary: String, complexity: String = "O(1)",
        tips: [String] = [], container: String? = nil, subcommands: [CommandSpec] = []
    ) {
        self.name = name
        self.id = id
        self.arity = Arity(value: arity)
        self.flags = flags
        self.keys = keys
        self.group = group
        self.since = since
        self.summary = summary
        self.complexity = complexity
        self.tips = tips
        self.subcommands = subcommands
        fullName = container.map { "\($0)|\(name)" } ?? name
    }

    /// What a user must be permitted for it.
    var permission: Permission {
        switch id {
        case .flushAll, .flushDatabase, .import, .importStart, .importCommit, .importStatus: .admin
        case .info, .lastSave, .describe, .watch: .read
        // Those that client libraries send to whatever they are connected to.
        case .clientNoEvict: []
        default:
            if flags.contains(.admin) || group == .schema {
                .admin
            } else if flags.contains(.write) {
                .write
            } else {
                flags.contains(.readonly) ? .read : []
            }
        }
    }

    /// Whether it is about all keys, so that a user needs all of them.
    var spansKeys: Bool {
        switch id {
        case .scan, .keys, .randomKey, .flushAll, .flushDatabase: true
        default: false
        }
    }

    /// The subcommand that `name` names in any case, nil if there is none.
    func subcommand(named name: UnsafeRawBufferPointer) -> CommandSpec? {
        subcommands.first { name.equalsIgnoringCase($0.name) }
    }

    /// The categories of access control that the command belongs to, as Redis derives them.
    var categories: [String] {
        var categories: [String] = []
        switch group {
        case .string: categories.append("string")
        case .connection: categories.append("connection")
        case .hash: categories.append("hash")
        case .generic: categories.append("keyspace")
        case .transactions: categories.append("transaction")
        case .schema, .server, .cluster: break
        }
        if flags.contains(.write) { categories.append("write") }
        if flags.contains(.readonly) { categories.append("read") }
        if flags.contains(.admin) { categories += ["admin", "dangerous"] }
        if id == .flushAll || id == .flushDatabase || id == .info {
            categories.append("dangerous")
        }
        categories.append(flags.contains(.fast) ? "fast" : "slow")
        return categories
    }
}
