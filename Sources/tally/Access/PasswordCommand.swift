import ArgumentParser
import TallyAccess
internal import Glibc

/// `tally password`: what a users' file keeps of a password.
struct PasswordCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "password",
        abstract: "Read a password from standard input and print its hash, for a users' file.",
        discussion: """
            Nothing is echoed where standard input is a terminal. A password is never an argument: \
            others could see it in the list of processes.
            """)

    func run() throws {
        guard let password = Self.readPassword(), !password.isEmpty else {
            throw ValidationError("no password: nothing came on standard input")
        }
        print(PasswordHash(of: Array(password.utf8)))
    }

    /// The first line of standard input.
    static func readPassword() -> String? {
        let isTerminal = isatty(STDIN_FILENO) == 1
        var before = termios()
        if isTerminal {
            tcgetattr(STDIN_FILENO, &before)
            var silent = before
            silent.c_lflag &= ~tcflag_t(ECHO)
            tcsetattr(STDIN_FILENO, TCSANOW, &silent)
            writeError("password: ")
        }
        defer {
            if isTerminal {
                tcsetattr(STDIN_FILENO, TCSANOW, &before)
                writeError("\n")
            }
        }
        return readLine()
    }
}
