import TallyCore
import TallyEngine
internal import Synchronization

/// One process's partitions: where operations are executed, by any thread, one batch at a time.
///
/// Partitions are guarded by locks: one for each when several threads execute, one for all when
/// only one does. A lock is held for a run of neighbouring operations, and all of them together
/// while a commit group is closed, so that a group is a consistent cut of everything that was
/// executed: what a client did first is never lost without what it did next.
public final class Node: @unchecked Sendable {
    // Sendable because each cell is touched only under its lock, and `openSequence` only under any.

    private struct Cell: ~Copyable {
        var partition: Partition
        /// What `allocatedBytes` said when it was last counted into `memoryBytes`.
        var countedBytes: Int

        init(partition: consuming Partition) {
            countedBytes = partition.allocatedBytes
            self.partition = partition
        }
    }

    private let cells: UnsafeMutablePointer<Cell>
    private let locks: UnsafeMutablePointer<Mutex<Void>>
    private let lockCount: Int
    private let hasher: KeyHasher
    /// The commit group that is open. Changed under all locks, read under any.
    private let openSequence: UnsafeMutablePointer<UInt64>
    private let memoryBytes = Atomic<Int>(0)
    private let memoryLimit = Atomic<Int>(.max)
    private let isNull: Bool

    let budget: JournalBudget
    let wakeUp: WakeUp
    /// Bytes that must wait before the journal is woken: more than none while it lets them gather.
    let wakeThresholdBytes = Atomic<Int>(0)

    /// Decides when replies may leave.
    public let gate: AcknowledgementGate
    /// How many partitions there are; a power of two.
    public let partitionCount: Int

    /// - Parameters:
    ///   - threads: How many threads execute.
    ///   - partition: Makes each partition.
    init(
        partitionCount: Int, threads: Int, hasher: KeyHasher, sequence: UInt64,
        memoryBytesMax: Int?,
        isNull: Bool, budget: JournalBudget, gate: AcknowledgementGate, wakeUp: WakeUp,
        partition: (Int) -> Partition
    ) {
        self.partitionCount = partitionCount
        self.hasher = hasher
        self.isNull = isNull
        self.budget = budget
        self.gate = gate
        self.wakeUp = wakeUp
        cells = .allocate(capacity: partitionCount)
        lockCount = threads == 1 ? 1 : partitionCount
        locks = .allocate(capacity: lockCount)
        for index in 0..<lockCount { (locks + index).initialize(to: Mutex(())) }
        openSequence = .allocate(capacity: 1)
        openSequence.initialize(to: sequence + 1)
        var bytes = 0
        for index in 0..<partitionCount {
            (cells + index).initialize(to: Cell(partition: partition(index)))
            bytes += cells[index].countedBytes
        }
        memoryBytes.store(bytes, ordering: .relaxed)
        memoryLimit.store(memoryBytesMax ?? .max, ordering: .relaxed)
    }

    deinit {
        cells.deinitialize(count: partitionCount)
        cells.deallocate()
        locks.deinitialize(count: lockCount)
        locks.deallocate()
        openSequence.deallocate()
    }

    /// An empty batch for this node's keys.
    public func makeBatch() -> OperationBatch {
        OperationBatch(hasher: hasher, partitionCount: partitionCount)
    }

    // MARK: Executing

    /// What `execute` did.
    public enum Execution: Equatable, Sendable {
        /// All operations have their outcomes, which reflect everything up to this commit group.
        case done(sequence: UInt64)
        /// Nothing was executed, because too much waits for the disk. Try again after the next
        /// group; `AcknowledgementGate.durableSequence` will have moved or the wait be over.
        case busy
    }

    /// Executes a batch: its operations one after the other, each unit of several as one.
    ///
    /// - Complexity: O(1) expected per operation. Takes a lock per run of operations on one
    ///   partition; never waits for the disk.
    public func execute(_ batch: inout OperationBatch) -> Execution {
        if isNull { return executeNothing(&batch) }
        let reserved = batch.journalBytesMax
        var isJournalFull = false
        if reserved > 0 {
            switch budget.reserve(reserved) {
            case .granted: break
            case .busy: return .busy
            case .full: isJournalFull = true
            }
        }
        let isMemoryFull =
            memoryBytes.load(ordering: .relaxed) >= memoryLimit.load(ordering: .relaxed)
        var progress = Progress(isMemoryFull: isMemoryFull, isJournalFull: isJournalFull)
        var index = 0
        while index < batch.count {
            let count =
                batch.operations[index].unitCount > 1
                ? Int(batch.operations[index].unitCount) : runLength(batch, from: index)
            let operations = UnsafeBufferPointer(start: batch.operations + index, count: count)
            if batch.operations[index].unitCount > 1 {
                executeUnit(operations, batch.outcomes + index, &progress)
            } else {
                executeRun(operations, batch.outcomes + index, &progress)
            }
            index &+= count
        }
        if reserved > 0, !isJournalFull {
            if progress.reservedBytes < reserved { budget.refund(reserved &- progress.reservedBytes) }
        }
        return .done(sequence: progress.sequence)
    }

    /// What the runs of one batch have in common.
    private struct Progress {
        let isMemoryFull: Bool
        let isJournalFull: Bool
        /// The latest group that an outcome reflects.
        var sequence: UInt64 = 0
        /// Reserved journal bytes that applied operations now hold.
        var reservedBytes = 0
    }

    /// The lock that guards a partition.
    @inline(__always)
    private func lockIndex(_ partition: Int) -> Int { partition & (lockCount &- 1) }

    /// How many operations from `start` on can be applied under one lock.
    @inline(__always)
    private func runLength(_ batch: borrowing OperationBatch, from start: Int) -> Int {
        let lock = lockIndex(Int(batch.operations[start].partition))
        var end = start &+ 1
        while end < batch.count, lockIndex(Int(batch.operations[end].partition)) == lock,
            batch.operations[end].unitCount == 1
        {
            end &+= 1
        }
        return end &- start
    }

    @inline(__always)
    private func executeRun(
        _ operations: UnsafeBufferPointer<Operation>, _ outcomes: UnsafeMutablePointer<Outcome>,
        _ progress: inout Progress
    ) {
        locks[lockIndex(Int(operations[0].partition))].withLock { _ in
            var start = 0
            while start < operations.count {
                let count = min(Self.prefetchCount, operations.count &- start)
                let chunk = UnsafeBufferPointer(
                    start: operations.baseAddress.unsafelyUnwrapped + start, count: count)
                if count > 1 { prefetch(chunk) }
                executeLocked(chunk, outcomes + start, &progress)
                start &+= count
            }
        }
    }

    /// Operations whose memory is asked for together.
    private static var prefetchCount: Int { 32 }

    /// Lets the waits for memory of many operations overlap.
    @inline(__always)
    private func prefetch(_ operations: UnsafeBufferPointer<Operation>) {
        let first = operations.baseAddress.unsafelyUnwrapped
        for index in 0..<operations.count {
            cells[Int(first[index].partition)].partition.prefetchBucket(first[index].hash)
        }
        for index in 0..<operations.count {
            cells[Int(first[index].partition)].partition.prefetchRecord(first[index].hash)
        }
    }

    @inline(__always)
    private func executeLocked(
        _ operations: UnsafeBufferPointer<Operation>, _ outcomes: UnsafeMutablePointer<Outcome>,
        _ progress: inout Progress
    ) {
        var start = 0
        while start < operations.count {
            let partition = operations[start].partition
            var end = start &+ 1
            while end < operations.count, operations[end].partition == partition { end &+= 1 }
            let run = UnsafeBufferPointer(
                start: operations.baseAddress.unsafelyUnwrapped + start, count: end &- start)
            let cell = cells + Int(partition)
            if progress.isJournalFull {
                applyReads(run, outcomes + start, cell)
            } else {
                apply(run, outcomes + start, cell, &progress)
            }
            progress.sequence = max(progress.sequence, cell.pointee.partition.lastSequence)
            start = end
        }
    }

    /// Applies operations of one partition, whose lock is held.
    @inline(__always)
    private func apply(
        _ operations: UnsafeBufferPointer<Operation>, _ outcomes: UnsafeMutablePointer<Outcome>,
        _ cell: UnsafeMutablePointer<Cell>, _ progress: inout Progress
    ) {
        let reserved = cell.pointee.partition.apply(
            operations, outcomes: outcomes, sequence: openSequence.pointee,
            isFull: progress.isMemoryFull)
        guard reserved > 0 else { return }
        gate.willChange()
        progress.reservedBytes &+= reserved
        let bytes = cell.pointee.partition.allocatedBytes
        if bytes != cell.pointee.countedBytes {
            memoryBytes.wrappingAdd(bytes &- cell.pointee.countedBytes, ordering: .relaxed)
            cell.pointee.countedBytes = bytes
        }
    }

    /// Applies the reads among the operations and refuses the rest.
    private func applyReads(
        _ operations: UnsafeBufferPointer<Operation>, _ outcomes: UnsafeMutablePointer<Outcome>,
        _ cell: UnsafeMutablePointer<Cell>
    ) {
        for index in operations.indices {
            if operations[index].isWrite {
                outcomes[index] = Outcome(.journalFull, wasPresent: false, value: 0)
            } else {
                _ = cell.pointee.partition.apply(
                    UnsafeBufferPointer(rebasing: operations[index...index]),
                    outcomes: outcomes + index, sequence: openSequence.pointee, isFull: true)
            }
        }
    }

    /// Tells the journal that there is work; call after one or more batches.
    @inline(__always)
    public func wakeJournal() {
        if budget.pendingBytes >= wakeThresholdBytes.load(ordering: .relaxed) { wakeUp.signal() }
    }

    // MARK: Units

    private func executeUnit(
        _ operations: UnsafeBufferPointer<Operation>, _ outcomes: UnsafeMutablePointer<Outcome>,
        _ progress: inout Progress
    ) {
        var needed = LockSet()
        for operation in operations { needed.insert(lockIndex(Int(operation.partition))) }
        withLocked(needed) {
            for start in stride(from: 0, to: operations.count, by: Self.prefetchCount) {
                let end = min(start + Self.prefetchCount, operations.count)
                prefetch(UnsafeBufferPointer(rebasing: operations[start..<end]))
            }
            let refusal = refusal(of: operations, progress)
            guard let refusal else { return executeLocked(operations, outcomes, &progress) }
            for index in operations.indices {
                outcomes[index] = Outcome(refusal, wasPresent: false, value: 0)
            }
        }
    }

    /// Why none of a unit's writes may be applied, nil if they may.
    private func refusal(
        of operations: UnsafeBufferPointer<Operation>, _ progress: Progress
    ) -> Outcome.Status? {
        guard operations.contains(where: \.isWrite) else { return nil }
        if progress.isJournalFull { return .journalFull }
        let createsAny = operations.contains {
            cells[Int($0.partition)].partition.wouldCreate($0)
        }
        if operations[0].unitCondition == .allAbsent {
            let areAllAbsent = operations.allSatisfy {
                cells[Int($0.partition)].partition.wouldCreate($0)
            }
            if !areAllAbsent { return .unchanged }
        }
        return progress.isMemoryFull && createsAny ? .memoryFull : nil
    }

    private func withLocked(_ needed: LockSet, _ body: () -> Void) {
        var rest = needed
        guard let first = rest.popFirst() else { return body() }
        locks[first].withLock { _ in withLocked(rest, body) }
    }

    private func withAllLocked(_ body: () -> Void) {
        var all = LockSet()
        for index in 0..<lockCount { all.insert(index) }
        withLocked(all, body)
    }

    /// Replies without an engine: what parsing, encoding and the network cost alone.
    private func executeNothing(_ batch: inout OperationBatch) -> Execution {
        for index in 0..<batch.count {
            batch.outcomes[index] = Outcome(.applied, wasPresent: true, value: 1)
        }
        return .done(sequence: 0)
    }

    // MARK: Closing groups

    /// Closes the open commit group and hands what it holds to `body`, one partition at a time.
    ///
    /// - Returns: the group's sequence, nil if there was nothing to write.
    func closeGroup(
        spare: () -> EntryBuffer, _ body: (_ partition: Int, _ section: PendingSection) -> Void
    ) -> UInt64? {
        var sequence: UInt64?
        withAllLocked {
            for index in 0..<partitionCount where cells[index].partition.hasPending {
                body(index, cells[index].partition.takePending(spare: spare()))
                sequence = openSequence.pointee
            }
            if sequence != nil {
                openSequence.pointee += 1
                gate.didClose()
            }
        }
        return sequence
    }

    // MARK: The whole

    /// How many counters there are, and the commit group up to which that is true.
    public func countAll() -> (count: Int, sequence: UInt64) {
        var count = 0
        var sequence: UInt64 = 0
        for index in 0..<partitionCount {
            locks[lockIndex(index)].withLock { _ in
                count += cells[index].partition.count
                sequence = max(sequence, cells[index].partition.lastSequence)
            }
        }
        return (count, sequence)
    }

    /// Calls `body` with every key and counter, one partition after the other, each locked
    /// meanwhile.
    public func forEach(_ body: (UnsafeRawBufferPointer, Int64) -> Void) {
        for index in 0..<partitionCount {
            locks[lockIndex(index)].withLock { _ in cells[index].partition.forEach(body) }
        }
    }

    /// Traps if any partition's internal promises are broken. For tests.
    public func checkInvariants() {
        for index in 0..<partitionCount {
            locks[lockIndex(index)].withLock { _ in cells[index].partition.checkInvariants() }
        }
    }

    /// Memory that counters take, bytes.
    public var countersBytes: Int { memoryBytes.load(ordering: .relaxed) }

    /// Memory from which on nothing is created any more, bytes; nil for no limit.
    public var memoryBytesMax: Int? {
        get {
            let bytes = memoryLimit.load(ordering: .relaxed)
            return bytes == .max ? nil : bytes
        }
        set { memoryLimit.store(newValue ?? .max, ordering: .relaxed) }
    }

    /// Whether the journal has no space, so that writes are refused.
    public var isJournalFull: Bool { budget.isFull }

    /// Journal bytes that wait to be written, an upper bound.
    public var pendingJournalBytes: Int { budget.pendingBytes }
}

/// A set of locks, walked in ascending order, so that they are always taken in one order.
private struct LockSet {
    private var words = InlineArray<16, UInt64>(repeating: 0)

    init() {
        precondition(Limits.partitionsMax <= 16 * 64, "lock set too small")
    }

    mutating func insert(_ lock: Int) {
        words[lock &>> 6] |= 1 &<< UInt64(lock & 63)
    }

    mutating func popFirst() -> Int? {
        for index in words.indices where words[index] != 0 {
            let bit = words[index].trailingZeroBitCount
            words[index] &= words[index] &- 1
            return index &<< 6 | bit
        }
        return nil
    }
}
