import TallyCore
import TallyEngine
import TallyStorage
internal import Synchronization

/// What the checkpointer needs of a node, and what its users ask about checkpoints and backups.
extension Node {
    /// Asks for a checkpoint, to be made in the background.
    ///
    /// - Returns: false if one is being made; another follows it.
    public func requestCheckpoint() -> Bool {
        let isUnderWay = checkpoints.hasRound
        checkpoints.request()
        return !isUnderWay
    }

    /// Whether a checkpoint is being made.
    public var isMakingCheckpoint: Bool { checkpoints.hasRound }

    /// Segment files that scrubs have read again so far, and how many of them were damaged.
    public var scrubs: (files: Int, damaged: Int) { checkpoints.scrubs }

    /// The last group that a checkpoint on disk holds, and when that was made, milliseconds since
    /// 1970; zeros for none.
    public var checkpoint: (sequence: UInt64, milliseconds: UInt64) { checkpoints.finished }

    /// How much has come that checkpoints have to hold: commit groups, or messages of logs.
    var progress: UInt64 {
        logCount > 0 ? checkpoints.messageCount : countAll().sequence
    }

    /// Sets aside what has changed in all partitions. Call under all locks, between two groups, or two
    /// messages.
    func freeze(_ logs: [Int: LogState?] = [:]) -> CheckpointCut {
        var held: [Int: Manifest.HeldLog] = [:]
        var kept: Set<Int> = []
        for (number, state) in logs {
            guard let state else {
                kept.insert(number)
                continue
            }
            let first = shares.partitions(of: number).lowerBound
            held[number] = Manifest.HeldLog(
                state: state, schema: partitions.partition(first).pointee.schema)
        }
        return CheckpointCut(
            sequence: logCount > 0 ? checkpoints.messageCount : openSequence.pointee - 1,
            schema: partitions.partition(0).pointee.schema, logs: held, kept: kept,
            merges: (0..<partitionCount).map { partition in
                let isKept = !kept.isEmpty && kept.contains(shares.log(of: partition))
                return isKept ? [] : changeSegments(partition) { $0.freeze() }
            },
            incarnations: (0..<partitionCount).map {
                partitions.partition($0).pointee.incarnation
            },
            onceFloors: (0..<partitionCount).map {
                partitions.partition($0).pointee.floorMilliseconds
            })
    }

    /// Takes over what merges of a partition have made, unless another is in its place by now.
    func adopt(
        _ results: [(merge: TableMerge, segments: [Segment])], partition: Int, incarnation: UInt64
    ) {
        locks[lockIndex(partition)].withLock { _ in
            guard partitions.partition(partition).pointee.incarnation == incarnation else { return }
            changeSegments(partition) { partition in
                for (merge, segments) in results { partition.adopt(segments, of: merge) }
            }
        }
    }

    /// Lets `body` change a partition's segments, and keeps account. Call under its lock.
    func changeSegments<Result>(
        _ partition: Int, _ body: (inout Partition) -> Result
    ) -> Result {
        let pointer = partitions.partition(partition)
        let bytesBefore = pointer.pointee.allocatedBytes
        let result = body(&pointer.pointee)
        memoryBytes.wrappingAdd(
            pointer.pointee.allocatedBytes - bytesBefore, ordering: .relaxed)
        settleAccount(partition)
        return result
    }

    /// Brings what is known of a partition's segments up to date. Call under its lock.
    func settleAccount(_ partition: Int) {
        let pointer = partitions.partition(partition)
        let (byteCount, cold) = (pointer.pointee.tableBytes.segments, pointer.pointee.coldCount)
        segmentBytes.wrappingAdd(
            byteCount - segmentAccounts[partition].byteCount, ordering: .relaxed)
        coldSegments.wrappingAdd(cold - segmentAccounts[partition].cold, ordering: .relaxed)
        segmentAccounts[partition] = (byteCount, cold)
    }

    /// Memory that changes since the last checkpoint take, and all segments, bytes.
    func tableBytes() -> (changed: Int, segments: Int) {
        var changed = 0
        var segments = 0
        for index in 0..<partitionCount {
            locks[lockIndex(index)].withLock { _ in
                let bytes = partitions.partition(index).pointee.tableBytes
                changed += bytes.changed
                segments += bytes.segments
            }
        }
        return (changed, segments)
    }

    /// Asks for a backup in a new directory, to be made in the background.
    ///
    /// - Returns: false if one is being made.
    public func requestBackup(_ path: String) -> Bool { checkpoints.requestBackup(path) }

    /// How the last backup went.
    public var backupStatus: BackupStatus { checkpoints.backupStatus }
}
