/// All commands, each declared once.
enum CommandTable {
    /// Every command, in the order in which they are listed.
    static let all: [CommandSpec] =
        counterCommands + expiryCommands + keyspaceCommands + hashCommands + schemaCommands
        + connectionCommands + serverCommands + accessCommands + introspectionCommands
        + clusterCommands

    /// The command called `name`, in lower case; a subcommand as `container|name`.
    static func find(_ name: String) -> CommandSpec? {
        let parts = name.split(separator: "|", maxSplits: 1)
        guard let first = parts.first, let spec = all.first(where: { $0.name == first }) else {
            return nil
        }
        guard parts.count == 2 else { return spec }
        return spec.subcommands.first { $0.name == parts[1] }
    }

    private static let counterCommands: [CommandSpec] = [
        CommandSpec(
            "get", .get, arity: 2, [.readonly, .fast], keys: .first, .string, since: "1.0.0",
            "Returns the value of a counter."),
        CommandSpec(
            "incr", .increment, arity: 2, [.write, .denyoom, .fast], keys: .first, .string,
            since: "1.0.0",
            "Adds one to a counter. Uses 0 as initial value if the key doesn't exist."),
        CommandSpec(
            "decr", .decrement, arity: 2, [.write, .denyoom, .fast], keys: .first, .string,
            since: "1.0.0",
            "Subtracts one from a counter. Uses 0 as initial value if the key doesn't exist."),
        CommandSpec(
            "incrby", .incrementBy, arity: 3, [.write, .denyoom, .fast], keys: .first, .string,
            since: "1.0.0",
            "Adds a number to a counter. Uses 0 as initial value if the key doesn't exist."),
        CommandSpec(
            "decrby", .decrementBy, arity: 3, [.write, .denyoom, .fast], keys: .first, .string,
            since: "1.0.0",
            "Subtracts a number from a counter. Uses 0 as initial value if the key doesn't exist."),
        CommandSpec(
            "increx", .incrementExtended, arity: -2, [.write, .denyoom, .fast], keys: .first,
            .string, since: "8.8.0",
            "Adds a number to a counter. Returns the new value and what of the number took effect."),
        CommandSpec(
            "set", .set, arity: -3, [.write, .denyoom], keys: .first, .string, since: "1.0.0",
            "Sets a counter, creating it if it doesn't exist. The value is a 64-bit integer."),
        CommandSpec(
            "setnx", .setIfAbsent, arity: 3, [.write, .denyoom, .fast], keys: .first, .string,
            since: "1.0.0", "Sets a counter only when the key doesn't exist."),
        CommandSpec(
            "getset", .getSet, arity: 3, [.write, .denyoom, .fast], keys: .first, .string,
            since: "1.0.0", "Returns a counter's previous value after setting it to a new one."),
        CommandSpec(
            "getdel", .getDelete, arity: 2, [.write, .fast], keys: .first, .string,
            since: "6.2.0", "Returns a counter's value after deleting the key."),
        CommandSpec(
            "mget", .multipleGet, arity: -2, [.readonly, .fast], keys: .all, .string,
            since: "1.0.0", "Returns the values of one or more counters, all at one moment.",
            complexity: "O(N) where N is the number of keys to retrieve.",
            tips: ["request_policy:multi_shard"]),
        CommandSpec(
            "mset", .multipleSet, arity: -3, [.write, .denyoom], keys: .pairs, .string,
            since: "1.0.1", "Sets one or more counters, all at one moment.",
            complexity: "O(N) where N is the number of keys to set.",
            tips: ["request_policy:multi_shard", "response_policy:all_succeeded"]),
        CommandSpec(
            "msetnx", .multipleSetIfAbsent, arity: -3, [.write, .denyoom], keys: .pairs, .string,
            since: "1.0.1", "Sets one or more counters only when none of the keys exists.",
            complexity: "O(N) where N is the number of keys to set."),
        CommandSpec(
            "strlen", .stringLength, arity: 2, [.readonly, .fast], keys: .first, .string,
            since: "2.2.0", "Returns the length of a counter's decimal text."),
        CommandSpec(
            "del", .delete, arity: -2, [.write], keys: .all, .generic, since: "1.0.0",
            "Deletes one or more keys.",
            complexity: "O(N) where N is the number of keys that will be removed.",
            tips: ["request_policy:multi_shard", "response_policy:agg_sum"]),
        CommandSpec(
            "unlink", .unlink, arity: -2, [.write, .fast], keys: .all, .generic, since: "4.0.0",
            "Deletes one or more keys.",
            complexity: "O(N) where N is the number of keys that will be removed.",
            tips: ["request_policy:multi_shard", "response_policy:agg_sum"]),
        CommandSpec(
            "exists", .exists, arity: -2, [.readonly, .fast], keys: .all, .generic,
            since: "1.0.0", "Determines whether one or more keys exist.",
            complexity: "O(N) where N is the number of keys to check.",
            tips: ["request_policy:multi_shard", "response_policy:agg_sum"]),
        CommandSpec(
            "touch", .touch, arity: -2, [.readonly, .fast], keys: .all, .generic,
            since: "3.2.1", "Returns the number of existing keys out of those specified.",
            complexity: "O(N) where N is the number of keys that will be touched.",
            tips: ["request_policy:multi_shard", "response_policy:agg_sum"]),
        CommandSpec(
            "type", .type, arity: 2, [.readonly, .fast], keys: .first, .generic, since: "1.0.0",
            "Determines the type of value stored at a key."),
        CommandSpec(
            "object", .object, arity: -2, [], .generic, since: "2.2.3",
            "A container for object introspection commands.",
            complexity: "Depends on subcommand.",
            subcommands: [
                CommandSpec(
                    "encoding", .objectEncoding, arity: 3, [.readonly], keys: .second, .generic,
                    since: "2.2.3", "Returns the internal encoding of a counter.",
                    container: "object"),
                CommandSpec(
                    "refcount", .objectReferences, arity: 3, [.readonly], keys: .second, .generic,
                    since: "2.2.3", "Returns 1.", container: "object"),
                CommandSpec(
                    "idletime", .objectIdleTime, arity: 3, [.readonly], keys: .second, .generic,
                    since: "2.2.3", "Returns 0: when a key was used is not noted.",
                    container: "object"),
                CommandSpec(
                    "freq", .objectFrequency, arity: 3, [.readonly], keys: .second, .generic,
                    since: "4.0.0", "Refused: how often a key is used is not counted.",
                    container: "object"),
                CommandSpec(
                    "help", .objectHelp, arity: 2, [.loading, .stale], .generic, since: "6.2.0",
                    "Returns helpful text about the different subcommands.", container: "object"),
            ]),
        CommandSpec(
            "dbsize", .databaseSize, arity: 1, [.readonly, .fast], .server, since: "1.0.0",
            "Returns the number of keys in the database.",
            complexity: "O(P) where P is the number of partitions.",
            tips: ["request_policy:all_shards", "response_policy:agg_sum"]),
        CommandSpec(
            "flushdb", .flushDatabase, arity: -1, [.write], .server, since: "1.0.0",
            "Removes all keys.", complexity: "O(N) where N is the number of keys.",
            tips: ["request_policy:all_shards", "response_policy:all_succeeded"]),
        CommandSpec(
            "flushall", .flushAll, arity: -1, [.write], .server, since: "1.0.0",
            "Removes all keys.", complexity: "O(N) where N is the number of keys.",
            tips: ["request_policy:all_shards", "response_policy:all_succeeded"]),
    ]

    private static let connectionFlags: [CommandSpec.Flag] = [.noscript, .loading, .stale]

    private static let connectionCommands: [CommandSpec] = [
        CommandSpec(
            "multi", .multi, arity: 1, connectionFlags + [.fast, .allowBusy], .transactions,
            since: "1.2.0", "Starts a transaction."),
        CommandSpec(
            "exec", .execute, arity: 1, connectionFlags, .transactions, since: "1.2.0",
            "Executes all commands in a transaction.", complexity: "Depends on the commands."),
        CommandSpec(
            "once", .once, arity: -3, [.write, .noscript], .transactions, since: "1.0.0",
            "Executes a command that is counted once however often it is sent with this token, "
                + "and is replied to as it was first.",
            complexity: "Depends on the command."),
        CommandSpec(
            "wait", .wait, arity: 3, [], .generic, since: "3.0.0",
            "Returns the number of replicas that have all that was written, which is 0.",
            tips: ["request_policy:all_shards", "response_policy:agg_min"]),
        CommandSpec(
            "waitaof", .waitForDisk, arity: 4, [.noscript], .generic, since: "7.2.0",
            "Waits until all that was written is on the disk, or the time is over.",
            tips: ["request_policy:all_shards", "response_policy:agg_min"]),
        CommandSpec(
            "withposition", .withPosition, arity: -2, [.noscript], .transactions, since: "1.0.0",
            "Executes a command and tells, beside its reply, the positions that it reflects.",
            complexity: "Depends on the command."),
        CommandSpec(
            "atleast", .atLeast, arity: -3, [.noscript], .transactions, since: "1.0.0",
            "Executes a command on a state that reflects a position, or refuses it.",
            complexity: "Depends on the command."),
        CommandSpec(
            "discard", .discard, arity: 1, connectionFlags + [.fast, .allowBusy], .transactions,
            since: "2.0.0", "Discards a transaction.",
            complexity: "O(N) where N is the number of queued commands"),
        CommandSpec(
            "watch", .watch, arity: -2, connectionFlags + [.fast, .allowBusy], keys: .all,
            .transactions, since: "2.2.0",
            "Monitors changes to keys to determine the execution of a transaction.",
            complexity: "O(1) for every key."),
        CommandSpec(
            "unwatch", .unwatch, arity: 1, connectionFlags + [.fast, .allowBusy], .transactions,
            since: "2.2.0", "Forgets about watched keys of a transaction."),
        CommandSpec(
            "ping", .ping, arity: -1, [.fast], .connection, since: "1.0.0",
            "Returns the server's liveliness response.",
            tips: ["request_policy:all_shards", "response_policy:all_succeeded"]),
        CommandSpec(
            "echo", .echo, arity: 2, [.loading, .stale, .fast], .connection, since: "1.0.0",
            "Returns the given string."),
        CommandSpec(
            "select", .select, arity: 2, [.loading, .stale, .fast], .connection, since: "1.0.0",
            "Changes the selected database. There is only database 0."),
        CommandSpec(
            "quit", .quit, arity: -1, [.noscript, .loading, .stale, .fast, .noAuth, .allowBusy],
            .connection, since: "1.0.0", "Closes the connection."),
        CommandSpec(
            "reset", .reset, arity: 1, [.noscript, .loading, .stale, .fast, .noAuth, .allowBusy],
            .connection, since: "6.2.0", "Resets the connection."),
        CommandSpec(
            "auth", .authenticate, arity: -2,
            [.noscript, .loading, .stale, .fast, .noAuth, .allowBusy], .connection, since: "1.0.0",
            "Authenticates the connection."),
        CommandSpec(
            "hello", .hello, arity: -1, [.noscript, .loading, .stale, .fast, .noAuth, .allowBusy],
            .connection, since: "6.0.0", "Handshakes with the server."),
        CommandSpec(
            "client", .client, arity: -2, [], .connection, since: "2.4.0",
            "A container for client connection commands.", complexity: "Depends on subcommand.",
            subcommands: [
                client("id", .clientID, 2, "5.0.0", "Returns the unique ID of the connection."),
                client(
                    "info", .clientInfo, 2, "6.2.0", "Returns information about the connection."),
                client(
                    "list", .clientList, -2, "2.4.0", "Lists open connections.", isAdmin: true,
                    complexity: "O(N) where N is the number of client connections"),
                client("setname", .clientSetName, 3, "2.6.9", "Sets the connection name."),
                client(
                    "getname", .clientGetName, 2, "2.6.9", "Returns the name of the connection."),
                client(
                    "setinfo", .clientSetInfo, 4, "7.2.0",
                    "Sets information specific to the client or connection."),
                client(
                    "reply", .clientReply, 3, "3.2.0",
                    "Instructs the server whether to reply to commands."),
                client(
                    "no-evict", .clientNoEvict, 3, "7.0.0",
                    "Accepted for compatibility: connections are never evicted.", isAdmin: true),
                client(
                    "no-touch", .clientNoTouch, 3, "7.2.0",
                    "Accepted for compatibility: reading a counter never marks it as used."),
                client(
                    "kill", .clientKill, -3, "2.4.0", "Terminates open connections.",
                    isAdmin: true,
                    complexity: "O(N) where N is the number of client connections"),
                client(
                    "pause", .clientPause, -3, "3.0.0", "Has commands wait for a time.",
                    isAdmin: true),
                client(
                    "unpause", .clientUnpause, 2, "6.2.0", "Has commands wait no longer.",
                    isAdmin: true),
                client(
                    "unblock", .clientUnblock, -3, "5.0.0", "Returns 0: no command blocks.",
                    isAdmin: true),
                client(
                    "tracking", .clientTracking, -3, "6.0.0",
                    "Refused but for OFF: what clients cache is not tracked."),
                client("trackinginfo", .clientTrackingInfo, 2, "6.2.0", "Tells that it is off."),
                client("getredir", .clientGetRedirection, 2, "6.0.0", "Returns -1."),
                client(
                    "help", .clientHelp, 2, "5.0.0",
                    "Returns helpful text about the different subcommands."),
            ]),
    ]

    private static func client(
        _ name: String, _ id: CommandID, _ arity: Int32, _ since: String, _ summary: String,
        isAdmin: Bool = false, complexity: String = "O(1)"
    ) -> CommandSpec {
        CommandSpec(
            name, id, arity: arity, (isAdmin ? [.admin] : []) + connectionFlags, .connection,
            since: since, summary, complexity: complexity, container: "client")
    }

    private static let serverCommands: [CommandSpec] = [
        CommandSpec(
            "time", .time, arity: 1, [.loading, .stale, .fast], .server, since: "2.6.0",
            "Returns the server time.", tips: ["nondeterministic_output"]),
        CommandSpec(
            "bgsave", .backgroundSave, arity: -1, [.admin, .noscript], .server, since: "1.0.0",
            "Makes a checkpoint in the background."),
        CommandSpec(
            "backup", .backup, arity: -2, [], .server, since: "1.0.0",
            "A container for backup commands.", complexity: "Depends on subcommand.",
            subcommands: [
                CommandSpec(
                    "start", .backupStart, arity: 3, [.admin], .server, since: "1.0.0",
                    "Makes a backup in a directory of the server's machine, in the background.",
                    container: "backup"),
                CommandSpec(
                    "status", .backupStatus, arity: 2, [.admin], .server, since: "1.0.0",
                    "Tells how the last backup went.", container: "backup"),
            ]),
        CommandSpec(
            "lastsave", .lastSave, arity: 1, [.loading, .stale, .fast], .server, since: "1.0.0",
            "Returns when the last checkpoint was made, in seconds since 1970.",
            tips: ["nondeterministic_output"]),
        CommandSpec(
            "info", .info, arity: -1, [.loading, .stale], .server, since: "1.0.0",
            "Returns information and statistics about the server.",
            tips: [
                "nondeterministic_output", "request_policy:all_shards", "response_policy:special",
            ]),
        CommandSpec(
            "command", .command, arity: -1, [.loading, .stale], .server, since: "2.8.13",
            "Returns detailed information about all commands.",
            complexity: "O(N) where N is the total number of commands",
            tips: ["nondeterministic_output_order"],
            subcommands: [
                command("count", .commandCount, 2, "2.8.13", "Returns a count of commands."),
                command(
                    "info", .commandInfo, -2, "2.8.13",
                    "Returns information about one, multiple or all commands.",
                    complexity: "O(N) where N is the number of commands to look up"),
                command(
                    "docs", .commandDocs, -2, "7.0.0",
                    "Returns documentary information about one, multiple or all commands.",
                    complexity: "O(N) where N is the number of commands to look up"),
                command(
                    "list", .commandList, -2, "7.0.0", "Returns a list of command names.",
                    complexity: "O(N) where N is the total number of commands"),
                command(
                    "getkeys", .commandGetKeys, -3, "2.8.13",
                    "Extracts the key names from an arbitrary command.",
                    complexity: "O(N) where N is the number of arguments to the command"),
                command(
                    "help", .commandHelp, 2, "5.0.0",
                    "Returns helpful text about the different subcommands."),
            ]),
        CommandSpec(
            "config", .config, arity: -2, [], .server, since: "2.0.0",
            "A container for server configuration commands.",
            complexity: "Depends on subcommand.",
            subcommands: [
                config(
                    "get", .configGet, -3, "Returns the effective values of settings.",
                    complexity: "O(N) where N is the number of settings"),
                config("set", .configSet, -4, "Changes settings of a running server."),
                config(
                    "resetstat", .configResetStatistics, 2, "Resets the server's statistics."),
                config(
                    "help", .configHelp, 2,
                    "Returns helpful text about the different subcommands."),
            ]),
    ]

    private static func command(
        _ name: String, _ id: CommandID, _ arity: Int32, _ since: String, _ summary: String,
        complexity: String = "O(1)"
    ) -> CommandSpec {
        CommandSpec(
            name, id, arity: arity, [.loading, .stale], .server, since: since, summary,
            complexity: complexity, container: "command")
    }

    private static func config(
        _ name: String, _ id: CommandID, _ arity: Int32, _ summary: String,
        complexity: String = "O(1)"
    ) -> CommandSpec {
        CommandSpec(
            name, id, arity: arity, [.admin, .noscript, .loading, .stale], .server,
            since: "2.0.0", summary, complexity: complexity, container: "config")
    }
}
