public import TallyCore
internal import CTallyIntrinsics
internal import Synchronization
public import TallyStorage

/// When checkpoints are made.
public struct CheckpointConfiguration: Sendable {
    /// Journal bytes from which on a checkpoint is made.
    public var journalBytesMax = Limits.checkpointJournalBytes
    /// Longest time between a change and a checkpoint that holds it, seconds.
    public var secondsMax = Limits.checkpointSeconds
    /// Memory for changes from which on a checkpoint is made, bytes, where segments take little; a
    /// quarter of the segments' memory where they take more.
    public var changedBytesMax = Limits.checkpointChangedBytes
    /// Time from the beginning of one scrub of all segment files to that of the next, seconds; 0 for
    /// never.
    public var scrubSeconds = Limits.scrubSeconds

    /// What `Limits` names.
    public init() {}
}

/// What `CheckpointThread` tells its owner.
public enum CheckpointEvent: Sendable {
    /// A checkpoint of everything up to a group is on disk.
    case finished(sequence: UInt64, segmentsWritten: Int, bytesWritten: Int, milliseconds: UInt64)
    /// A checkpoint was given up; what is on disk is as good as before, and another will be tried.
    case failed(CheckpointError)
    /// A segment file is damaged; the next checkpoint writes it anew, from memory.
    case damaged(String)
}

/// The thread that makes checkpoints.
public final class CheckpointThread<D: Disk>: Sendable {
    private let checkpointer: Checkpointer<D>
    private let node: Node
    private let clock: any Clock
    private let configuration: CheckpointConfiguration
    private let openDirectory: @Sendable (String) throws(DiskError) -> D
    private let onEvent: @Sendable (CheckpointEvent) -> Void
    private let isStopping = Atomic<Bool>(false)
    private let thread = Locked<DedicatedThread?>(nil)

    /// How often the need for a checkpoint is looked at, nanoseconds.
    private static var pollNanoseconds: Int { 200_000_000 }
    /// Wait after a checkpoint that was given up, nanoseconds.
    private static var retryNanoseconds: UInt64 { 5_000_000_000 }
    /// Wait for the journal's thread, nanoseconds.
    private static var waitNanoseconds: Int { 2_000_000 }

    /// - Parameters:
    ///   - openDirectory: Makes a directory for a backup.
    ///   - onEvent: Called on the checkpoint thread; must not block.
    public init(
        _ checkpointer: Checkpointer<D>, node: Node, clock: any Clock,
        configuration: CheckpointConfiguration,
        openDirectory: @escaping @Sendable (String) throws(DiskError) -> D,
        onEvent: @escaping @Sendable (CheckpointEvent) -> Void
    ) {
        self.checkpointer = checkpointer
        self.node = node
        self.clock = clock
        self.configuration = configuration
        self.openDirectory = openDirectory
        self.onEvent = onEvent
    }

    /// Starts the thread.
    public func start() {
        thread.withLock { thread in
            precondition(thread == nil, "started twice")
            thread = DedicatedThread(named: "checkpoint") { self.run() }
        }
    }

    /// Ends the thread after a last checkpoint, of everything that has been executed. The journal's
    /// thread must still run.
    public func stop() {
        isStopping.store(true, ordering: .sequentiallyConsistent)
        node.checkpoints.wakeUp.signal()
        thread.withLock { $0.take() }?.join()
    }

    private func run() {
        var lastNanoseconds = clock.monotonicNanoseconds()
        var notBefore: UInt64 = 0
        var lastScrub = lastNanoseconds
        while !isStopping.load(ordering: .sequentiallyConsistent) {
            node.checkpoints.wakeUp.sleep(nanoseconds: Self.pollNanoseconds) {
                isStopping.load(ordering: .sequentiallyConsistent)
                    || node.checkpoints.isRequested || node.imports.hasRequest
                    || node.checkpoints.hasBackupRequest || node.checkpoints.hasArrival
            }
            while let arrival = node.checkpoints.takeArrival() { checkpointer.land(arrival) }
            if !node.checkpoints.isLanding, let path = node.checkpoints.takeBackupRequest() {
                makeBackup(path)
            }
            while let request = node.imports.takeRequest() {
                let status = checkpointer.importer.run(request)
                node.imports.finish(request.number, status)
                // So that its files can go, and a start need not read them again.
                node.checkpoints.request()
            }
            scrub(&lastScrub)
            let isAsked = node.checkpoints.takeRequest()
            if node.checkpoints.isLanding {
                // What has landed must be in the node before a cut is taken.
                if isAsked { node.checkpoints.request() }
                pause(Self.waitNanoseconds)
                continue
            }
            guard !isStopping.load(ordering: .sequentiallyConsistent),
                isAsked
                    || clock.monotonicNanoseconds() >= notBefore && isDue(since: lastNanoseconds)
            else { continue }
            let isMade = makeCheckpoint()
            lastNanoseconds = clock.monotonicNanoseconds()
            if !isMade { notBefore = lastNanoseconds + Self.retryNanoseconds }
        }
        if checkpointer.hasChanges { _ = makeCheckpoint() }
    }

    /// Reads one segment file a turn, so that scrubbing takes some megabytes a second.
    private func scrub(_ lastScrub: inout UInt64) {
        guard configuration.scrubSeconds > 0 else { return }
        if let (file, damage) = checkpointer.scrubNext() {
            node.checkpoints.noteScrubbed(isDamaged: damage != nil)
            guard let damage else { return }
            onEvent(.damaged(damage.contains(file) ? damage : "\(file): \(damage)"))
            node.checkpoints.request()
            return
        }
        let now = clock.monotonicNanoseconds()
        if now - lastScrub >= UInt64(configuration.scrubSeconds) * 1_000_000_000 {
            lastScrub = now
            checkpointer.beginScrub()
        }
    }

    private func isDue(since lastNanoseconds: UInt64) -> Bool {
        if node.checkpoints.journalBytesWritten >= configuration.journalBytesMax { return true }
        let seconds = (clock.monotonicNanoseconds() - lastNanoseconds) / 1_000_000_000
        if seconds >= UInt64(configuration.secondsMax), checkpointer.hasChanges { return true }
        let (changed, segments) = node.tableBytes()
        let changedMax = max(configuration.changedBytesMax, segments / 4)
        let limit = node.memoryBytesMax.map { $0 / 4 } ?? .max
        return changed >= min(changedMax, limit) && checkpointer.hasChanges
    }

    private func makeBackup(_ path: String) {
        if node.logCount > 0, checkpointer.hasChanges, !makeCheckpoint() {
            return node.checkpoints.setBackupStatus(.failed("no checkpoint could be made"))
        }
        do throws(BackupFiles.Failure) {
            let target: D
            do throws(DiskError) {
                target = try openDirectory(path)
            } catch {
                throw .disk(error)
            }
            try checkpointer.backUp(to: target)
            node.checkpoints.setBackupStatus(.done)
        } catch {
            node.checkpoints.setBackupStatus(.failed("\(error)"))
        }
    }

    /// - Returns: false if it was given up.
    private func makeCheckpoint() -> Bool {
        let started = clock.monotonicNanoseconds()
        checkpointer.begin()
        node.wakeUp.signal()
        do throws(CheckpointError) {
            while true {
                let stepStarted = clock.monotonicNanoseconds()
                switch try checkpointer.step() {
                case .idle: return true
                case .waiting:
                    node.wakeUp.signal()
                    pause(Self.waitNanoseconds)
                case .working:
                    // Half of one core at most, unless everybody waits for the end.
                    guard !isStopping.load(ordering: .relaxed) else { continue }
                    pause(Int(clock.monotonicNanoseconds() - stepStarted))
                case .finished(let sequence, let segmentsWritten, let bytesWritten):
                    node.wakeUp.signal()
                    // Merged memtables were many small pieces, which the allocator keeps otherwise.
                    tally_return_free_memory()
                    onEvent(
                        .finished(
                            sequence: sequence, segmentsWritten: segmentsWritten,
                            bytesWritten: bytesWritten,
                            milliseconds: (clock.monotonicNanoseconds() - started) / 1_000_000))
                    return true
                }
            }
        } catch {
            onEvent(.failed(error))
            return false
        }
    }

    private func pause(_ nanoseconds: Int) {
        node.checkpoints.wakeUp.sleep(nanoseconds: nanoseconds) { false }
    }
}
