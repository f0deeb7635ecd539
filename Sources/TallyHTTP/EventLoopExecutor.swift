internal import NIOCore

/// Runs asynchronous functions on an event loop, so that a request stays on the thread that has read it.
///
/// Without it each step of a request is handed from the loop to a pool of threads and back, and what it
/// wakes takes processors from those who serve Redis clients.
final class EventLoopExecutor: TaskExecutor {
    private let eventLoop: any EventLoop

    /// - Parameter eventLoop: Must not be shut down while there are tasks.
    init(_ eventLoop: any EventLoop) { self.eventLoop = eventLoop }

    func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        let executor = asUnownedTaskExecutor()
        eventLoop.execute { job.runSynchronously(on: executor) }
    }
}
