internal import CTallyIntrinsics
internal import Glibc
internal import Synchronization
import TallyCore
public import TallyStorage

/// What happens to the journal while a node serves.
public enum JournalEvent: Sendable {
    /// A group was written, and synced unless the user chose `none`: replies may be waiting for it.
    case committed
    /// The disk is full: writes are refused from here on, reads go on.
    case spaceExhausted(DiskError)
    /// The disk has space again.
    case spaceRegained
    /// The journal cannot be written any more. The process must end: nothing more may be
    /// acknowledged.
    case failed(JournalError)
}

/// The thread that drives a `Committer` while a node serves.
public final class CommitterThread<D: Disk>: Sendable {
    private let committer: Committer<D>
    private let node: Node
    private let onEvent: @Sendable (JournalEvent) -> Void
    private let isStopping = Atomic<Bool>(false)
    private let thread = Mutex<pthread_t?>(nil)

    /// - Parameter onEvent: Called on the thread; must not block.
    public init(
        _ committer: Committer<D>, node: Node,
        onEvent: @escaping @Sendable (JournalEvent) -> Void
    ) {
        self.committer = committer
        self.node = node
        self.onEvent = onEvent
    }

    /// Starts the thread.
    public func start() {
        thread.withLock { thread in
            precondition(thread == nil, "started twice")
            let box = Unmanaged.passRetained(ThreadBody { self.run() })
            var created = pthread_t()
            let result = pthread_create(
                &created, nil,
                { argument in
                    guard let argument else { return nil }
                    let body = Unmanaged<ThreadBody>.fromOpaque(argument).takeRetainedValue()
                    body.run()
                    return nil
                }, box.toOpaque())
            precondition(result == 0, "cannot start the journal's thread")
            thread = created
        }
    }

    /// Stops the thread after it has written, synced and sealed everything. Call when nothing is
    /// executed any more.
    public func stop() {
        isStopping.store(true, ordering: .sequentiallyConsistent)
        node.wakeUp.signal()
        if let started = thread.withLock({ $0.take() }) { pthread_join(started, nil) }
    }

    private func run() {
        tally_name_thread("journal")
        do throws(JournalError) {
            while !isStopping.load(ordering: .sequentiallyConsistent) {
                try keepSpace()
                if try committer.commit() != nil {
                    onEvent(.committed)
                } else {
                    waitForWork()
                }
                gather()
            }
            try committer.close()
            onEvent(.committed)
        } catch {
            onEvent(.failed(error))
        }
    }

    private func keepSpace() throws(JournalError) {
        switch try committer.prepareSpace() {
        case .enough, .stillExhausted: break
        case .exhausted(let error): onEvent(.spaceExhausted(error))
        case .regained: onEvent(.spaceRegained)
        }
    }

    private var isEager: Bool {
        isStopping.load(ordering: .sequentiallyConsistent)
            || node.pendingJournalBytes >= Limits.groupBytesEager
    }

    private func waitForWork() {
        node.wakeUp.sleep(
            milliseconds: committer.isOutOfSpace ? Limits.spaceRetryMilliseconds : nil,
            unless: { hasWork })
    }

    private var hasWork: Bool {
        isStopping.load(ordering: .sequentiallyConsistent) || committer.hasPending
    }

    /// Lets operations gather where their replies do not wait for the disk.
    private func gather() {
        let milliseconds = committer.gatherMilliseconds
        guard milliseconds > 0 else { return }
        node.wakeThresholdBytes.store(Limits.groupBytesEager, ordering: .sequentiallyConsistent)
        node.wakeUp.sleep(milliseconds: milliseconds, unless: { isEager })
        node.wakeThresholdBytes.store(0, ordering: .sequentiallyConsistent)
    }
}

/// What a new thread runs.
private final class ThreadBody: Sendable {
    let run: @Sendable () -> Void

    init(_ run: @escaping @Sendable () -> Void) {
        self.run = run
    }
}
