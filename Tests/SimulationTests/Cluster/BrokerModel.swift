import TallyCluster
import TallyTestSupport

/// A broker of replicated logs at its worst that is still within its promises: what is stored stays, in
/// order; everything else may be late, doubled, refused or lost.
struct BrokerModel {
    struct Message {
        let bytes: [UInt8]
        /// Its time stamp, since 1970; a new leader's clock may be behind.
        let milliseconds: UInt64
    }

    /// A message that has left a node and has not arrived.
    private struct Attempt {
        let sender: Sender
        let log: Int
        let publication: ReplicatedLog.Publication
        /// Whether its answer gets lost.
        let losesAnswer: Bool
    }

    /// A node in one of its lives.
    struct Sender: Equatable {
        let node: Int
        let life: Int
    }

    /// What a node is told of an attempt.
    struct Answer {
        let sender: Sender
        let log: Int
        let sequence: UInt64
        let answer: ReplicatedLog.Answer
    }

    /// What holds a log.
    struct Stream {
        /// When it was made, as good as a name.
        var nanoseconds: UInt64 = 1
        /// The sequence of its first message.
        var first: UInt64 = 1
        var messages: [Message] = []

        var last: UInt64 { first + UInt64(messages.count) - 1 }

        /// The message at a sequence; nil if it is not there.
        func message(_ sequence: UInt64) -> Message? {
            sequence >= first && sequence <= last ? messages[Int(sequence - first)] : nil
        }
    }

    private(set) var streams: [Stream]
    private var attempts: [Attempt] = []
    private var answers: [Answer] = []
    /// The messages that would be recognised as repetitions.
    private var recent: [Set<String>]
    /// Logs without a leader take nothing.
    private var isLeaderless: [Bool]
    private var skewMilliseconds: [Int64]
    var isFaulty = true
    private(set) var duplicates = 0

    init(logCount: Int) {
        streams = Array(repeating: Stream(), count: logCount)
        recent = Array(repeating: [], count: logCount)
        isLeaderless = Array(repeating: false, count: logCount)
        skewMilliseconds = Array(repeating: 0, count: logCount)
    }

    var isQuiet: Bool { attempts.isEmpty && answers.isEmpty }

    /// A node sends a message.
    mutating func publish(
        _ publication: ReplicatedLog.Publication, to log: Int, from sender: Sender,
        _ random: inout SeededGenerator
    ) {
        func answer(_ answer: ReplicatedLog.Answer) -> Answer {
            Answer(sender: sender, log: log, sequence: publication.sequence, answer: answer)
        }
        if isFaulty, random.once(in: 12) {
            // It does not leave the node; the node knows, or it does not.
            answers.append(answer(random.once(in: 2) ? .refused : .lost))
            return
        }
        let losesAnswer = isFaulty && random.once(in: 6)
        attempts.append(
            Attempt(
                sender: sender, log: log, publication: publication, losesAnswer: losesAnswer))
        // The answer is given up, but the message may still arrive, much later.
        if losesAnswer { answers.append(answer(.lost)) }
    }

    /// Some message arrives, in no order.
    mutating func arrive(now: UInt64, _ random: inout SeededGenerator) {
        guard !attempts.isEmpty else { return }
        let index = Int.random(in: 0..<attempts.count, using: &random)
        let attempt = attempts[index]
        let log = attempt.log
        guard !isLeaderless[log] || !isFaulty else { return }
        if !isFaulty || !random.once(in: 10) {
            attempts.remove(at: index)
        }  // else it arrives twice
        if isFaulty, random.once(in: 15) { recent[log].removeAll() }
        if recent[log].insert(attempt.publication.messageID).inserted {
            let stamp = Int64(now) + skewMilliseconds[log]
            streams[log].messages.append(
                Message(bytes: attempt.publication.bytes, milliseconds: UInt64(max(0, stamp))))
        } else {
            duplicates += 1
        }
        guard !attempt.losesAnswer else { return }
        answers.append(
            Answer(
                sender: attempt.sender, log: log, sequence: attempt.publication.sequence,
                answer: .stored))
    }

    /// Some answer, in no order.
    mutating func takeAnswer(_ random: inout SeededGenerator) -> Answer? {
        guard !answers.isEmpty else { return nil }
        return answers.remove(at: Int.random(in: 0..<answers.count, using: &random))
    }

    /// A log's stream is lost, and another one made that counts on. What is on its way may still arrive.
    mutating func replace(_ log: Int, first: UInt64) {
        streams[log] = Stream(nanoseconds: streams[log].nanoseconds + 1, first: first)
        recent[log] = []
    }

    /// A log's leader goes, or another one comes, with a clock of its own.
    mutating func changeLeader(_ random: inout SeededGenerator) {
        let log = Int.random(in: 0..<streams.count, using: &random)
        isLeaderless[log].toggle()
        skewMilliseconds[log] = Int64.random(in: -5000...5000, using: &random)
    }
}
