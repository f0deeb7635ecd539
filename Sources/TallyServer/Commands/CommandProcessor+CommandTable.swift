import TallyCore
import TallyRESP

/// COMMAND and its subcommands: the command table, in Redis's words.
extension CommandProcessor {
    /// Calls `reply` with the names behind the subcommand, nil if there are none.
    mutating func withNames(_ reply: (inout CommandProcessor, [String]?) -> Void) {
        let count = arguments.count - 2
        guard count <= Limits.commandNamesMax else {
            return replies.error(
                "ERR \(count) names are too many, at most \(Limits.commandNamesMax) are allowed")
        }
        let names = (0..<count).map { arguments[$0 + 2].text.lowercased() }
        reply(&self, count == 0 ? nil : names)
    }

    // MARK: COMMAND INFO

    mutating func replyCommandInfo(names: [String]?, _ version: RESPVersion) {
        guard let names else {
            replies.array(server.specs.count)
            for spec in server.specs { replyInfo(spec, version) }
            return
        }
        replies.array(names.count)
        for name in names {
            if let spec = CommandTable.find(name) {
                replyInfo(spec, version)
            } else {
                replies.null(version)
            }
        }
    }

    private mutating func replyInfo(_ spec: CommandSpec, _ version: RESPVersion) {
        let keys = spec.keys.range
        replies.array(10)
        replies.bulk(spec.fullName)
        replies.integer(Int64(spec.arity.value))
        replySet(spec.flags.map(\.rawValue), version)
        replies.integer(Int64(keys.first))
        replies.integer(Int64(keys.last))
        replies.integer(Int64(keys.step))
        replySet(spec.categories.map { "@\($0)" }, version)
        replies.array(spec.tips.count)
        for tip in spec.tips { replies.bulk(tip) }
        replyKeySpecification(spec, version)
        replies.array(spec.subcommands.count)
        for subcommand in spec.subcommands { replyInfo(subcommand, version) }
    }

    private mutating func replySet(_ words: [String], _ version: RESPVersion) {
        replies.set(words.count, version)
        for word in words { replies.simple(text: word) }
    }

    private mutating func replyKeySpecification(_ spec: CommandSpec, _ version: RESPVersion) {
        let keys = spec.keys.range
        guard keys.first > 0 else { return replies.array(0) }
        replies.array(1)
        replies.map(3, version)
        replies.bulk("flags")
        replySet(Self.keyFlags(spec), version)
        replies.bulk("begin_search")
        replies.map(2, version)
        replies.bulk("type")
        replies.bulk("index")
        replies.bulk("spec")
        replies.map(1, version)
        replies.bulk("index")
        replies.integer(Int64(keys.first))
        replies.bulk("find_keys")
        replies.map(2, version)
        replies.bulk("type")
        replies.bulk("range")
        replies.bulk("spec")
        replies.map(3, version)
        replies.bulk("lastkey")
        replies.integer(Int64(keys.last < 0 ? keys.last : 0))
        replies.bulk("keystep")
        replies.integer(Int64(keys.step))
        replies.bulk("limit")
        replies.integer(0)
    }

    private static func keyFlags(_ spec: CommandSpec) -> [String] {
        switch spec.id {
        case .increment, .decrement, .incrementBy, .decrementBy, .incrementExtended,
            .hashIncrementBy:
            ["RW", "access", "update"]
        case .set, .getSet: ["RW", "access", "update"]
        case .getExpire: ["RW", "access", "update"]
        case .expire, .expireMilliseconds, .expireAt, .expireAtMilliseconds, .persist:
            ["RW", "update"]
        case .setWithSeconds, .setWithMilliseconds: ["OW", "update"]
        case .timeToLive, .timeToLiveMilliseconds, .expireTime, .expireTimeMilliseconds:
            ["RO", "access"]
        case .setIfAbsent, .multipleSetIfAbsent: ["OW", "insert"]
        case .hashSet, .hashMultipleSet: ["RW", "update"]
        case .hashSetIfAbsent: ["RW", "insert"]
        case .hashDelete: ["RW", "delete"]
        case .multipleSet: ["OW", "update"]
        case .getDelete: ["RW", "access", "delete"]
        case .delete, .unlink: ["RM", "delete"]
        case .get, .multipleGet, .hashGet, .hashMultipleGet, .hashGetAll, .hashValues:
            ["RO", "access"]
        default: ["RO"]
        }
    }

    // MARK: COMMAND DOCS

    mutating func replyCommandDocs(_ names: [String]?, _ version: RESPVersion) {
        let specs = names?.compactMap(CommandTable.find) ?? server.specs
        replies.map(specs.count, version)
        for spec in specs { replyDocs(spec, version) }
    }

    private mutating func replyDocs(_ spec: CommandSpec, _ version: RESPVersion) {
        replies.bulk(spec.fullName)
        replies.map(spec.subcommands.isEmpty ? 4 : 5, version)
        replies.bulk("summary")
        replies.bulk(spec.summary)
        replies.bulk("since")
        replies.bulk(spec.since)
        replies.bulk("group")
        replies.bulk(spec.group.rawValue)
        replies.bulk("complexity")
        replies.bulk(spec.complexity)
        if !spec.subcommands.isEmpty {
            replies.bulk("subcommands")
            replies.map(spec.subcommands.count, version)
            for subcommand in spec.subcommands { replyDocs(subcommand, version) }
        }
    }

    // MARK: COMMAND LIST

    mutating func replyCommandList() {
        var names = server.specs.map(\.name)
        if arguments.count > 2 {
            guard arguments.count == 5,
                arguments[2].equalsIgnoringCase("filterby")
            else { return replies.error("ERR syntax error") }
            let filter = arguments[3]
            let value = arguments[4].text.lowercased()
            if filter.equalsIgnoringCase("module") {
                names = []
            } else if filter.equalsIgnoringCase("aclcat") {
                names = server.specs.filter { $0.categories.contains(value) }.map(\.name)
            } else if filter.equalsIgnoringCase("pattern") {
                names = names.filter { GlobPattern(value).matches($0) }
            } else {
                return replies.error("ERR syntax error")
            }
        }
        replies.array(names.count)
        for name in names { replies.bulk(name) }
    }

    // MARK: COMMAND GETKEYS

    mutating func replyCommandKeys() {
        let count = arguments.count - 2
        guard let index = server.lookup.find(arguments[2]) else {
            return replies.error("ERR Invalid command specified")
        }
        let container = server.specs[index]
        var spec = container
        if count > 1, !container.subcommands.isEmpty {
            guard let subcommand = container.subcommand(named: arguments[3]) else {
                return replies.error("ERR Invalid command specified")
            }
            spec = subcommand
        }
        let keys = spec.keys.range
        guard keys.first > 0 else {
            return replies.error("ERR The command has no key arguments")
        }
        guard spec.arity.accepts(count) else {
            return replies.error("ERR Invalid number of arguments specified for command")
        }
        let last = keys.last < 0 ? count + keys.last : keys.last
        let indexes = Array(stride(from: keys.first, through: last, by: keys.step))
        replies.array(indexes.count)
        for index in indexes { replies.bulk(arguments[index + 2]) }
    }
}
