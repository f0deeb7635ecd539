internal import NIOCore
internal import NIOPosix
internal import TallyCore

/// Runs asynchronous functions on an event loop, so that a request stays on the thread that has read it.
///
/// Without it each step of a request is handed from the loop to a pool of threads and back, and what it
/// wakes takes processors from those who serve Redis clients.
final class EventLoopExecutor: TaskExecutor {
    private let eventLoop: any EventLoop
    private let isOver = Locked(false)

    init(_ eventLoop: any EventLoop) { self.eventLoop = eventLoop }

    func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        let executor = asUnownedTaskExecutor()
        let isOver = isOver.withLock { isOver in
            if !isOver { eventLoop.execute { job.runSynchronously(on: executor) } }
            return isOver
        }
        if isOver { NIOThreadPool.singleton.submit { _ in job.runSynchronously(on: executor) } }
    }

    /// The loop is about to be shut down: what tasks have left to do, they do elsewhere.
    func end() { isOver.withLock { $0 = true } }
}
