internal import CTallyIntrinsics
internal import Glibc

/// A thread of its own, for work that blocks.
struct DedicatedThread: Sendable {
    private let thread: pthread_t

    /// Starts a thread that runs `body` once.
    init(named name: String, _ body: @escaping @Sendable () -> Void) {
        let box = Unmanaged.passRetained(
            ThreadBody {
                tally_name_thread(name)
                body()
            })
        var created = pthread_t()
        let result = pthread_create(
            &created, nil,
            { argument in
                guard let argument else { return nil }
                Unmanaged<ThreadBody>.fromOpaque(argument).takeRetainedValue().run()
                return nil
            }, box.toOpaque())
        precondition(result == 0, "cannot start a thread")
        thread = created
    }

    /// Waits until it has ended. Call once.
    func join() {
        pthread_join(thread, nil)
    }
}

private final class ThreadBody: Sendable {
    let run: @Sendable () -> Void

    init(_ run: @escaping @Sendable () -> Void) {
        self.run = run
    }
}
