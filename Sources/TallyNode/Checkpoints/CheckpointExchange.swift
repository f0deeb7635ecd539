import TallyCore
import TallyEngine
import TallyStorage
internal import Synchronization

/// The state of all partitions between two commit groups, or two messages of logs, set aside to be merged and
/// written.
struct CheckpointCut: Sendable {
    /// The last group that it reflects, or how many messages of logs.
    let sequence: UInt64
    let schema: Schema
    /// In a cluster, how far each log's partitions have come.
    let logs: [Int: Manifest.HeldLog]
    /// Logs of which the last checkpoint stays as it is.
    let kept: Set<Int>
    /// For each partition what is to be merged.
    let merges: [[TableMerge]]
    /// For each partition which one it was: another may be in its place before the merges are done.
    let incarnations: [UInt64]
    /// For each partition until when requests with a token are forgotten, milliseconds since 1970.
    let onceFloors: [UInt64]
}

/// What the committer and the checkpointer, on threads of their own, ask of each other.
final class CheckpointExchange: Sendable {
    private let isCutWanted = Atomic<Bool>(false)
    private let cut = Locked<CheckpointCut?>(nil)
    /// A group that must be on disk although the durability does not ask for it; 0 for none.
    private let syncTarget = Atomic<UInt64>(0)
    /// The last group that nobody needs any more, 0 if that has not changed.
    private let trimFloor = Atomic<UInt64>(0)
    private let journalBytes = Atomic<Int>(0)
    private let messages = Atomic<UInt64>(0)
    private let synced = Atomic<UInt64>(0)
    /// The log time of the last group written, and of the cut's, milliseconds since 1970.
    private let logTime = Atomic<UInt64>(0)
    private let cutSequence = Atomic<UInt64>(0)
    private let cutLogTime = Atomic<UInt64>(0)
    private let isWanted = Atomic<Bool>(false)
    private let durable = Locked<[Int: UInt64]>([:])
    private let finishedSequence = Atomic<UInt64>(0)
    private let finishedMilliseconds = Atomic<UInt64>(0)
    private let isUnderWay = Atomic<Bool>(false)
    private let scrubbed = Atomic<Int>(0)
    private let damaged = Atomic<Int>(0)
    private let end = Locked<JournalEnd?>(nil)
    /// Where a backup is wanted, and how the last one went.
    private let backup = Locked<(path: String?, status: BackupStatus)>((nil, .none))

    /// Wakes the checkpointer's thread.
    let wakeUp = WakeUp()
    /// What others may copy.
    let library = CheckpointLibrary()
    /// What has been copied from another node and is to become part of this one.
    private let arrivals = Locked<[CheckpointArrival]>([])
    /// Arrivals that are on disk and not yet part of the node.
    private let landing = Atomic<Int>(0)

    /// A log's partitions have been copied.
    func add(_ arrival: CheckpointArrival) {
        arrivals.withLock { $0.append(arrival) }
        wakeUp.signal()
    }

    var hasArrival: Bool { arrivals.withLock { !$0.isEmpty } }

    func takeArrival() -> CheckpointArrival? {
        arrivals.withLock { $0.isEmpty ? nil : $0.removeFirst() }
    }

    /// Whether some arrival is on disk and not yet part of the node: no cut may be taken meanwhile.
    var isLanding: Bool { landing.load(ordering: .acquiring) > 0 }

    func beginLanding() { landing.wrappingAdd(1, ordering: .acquiringAndReleasing) }

    func endLanding() {
        landing.wrappingSubtract(1, ordering: .acquiringAndReleasing)
        wakeUp.signal()
    }

    // MARK: Everybody's side

    /// Asks for a checkpoint now.
    func request() {
        isWanted.store(true, ordering: .sequentiallyConsistent)
        wakeUp.signal()
    }

    /// Asks for a backup.
    ///
    /// - Returns: false if one is being made.
    func requestBackup(_ path: String) -> Bool {
        let isTaken = backup.withLock { backup in
            guard backup.status != .working else { return false }
            backup = (path, .working)
            return true
        }
        wakeUp.signal()
        return isTaken
    }

    var backupStatus: BackupStatus { backup.withLock { $0.status } }

    /// Segment files read again so far, and how many of them were damaged.
    var scrubs: (files: Int, damaged: Int) {
        (scrubbed.load(ordering: .relaxed), damaged.load(ordering: .relaxed))
    }

    func noteScrubbed(isDamaged: Bool) {
        scrubbed.wrappingAdd(1, ordering: .relaxed)
        if isDamaged { damaged.wrappingAdd(1, ordering: .relaxed) }
    }

    /// Whether a checkpoint is being made.
    var hasRound: Bool { isUnderWay.load(ordering: .relaxed) }

    /// The last group that a checkpoint holds, and when that was made, milliseconds since 1970.
    var finished: (sequence: UInt64, milliseconds: UInt64) {
        (
            finishedSequence.load(ordering: .relaxed),
            finishedMilliseconds.load(ordering: .relaxed)
        )
    }

    // MARK: The checkpointer's side

    /// Asks for a cut; the committer must then be woken.
    func requestCut() { isCutWanted.store(true, ordering: .sequentiallyConsistent) }

    /// The cut that was asked for, once.
    func takeCut() -> CheckpointCut? { cut.withLock { $0.take() } }

    /// Asks for a group to be brought to the disk; the committer must then be woken.
    func requestSync(to sequence: UInt64) {
        syncTarget.store(sequence, ordering: .sequentiallyConsistent)
    }

    /// Says that a checkpoint holds everything up to group `sequence`.
    func setTrimFloor(_ sequence: UInt64) {
        trimFloor.store(sequence, ordering: .sequentiallyConsistent)
    }

    /// Journal bytes written since this was last reset.
    var journalBytesWritten: Int { journalBytes.load(ordering: .relaxed) }

    /// Messages of logs that have come since the start.
    var messageCount: UInt64 { messages.load(ordering: .relaxed) }

    /// A checkpoint on disk holds these logs' partitions, each up to this message.
    func setDurable(_ logs: [Int: Manifest.HeldLog]) {
        durable.withLock { $0 = logs.mapValues(\.state.sequence) }
    }

    /// For each log the last message that a checkpoint on disk holds.
    var durableSequences: [Int: UInt64] { durable.withLock { $0 } }

    func resetJournalBytes() { journalBytes.store(0, ordering: .relaxed) }

    var hasBackupRequest: Bool { backup.withLock { $0.path != nil } }

    /// Where a backup is to be made, once.
    func takeBackupRequest() -> String? {
        backup.withLock { backup in
            defer { backup.path = nil }
            return backup.path
        }
    }

    func setBackupStatus(_ status: BackupStatus) { backup.withLock { $0.status = status } }

    /// Whether somebody has asked for a checkpoint.
    var isRequested: Bool { isWanted.load(ordering: .sequentiallyConsistent) }

    func takeRequest() -> Bool { isWanted.exchange(false, ordering: .sequentiallyConsistent) }

    func setRound(_ isUnderWay: Bool) { self.isUnderWay.store(isUnderWay, ordering: .relaxed) }

    /// A checkpoint of everything up to group `sequence` is on disk.
    func setFinished(_ sequence: UInt64, milliseconds: UInt64) {
        finishedSequence.store(sequence, ordering: .relaxed)
        finishedMilliseconds.store(milliseconds, ordering: .relaxed)
    }

    /// The log time of the last cut, once its last group has been written.
    var cutLogTimeMilliseconds: UInt64 { cutLogTime.load(ordering: .acquiring) }

    /// Where the journal's last group ends that was written, and synced if the durability asks for that.
    var journalEnd: JournalEnd? { end.withLock { $0 } }

    // MARK: The committer's side

    func setJournalEnd(_ end: JournalEnd?) { self.end.withLock { $0 = end } }

    /// Whether there is anything to do for the checkpointer.
    var hasRequest: Bool {
        isCutWanted.load(ordering: .sequentiallyConsistent)
            || trimFloor.load(ordering: .sequentiallyConsistent) > 0
            || syncTarget.load(ordering: .sequentiallyConsistent)
                > synced.load(ordering: .relaxed)
    }

    var isCutRequested: Bool { isCutWanted.load(ordering: .relaxed) }

    func takeCutRequest() -> Bool {
        isCutWanted.load(ordering: .relaxed)
            && isCutWanted.exchange(false, ordering: .sequentiallyConsistent)
    }

    func offer(_ cut: CheckpointCut) {
        cutSequence.store(cut.sequence, ordering: .relaxed)
        cutLogTime.store(logTime.load(ordering: .relaxed), ordering: .releasing)
        self.cut.withLock { $0 = cut }
    }

    /// Whether some group up to `sequence`, the last one written, must be synced.
    ///
    /// What was asked for beyond it is asked for still, since that group has not been written.
    func wantsSync(to sequence: UInt64) -> Bool {
        let wanted = min(syncTarget.load(ordering: .sequentiallyConsistent), sequence)
        guard wanted > synced.load(ordering: .relaxed) else { return false }
        synced.store(wanted, ordering: .relaxed)
        return true
    }

    func takeTrimFloor() -> UInt64? {
        let floor = trimFloor.exchange(0, ordering: .sequentiallyConsistent)
        return floor == 0 ? nil : floor
    }

    /// Takes note of a message of a log.
    func noteMessage(bytes: Int) {
        journalBytes.wrappingAdd(bytes, ordering: .relaxed)
        messages.wrappingAdd(1, ordering: .relaxed)
    }

    /// Takes note of a group that has been written.
    func note(sequence: UInt64, bytes: Int, logTimeMilliseconds: UInt64) {
        journalBytes.wrappingAdd(bytes, ordering: .relaxed)
        logTime.store(logTimeMilliseconds, ordering: .relaxed)
        if sequence == cutSequence.load(ordering: .relaxed) {
            cutLogTime.store(logTimeMilliseconds, ordering: .releasing)
        }
    }
}
