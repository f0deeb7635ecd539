import TallyCore
import TallyRESP

/// Commands that are not executed.
extension CommandProcessor {
    /// Why a command is not executed, as its error reply.
    struct Refusal: Error {
        let message: [UInt8]

        init(_ message: String) { self.message = Array(message.utf8) }
        init(bytes message: [UInt8]) { self.message = message }
    }

    mutating func reject(
        _ owner: Int, _ refusal: Refusal, _ session: inout Session
    ) -> Bool {
        guard flush() else { return false }
        server.errors.note(refusal.message)
        guard session.takeReplyMode() == .on else { return true }
        return replyAtOnce(owner) { $0.replies.error(bytes: refusal.message) }
    }

    static func wrongArity(_ name: String) -> String {
        "ERR wrong number of arguments for '\(name)' command"
    }

    static func tooManyBlocks(_ count: Int) -> Refusal {
        Refusal(
            "ERR this needs \(count) blocks from the disk, and a command may need "
                + "\(Limits.commandBlocksMax): ask for fewer keys at a time")
    }

    func unknownSubcommand(of container: CommandSpec) -> Refusal {
        Refusal(
            bytes: Array("ERR unknown subcommand '".utf8) + arguments[1].prefix(128)
                + Array("'. Try \(container.name.uppercased()) HELP.".utf8))
    }

    func unknown() -> Refusal {
        if let reason = AbsentCommands.reason(arguments[0]) {
            return Refusal("ERR unknown command '\(arguments[0].text)': \(reason)")
        }
        var shown: [UInt8] = []
        for index in 1..<max(1, arguments.count) where shown.count < 128 {
            let argument = arguments[index].prefix(128 - shown.count)
            shown += Array("'".utf8) + argument + Array("' ".utf8)
        }
        return Refusal(
            bytes: Array("ERR unknown command '".utf8) + arguments[0].prefix(128)
                + Array("', with args beginning with: ".utf8) + shown)
    }
}
