extension CommandTable {
    static let hashCommands: [CommandSpec] = [
        CommandSpec(
            "hincrby", .hashIncrementBy, arity: 4, [.write, .denyoom, .fast], keys: .first, .hash,
            since: "2.0.0", "Adds a number to a column of a record."),
        CommandSpec(
            "hget", .hashGet, arity: 3, [.readonly, .fast], keys: .first, .hash, since: "2.0.0",
            "Returns the value of a column of a record."),
        CommandSpec(
            "hmget", .hashMultipleGet, arity: -3, [.readonly, .fast], keys: .first, .hash,
            since: "2.0.0", "Returns the values of some columns of a record.",
            complexity: "O(N) where N is the number of columns asked for."),
        CommandSpec(
            "hgetall", .hashGetAll, arity: 2, [.readonly], keys: .first, .hash, since: "2.0.0",
            "Returns all columns of a record with their values.",
            complexity: "O(N) where N is the number of columns.",
            tips: ["nondeterministic_output_order"]),
        CommandSpec(
            "hkeys", .hashKeys, arity: 2, [.readonly], keys: .first, .hash, since: "2.0.0",
            "Returns the names of a record's columns.",
            complexity: "O(N) where N is the number of columns.",
            tips: ["nondeterministic_output_order"]),
        CommandSpec(
            "hvals", .hashValues, arity: 2, [.readonly], keys: .first, .hash, since: "2.0.0",
            "Returns the values of all columns of a record.",
            complexity: "O(N) where N is the number of columns.",
            tips: ["nondeterministic_output_order"]),
        CommandSpec(
            "hlen", .hashLength, arity: 2, [.readonly, .fast], keys: .first, .hash,
            since: "2.0.0", "Returns the number of columns of a record."),
        CommandSpec(
            "hset", .hashSet, arity: -4, [.write, .denyoom, .fast], keys: .first, .hash,
            since: "2.0.0",
            "Sets columns of a record. Returns how many of them were at their defaults.",
            complexity: "O(N) where N is the number of columns set."),
        CommandSpec(
            "hmset", .hashMultipleSet, arity: -4, [.write, .denyoom, .fast], keys: .first, .hash,
            since: "2.0.0", "Sets columns of a record.",
            complexity: "O(N) where N is the number of columns set."),
        CommandSpec(
            "hsetnx", .hashSetIfAbsent, arity: 4, [.write, .denyoom, .fast], keys: .first, .hash,
            since: "2.0.0", "Sets a column of a record only when it is at its default."),
        CommandSpec(
            "hdel", .hashDelete, arity: -3, [.write, .fast], keys: .first, .hash, since: "2.0.0",
            "Sets columns of a record to their defaults. Returns how many were not.",
            complexity: "O(N) where N is the number of columns named."),
        CommandSpec(
            "hexists", .hashExists, arity: 3, [.readonly, .fast], keys: .first, .hash,
            since: "2.0.0", "Tells whether a column of a record is not at its default."),
        CommandSpec(
            "hstrlen", .hashStringLength, arity: 3, [.readonly, .fast], keys: .first, .hash,
            since: "3.2.0", "Returns the length of a column's decimal text."),
    ]

    static let schemaCommands: [CommandSpec] = [
        CommandSpec(
            "add", .add, arity: -3, [.write], .schema, since: "1.0.0",
            "Declares a counter family, its key or a column: ADD COUNTER name …, "
                + "ADD COLUMN counter name ….",
            complexity: "O(F) where F is the number of families, whatever the number of records."),
        CommandSpec(
            "alter", .alter, arity: -4, [.write], .schema, since: "1.0.0",
            "Changes a column or a counter family: ALTER COLUMN counter name option …, ALTER COUNTER name option ….",
            complexity: "O(F) where F is the number of families, whatever the number of records."),
        CommandSpec(
            "drop", .drop, arity: -3, [.write], .schema, since: "1.0.0",
            "Drops a counter family or a column: DROP COUNTER name, DROP COLUMN counter name.",
            complexity: "O(F) where F is the number of families, whatever the number of records."),
        CommandSpec(
            "describe", .describe, arity: -1, [.readonly], .schema, since: "1.0.0",
            "Lists all counter families, or what declares one.",
            complexity: "O(N) where N is the number of families or columns."),
        CommandSpec(
            "import", .import, arity: -2, [], .schema, since: "1.0.0",
            "A container for what `tally import` needs.", complexity: "Depends on subcommand.",
            subcommands: [
                CommandSpec(
                    "start", .importStart, arity: 3, [.admin], .schema, since: "1.0.0",
                    "Tells where and how an import's files are to be written.",
                    container: "import"),
                CommandSpec(
                    "commit", .importCommit, arity: 5, [.admin, .write], .schema, since: "1.0.0",
                    "Has the records of written files taken over, in the background.",
                    container: "import"),
                CommandSpec(
                    "status", .importStatus, arity: 3, [.admin], .schema, since: "1.0.0",
                    "Tells how far an import is.", container: "import"),
            ]),
    ]
}
