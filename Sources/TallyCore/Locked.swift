public import Glibc

/// A value that one thread at a time may touch.
///
/// The standard library's `Mutex` would do, but the thread sanitizer does not see its locking on
/// Linux and so takes everything it guards for a race; this one is the system's own lock, which
/// the sanitizer knows.
public struct Locked<Value>: ~Copyable, @unchecked Sendable {
    // Sendable because the value is reached only under the lock.
    @usableFromInline let mutex: UnsafeMutablePointer<pthread_mutex_t>
    @usableFromInline let value: UnsafeMutablePointer<Value>

    /// Guards `initial`.
    public init(_ initial: Value) {
        mutex = .allocate(capacity: 1)
        mutex.initialize(to: pthread_mutex_t())
        pthread_mutex_init(mutex, nil)
        value = .allocate(capacity: 1)
        value.initialize(to: initial)
    }

    deinit {
        value.deinitialize(count: 1)
        value.deallocate()
        pthread_mutex_destroy(mutex)
        mutex.deallocate()
    }

    /// Runs `body` while no other thread can.
    ///
    /// Not recursive: `body` must not lock the same value again.
    @inlinable
    public borrowing func withLock<Result: ~Copyable, Failure: Error>(
        _ body: (inout Value) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        return try body(&value.pointee)
    }
}
