internal import NIOCore
internal import NIOFoundationCompat
public import TallyCluster
import TallyCore
public import TallyNATS

#if canImport(FoundationEssentials)
    import FoundationEssentials
#else
    import Foundation
#endif

/// Begins new epochs of logs that nobody can follow any more: with a new stream, and the state of the replica that
/// has come furthest.
public struct ClusterRecovery: Sendable {
    private let settings: ClusterSettings
    private let client: NATSClient

    /// The recovery of the cluster with these settings.
    public init(_ settings: ClusterSettings, _ client: NATSClient) {
        self.settings = settings
        self.client = client
    }

    /// What can be done for a log.
    public struct Plan: Sendable {
        /// The log's number.
        public var log: Int
        /// The epoch that begins.
        public var epoch: UInt32
        /// The node whose state it begins with.
        public var origin: NodeIdentity
        /// The last message that this state reflects.
        public var sequence: UInt64
        /// The last message of the stream that there is; nil if there is none.
        public var streamSequence: UInt64?
        /// Nodes that are to hold the log and are not there: they may have come further.
        public var missing: [NodeIdentity]
        /// Messages of the stream that the state does not reflect, if it is the one that the log was in.
        public var lostMessages: UInt64
        /// The revision of what the cluster says of the log.
        var historyRevision: UInt64
    }

    /// Why a log is not recovered.
    public enum Refusal: Error, Sendable, CustomStringConvertible {
        /// It need not be: some node serves it.
        case served(log: Int)
        /// No node that is there has a replica of it.
        case nobody(log: Int)
        /// Nodes are still coming near its end, or copy it.
        case underWay(log: Int, NodeIdentity)
        /// Its node did not make a checkpoint of what it has.
        case notDurable(log: Int, NodeIdentity)
        /// Its node did not go on in the new epoch.
        case notServed(log: Int, NodeIdentity)

        /// One line for an operator.
        public var description: String {
            switch self {
            case .served(let log): "log \(log) is served, and need not be recovered"
            case .nobody(let log): "no node that is there has a replica of log \(log)"
            case .underWay(let log, let node):
                "node \(node) still follows or copies log \(log): wait until it serves it, or has stopped"
            case .notDurable(let log, let node):
                "node \(node) has no checkpoint of what it has of log \(log); nothing was changed"
            case .notServed(let log, let node):
                "node \(node) does not go on with log \(log) in its new epoch; see what it logs"
            }
        }
    }

    private var observer: ClusterObserver { ClusterObserver(settings, client) }

    private static let durableTimeout = Duration.seconds(120)
    private static let servedTimeout = Duration.seconds(120)

    /// The logs that nobody serves.
    ///
    /// - Parameter nodes: All nodes that are there.
    public func broken(_ nodes: [NodeRecord]) async throws(ClusterError) -> [Int] {
        var broken: [Int] = []
        for log in 0..<settings.logs where !isServed(log, try await observer.history(log), nodes) {
            broken.append(log)
        }
        return broken
    }

    private func isServed(_ log: Int, _ history: LogHistory?, _ nodes: [NodeRecord]) -> Bool {
        nodes.contains {
            guard let there = $0.logs[log] else { return false }
            return there.phase == .serving && there.epoch >= history?.epoch ?? 1
        }
    }

    /// What can be done for a log that nobody serves.
    public func plan(
        log: Int, _ nodes: [NodeRecord]
    ) async throws -> Plan {
        guard let (history, revision) = try await observer.historyWithRevision(log) else {
            throw Refusal.nobody(log: log)
        }
        try check(log, history, nodes)
        func order(_ node: NodeRecord) -> (UInt32, UInt64, UInt64) {
            let there = node.logs[log]
            return (there?.epoch ?? 0, there?.sequence ?? 0, there?.durableSequence ?? 0)
        }
        let holders = nodes.filter { $0.logs[log] != nil }
        guard let best = holders.max(by: { order($0) < order($1) }), let there = best.logs[log]
        else {
            throw Refusal.nobody(log: log)
        }
        let present = Set(nodes.map(\.node))
        let stream = try await observer.stream(log)
        let isSame = stream.map { $0.created.unsignedNanoseconds == history.streamNanoseconds }
        let last = stream?.state.lastSequence ?? 0
        return Plan(
            log: log, epoch: max(history.epoch, there.epoch) + 1, origin: best.node,
            sequence: there.sequence, streamSequence: stream?.state.lastSequence,
            missing: (try await observer.assignment()?.holders(ofLog: log) ?? [])
                .filter { !present.contains($0) },
            lostMessages: isSame == true && last > there.sequence ? last - there.sequence : 0,
            historyRevision: revision)
    }

    /// Whether a log may be begun anew, as things are now.
    private func check(
        _ log: Int, _ history: LogHistory, _ nodes: [NodeRecord]
    ) throws(Refusal) {
        if isServed(log, history, nodes) { throw .served(log: log) }
        let busy = nodes.first { node in
            node.logs[log].map { $0.phase == .following || $0.phase == .copying } ?? false
        }
        if let busy { throw .underWay(log: log, busy.node) }
    }

    /// Does it: the old stream goes, a new one is made that counts on from the state's last message, and the nodes
    /// are told. If it is interrupted, it can be planned and done again.
    public func carryOut(_ plan: Plan) async throws {
        let isDurable = try await wait(Self.durableTimeout, for: plan.origin, plan.log) {
            $0.durableSequence >= plan.sequence
        }
        guard isDurable else { throw Refusal.notDurable(log: plan.log, plan.origin) }
        // It may have come back meanwhile.
        if let history = try await observer.history(plan.log) {
            try check(plan.log, history, try await observer.hear(for: .seconds(1)))
        }
        let hasStream = try await observer.stream(plan.log) != nil
        var history = LogHistory(
            epoch: plan.epoch, streamNanoseconds: 0, startSequence: plan.sequence,
            origin: plan.origin)
        let key = ClusterSettings.historyKey(ofLog: plan.log)
        let bucket = settings.bucket(client)
        let jetStream = JetStream(client)
        do {
            // Whoever else does the same is refused before anything is deleted.
            let revision = try await bucket.update(
                key, ClusterDirectory.encoded(history), revision: plan.historyRevision)
            if hasStream {
                try await jetStream.deleteStream(settings.stream(ofLog: plan.log))
            }
            var configuration = settings.stream(plan.log)
            configuration.firstSequence = plan.sequence + 1
            let made = try await jetStream.createStream(configuration)
            history.streamNanoseconds = made.created.unsignedNanoseconds
            try await bucket.update(key, ClusterDirectory.encoded(history), revision: revision)
        } catch {
            throw ClusterError.servers("\(error)")
        }
        let isServed = try await wait(Self.servedTimeout, for: plan.origin, plan.log) {
            $0.phase == .serving && $0.epoch == plan.epoch
        }
        guard isServed else { throw Refusal.notServed(log: plan.log, plan.origin) }
    }

    /// Listens until a node has come as far with a log as it should.
    private func wait(
        _ timeout: Duration, for node: NodeIdentity, _ log: Int,
        _ isDone: (NodeRecord.Progress) -> Bool
    ) async throws(ClusterError) -> Bool {
        let clock = ContinuousClock()
        let deadline = clock.now + timeout
        while clock.now < deadline {
            let nodes = try await observer.hear(for: .milliseconds(300))
            let there = nodes.first { $0.node == node }?.logs[log]
            if let there, isDone(there) { return true }
        }
        return false
    }
}
