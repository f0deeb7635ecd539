import Logging
import TallyAccess
import TallyCore
import TallyNode
import TallyRESP

/// What users may do, and how connections become theirs.
extension CommandProcessor {
    // MARK: Permission

    /// Why a command is not for the session's user; nil if it is.
    @inline(never)
    mutating func refusal(
        of index: Int, _ arguments: CommandArguments, _ session: inout Session
    ) -> Refusal? {
        let command = server.commands[index]
        guard let user = session.access.user else {
            return command.allowsStrangers ? nil : Refusal("NOAUTH Authentication required.")
        }
        if let refusal = refusal(of: index, arguments, user) { return refusal }
        noteAdministration(index, arguments, user, session)
        return nil
    }

    /// Why a command is not for a user.
    mutating func refusal(
        of index: Int, _ arguments: CommandArguments, _ user: User
    ) -> Refusal? {
        let command = server.commands[index]
        switch command.id {
        case .once, .atLeast: return refusal(ofInner: arguments, skipping: 2, user)
        case .withPosition: return refusal(ofInner: arguments, skipping: 1, user)
        default: break
        }
        var permission = command.permission
        var keys = command.keys
        if command.isContainer, arguments.count > 1,
            let subcommand = server.specs[index].subcommand(named: arguments[1])
        {
            permission = subcommand.permission
            keys = subcommand.keys
            guard user.permissions.isSuperset(of: permission) else {
                return Self.notPermitted(user, subcommand.fullName)
            }
        }
        guard user.permissions.isSuperset(of: permission) else {
            return Self.notPermitted(user, server.specs[index].fullName)
        }
        guard user.keys != nil else { return nil }
        return !command.spansKeys && mayTouch(command, keys, arguments, user)
            ? nil : Refusal("NOPERM No permissions to access a key")
    }

    private mutating func refusal(
        ofInner arguments: CommandArguments, skipping count: Int, _ user: User
    ) -> Refusal? {
        guard arguments.count > count, let index = findCommand(arguments[count]) else { return nil }
        return refusal(of: index, arguments.dropFirst(count), user)
    }

    private static func notPermitted(_ user: User, _ command: String) -> Refusal {
        Refusal("NOPERM User \(user.name) has no permissions to run the '\(command)' command")
    }

    /// Whether a user may touch all the keys of a command.
    private mutating func mayTouch(
        _ command: ServerContext.Command, _ keys: CommandSpec.Keys, _ arguments: CommandArguments,
        _ user: User
    ) -> Bool {
        if let names = languageKeys(command.id, arguments) {
            return names.allSatisfy { name in name.withUnsafeBytes { user.mayTouch($0) } }
        }
        let range = keys.range
        guard range.first > 0 else { return true }
        let last = range.last < 0 ? arguments.count + range.last : range.last
        for index in stride(from: range.first, through: last, by: range.step)
        where index < arguments.count {
            guard user.mayTouch(arguments[index]) else { return false }
        }
        return true
    }

    /// The keys of `COMMAND family key …`, as `family:key`; nil if it is not like that.
    private mutating func languageKeys(
        _ id: CommandID, _ arguments: CommandArguments
    ) -> [[UInt8]]? {
        let count: Int
        switch id {
        case .get, .multipleGet, .delete, .unlink, .exists, .touch: count = arguments.count
        case .set, .increment, .decrement, .incrementBy, .decrementBy: count = 3
        default: return nil
        }
        guard !catalog.isEmpty, arguments.count >= 3, catalog.find(arguments[1]) != nil else {
            return nil
        }
        return (2..<min(count, arguments.count)).map {
            Array(arguments[1]) + [UInt8(ascii: ":")] + Array(arguments[$0])
        }
    }

    /// The users have changed.
    @inline(never)
    mutating func followUsers(_ session: inout Session) {
        session.access.follow(server.access.users)
        session.transaction?.isBroken = true
        let name = session.access.user?.name ?? ""
        session.client.update { $0.user = name }
    }

    /// Logs what an administrator has asked for, if it changes anything.
    private mutating func noteAdministration(
        _ index: Int, _ arguments: CommandArguments, _ user: User, _ session: borrowing Session
    ) {
        // One that has begun is presented again until it is done.
        guard session.schemaChange == nil else { return }
        var id = server.commands[index].id
        if server.commands[index].isContainer, arguments.count > 1 {
            guard let subcommand = server.specs[index].subcommand(named: arguments[1]) else {
                return
            }
            id = subcommand.id
        }
        switch id {
        case .flushAll, .flushDatabase, .add, .alter, .drop, .configSet, .configResetStatistics,
            .clientKill, .backupStart, .importStart, .importCommit, .backgroundSave, .accessLoad:
            break
        default: return
        }
        var text = ""
        for index in 0..<arguments.count where text.utf8.count < 256 {
            text += (index == 0 ? "" : " ") + arguments[index].prefixText(128)
        }
        server.logger.notice(
            "administration",
            metadata: [
                "command": "\(text.debugDescription)", "user": "\(user.name)",
                "address": "\(session.client.address)",
            ])
    }

    // MARK: Logging in

    /// `AUTH [name] password`.
    mutating func dispatchLogin(_ owner: Int, _ session: inout Session) -> Dispatch {
        guard (2...3).contains(arguments.count) else {
            let refusal = arguments.count < 2 ? Self.wrongArity("auth") : "ERR syntax error"
            return Dispatch(reject(owner, Refusal(refusal), &session))
        }
        let isNamed = arguments.count == 3
        let name = isNamed ? arguments[1].text : User.defaultName
        if !isNamed, server.access.users.current.users.initial != nil {
            return Dispatch(
                reject(
                    owner,
                    Refusal(
                        "ERR AUTH <password> called without any password configured for the "
                            + "default user. Are you sure your configuration is correct?"),
                    &session))
        }
        return logIn(name, Array(arguments[arguments.count - 1]), owner, &session) {
            (processor, _) in processor.replies.simple("OK")
        }
    }

    /// `HELLO [version [AUTH name password] [SETNAME name]]`.
    mutating func dispatchHello(_ owner: Int, _ session: inout Session) -> Dispatch {
        let greeting: Greeting
        do throws(Refusal) {
            greeting = try self.greeting(session)
        } catch {
            return Dispatch(reject(owner, error, &session))
        }
        let greet = { (processor: inout CommandProcessor, session: inout Session) in
            processor.greet(greeting, &session)
        }
        guard let (name, password) = greeting.credentials else {
            return Dispatch(replyTo(owner, &session, greet))
        }
        return logIn(name, password, owner, &session, greet)
    }

    private mutating func replyTo(
        _ owner: Int, _ session: inout Session,
        _ reply: (inout CommandProcessor, inout Session) -> Void
    ) -> Bool {
        guard flush() else { return false }
        let start = replies.byteCount
        reply(&self, &session)
        if session.takeReplyMode() != .on { replies.truncate(to: start) }
        return replyAtOnce(owner, from: start)
    }

    /// Replies once it is known whether the password is right.
    private mutating func logIn(
        _ name: String, _ password: [UInt8], _ owner: Int, _ session: inout Session,
        _ admitted: (inout CommandProcessor, inout Session) -> Void
    ) -> Dispatch {
        let login: Login
        if let begun = session.login {
            login = begun
        } else {
            login = Login()
            server.access.authenticator.check(
                name, password: password, address: session.client.host
            ) { [login] in login.end($0) }
        }
        guard let outcome = login.outcome, flush() else {
            session.login = login
            return login.outcome == nil ? .waiting : .busy
        }
        session.login = nil
        switch outcome {
        case .admitted(let user):
            session.access = SessionAccess(user, server.access.users.version)
            session.client.update { $0.user = user.name }
            return Dispatch(replyTo(owner, &session, admitted))
        case .refused:
            server.access.onFailedLogin(name, session.client.address)
            return Dispatch(
                reject(
                    owner, Refusal("WRONGPASS invalid username-password pair or user is disabled."),
                    &session))
        case .busy:
            return Dispatch(
                reject(
                    owner, Refusal("ERR too many passwords are being checked; try again"),
                    &session))
        }
    }

    // MARK: ACL

    mutating func runAccess(_ id: CommandID, _ session: borrowing Session) {
        let users = server.access.users.current.users
        switch id {
        case .accessWhoAmI: replies.bulk(session.access.user?.name ?? "")
        case .accessUsers:
            replies.array(users.all.count)
            for user in users.all { replies.bulk(user.name) }
        case .accessList:
            replies.array(users.all.count)
            for user in users.all {
                replies.bulk(
                    [
                        "user", user.name, Self.flags(user).joined(separator: " "),
                        Self.keys(user), Self.commands(user),
                    ].joined(separator: " "))
            }
        case .accessGetUser: replyUser(users.find(arguments[2].text), session.version)
        case .accessCategories: replyCategories()
        case .accessGenerate: generatePassword()
        case .accessLoad: reloadAccess()
        case .accessDryRun: dryRun(users)
        default:
            replies.error(
                "ERR users are kept in a file: change it, and send ACL LOAD or SIGHUP to the server"
            )
        }
    }

    private static func flags(_ user: User) -> [String] {
        [user.isEnabled ? "on" : "off"] + (user.needsNoPassword ? ["nopass"] : [])
    }

    private static func keys(_ user: User) -> String {
        (user.keys ?? ["*"]).map { "~\($0)" }.joined(separator: " ")
    }

    private static func commands(_ user: User) -> String {
        if user.permissions == .all { return "+@all" }
        let names = Permission.names.filter { user.permissions.contains($0.permission) }
        return (["-@all"] + names.map { "+@\($0.name)" }).joined(separator: " ")
    }

    private mutating func replyUser(_ user: User?, _ version: RESPVersion) {
        guard let user else { return replies.null(version) }
        replies.map(6, version)
        replies.bulk("flags")
        let flags = Self.flags(user)
        replies.set(flags.count, version)
        for flag in flags { replies.bulk(flag) }
        // Not even their hashes are told.
        replies.bulk("passwords")
        replies.array(0)
        replies.bulk("commands")
        replies.bulk(Self.commands(user))
        replies.bulk("keys")
        replies.bulk(Self.keys(user))
        replies.bulk("channels")
        replies.bulk("")
        replies.bulk("selectors")
        replies.array(0)
    }

    private mutating func replyCategories() {
        let all = server.specs.flatMap { spec in
            [spec] + spec.subcommands
        }
        guard arguments.count > 2 else {
            let names = Set(all.flatMap(\.categories)).sorted()
            replies.array(names.count)
            for name in names { replies.bulk(name) }
            return
        }
        let category = arguments[2].text.lowercased()
        let members = all.filter { $0.categories.contains(category) }.map(\.fullName)
        guard !members.isEmpty else {
            return replies.error("ERR Unknown category '\(arguments[2].prefixText(64))'")
        }
        replies.array(members.count)
        for name in members { replies.bulk(name) }
    }

    private mutating func generatePassword() {
        var bits = 256
        if arguments.count > 2 {
            guard let wanted = Decimal.parse(arguments[2]), (1...4096).contains(wanted) else {
                return replies.error(
                    "ERR ACL GENPASS argument must be the number of bits for the output password, "
                        + "a positive number up to 4096")
            }
            bits = Int(wanted)
        }
        let digits = (0..<((bits + 3) / 4)).map { _ in String(UInt8.random(in: 0..<16), radix: 16) }
        replies.bulk(digits.joined())
    }

    private mutating func reloadAccess() {
        do {
            try server.access.reload()
            replies.simple("OK")
        } catch {
            replies.error("ERR users are as they were: \(error)")
        }
    }

    private mutating func dryRun(_ users: UserTable) {
        guard let user = users.find(arguments[2].text) else {
            return replies.error("ERR User '\(arguments[2].prefixText(64))' not found")
        }
        guard let index = findCommand(arguments[3]) else {
            return replies.error("ERR Command '\(arguments[3].prefixText(64))' not found")
        }
        guard server.commands[index].arity.accepts(arguments.count - 3) else {
            return replies.error(Self.wrongArity(server.specs[index].name))
        }
        if let refusal = refusal(of: index, arguments.dropFirst(3), user) {
            let text = String(decoding: refusal.message, as: UTF8.self)
            replies.bulk(String(text.dropFirst("NOPERM ".utf8.count)))
        } else {
            replies.simple("OK")
        }
    }
}
