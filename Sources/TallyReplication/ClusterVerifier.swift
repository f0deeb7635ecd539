import NIOCore
import NIOFoundationCompat
public import TallyCluster
import TallyCore
public import TallyNATS

#if canImport(FoundationEssentials)
    import FoundationEssentials
#else
    import Foundation
#endif

/// Compares what the replicas of a log hold, each right behind the same message.
///
/// Every node that serves the log makes a checkpoint that is cut at that message and reads it from its disk, while
/// everything goes on.
public struct ClusterVerifier: Sendable {
    private let settings: ClusterSettings
    private let client: NATSClient

    /// A verifier of the cluster with these settings.
    public init(_ settings: ClusterSettings, _ client: NATSClient) {
        self.settings = settings
        self.client = client
    }

    /// What one node holds.
    public struct Holding: Codable, Sendable {
        /// The node.
        public var node: NodeIdentity
        /// The sum over everything, hexadecimal digits; nil if it cannot say.
        public var sum: String?
        /// How many records that is.
        public var records = 0
        /// Why it cannot say; nil if it can.
        public var problem: String?
    }

    /// What became of the comparison of a log.
    public struct Verdict: Codable, Sendable {
        /// The log's number.
        public var log: Int
        /// The message that all were compared at; 0 if it did not come to that.
        public var sequence: UInt64
        /// Those that serve the log.
        public var holdings: [Holding]

        /// Whether all hold the same, and all could say.
        public var isSame: Bool {
            !holdings.isEmpty && holdings.allSatisfy { $0.problem == nil }
                && Set(holdings.map(\.sum)).count == 1
        }
    }

    /// Messages that the log may come further while the nodes get ready, tried one after the other.
    private static let margins: [UInt64] = [1, 20, 400, 8_000]
    private static let prepareTimeout = Duration.seconds(40)
    private static let sumTimeout = Duration.seconds(900)

    /// Compares one log's replicas.
    ///
    /// - Parameter nodes: All nodes.
    public func verify(log: Int, _ nodes: [NodeRecord]) async throws(ClusterError) -> Verdict {
        let holders = nodes.filter { $0.logs[log]?.phase == .serving }.map(\.node)
        var verdict = Verdict(log: log, sequence: 0, holdings: holders.map { Holding(node: $0) })
        for margin in Self.margins {
            let ready = await ask(holders, .prepare(log: log), timeout: Self.prepareTimeout)
            let come = ready.compactMap { answer in
                if case .ready(let sequence) = answer { sequence } else { nil }
            }
            guard come.count == holders.count, let furthest = come.max() else {
                _ = await ask(holders, .release, timeout: .seconds(5))
                note(ready, &verdict)
                return verdict
            }
            let sequence = furthest + margin
            async let sums = ask(
                holders, .sum(log: log, sequence: sequence), timeout: Self.sumTimeout)
            try await push(log, to: sequence)
            let answers = await sums
            let isPassed = answers.contains { answer in
                if case .passed = answer { true } else { false }
            }
            if isPassed {
                _ = await ask(holders, .release, timeout: .seconds(5))
                continue
            }
            verdict.sequence = sequence
            note(answers, &verdict)
            return verdict
        }
        for index in verdict.holdings.indices {
            verdict.holdings[index].problem =
                "the log goes on too fast to be compared at one message"
        }
        return verdict
    }

    private func note(_ answers: [VerifyAnswer?], _ verdict: inout Verdict) {
        for (index, answer) in answers.enumerated() {
            switch answer {
            case .sum(let sum, let records):
                (verdict.holdings[index].sum, verdict.holdings[index].records) = (sum, records)
            case .refused(let reason): verdict.holdings[index].problem = reason
            case .ready: verdict.holdings[index].problem = "another node is not ready"
            case .passed, nil: verdict.holdings[index].problem = "it does not answer"
            }
        }
    }

    private func ask(
        _ nodes: [NodeIdentity], _ request: VerifyRequest, timeout: Duration
    ) async -> [VerifyAnswer?] {
        await withTaskGroup(of: (Int, VerifyAnswer?).self) { group in
            for (index, node) in nodes.enumerated() {
                group.addTask { (index, await ask(node, request, timeout: timeout)) }
            }
            var answers: [VerifyAnswer?] = Array(repeating: nil, count: nodes.count)
            for await (index, answer) in group { answers[index] = answer }
            return answers
        }
    }

    private func ask(
        _ node: NodeIdentity, _ request: VerifyRequest, timeout: Duration
    ) async -> VerifyAnswer? {
        guard let bytes = try? JSONEncoder().encodeAsByteBuffer(request, allocator: .init()),
            let message = try? await client.request(
                bytes, subject: settings.verifySubject(of: node), timeout: timeout)
        else { return nil }
        return try? JSONDecoder().decode(VerifyAnswer.self, from: message.payload)
    }

    /// Sees to it that the log comes as far as `sequence`, by messages that ask for nothing, if nobody else
    /// writes.
    private func push(_ log: Int, to sequence: UInt64) async throws(ClusterError) {
        guard let cluster = settings.logIdentity else { throw .settings("no identity") }
        let producer = ProducerIdentity(
            high: UInt64(Date().timeIntervalSince1970 * 1000) << 16 | .random(in: 0...0xffff),
            low: .random(in: .min ... .max))
        let history = try await ClusterObserver(settings, client).history(log)
        do {
            // The nodes must have been asked before the log comes that far.
            try await Task.sleep(for: .milliseconds(50))
            var number: UInt64 = 1
            while try await JetStream(client).stream(settings.stream(ofLog: log)).state.lastSequence
                < sequence
            {
                let header = LogMessage.Header(
                    cluster: cluster, log: UInt32(log), epoch: history?.epoch ?? 1,
                    producer: producer, producerSequence: number)
                let outcome = try await JetStream(client).publish(
                    ByteBuffer(bytes: LogMessage.Writer(header, capacity: 0).finish()),
                    subject: settings.subject(ofLog: log),
                    PublishExpectations(
                        messageID: header.messageID, stream: settings.stream(ofLog: log)))
                if case .acknowledged = outcome { number += 1 }
            }
        } catch {
            throw .servers("\(error)")
        }
    }
}
