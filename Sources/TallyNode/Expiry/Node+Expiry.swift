import TallyCore
import TallyEngine
internal import Synchronization

/// Keys with a deadline: judged by time when they are asked for, and removed by operations like any
/// other, so that the journal, not the clock, says when they have gone.
extension Node {
    /// The time, milliseconds since 1970, never less than it was before, nor than the journal's.
    public func nowMilliseconds() -> Int64 {
        let now = clock.wallMilliseconds()
        return Int64(clamping: logTime.max(now, ordering: .relaxed).newValue)
    }

    /// Whether there may be keys with a deadline.
    @inline(__always)
    public var mayHaveDeadlines: Bool { mayExpire.load(ordering: .relaxed) }

    /// How many keys were removed because their deadline had come, since the start.
    public var expiredCount: Int { expired.load(ordering: .relaxed) }

    /// How many plain keys have a deadline.
    public var deadlineCount: Int {
        guard mayHaveDeadlines else { return 0 }
        var count = 0
        for index in 0..<partitionCount {
            locks[lockIndex(index)].withLock { _ in
                count += partitions.partition(index).pointee.expiringCount
            }
        }
        return count
    }

    /// Looks for keys of a partition whose deadline has come, and appends reading them, which removes
    /// them, to `batch`. Their bytes are appended to `keys`, which must stay until the batch has been
    /// executed.
    ///
    /// - Parameter recordsMax: How many records to look at, about.
    /// - Returns: whether the whole partition has been looked at.
    func collectDue(
        _ partition: Int, recordsMax: Int, _ keys: inout DueKeys, _ batch: inout OperationBatch
    ) -> Bool {
        let now = nowMilliseconds()
        keys.removeAll()
        let isDone = locks[lockIndex(partition)].withLock { _ in
            partitions.partition(partition).pointee.collectDue(now: now, recordsMax: recordsMax) {
                keys.append($0)
            }
        }
        keys.forEach { batch.append(.get, key: $0) }
        return isDone
    }
}

/// Keys, one behind the other in memory that is used again.
struct DueKeys: ~Copyable {
    private var bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 16, alignment: 1)
    private var used = 0
    private var ends: [Int] = []

    deinit { bytes.deallocate() }

    mutating func removeAll() {
        used = 0
        ends.removeAll(keepingCapacity: true)
    }

    mutating func append(_ key: UnsafeRawBufferPointer) {
        if used + key.count > bytes.count {
            let grown = UnsafeMutableRawBufferPointer.allocate(
                byteCount: max(bytes.count * 2, used + key.count), alignment: 1)
            grown.copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[..<used]))
            bytes.deallocate()
            bytes = grown
        }
        UnsafeMutableRawBufferPointer(rebasing: bytes[used...]).copyMemory(from: key)
        used += key.count
        ends.append(used)
    }

    borrowing func forEach(_ body: (UnsafeRawBufferPointer) -> Void) {
        guard let base = bytes.baseAddress else { return }
        var start = 0
        for end in ends {
            body(UnsafeRawBufferPointer(start: base + start, count: end - start))
            start = end
        }
    }
}
