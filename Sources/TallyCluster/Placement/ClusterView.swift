/// Who serves what, as one node sees it at one time: by this, requests find their way.
public struct ClusterView: Sendable {
    /// A log's replicas that can be asked.
    public struct Shard: Equatable, Sendable {
        /// Whom clients are sent to, nil if nobody serves.
        public var primary: NodeIdentity?
        /// The others that serve.
        public var replicas: [NodeIdentity]

        /// A shard in both its parts.
        public init(primary: NodeIdentity?, replicas: [NodeIdentity]) {
            self.primary = primary
            self.replicas = replicas
        }
    }

    /// The node whose view it is.
    public let own: NodeIdentity
    /// The nodes that have been heard of lately, itself among them.
    public let nodes: [NodeIdentity: NodeRecord]
    /// By the logs' numbers.
    public let shards: [Shard]
    /// Which nodes are to hold which logs; nil if that is not known.
    public let assignment: Assignment?
    /// The assignment's number.
    public let version: UInt64

    /// A view in all its parts.
    init(
        own: NodeIdentity, nodes: [NodeIdentity: NodeRecord], logCount: Int,
        assignment: Assignment?, version: UInt64
    ) {
        self.own = own
        self.nodes = nodes
        self.assignment = assignment
        self.version = version
        let serving = nodes.values.sorted { $0.node < $1.node }
        shards = (0..<logCount).map { log in
            Self.shard(log, serving, assignment?.holders[log] ?? [])
        }
    }

    private static func shard(
        _ log: Int, _ nodes: [NodeRecord], _ assigned: [NodeIdentity]
    ) -> Shard {
        let serving = nodes.filter { $0.logs[log]?.phase == .serving }
        // Those that are to hold it first, in their order; then those that still do; those that leave last.
        let ranked = serving.sorted { first, second in
            func rank(_ node: NodeRecord) -> Int {
                (node.isDraining ? 1000 : 0) + (assigned.firstIndex(of: node.node) ?? 100)
            }
            return (rank(first), first.node) < (rank(second), second.node)
        }.map(\.node)
        return Shard(primary: ranked.first, replicas: Array(ranked.dropFirst()))
    }

    /// Whether it is this node's turn to do what one node is to do for a log.
    public func isPrimary(_ log: Int) -> Bool { shards[log].primary == own }
}

/// What a node knows of the others, by what they say of themselves.
///
/// A hint for finding one's way, and nothing else: no two nodes must agree.
public struct Membership: Sendable {
    private let own: NodeIdentity
    private let logCount: Int
    private var heard: [NodeIdentity: (record: NodeRecord, nanoseconds: UInt64)] = [:]
    private var assignment: Assignment?
    private var version: UInt64 = 0
    /// Nodes whose places an operator has given away for as long as they are silent.
    private var absent: Set<NodeIdentity> = []
    private let begunNanoseconds: UInt64

    /// What is known before anybody has been heard.
    ///
    /// - Parameter now: Monotonic nanoseconds.
    public init(own: NodeIdentity, logCount: Int, now: UInt64) {
        self.own = own
        self.logCount = logCount
        begunNanoseconds = now
    }

    /// A node says something of itself.
    ///
    /// - Parameter now: Monotonic nanoseconds.
    public mutating func hear(_ record: NodeRecord, now: UInt64) {
        // What an earlier life has said may come late.
        if let known = heard[record.node],
            known.record.startedMilliseconds > record.startedMilliseconds
        {
            return
        }
        heard[record.node] = (record, now)
    }

    /// A node says that it goes.
    public mutating func forget(_ node: NodeIdentity, startedMilliseconds: UInt64) {
        guard heard[node]?.record.startedMilliseconds == startedMilliseconds else { return }
        heard[node] = nil
    }

    /// Which nodes are to hold which logs has been published.
    public mutating func publish(_ assignment: Assignment, version: UInt64) {
        guard version > self.version, assignment.holders.count == logCount else { return }
        self.assignment = assignment
        self.version = version
    }

    /// Whether a node that is silent keeps its places for a while, or an operator has given them away.
    public mutating func setAbsent(_ node: NodeIdentity, _ isAbsent: Bool) {
        if isAbsent { absent.insert(node) } else { absent.remove(node) }
    }

    /// Who serves what at this time, monotonic nanoseconds.
    public func view(now: UInt64, silenceMaxNanoseconds: UInt64) -> ClusterView {
        let living = heard.filter { node, last in
            node == own || now - min(now, last.nanoseconds) <= silenceMaxNanoseconds
        }
        return ClusterView(
            own: own, nodes: living.mapValues(\.record), logCount: logCount,
            assignment: assignment, version: version)
    }

    /// The assignment that ought to be published now; nil if the one that is will do.
    ///
    /// A node that is silent keeps its place for a while, since most come back; one that drains loses it
    /// at once.
    ///
    /// - Parameters:
    ///   - silenceMaxNanoseconds: After which silence a node counts as silent.
    ///   - absenceMaxNanoseconds: For how long it keeps its place.
    public func wantedAssignment(
        copies: Int, now: UInt64, silenceMaxNanoseconds: UInt64, absenceMaxNanoseconds: UInt64
    ) -> Assignment? {
        var candidates: [Assignment.Candidate] = []
        for (node, last) in heard {
            let silence = now - min(now, last.nanoseconds)
            let silenceMax = absent.contains(node) ? silenceMaxNanoseconds : absenceMaxNanoseconds
            guard !last.record.isDraining, silence <= silenceMax else { continue }
            candidates.append(Assignment.Candidate(node: node, zone: last.record.zone))
        }
        // Nodes that were never heard of may only be slow to start.
        if let assignment, now - begunNanoseconds <= absenceMaxNanoseconds {
            let missing = Set(assignment.holders.joined()).subtracting(heard.keys)
                .subtracting(absent)
            candidates += missing.map {
                Assignment.Candidate(
                    node: $0, zone: assignment.zones[$0.description] ?? "")
            }
        }
        guard !candidates.isEmpty else { return nil }
        let wanted = Assignment.balanced(
            logCount: logCount, copies: copies, candidates: candidates, previous: assignment)
        return wanted == assignment ? nil : wanted
    }
}
