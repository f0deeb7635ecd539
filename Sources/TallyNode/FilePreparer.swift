import TallyCore
internal import Synchronization
import TallyStorage

/// Makes journal files ahead of their use, on a thread of its own.
final class FilePreparer<D: Disk>: Sendable {
    private enum State {
        case idle
        case requested(JournalFileRequest)
        case working
        case done(Result<D.File, DiskError>)
    }

    private let disk: D
    /// Wakes who waits for the result.
    private let wakeUp: WakeUp
    private let ownWakeUp = WakeUp()
    private let state = Locked<State>(.idle)
    private let isStopping = Atomic<Bool>(false)
    private let thread = Locked<DedicatedThread?>(nil)

    init(disk: D, wakeUp: WakeUp) {
        self.disk = disk
        self.wakeUp = wakeUp
    }

    func start() {
        thread.withLock { $0 = DedicatedThread(named: "journal-space") { self.run() } }
    }

    /// Ends the thread.
    ///
    /// - Returns: the result of a request under way.
    func stop() -> Result<D.File, DiskError>? {
        isStopping.store(true, ordering: .sequentiallyConsistent)
        ownWakeUp.signal()
        thread.withLock { $0.take() }?.join()
        return takeResult()
    }

    var isIdle: Bool {
        state.withLock { if case .idle = $0 { true } else { false } }
    }

    var hasResult: Bool {
        state.withLock { if case .done = $0 { true } else { false } }
    }

    /// Begins to make a file. Call when idle.
    func prepare(_ request: JournalFileRequest) {
        state.withLock { $0 = .requested(request) }
        ownWakeUp.signal()
    }

    /// What came of the request, once.
    func takeResult() -> Result<D.File, DiskError>? {
        state.withLock { state in
            guard case .done(let result) = state else { return nil }
            state = .idle
            return result
        }
    }

    private func run() {
        while !isStopping.load(ordering: .sequentiallyConsistent) {
            let request: JournalFileRequest? = state.withLock { state in
                guard case .requested(let request) = state else { return nil }
                state = .working
                return request
            }
            if let request {
                let result = Result { () throws(DiskError) in try request.create(on: disk) }
                state.withLock { $0 = .done(result) }
                wakeUp.signal()
            } else {
                ownWakeUp.sleep(nanoseconds: nil) {
                    isStopping.load(ordering: .sequentiallyConsistent)
                        || state.withLock { if case .requested = $0 { true } else { false } }
                }
            }
        }
    }
}
