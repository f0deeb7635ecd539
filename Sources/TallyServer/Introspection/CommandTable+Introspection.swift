extension CommandTable {
    static let introspectionCommands: [CommandSpec] = [
        CommandSpec(
            "slowlog", .slowLog, arity: -2, [], .server, since: "2.2.12",
            "A container for slow log commands.", complexity: "Depends on subcommand.",
            subcommands: [
                admin("slowlog", "get", .slowLogGet, -2, "Returns the slow log's entries."),
                admin("slowlog", "len", .slowLogLength, 2, "Returns how many entries there are."),
                admin("slowlog", "reset", .slowLogReset, 2, "Removes all entries."),
                help("slowlog", .slowLogHelp),
            ]),
        CommandSpec(
            "latency", .latency, arity: -2, [], .server, since: "2.8.13",
            "A container for latency diagnostics commands.", complexity: "Depends on subcommand.",
            subcommands: [
                admin("latency", "latest", .latencyLatest, 2, "Returns the latest of all events."),
                admin("latency", "history", .latencyHistory, 3, "Returns an event's latest times."),
                admin("latency", "reset", .latencyReset, -2, "Forgets events."),
                admin("latency", "doctor", .latencyDoctor, 2, "Returns a report in words."),
                help("latency", .latencyHelp),
            ]),
        CommandSpec(
            "hotkeys", .hotKeys, arity: -2, [], .server, since: "8.6.0",
            "A container for commands about the keys that are asked for most.",
            complexity: "Depends on subcommand.",
            subcommands: [
                admin(
                    "hotkeys", "get", .hotKeysGet, -2,
                    "Returns the keys that are asked for most, how often and of how much."),
                admin("hotkeys", "reset", .hotKeysReset, 2, "Forgets them."),
                admin(
                    "hotkeys", "start", .hotKeysTracking, -2, "Says that they are always tracked."),
                admin(
                    "hotkeys", "stop", .hotKeysTracking, -2, "Says that they are always tracked."),
                help("hotkeys", .hotKeysHelp),
            ]),
        CommandSpec(
            "monitor", .monitor, arity: 1, [.admin, .noscript, .loading, .stale], .server,
            since: "1.0.0", "Shows every command that the server gets, but those of administrators."
        ),
        CommandSpec(
            "role", .role, arity: 1, [.noscript, .loading, .stale, .fast], .server, since: "2.8.12",
            "Returns the server's role, which is master."),
        CommandSpec(
            "lolwut", .lolwut, arity: -1, [.readonly, .fast], .server, since: "5.0.0",
            "Returns the server's version."),
    ]

    private static func admin(
        _ container: String, _ name: String, _ id: CommandID, _ arity: Int32, _ summary: String
    ) -> CommandSpec {
        CommandSpec(
            name, id, arity: arity, [.admin, .loading, .stale], .server, since: "2.8.13", summary,
            container: container)
    }

    private static func help(_ container: String, _ id: CommandID) -> CommandSpec {
        CommandSpec(
            "help", id, arity: 2, [.loading, .stale], .server, since: "6.2.0",
            "Returns helpful text about the different subcommands.", container: container)
    }
}
