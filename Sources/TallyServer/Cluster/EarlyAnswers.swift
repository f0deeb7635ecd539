import Synchronization
import TallyCluster
import TallyCore

/// Which additions may be answered before they are in the log, as the schema and the operator say.
struct EarlyAnswerRule {
    private let isPlainAnswered: Bool
    private let ranges: [UInt64: ClosedRange<Int64>]
    /// How long one that was answered may stay out of the log before no other is answered early.
    let nanosecondsMax: UInt64

    /// Nil if none may be.
    init?(_ configuration: ServerConfiguration, _ catalog: FamilyCatalog) {
        guard configuration.isPlainAnsweredEarly || !catalog.earlyRanges.isEmpty else { return nil }
        isPlainAnswered = configuration.isPlainAnsweredEarly
        ranges = catalog.earlyRanges
        nanosecondsMax = UInt64(configuration.earlyMillisecondsMax) * 1_000_000
    }

    /// Between which numbers the sum of an addition stays that may be answered early; nil for others.
    func range(_ addition: borrowing Operation) -> ClosedRange<Int64>? {
        guard addition.family == Schema.plainKeys else {
            return ranges.isEmpty
                ? nil : ranges[FamilyCatalog.earlyKey(addition.family, addition.column)]
        }
        return isPlainAnswered ? Int64.min...Int64.max : nil
    }
}

/// Where the additions are that a client was answered early, so that what it reads is behind them.
final class EarlyAnswers: Sendable {
    private let drafts = Locked<[Int: UInt64]>([:])
    /// Whether there surely are none.
    var isEmpty: Bool { !hasSome.load(ordering: .relaxed) }
    private let hasSome = Atomic<Bool>(false)

    /// Some of its additions are in these drafts, by log.
    func note(_ latest: [Int: UInt64]) {
        drafts.withLock { $0.merge(latest) { max($0, $1) } }
        hasSome.store(true, ordering: .relaxed)
    }

    /// The partitions of which what is here may lack something that the client was answered.
    func partitions(_ replica: Replica) -> PartitionSet {
        var partitions = PartitionSet()
        guard !isEmpty else { return partitions }
        drafts.withLock { drafts in
            drafts = drafts.filter { replica.logs[$0.key].settledDraft < $0.value }
            for log in drafts.keys { partitions.insert(replica.logs[log].partitions) }
            if drafts.isEmpty { hasSome.store(false, ordering: .relaxed) }
        }
        return partitions
    }
}
