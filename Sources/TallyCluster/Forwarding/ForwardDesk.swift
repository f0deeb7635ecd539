public import TallyCore
import TallyEngine
import TallyNode

/// Executes operations that other nodes pass on to this one.
///
/// On the logs' thread.
public final class ForwardDesk {
    private let replica: Replica
    private let cluster: LogIdentity
    private let onReadable: @Sendable (@escaping @Sendable () -> Void) -> Void
    private var spares: [Int: [Visit]] = [:]

    /// - Parameter onReadable: Has a body run on the logs' thread, from any thread.
    public init(
        _ replica: Replica, cluster: LogIdentity,
        onReadable: @escaping @Sendable (@escaping @Sendable () -> Void) -> Void
    ) {
        self.replica = replica
        self.cluster = cluster
        self.onReadable = onReadable
    }

    /// Operations of another node, until they have their outcomes.
    private final class Visit: @unchecked Sendable {
        // Sendable because it is touched only on the logs' thread.
        let log: Int
        let gathered: MessageBatch
        private(set) var submission: Submission!
        var onEnd: (() -> Void)?

        init(_ log: ReplicatedLog, _ replica: Replica) {
            self.log = log.number
            gathered = MessageBatch(node: replica.node, partitions: log.partitions)
            submission = Submission(replica.node.makeBatch()) { [unowned self] _ in onEnd?() }
        }
    }

    /// Executes what a request asks for, and answers.
    ///
    /// - Parameters:
    ///   - now: Monotonic nanoseconds.
    ///   - answer: Called once, on the logs' thread.
    public func receive(
        _ bytes: UnsafeRawBufferPointer, now: UInt64, answer: @escaping ([UInt8]) -> Void
    ) {
        guard let message = try? LogMessage(bytes), message.header.cluster == cluster,
            Int(message.header.log) < replica.logs.count
        else { return answer(OutcomeMessage.notServed) }
        let log = replica.logs[Int(message.header.log)]
        guard log.isServing else { return answer(OutcomeMessage.notServed) }
        let visit = spares[log.number]?.popLast() ?? Visit(log, replica)
        do {
            try visit.gathered.gather(message)
        } catch {
            return finish(visit, OutcomeMessage.notServed, answer)
        }
        if replica.node.hasColdSegments,
            case .blocks(let blocks) = replica.node.needs(of: visit.gathered.batch, from: 0)
        {
            spares[log.number, default: []].append(visit)
            return wait(for: blocks, Array(bytes), answer)
        }
        swap(&visit.gathered.batch, &visit.submission.batch)
        visit.submission.isOrdered = message.header.epoch == RemoteLog.orderedEpoch
        execute(visit, log, now, answer)
    }

    /// What is on disk only is read first, and the request then taken again.
    private func wait(
        for blocks: [NeededBlock], _ bytes: [UInt8], _ answer: @escaping ([UInt8]) -> Void
    ) {
        let again = Again(self, bytes, answer)
        replica.node.read(blocks) { [onReadable] in onReadable { again.run() } }
    }

    /// A request that is taken again.
    private final class Again: @unchecked Sendable {
        // Sendable because it runs on the logs' thread.
        private let desk: ForwardDesk
        private let bytes: [UInt8]
        private let answer: ([UInt8]) -> Void

        init(_ desk: ForwardDesk, _ bytes: [UInt8], _ answer: @escaping ([UInt8]) -> Void) {
            self.desk = desk
            self.bytes = bytes
            self.answer = answer
        }

        func run() { bytes.withUnsafeBytes { desk.receive($0, now: desk.now(), answer: answer) } }
    }

    /// The time, monotonic nanoseconds.
    public var now: () -> UInt64 = { 0 }

    private func execute(
        _ visit: Visit, _ log: ReplicatedLog, _ now: UInt64, _ answer: @escaping ([UInt8]) -> Void
    ) {
        visit.submission.prepare()
        var written = visit.submission.isOrdered ? .all : PartitionSet()
        let logs = visit.submission.route(
            0..<visit.submission.batch.count, replica, &written)
        guard logs != 0 else {
            return finish(visit, OutcomeMessage.bytes(of: visit.submission.batch), answer)
        }
        // It holds itself until then.
        visit.onEnd = { [unowned self] in
            visit.onEnd = nil
            finish(visit, OutcomeMessage.bytes(of: visit.submission.batch), answer)
        }
        guard replica.submit(visit.submission, to: logs, now: now) else {
            visit.onEnd = nil
            return finish(visit, OutcomeMessage.notServed, answer)
        }
    }

    private func finish(
        _ visit: Visit, _ bytes: [UInt8], _ answer: ([UInt8]) -> Void
    ) {
        visit.submission.batch.removeAll()
        visit.gathered.batch.removeAll()
        answer(bytes)
        if spares[visit.log, default: []].count < Limits.forwardsInFlight {
            spares[visit.log, default: []].append(visit)
        }
    }
}
