import ArgumentParser
internal import CTallyIntrinsics
internal import Glibc
import TallyServer

/// Where the program begins.
@main
enum Program {
    static func main() async {
        if let missing = tally_missing_instructions() {
            writeError(
                "tally was built for processors with \(String(cString: missing)), and this one has "
                    + "none; build it with: make CPU_FLAGS=\n")
            exit(1)
        }
        await Tally.main()
    }
}

/// The program's commands: `tally <subcommand>`.
struct Tally: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "tally",
        abstract: "A counter service: exact, durable, dense, and at home with Redis clients.",
        version: ServerIdentity.version,
        subcommands: [
            Serve.self, ReplayCommand.self, JournalCommand.self, CheckCommand.self,
            ImportCommand.self, ExportCommand.self, BackupCommand.self, RestoreCommand.self,
            PasswordCommand.self, IncrementCommand.self, GetCommand.self, GetManyCommand.self,
            DescribeCommand.self, WatchCommand.self, TopCommand.self, HotKeysCommand.self,
            StatusCommand.self, ClusterCommand.self, CapacityCommand.self,
        ])
}
