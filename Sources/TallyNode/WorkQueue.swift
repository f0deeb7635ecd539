internal import Glibc

/// Hands work to several threads that sleep while there is none.
final class WorkQueue<Item>: @unchecked Sendable {
    // Everything is guarded by `mutex`; it and the condition live at fixed addresses as the system
    // requires.
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    /// Items from `first` on wait.
    private var items: [Item] = []
    private var first = 0
    private var isClosed = false

    init() {
        pthread_mutex_init(mutex, nil)
        pthread_cond_init(condition, nil)
    }

    deinit {
        pthread_mutex_destroy(mutex)
        pthread_cond_destroy(condition)
        mutex.deallocate()
        condition.deallocate()
    }

    /// Adds work behind all other.
    func append(_ new: [Item]) {
        guard !new.isEmpty else { return }
        pthread_mutex_lock(mutex)
        items += new
        if new.count == 1 {
            pthread_cond_signal(condition)
        } else {
            pthread_cond_broadcast(condition)
        }
        pthread_mutex_unlock(mutex)
    }

    /// The oldest work, nil if there is none.
    func takeFirst() -> Item? {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        return pop()
    }

    /// The oldest work, waiting for some; nil if there is none and never will be.
    func waitForFirst() -> Item? {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        while true {
            if let item = pop() { return item }
            if isClosed { return nil }
            pthread_cond_wait(condition, mutex)
        }
    }

    private func pop() -> Item? {
        guard first < items.count else { return nil }
        defer {
            first += 1
            // Memory of what is gone is used again once it is more than what waits.
            if first * 2 > items.count {
                items.removeFirst(first)
                first = 0
            }
        }
        return items[first]
    }

    /// Nothing more will be appended.
    func close() {
        pthread_mutex_lock(mutex)
        isClosed = true
        pthread_cond_broadcast(condition)
        pthread_mutex_unlock(mutex)
    }
}
