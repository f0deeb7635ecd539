/// Commands that look at all keys, or move one.
extension CommandTable {
    static let keyspaceCommands: [CommandSpec] = [
        CommandSpec(
            "scan", .scan, arity: -2, [.readonly], .generic, since: "2.8.0",
            "Iterates over the names of keys and records.",
            complexity:
                "O(1) for every call. O(N) for a complete iteration, N being the number of keys.",
            tips: [
                "nondeterministic_output", "request_policy:special", "response_policy:special",
            ]),
        CommandSpec(
            "keys", .keys, arity: 2, [.readonly], .generic, since: "1.0.0",
            "Returns all names that match a pattern, where there are not too many keys.",
            complexity: "O(N) with N being the number of keys.",
            tips: ["request_policy:all_shards", "nondeterministic_output_order"]),
        CommandSpec(
            "randomkey", .randomKey, arity: 1, [.readonly], .generic, since: "1.0.0",
            "Returns a random name of a key or a record.",
            tips: [
                "request_policy:all_shards", "response_policy:special", "nondeterministic_output",
            ]),
        CommandSpec(
            "hscan", .hashScan, arity: -3, [.readonly], keys: .first, .hash, since: "2.8.0",
            "Iterates over a record's columns, all of them at once.",
            complexity: "O(N) with N being the number of columns.",
            tips: ["nondeterministic_output"]),
        CommandSpec(
            "copy", .copy, arity: -3, [.write, .denyoom], keys: .firstTwo, .generic,
            since: "6.2.0", "Copies a counter, with its expiration time, to a new key."),
        CommandSpec(
            "rename", .rename, arity: 3, [.write], keys: .firstTwo, .generic, since: "1.0.0",
            "Renames a key and overwrites the destination."),
        CommandSpec(
            "renamenx", .renameIfAbsent, arity: 3, [.write, .fast], keys: .firstTwo, .generic,
            since: "1.0.0", "Renames a key only when the target key name doesn't exist."),
        CommandSpec(
            "memory", .memory, arity: -2, [], .server, since: "4.0.0",
            "A container for memory diagnostics commands.", complexity: "Depends on subcommand.",
            subcommands: [
                CommandSpec(
                    "usage", .memoryUsage, arity: -3, [.readonly], keys: .second, .server,
                    since: "4.0.0", "Estimates the memory usage of a key.",
                    container: "memory"),
                CommandSpec(
                    "stats", .memoryStatistics, arity: 2, [.readonly], .server, since: "4.0.0",
                    "Returns what takes memory, bytes.", container: "memory"),
                CommandSpec(
                    "doctor", .memoryDoctor, arity: 2, [.readonly], .server, since: "4.0.0",
                    "Returns a report in words.", container: "memory"),
                CommandSpec(
                    "purge", .memoryPurge, arity: 2, [], .server, since: "4.0.0",
                    "Accepted for compatibility: memory goes back by itself.", container: "memory"),
                CommandSpec(
                    "help", .memoryHelp, arity: 2, [.loading, .stale], .server, since: "4.0.0",
                    "Returns helpful text about the different subcommands.", container: "memory"),
            ]),
    ]
}
