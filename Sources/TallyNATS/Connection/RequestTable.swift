import NIOCore

/// Requests under way, each with a number that is the last word of the subject its answer comes to.
struct RequestTable {
    /// One request.
    struct Pending {
        let completion: (Result<NATSMessage, NATSRequestError>) -> Void
        var timer: Scheduled<Void>?

        /// Ends the request with `result`.
        func complete(_ result: Result<NATSMessage, NATSRequestError>) {
            timer?.cancel()
            completion(result)
        }
    }

    /// What precedes a request's number, with the dot.
    let prefix: String
    private var pending: [UInt64: Pending] = [:]
    private var last: UInt64 = 0

    /// A table with a random word of its own behind `inboxPrefix`.
    init(inboxPrefix: String, using random: inout some RandomNumberGenerator) {
        prefix = "\(inboxPrefix).\(Self.word(using: &random))."
    }

    /// A word of 131 random bits.
    static func word(using random: inout some RandomNumberGenerator) -> String {
        let alphabet = Array("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
        return String((0..<22).map { _ in alphabet.randomElement(using: &random)! })
    }

    /// The subject of all answers.
    var subject: String { prefix + "*" }

    var isEmpty: Bool { pending.isEmpty }

    /// Adds a request.
    mutating func add(
        _ completion: @escaping (Result<NATSMessage, NATSRequestError>) -> Void
    ) -> (number: UInt64, subject: String) {
        last += 1
        pending[last] = Pending(completion: completion)
        return (last, prefix + String(last, radix: 36))
    }

    mutating func setTimer(_ timer: Scheduled<Void>, for number: UInt64) {
        pending[number]?.timer = timer
    }

    /// Takes out the request that `message` answers; nil for a late answer.
    mutating func take(for message: NATSMessage) -> Pending? {
        let word = message.subjectBytes.readableBytesView.dropFirst(prefix.utf8.count)
        guard !word.isEmpty, word.count <= 13 else { return nil }
        var number: UInt64 = 0
        for byte in word {
            switch byte {
            case 0x30...0x39: number = number &* 36 &+ UInt64(byte - 0x30)
            case 0x61...0x7a: number = number &* 36 &+ UInt64(byte - 0x61 + 10)
            default: return nil
            }
        }
        return take(number)
    }

    /// Takes out a request; nil if it has ended.
    mutating func take(_ number: UInt64) -> Pending? { pending.removeValue(forKey: number) }

    /// Takes out all requests, the oldest first.
    mutating func takeAll() -> [Pending] {
        defer { pending.removeAll() }
        return pending.sorted { $0.key < $1.key }.map(\.value)
    }
}
