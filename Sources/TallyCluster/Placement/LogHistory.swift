public import TallyCore

/// Which stream holds a log, and what it begins with: kept in the cluster's bucket, replaced when a log is recovered.
public struct LogHistory: Codable, Equatable, Sendable {
    /// The epoch, from 1.
    public var epoch: UInt32
    /// When the stream was created, nanoseconds since 1970; 0 while it is about to be.
    public var streamNanoseconds: UInt64
    /// The last message of the epochs before, 0 for none.
    public var startSequence: UInt64
    /// The node whose state at that message the epoch begins with; nil if it begins with nothing, or, where there
    /// were messages before, waits for a recovery.
    public var origin: NodeIdentity?

    /// A history in all its parts.
    public init(
        epoch: UInt32, streamNanoseconds: UInt64, startSequence: UInt64, origin: NodeIdentity?
    ) {
        self.epoch = epoch
        self.streamNanoseconds = streamNanoseconds
        self.startSequence = startSequence
        self.origin = origin
    }

    /// What a node does when its replica of a log cannot go on as it is.
    public enum Step: Equatable, Sendable {
        /// Nothing: an operator must look.
        case none
        /// It goes on in this epoch, which begins with what it has.
        case begin
        /// It copies another node's replica.
        case copy
    }

    /// The step that is due for a replica that is followed no further.
    ///
    /// A copy may hide why a replica has stopped, and bring what is older; so it is made only where that is known to
    /// be right: in a new epoch, where others have applied what this node could not, or where the log has been trimmed.
    public func step(
        _ log: Int, _ halt: LogFollower.Halt, _ state: LogState, _ view: ClusterView
    ) -> Step {
        guard streamNanoseconds > 0 else { return .none }
        if state.epoch < epoch, origin == view.own, state.sequence == startSequence {
            return .begin
        }
        guard isServedElsewhere(log, state, view), state.epoch <= epoch else { return .none }
        if state.epoch < epoch { return .copy }
        switch halt {
        case .notApplied, .trimmed: return .copy
        default: return .none
        }
    }

    /// Whether another node serves the log in this epoch, and has come as far as this one.
    private func isServedElsewhere(_ log: Int, _ state: LogState, _ view: ClusterView) -> Bool {
        others(serving: log, view).contains { _, there in
            state.epoch < epoch || there.sequence >= state.sequence
        }
    }

    /// The other nodes that serve the log in this epoch, and how far they have come.
    private func others(
        serving log: Int, _ view: ClusterView
    ) -> [(node: NodeIdentity, progress: NodeRecord.Progress)] {
        view.nodes.values.compactMap { record in
            guard record.node != view.own, let there = record.logs[log],
                there.phase == .serving, there.epoch == epoch
            else { return nil }
            return (record.node, there)
        }
    }

    /// Messages up to which following a log is as good as copying a checkpoint.
    private static let followedMax: UInt64 = 1_000

    /// The node whose checkpoint is best copied; nil if following the log is as good, or nobody's reaches the log.
    ///
    /// - Parameters:
    ///   - first: The log's first message, or the next one.
    ///   - canFollow: Whether the log can be followed from its beginning.
    ///   - failed: Who could not lend one when it was last asked; it is asked again if there is nobody else.
    public func lender(
        _ log: Int, first: UInt64, canFollow: Bool, failed: NodeIdentity?, _ view: ClusterView
    ) -> NodeIdentity? {
        let holders = others(serving: log, view)
        let asked = holders.count > 1 ? holders.filter { $0.node != failed } : holders
        let best = asked.max {
            ($0.progress.durableSequence, $1.node) < ($1.progress.durableSequence, $0.node)
        }
        guard let best, best.progress.durableSequence + 1 >= first,
            best.progress.durableSequence > Self.followedMax || !canFollow
        else { return nil }
        return best.node
    }

    /// Whether this is news after `other`: a later epoch, or the stream of an epoch that was being begun.
    public func follows(_ other: LogHistory?) -> Bool {
        guard let other else { return true }
        return epoch > other.epoch
            || epoch == other.epoch && other.streamNanoseconds == 0 && streamNanoseconds > 0
    }

    /// Whether a node without a replica can follow the log from its beginning.
    ///
    /// Not where others have followed it further than it goes: then it has lost what they know.
    ///
    /// - Parameters:
    ///   - streamNanoseconds: When the stream that is there was created.
    ///   - first: Its first message, or the next one.
    ///   - last: Its last.
    public func canBeginAnew(
        _ log: Int, streamNanoseconds: UInt64, first: UInt64, last: UInt64, _ view: ClusterView
    ) -> Bool {
        origin == nil && startSequence == 0 && streamNanoseconds == self.streamNanoseconds
            && first <= 1
            && view.nodes.values.allSatisfy { ($0.logs[log]?.sequence ?? 0) <= last }
    }
}
