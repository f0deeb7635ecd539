public import TallyCore
import TallyEngine
import TallyStorage
internal import Synchronization

/// A node whose journal is a log that it shares with others: it applies what the log holds, and nothing
/// else changes its state.
extension Node {
    /// Applies what an entry of a log asks for. What becomes of it depends on nothing but the entry and
    /// the state that the entries before it have left.
    ///
    /// - Parameters:
    ///   - sequence: The entry's place in its log.
    ///   - logTimeMilliseconds: The log's time, milliseconds since 1970.
    /// - Returns: whether everything could be judged; if not, this node's state is no longer the others'.
    public func apply(
        _ batch: inout OperationBatch, sequence: UInt64, logTimeMilliseconds: Int64
    ) -> Bool {
        if batch.setsDeadlines { mayExpire.store(true, ordering: .relaxed) }
        let now = mayExpire.load(ordering: .relaxed) ? logTimeMilliseconds : nil
        batch.nowMilliseconds = now ?? 0
        var application = PartitionTable.Application(
            sequence: sequence, nowMilliseconds: now, rows: batch.rows)
        executeAll(&batch, logTimeMilliseconds, &application)
        finish(application, batch)
        for index in 0..<batch.count where batch.outcomes[index].status == .unreadable {
            return false
        }
        return true
    }

    /// Executes reads as the state is now, whatever the log holds.
    ///
    /// - Parameter range: Operations of the batch that change nothing, whole units.
    public func read(_ range: Range<Int>, of batch: inout OperationBatch) {
        let now = mayExpire.load(ordering: .relaxed) ? nowMilliseconds() : nil
        batch.nowMilliseconds = now ?? 0
        // A read removes nothing, since only the log may.
        var application = PartitionTable.Application(
            isMemoryFull: false, isJournalFull: true, nowMilliseconds: now, rows: batch.rows)
        var start = range.lowerBound
        while start < range.upperBound {
            let lock = lockIndex(Int(batch.operations[start].partition))
            var end = start + 1
            while end < range.upperBound, lockIndex(Int(batch.operations[end].partition)) == lock {
                end += 1
            }
            locks[lock].withLock { _ in
                apply(
                    batch.operations + start, end - start, batch.outcomes + start, &application)
            }
            start = end
        }
    }

    /// Whether nothing new may be accepted because changes take all the memory there is for them.
    public var isMemoryFull: Bool {
        changedBytes >= memoryLimit.load(ordering: .relaxed)
    }
}

extension Node {
    /// A node without counters, whose state will follow logs.
    ///
    /// - Parameter identity: Of the cluster's data.
    public convenience init(
        following identity: LogIdentity, partitionCount: Int, clock: any Clock,
        configuration: NodeConfiguration
    ) {
        let hasher = KeyHasher(seed: configuration.random())
        self.init(
            identity: identity, partitionCount: partitionCount, threads: configuration.threads,
            hasher: hasher, sequence: 0, epoch: 1, clock: clock, logTimeMilliseconds: 0,
            memoryBytesMax: configuration.memoryBytesMax,
            once: (configuration.onceWindowSeconds, configuration.onceMemoryBytes),
            isNull: configuration.isNull,
            budget: JournalBudget(floorBytes: 0, pendingMax: configuration.journal.groupBytesMax),
            // What has been applied is in the log.
            gate: AcknowledgementGate(durability: .none, clock: clock, durableSequence: 0),
            wakeUp: WakeUp(),
            partition: {
                var partition = Partition(
                    place: PartitionPlace(number: $0, count: partitionCount), hasher: hasher)
                partition.isJournalled = false
                return partition
            })
    }
}
