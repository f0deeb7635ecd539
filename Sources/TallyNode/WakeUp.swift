internal import Glibc
internal import Synchronization

/// Lets one thread sleep until others have work for it; costs the others one atomic load while it
/// is awake.
final class WakeUp: @unchecked Sendable {
    // The condition is guarded by `mutex`; both live at fixed addresses as the system requires.
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private let isAsleep = Atomic<Bool>(false)

    init() {
        pthread_mutex_init(mutex, nil)
        var attributes = pthread_condattr_t()
        pthread_condattr_init(&attributes)
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
        pthread_cond_init(condition, &attributes)
        pthread_condattr_destroy(&attributes)
    }

    deinit {
        pthread_cond_destroy(condition)
        pthread_mutex_destroy(mutex)
        condition.deallocate()
        mutex.deallocate()
    }

    /// Wakes the sleeper, if it sleeps.
    @inline(__always)
    func signal() {
        if isAsleep.load(ordering: .sequentiallyConsistent) { wake() }
    }

    @inline(never)
    private func wake() {
        pthread_mutex_lock(mutex)
        if isAsleep.exchange(false, ordering: .sequentiallyConsistent) {
            pthread_cond_signal(condition)
        }
        pthread_mutex_unlock(mutex)
    }

    /// Sleeps until `signal`, or until so many nanoseconds have passed.
    ///
    /// - Parameter hasWork: Asked once after announcing the sleep, so that no signal is missed.
    func sleep(nanoseconds: Int?, unless hasWork: () -> Bool) {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        isAsleep.store(true, ordering: .sequentiallyConsistent)
        defer { isAsleep.store(false, ordering: .sequentiallyConsistent) }
        if hasWork() { return }
        var deadline = timespec()
        if let nanoseconds {
            clock_gettime(CLOCK_MONOTONIC, &deadline)
            let fraction = deadline.tv_nsec + nanoseconds % 1_000_000_000
            deadline.tv_sec += nanoseconds / 1_000_000_000 + fraction / 1_000_000_000
            deadline.tv_nsec = fraction % 1_000_000_000
        }
        while isAsleep.load(ordering: .relaxed) {
            let result =
                nanoseconds == nil
                ? pthread_cond_wait(condition, mutex)
                : pthread_cond_timedwait(condition, mutex, &deadline)
            if result == ETIMEDOUT { return }
        }
    }
}
