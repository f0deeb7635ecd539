import Logging
import NIOCore
import NIOFoundationCompat
import NIOPosix
import TallyCluster
import TallyCore
import TallyNATS
import TallyNode

#if canImport(FoundationEssentials)
    import FoundationEssentials
#else
    import Foundation
#endif

/// What a node is asked when replicas are compared.
enum VerifyRequest: Codable {
    /// To keep its next checkpoint for this.
    case prepare(log: Int)
    /// What it holds right behind a message of the log, as a checkpoint of that moment has it.
    case sum(log: Int, sequence: UInt64)
    /// Nothing more.
    case release
}

/// What it answers.
enum VerifyAnswer: Codable {
    /// It is ready, and has come so far.
    case ready(sequence: UInt64)
    /// It has come further.
    case passed(sequence: UInt64)
    /// What it holds.
    case sum(String, records: Int)
    /// It cannot say, and why.
    case refused(String)
}

/// Tells what this node holds of a log's partitions at one message, from a checkpoint that is cut there.
///
/// On the client's loop; reads files elsewhere.
final class VerifyDriver: @unchecked Sendable {
    // Sendable because it is touched only on the loop.
    private let client: NATSClient
    private let requests: RequestSubject
    private let replica: Replica
    private let port: CheckpointPort
    private let clock: any Clock
    /// The log that the next cut is kept for, and until when, monotonic nanoseconds.
    private var hold: (log: Int, until: UInt64)?

    private static let holdNanoseconds: UInt64 = 30_000_000_000
    private static let checkpointNanoseconds: UInt64 = 600_000_000_000
    private static let pollInterval = TimeAmount.milliseconds(10)

    init(
        _ replica: Replica, client: NATSClient, subject: String, port: CheckpointPort,
        clock: any Clock, logger: Logger
    ) {
        self.replica = replica
        self.client = client
        requests = RequestSubject(client, subject, logger)
        self.port = port
        self.clock = clock
    }

    /// Whether the next cut is kept for a comparison.
    var holdsCut: Bool {
        guard let hold else { return false }
        if clock.monotonicNanoseconds() < hold.until { return true }
        self.hold = nil
        return false
    }

    func start() {
        requests.start { [weak self] bytes, answer in self?.receive(bytes, answer) }
    }

    func stop() { requests.stop() }

    private func receive(_ bytes: ByteBuffer, _ send: @escaping (ByteBuffer) -> Void) {
        guard let request = try? JSONDecoder().decode(VerifyRequest.self, from: bytes) else {
            return
        }
        let answer = { (answer: VerifyAnswer) in
            let bytes = try? JSONEncoder().encodeAsByteBuffer(answer, allocator: .init())
            if let bytes { send(bytes) }
        }
        switch request {
        case .prepare(let log): prepare(log, answer)
        case .sum(let log, let sequence): sum(log, at: sequence, answer)
        case .release:
            hold = nil
            answer(.ready(sequence: 0))
        }
    }

    // MARK: Steps

    private func prepare(_ number: Int, _ answer: @escaping (VerifyAnswer) -> Void) {
        guard replica.logs.indices.contains(number), replica.logs[number].isServing else {
            return answer(.refused("it does not serve the log"))
        }
        guard !holdsCut else { return answer(.refused("another comparison is under way")) }
        let until = clock.monotonicNanoseconds() + Self.holdNanoseconds
        hold = (number, until)
        _ = replica.node.requestCheckpoint()
        poll(until: until) { [self] in
            guard hold?.log == number else {
                answer(.refused("it was given up"))
                return true
            }
            guard replica.node.wantsCut else { return false }
            answer(.ready(sequence: replica.logs[number].state.sequence))
            return true
        } onTimeout: {
            answer(.refused("its last checkpoint takes too long"))
        }
    }

    private func sum(
        _ number: Int, at sequence: UInt64, _ answer: @escaping (VerifyAnswer) -> Void
    ) {
        guard holdsCut, hold?.log == number, let until = hold?.until else {
            return answer(.refused("it was not prepared"))
        }
        let log = replica.logs[number]
        var isCut = false
        let isAhead = log.mark(at: sequence) { [self] in
            // Nor may the mark of a comparison that was given up take the cut of the next one.
            guard hold?.until == until else { return }
            hold = nil
            isCut = true
            replica.takeCutIfWanted()
        }
        guard isAhead else {
            hold = nil
            return answer(.passed(sequence: log.state.sequence))
        }
        poll(until: until) { [self] in
            guard isCut else {
                guard hold == nil else { return false }
                answer(.refused("it was given up"))
                return true
            }
            poll(until: clock.monotonicNanoseconds() + Self.checkpointNanoseconds) { [self] in
                let durable = replica.node.durableSequences[number] ?? 0
                guard durable >= sequence else { return false }
                read(number, sequence, answer)
                return true
            } onTimeout: {
                answer(.refused("its checkpoint takes too long"))
            }
            return true
        } onTimeout: {
            answer(.refused("the log has not come that far in time"))
        }
    }

    private func read(
        _ number: Int, _ sequence: UInt64, _ answer: @escaping (VerifyAnswer) -> Void
    ) {
        let port = port
        NIOThreadPool.singleton.runIfActive(eventLoop: client.eventLoop) { () -> VerifyAnswer in
            do {
                guard let (state, sum) = try port.contentSum(number), state.sequence == sequence
                else { return .refused("another checkpoint has come between") }
                return .sum(sum.description, records: sum.records)
            } catch {
                return .refused("its checkpoint cannot be read: \(error)")
            }
        }.assumeIsolated().whenSuccess { answer($0) }
    }

    /// Asks `isDone` again and again.
    private func poll(
        until deadline: UInt64, _ isDone: @escaping () -> Bool, onTimeout: @escaping () -> Void
    ) {
        if isDone() { return }
        guard clock.monotonicNanoseconds() < deadline else { return onTimeout() }
        client.eventLoop.assumeIsolated().scheduleTask(in: Self.pollInterval) { [weak self] in
            self?.poll(until: deadline, isDone, onTimeout: onTimeout)
        }
    }
}
