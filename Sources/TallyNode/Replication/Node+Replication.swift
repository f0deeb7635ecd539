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
        // A read must not be judged by an earlier time.
        _ = logTime.max(UInt64(logTimeMilliseconds), ordering: .relaxed)
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
        precondition(lockCount > 1, "partitions that come and go have locks of their own")
        var start = range.lowerBound
        while start < range.upperBound {
            let lock = lockIndex(Int(batch.operations[start].partition))
            var end = start + 1
            while end < range.upperBound, lockIndex(Int(batch.operations[end].partition)) == lock {
                end += 1
            }
            locks[lock].withLock { _ in
                let partition = Int(batch.operations[start].partition)
                guard partitions.partition(partition).pointee.isPresent else {
                    for index in start..<end {
                        if batch.operations[index].kind == .countKeys {
                            batch.outcomes[index] = Outcome(
                                .applied, wasPresent: false, value: 0)
                        } else {
                            batch.refuse(index, .logUnavailable)
                        }
                    }
                    return
                }
                apply(
                    batch.operations + start, end - start, batch.outcomes + start, &application)
            }
            start = end
        }
    }

    // MARK: Partitions that come and go

    /// Puts partitions in their places.
    ///
    /// - Parameter content: What is in them; nil for nothing.
    public func install(_ range: Range<Int>, _ content: PartitionSetAside?) {
        for index in range {
            replace(index) {
                content?.boxes[index - range.lowerBound].take() ?? emptyPartition(index)
            }
        }
        publishSchema()
    }

    /// Empties partitions, of which this node has no replica any more.
    public func remove(_ range: Range<Int>) {
        for index in range {
            replace(index) {
                var partition = emptyPartition(index)
                partition.isPresent = false
                return partition
            }
        }
    }

    private func emptyPartition(_ index: Int) -> Partition {
        var partition = Partition(
            place: PartitionPlace(number: index, count: partitionCount), hasher: hasher)
        partition.isJournalled = false
        return partition
    }

    private func replace(_ index: Int, _ make: () -> Partition) {
        locks[lockIndex(index)].withLock { _ in
            changeSegments(index) {
                let incarnation = $0.incarnation + 1
                $0 = make()
                $0.incarnation = incarnation
            }
            if partitions.partition(index).pointee.expiringCount > 0 {
                mayExpire.store(true, ordering: .relaxed)
            }
        }
    }

    // MARK: Checkpoints

    /// Takes note of a message of a log, applied or not, for which checkpoints are made.
    public func noteMessage(byteCount: Int) { checkpoints.noteMessage(bytes: byteCount) }

    /// Whether `takeCut` should be called soon.
    public var wantsCut: Bool { checkpoints.isCutRequested }

    /// Sets aside what has changed for the checkpoint that is to be made. Call between two messages.
    ///
    /// - Parameter logs: How far each log's partitions have come; nil for those of which the last checkpoint is to
    ///   be kept as it is.
    public func takeCut(_ logs: () -> [Int: LogState?]) {
        guard checkpoints.takeCutRequest() else { return }
        let logs = logs()
        withAllLocked { checkpoints.offer(freeze(logs)) }
    }

    /// For each log the last message that a checkpoint on disk holds.
    public var durableSequences: [Int: UInt64] { checkpoints.durableSequences }

    /// Whether nothing new may be accepted because changes take all the memory there is for them.
    public var isMemoryFull: Bool {
        changedBytes >= memoryLimit.load(ordering: .relaxed)
    }
}

/// Partitions on their way into a node.
public final class PartitionSetAside: @unchecked Sendable {
    // Sendable because whoever has it last takes them.
    let boxes: [PartitionBox]

    init(_ boxes: [PartitionBox]) { self.boxes = boxes }
}
