internal import Synchronization

/// How much may still be written to the journal, counted before anything is applied.
///
/// Space on disk is reserved first, in whole files; operations then reserve from that, so that what
/// has been applied can always be written. What is not yet written is bounded as well.
final class JournalBudget: Sendable {
    enum Grant {
        case granted
        /// Too much waits to be written, or the next file is still being made; try again when the
        /// journal has moved.
        case busy
        /// The disk has no space.
        case full
    }

    /// Bytes of files that no operation has reserved.
    private let unreserved = Atomic<Int>(0)
    /// Bytes reserved by operations that are not in a written group.
    private let pending = Atomic<Int>(0)
    /// Whether the latest attempt to make a file found the disk full.
    private let isDiskFull = Atomic<Bool>(false)
    private let floorBytes: Int
    private let pendingMax: Int

    /// - Parameters:
    ///   - floorBytes: What is never given out; see `JournalWriter.floorBytes`.
    ///   - pendingMax: Most bytes of one group.
    init(floorBytes: Int, pendingMax: Int) {
        self.floorBytes = floorBytes
        self.pendingMax = pendingMax
    }

    /// Bytes that wait for the next group, an upper bound.
    var pendingBytes: Int { pending.load(ordering: .sequentiallyConsistent) }

    /// Whether reservations fail for lack of disk space.
    var isFull: Bool {
        unreserved.load(ordering: .relaxed) <= floorBytes && isDiskFull.load(ordering: .relaxed)
    }

    func reserve(_ bytes: Int) -> Grant {
        // More than a group ever holds will not fit later either.
        if bytes > pendingMax { return .full }
        if pending.wrappingAdd(bytes, ordering: .sequentiallyConsistent).newValue > pendingMax {
            pending.wrappingSubtract(bytes, ordering: .relaxed)
            return .busy
        }
        if unreserved.wrappingSubtract(bytes, ordering: .relaxed).newValue < floorBytes {
            refund(bytes)
            return isDiskFull.load(ordering: .relaxed) ? .full : .busy
        }
        return .granted
    }

    /// Gives back what was reserved and not needed.
    func refund(_ bytes: Int) {
        unreserved.wrappingAdd(bytes, ordering: .relaxed)
        pending.wrappingSubtract(bytes, ordering: .relaxed)
    }

    /// A file of `bytes` is ready.
    func add(_ bytes: Int) {
        unreserved.wrappingAdd(bytes, ordering: .relaxed)
        isDiskFull.store(false, ordering: .relaxed)
    }

    /// No file can be made.
    func noteFullDisk() {
        isDiskFull.store(true, ordering: .relaxed)
    }

    /// Operations that had reserved `reserved` bytes have left for the disk.
    func take(_ reserved: Int) {
        pending.wrappingSubtract(reserved, ordering: .relaxed)
    }

    /// They took `written` bytes there.
    func settle(reserved: Int, written: Int) {
        unreserved.wrappingAdd(reserved - written, ordering: .relaxed)
    }
}
