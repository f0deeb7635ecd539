import ArgumentParser
import TallyServer

/// The program: `tally <subcommand>`.
@main
struct Tally: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "tally",
        abstract: "A counter service: exact, durable, dense, and at home with Redis clients.",
        version: ServerIdentity.version,
        subcommands: [Serve.self, ReplayCommand.self, JournalCommand.self, CheckCommand.self,
            ImportCommand.self,
        ])
}
