internal import Glibc
internal import Synchronization
import TallyCore
public import TallyStorage

/// What happens to the journal while a node serves.
public enum JournalEvent: Sendable {
    /// A group was written, and synced unless the user chose `none`: replies or commands may be
    /// waiting for it. It took so many nanoseconds.
    case committed(nanoseconds: UInt64)
    /// A file is ready: commands may be waiting for it.
    case spaceReady
    /// The disk is full: once the files at hand are, writes are refused; reads go on. Commands may
    /// be waiting to be told.
    case spaceExhausted(DiskError)
    /// The disk has space again.
    case spaceRegained
    /// The journal cannot be written any more. The process must end: nothing more may be
    /// acknowledged.
    case failed(StorageError)
}

/// The thread that drives a `Committer` while a node serves.
public final class CommitterThread<D: Disk>: Sendable {
    private let committer: Committer<D>
    private let node: Node
    private let onEvent: @Sendable (JournalEvent) -> Void
    private let preparer: FilePreparer<D>
    private let isStopping = Atomic<Bool>(false)
    private let thread = Locked<DedicatedThread?>(nil)

    /// - Parameter onEvent: Called on the thread; must not block.
    public init(
        _ committer: Committer<D>, node: Node,
        onEvent: @escaping @Sendable (JournalEvent) -> Void
    ) {
        self.committer = committer
        self.node = node
        self.onEvent = onEvent
        preparer = FilePreparer(disk: committer.disk, wakeUp: node.wakeUp)
    }

    /// Starts the thread.
    public func start() {
        thread.withLock { thread in
            precondition(thread == nil, "started twice")
            thread = DedicatedThread(named: "journal") { self.run() }
        }
        preparer.start()
    }

    /// Stops the thread after it has written, synced and sealed everything. Call when nothing is
    /// executed any more.
    public func stop() {
        isStopping.store(true, ordering: .sequentiallyConsistent)
        node.wakeUp.signal()
        thread.withLock { $0.take() }?.join()
    }

    private func run() {
        var nextAttempt: UInt64 = 0
        do throws(StorageError) {
            while !isStopping.load(ordering: .sequentiallyConsistent) {
                try keepSpace(&nextAttempt)
                // Where cores are scarce, whoever is about to execute goes first: fewer, larger groups.
                sched_yield()
                let begun = committer.clock.monotonicNanoseconds()
                if try committer.commit() {
                    onEvent(
                        .committed(
                            nanoseconds: committer.clock.monotonicNanoseconds() - begun))
                    pause()
                } else {
                    waitForWork()
                }
            }
            try settleRequest()
            let begun = committer.clock.monotonicNanoseconds()
            try committer.close()
            onEvent(.committed(nanoseconds: committer.clock.monotonicNanoseconds() - begun))
        } catch {
            onEvent(.failed(error))
        }
    }

    /// Has the next file made by another thread, so that no group waits for it.
    ///
    /// - Parameter nextAttempt: When a full disk is to be tried again, monotonic nanoseconds.
    private func keepSpace(_ nextAttempt: inout UInt64) throws(StorageError) {
        if preparer.isIdle {
            let now = committer.clock.monotonicNanoseconds()
            if committer.isOutOfSpace, now < nextAttempt { return }
            guard let request = committer.fileRequest() else { return }
            nextAttempt = now + UInt64(Limits.spaceRetryMilliseconds) * 1_000_000
            preparer.prepare(request)
        } else if let result = preparer.takeResult() {
            try accept(result)
        }
    }

    private func accept(_ result: Result<D.File, DiskError>) throws(StorageError) {
        let space =
            switch result {
            case .success(let file): committer.adopt(file)
            case .failure(let error): try committer.refuse(error)
            }
        switch space {
        case .enough: onEvent(.spaceReady)
        case .stillExhausted: break
        case .exhausted(let error): onEvent(.spaceExhausted(error))
        case .regained:
            onEvent(.spaceRegained)
            onEvent(.spaceReady)
        }
    }

    /// Waits for the file that is being made, if any, and ends its thread.
    private func settleRequest() throws(StorageError) {
        if let result = preparer.stop() { try accept(result) }
    }

    private func waitForWork() {
        node.wakeUp.sleep(
            nanoseconds: committer.isOutOfSpace
                ? Limits.spaceRetryMilliseconds * 1_000_000 : nil,
            unless: { hasWork })
    }

    private var hasWork: Bool {
        isStopping.load(ordering: .sequentiallyConsistent) || committer.hasPending
            || preparer.hasResult || node.checkpoints.hasRequest
    }

    private func pause() {
        guard let (nanoseconds, bytesMax) = committer.pause else { return }
        node.wakeThresholdBytes.store(bytesMax, ordering: .sequentiallyConsistent)
        node.wakeUp.sleep(nanoseconds: nanoseconds) {
            isStopping.load(ordering: .sequentiallyConsistent)
                || node.pendingJournalBytes >= bytesMax || preparer.hasResult
                || node.checkpoints.hasRequest
        }
        node.wakeThresholdBytes.store(0, ordering: .sequentiallyConsistent)
    }
}
