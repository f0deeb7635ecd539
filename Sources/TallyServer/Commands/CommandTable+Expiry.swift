/// Commands about keys' deadlines.
extension CommandTable {
    static let expiryCommands: [CommandSpec] = [
        write(
            "expire", .expire, -3, since: "1.0.0", "Sets the expiration time of a key in seconds."),
        write(
            "pexpire", .expireMilliseconds, -3, since: "2.6.0",
            "Sets the expiration time of a key in milliseconds."),
        write(
            "expireat", .expireAt, -3, since: "1.2.0",
            "Sets the expiration time of a key to a Unix timestamp."),
        write(
            "pexpireat", .expireAtMilliseconds, -3, since: "2.6.0",
            "Sets the expiration time of a key to a Unix milliseconds timestamp."),
        write(
            "persist", .persist, 2, since: "2.2.0", "Removes the expiration time of a key."),
        read(
            "ttl", .timeToLive, since: "1.0.0", "Returns the expiration time in seconds of a key.",
            tips: ["nondeterministic_output"]),
        read(
            "pttl", .timeToLiveMilliseconds, since: "2.6.0",
            "Returns the expiration time in milliseconds of a key.",
            tips: ["nondeterministic_output"]),
        read(
            "expiretime", .expireTime, since: "7.0.0",
            "Returns the expiration time of a key as a Unix timestamp."),
        read(
            "pexpiretime", .expireTimeMilliseconds, since: "7.0.0",
            "Returns the expiration time of a key as a Unix milliseconds timestamp."),
        CommandSpec(
            "setex", .setWithSeconds, arity: 4, [.write, .denyoom], keys: .first, .string,
            since: "2.0.0", "Sets a counter and its expiration time in seconds."),
        CommandSpec(
            "psetex", .setWithMilliseconds, arity: 4, [.write, .denyoom], keys: .first, .string,
            since: "2.6.0", "Sets a counter and its expiration time in milliseconds."),
        CommandSpec(
            "getex", .getExpire, arity: -2, [.write, .fast], keys: .first, .string,
            since: "6.2.0", "Returns the value of a counter after setting its expiration time."),
    ]

    private static func write(
        _ name: String, _ id: CommandID, _ arity: Int32, since: String, _ summary: String
    ) -> CommandSpec {
        CommandSpec(
            name, id, arity: arity, [.write, .fast], keys: .first, .generic, since: since, summary)
    }

    private static func read(
        _ name: String, _ id: CommandID, since: String, _ summary: String, tips: [String] = []
    ) -> CommandSpec {
        CommandSpec(
            name, id, arity: 2, [.readonly, .fast], keys: .first, .generic, since: since, summary,
            tips: tips)
    }
}
