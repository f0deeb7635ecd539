import TallyAccess
import TallyCore
import TallyNode
import TallyRESP

/// The commands about the connection itself, and the way to all others that are not counters.
extension CommandProcessor {
    /// Runs a command that replies at once; its arity has been checked.
    mutating func run(_ id: CommandID, _ session: inout Session) {
        switch id {
        case .ping: ping()
        case .echo: replies.bulk(arguments[1])
        case .select: select()
        case .quit:
            replies.simple("OK")
            session.isClosing = true
        case .reset: reset(&session)
        case .hello: hello(&session)
        case .authenticate: replies.error("ERR AUTH is not allowed here")
        case .multi: beginTransaction(&session)
        case .execute: replies.error("ERR EXEC without MULTI")
        case .wait: wait()
        case .waitForDisk:
            // In a transaction nobody waits.
            replies.array(2)
            replies.integer(
                server.node.gate.durableSequence >= server.node.countAll().sequence ? 1 : 0)
            replies.integer(0)
        case .once, .withPosition, .atLeast: replies.error("ERR this is not allowed here")
        case .discard: discardTransaction(&session)
        case .watch: watch(&session)
        case .unwatch: unwatch(&session)
        case .time: time()
        case .info: info(session)
        case .backgroundSave: backgroundSave()
        case .backupStart: startBackup()
        case .backupStatus: backupStatus()
        case .lastSave: replies.integer(Int64(server.savedMilliseconds / 1000))
        case .describe: describe()
        case .scan: scan()
        case .keys: keys()
        case .randomKey: randomKey(session.version)
        case .importStart: startImport()
        case .importCommit: commitImport()
        case .importStatus: importStatus()
        case .command: replyCommandInfo(names: nil, session.version)
        default: runContained(id, &session)
        }
    }

    private mutating func startBackup() {
        let path = arguments[2].text
        guard path.hasPrefix("/") else {
            return replies.error("ERR expected an absolute path on the server's machine")
        }
        if server.node.requestBackup(path) {
            replies.simple("OK")
        } else {
            replies.error("ERR another backup is being made")
        }
    }

    private mutating func backupStatus() {
        switch server.node.backupStatus {
        case .none: replies.bulk("none")
        case .working: replies.bulk("working")
        case .done: replies.bulk("done")
        case .failed(let reason): replies.bulk("failed \(reason)")
        }
    }

    private mutating func backgroundSave() {
        let isScheduled = arguments.count == 2 && arguments[1].equalsIgnoringCase("schedule")
        guard arguments.count == 1 || isScheduled else { return replies.error("ERR syntax error") }
        if server.node.requestCheckpoint() {
            replies.simple("Background saving started")
        } else {
            replies.simple("Background saving scheduled")
        }
    }

    private mutating func runContained(_ id: CommandID, _ session: inout Session) {
        switch id {
        case .clientID: replies.integer(Int64(session.client.id))
        case .clientInfo: clientInfo(session)
        case .clientList: clientList(session)
        case .clientSetName: setClientName(session)
        case .clientGetName: clientName(session)
        case .clientSetInfo: setClientLibrary(session)
        case .clientReply: setReplyMode(&session)
        case .clientNoEvict: setFlag(session) { $0.isNoEvict = $1 }
        case .clientNoTouch: setFlag(session) { $0.isNoTouch = $1 }
        case .clientKill: killClients(&session)
        case .commandCount: replies.integer(Int64(server.specs.count))
        case .commandInfo:
            withNames { $0.replyCommandInfo(names: $1, session.version) }
        case .commandDocs:
            withNames { $0.replyCommandDocs($1, session.version) }
        case .commandList: replyCommandList()
        case .commandGetKeys: replyCommandKeys()
        case .configGet: configGet(session.version)
        case .configSet: configSet()
        case .configResetStatistics:
            publishCounts()
            server.resetStatistics()
            replies.simple("OK")
        case .clientHelp: help("client")
        case .commandHelp: help("command")
        case .configHelp: help("config")
        case .objectHelp: help("object")
        case .memoryHelp: help("memory")
        case .accessHelp: help("acl")
        case .slowLogHelp: help("slowlog")
        case .hotKeysHelp: help("hotkeys")
        case .latencyHelp: help("latency")
        case .accessWhoAmI, .accessUsers, .accessList, .accessGetUser, .accessCategories,
            .accessGenerate, .accessLoad, .accessDryRun, .accessRefused:
            runAccess(id, session)
        case .readOnly, .readWrite, .asking, .clusterInfo, .clusterMyID, .clusterMyShardID,
            .clusterNodes, .clusterSlots, .clusterShards, .clusterReplicas, .clusterLinks,
            .clusterKeySlot, .clusterCountKeys, .clusterGetKeys, .clusterFailureReports,
            .clusterHelp:
            runCluster(id, &session)
        default: runIntrospection(id, &session)
        }
    }

    mutating func help(_ container: String) {
        guard let spec = server.specs.first(where: { $0.name == container }) else { return }
        replies.array(spec.subcommands.count * 2 + 1)
        replies.simple(text: "\(spec.name.uppercased()) <subcommand> [<arg> ...]. Subcommands are:")
        for subcommand in spec.subcommands {
            replies.simple(text: subcommand.name.uppercased())
            replies.simple(text: "    \(subcommand.summary)")
        }
    }

    private mutating func ping() {
        switch arguments.count {
        case 1: replies.simple("PONG")
        case 2: replies.bulk(arguments[1])
        default: replies.error(Self.wrongArity("ping"))
        }
    }

    private mutating func select() {
        guard let index = Decimal.parse(arguments[1]) else {
            return replies.error("ERR value is not an integer or out of range")
        }
        guard Int32(exactly: index) != nil else {
            return replies.error(
                "ERR value is out of range, value must between -2147483648 and 2147483647")
        }
        if index == 0 {
            replies.simple("OK")
        } else {
            replies.error("ERR DB index is out of range")
        }
    }

    private mutating func reset(_ session: inout Session) {
        endTransaction(&session)
        server.monitors.remove(session.client)
        session.access = SessionAccess(server.access.users)
        session.version = .two
        session.hasTurnedRepliesOn = session.replyMode == .off
        session.replyMode = .on
        session.client.update {
            $0.name = ""
            $0.user = session.access.user?.name ?? ""
            $0.protocolVersion = 2
            $0.isNoEvict = false
            $0.isNoTouch = false
        }
        replies.simple("RESET")
    }

    // MARK: HELLO

    /// What HELLO asks for.
    struct Greeting {
        var version: RESPVersion
        var name: String?
        var credentials: (name: String, password: [UInt8])?
    }

    mutating func greeting(_ session: borrowing Session) throws(Refusal) -> Greeting {
        var greeting = Greeting(version: session.version)
        guard arguments.count > 1 else { return greeting }
        guard let number = Decimal.parse(arguments[1]) else {
            throw Refusal("ERR Protocol version is not an integer or out of range")
        }
        guard number == 2 || number == 3 else {
            throw Refusal("NOPROTO unsupported protocol version")
        }
        greeting.version = number == 3 ? .three : .two
        var index = 2
        while index < arguments.count {
            let option = arguments[index]
            let left = arguments.count - index - 1
            if option.equalsIgnoringCase("setname"), left >= 1 {
                guard let accepted = acceptedName(arguments[index + 1]) else {
                    throw Refusal(Self.badName)
                }
                greeting.name = accepted
                index += 2
            } else if option.equalsIgnoringCase("auth"), left >= 2 {
                greeting.credentials = (arguments[index + 1].text, Array(arguments[index + 2]))
                index += 3
            } else {
                throw Refusal("ERR Syntax error in HELLO option '\(option.prefixText(128))'")
            }
        }
        return greeting
    }

    private mutating func hello(_ session: inout Session) {
        do throws(Refusal) {
            let greeting = try greeting(session)
            guard greeting.credentials == nil else {
                return replies.error("ERR HELLO with AUTH is not allowed inside a transaction")
            }
            greet(greeting, &session)
        } catch {
            replies.error(bytes: error.message)
        }
    }

    mutating func greet(_ greeting: Greeting, _ session: inout Session) {
        guard session.access.user != nil else {
            return replies.error(
                "NOAUTH HELLO must be called with the client already authenticated, otherwise the "
                    + "HELLO <proto> AUTH <user> <pass> option can be used to authenticate the "
                    + "client and select the RESP protocol version at the same time")
        }
        session.version = greeting.version
        session.client.update {
            $0.protocolVersion = greeting.version.rawValue
            if let name = greeting.name { $0.name = name }
        }
        replyHello(session)
    }

    private mutating func replyHello(_ session: borrowing Session) {
        replies.map(7, session.version)
        replies.bulk("server")
        replies.bulk("redis")
        replies.bulk("version")
        replies.bulk(ServerIdentity.redisVersion)
        replies.bulk("proto")
        replies.integer(Int64(session.version.rawValue))
        replies.bulk("id")
        replies.integer(Int64(session.client.id))
        replies.bulk("mode")
        replies.bulk("standalone")
        replies.bulk("role")
        replies.bulk("master")
        replies.bulk("modules")
        replies.array(0)
    }

    // MARK: CLIENT

    private static var badName: String {
        "ERR Client names cannot contain spaces, newlines or special characters."
    }

    func acceptedName(_ bytes: UnsafeRawBufferPointer) -> String? {
        guard bytes.count <= Limits.clientNameBytesMax,
            bytes.allSatisfy({ (UInt8(ascii: "!")...UInt8(ascii: "~")).contains($0) })
        else { return nil }
        return bytes.text
    }

    private mutating func clientInfo(_ session: borrowing Session) {
        session.client.note(command: .clientInfo)
        replies.verbatim(
            session.client.line(nowSeconds: server.uptimeSeconds) + "\n", session.version)
    }

    private mutating func clientList(_ session: borrowing Session) {
        session.client.note(command: .clientList)
        var clients = server.clients.all
        var index = 2
        if index < arguments.count {
            let option = arguments[index]
            index += 1
            if option.equalsIgnoringCase("type"), arguments.count == 4 {
                let type = arguments[3]
                guard let isNormal = Self.isNormalType(type) else {
                    return replies.error("ERR Unknown client type '\(type.prefixText(128))'")
                }
                if !isNormal { clients = [] }
            } else if option.equalsIgnoringCase("id"), arguments.count > 3 {
                var wanted: Set<UInt64> = []
                while index < arguments.count {
                    guard let id = Decimal.parse(arguments[index]) else {
                        return replies.error("ERR Invalid client ID")
                    }
                    if id > 0 { wanted.insert(UInt64(id)) }
                    index += 1
                }
                clients.removeAll { !wanted.contains($0.id) }
            } else {
                return replies.error("ERR syntax error")
            }
        }
        let now = server.uptimeSeconds
        replies.verbatim(
            clients.map { $0.line(nowSeconds: now) + "\n" }.joined(), session.version)
    }

    /// Whether clients of this type are those that there are; nil if there is no such type.
    static func isNormalType(_ type: UnsafeRawBufferPointer) -> Bool? {
        if type.equalsIgnoringCase("normal") { return true }
        return ["master", "replica", "slave", "pubsub"].contains(where: type.equalsIgnoringCase)
            ? false : nil
    }

    private mutating func setClientName(_ session: borrowing Session) {
        guard let name = acceptedName(arguments[2]) else {
            return replies.error(Self.badName)
        }
        session.client.update { $0.name = name }
        replies.simple("OK")
    }

    private mutating func clientName(_ session: borrowing Session) {
        let name = session.client.current.name
        if name.isEmpty { replies.null(session.version) } else { replies.bulk(name) }
    }

    private mutating func setClientLibrary(_ session: borrowing Session) {
        let attribute = arguments[2]
        let isName = attribute.equalsIgnoringCase("lib-name")
        guard isName || attribute.equalsIgnoringCase("lib-ver") else {
            return replies.error("ERR Unrecognized option '\(attribute.prefixText(128))'")
        }
        guard let value = acceptedName(arguments[3]) else {
            return replies.error(
                "ERR \(isName ? "lib-name" : "lib-ver") cannot contain spaces, newlines or special characters."
            )
        }
        session.client.update {
            if isName { $0.libraryName = value } else { $0.libraryVersion = value }
        }
        replies.simple("OK")
    }

    private mutating func setReplyMode(_ session: inout Session) {
        let mode = arguments[2]
        if mode.equalsIgnoringCase("on") {
            session.replyMode = .on
            session.hasTurnedRepliesOn = true
            replies.simple("OK")
        } else if mode.equalsIgnoringCase("off") {
            session.replyMode = .off
        } else if mode.equalsIgnoringCase("skip") {
            if session.replyMode == .on { session.replyMode = .skipNext }
        } else {
            replies.error("ERR syntax error")
        }
    }

    private mutating func setFlag(
        _ session: borrowing Session, _ change: (inout ClientInfo.Details, Bool) -> Void
    ) {
        let value = arguments[2]
        guard value.equalsIgnoringCase("on") || value.equalsIgnoringCase("off") else {
            return replies.error("ERR syntax error")
        }
        session.client.update { change(&$0, value.equalsIgnoringCase("on")) }
        replies.simple("OK")
    }
}
