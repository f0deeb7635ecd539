/// How much a consumer may have on its way, and the one request for messages that is under way.
///
/// What a request may still deliver is part of the credit: at no time can more arrive than was granted.
struct Credit: Equatable {
    /// A request for messages.
    struct Pull: Equatable {
        let number: UInt64
        fileprivate(set) var messages: Int
        /// Nil for any number, when a single message is asked for that takes no credit.
        fileprivate(set) var bytes: Int?
    }

    private(set) var messages = 0
    private(set) var bytes = 0
    private(set) var pull: Pull?
    private var lastNumber: UInt64 = 0

    mutating func grant(messages: Int, bytes: Int) {
        precondition(messages >= 0 && bytes >= 0, "credit cannot be taken back")
        self.messages += messages
        self.bytes += bytes
    }

    /// Starts a request for as much as there is credit for; nil if there is one, or too little credit.
    mutating func startPull(messagesMax: Int, bytesMin: Int) -> Pull? {
        guard pull == nil, messages > 0, bytes >= bytesMin else { return nil }
        lastNumber += 1
        pull = Pull(number: lastNumber, messages: min(messages, messagesMax), bytes: bytes)
        return pull
    }

    /// Starts a request for one message of any length, on nobody's credit.
    mutating func startUncounted() -> Pull {
        lastNumber += 1
        let pull = Pull(number: lastNumber, messages: 1, bytes: nil)
        self.pull = pull
        return pull
    }

    /// Takes a message that has arrived.
    mutating func take(bytes count: Int) {
        guard var pull, pull.messages > 0 else { return spend(count) }
        pull.messages -= 1
        if let left = pull.bytes {
            pull.bytes = max(0, left - count)
            spend(count)
        }
        // The server ends a request when nothing is left of it.
        self.pull = pull.messages == 0 || pull.bytes == 0 ? nil : pull
    }

    private mutating func spend(_ count: Int) {
        messages -= 1
        bytes -= count
    }

    /// Ends the request `number`, if it is the one under way.
    mutating func endPull(_ number: UInt64?) {
        if number == nil || pull?.number == number { pull = nil }
    }
}
