import TallyCluster
import TallyTestSupport

/// What is on its way between a node that has nothing and the replicas that it asks: late, in no order, or lost.
struct ForwardModel {
    private struct Letter {
        let log: Int
        let number: UInt64
        let bytes: [UInt8]
    }

    /// Answers come from the replicas' own steps.
    private final class Answers {
        var letters: [Letter] = []
    }

    private var requests: [Letter] = []
    private let answers = Answers()
    var isFaulty = true
    private(set) var answered = 0

    var isQuiet: Bool { requests.isEmpty && answers.letters.isEmpty }

    /// The guest hands out what it has.
    mutating func send(from guest: SimulatedReplica, now: UInt64) {
        for remote in guest.replica.remotes {
            while let request = remote.poll(now: now) {
                requests.append(
                    Letter(log: remote.number, number: request.number, bytes: request.bytes))
            }
        }
    }

    /// Some request arrives at some replica, or an answer at the guest.
    mutating func arrive(
        _ guest: SimulatedReplica, _ holders: [SimulatedReplica], now: UInt64,
        _ random: inout SeededGenerator
    ) {
        if let index = requests.indices.randomElement(using: &random), random.once(in: 2) {
            let letter = requests.remove(at: index)
            let remote = guest.replica.remotes[letter.log]
            if isFaulty, random.once(in: 12) {
                return remote.answered(
                    letter.number, random.once(in: 2) ? .notSent : .lost, now: now)
            }
            let holder = holders[Int.random(in: 0..<holders.count, using: &random)]
            letter.bytes.withUnsafeBytes { bytes in
                holder.desk.receive(bytes, now: now) { [answers] answer in
                    answers.letters.append(
                        Letter(log: letter.log, number: letter.number, bytes: answer))
                }
            }
        } else if let index = answers.letters.indices.randomElement(using: &random) {
            let letter = answers.letters.remove(at: index)
            let remote = guest.replica.remotes[letter.log]
            if isFaulty, random.once(in: 12) {
                return remote.answered(letter.number, .lost, now: now)
            }
            answered += 1
            letter.bytes.withUnsafeBytes {
                remote.answered(letter.number, .answer($0), now: now)
            }
        }
    }
}
