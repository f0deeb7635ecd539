extension CommandTable {
    static let accessCommands: [CommandSpec] = [
        CommandSpec(
            "acl", .access, arity: -2, [], .server, since: "6.0.0",
            "A container for access control commands.", complexity: "Depends on subcommand.",
            subcommands: [
                access("whoami", .accessWhoAmI, 2, "Returns the user of the connection."),
                access("users", .accessUsers, 2, "Lists all users.", isAdmin: true),
                access(
                    "list", .accessList, 2, "Lists what all users may do, without passwords.",
                    isAdmin: true),
                access("getuser", .accessGetUser, 3, "Tells what a user may do.", isAdmin: true),
                access("cat", .accessCategories, -2, "Lists categories, or a category's commands."),
                access("genpass", .accessGenerate, -2, "Returns random digits, for a password."),
                access(
                    "load", .accessLoad, 2, "Reads the users' file and certificates again.",
                    isAdmin: true),
                access(
                    "dryrun", .accessDryRun, -4, "Tells whether a user may send a command.",
                    isAdmin: true),
                access(
                    "setuser", .accessRefused, -3, "Refused: users are in a file.", isAdmin: true),
                access(
                    "deluser", .accessRefused, -3, "Refused: users are in a file.", isAdmin: true),
                access("save", .accessRefused, 2, "Refused: users are in a file.", isAdmin: true),
                access(
                    "help", .accessHelp, 2,
                    "Returns helpful text about the different subcommands."),
            ])
    ]

    private static func access(
        _ name: String, _ id: CommandID, _ arity: Int32, _ summary: String, isAdmin: Bool = false
    ) -> CommandSpec {
        CommandSpec(
            name, id, arity: arity, (isAdmin ? [.admin] : []) + [.noscript, .loading, .stale],
            .server, since: "6.0.0", summary, container: "acl")
    }
}
