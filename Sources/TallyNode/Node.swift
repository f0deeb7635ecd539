public import TallyCore
public import TallyEngine
internal import Synchronization

/// One process's partitions: where operations are executed, by any thread, one batch at a time.
///
/// Partitions are guarded by locks: one for each when several threads execute, one for all when
/// only one does. A lock is held for a run of neighbouring operations, and all of them together
/// while a commit group is closed, so that a group is a consistent cut of everything that was
/// executed: what a client did first is never lost without what it did next.
public final class Node: @unchecked Sendable {
    // Sendable because a partition is touched only under its lock, and `openSequence` only under any.

    let partitions: PartitionTable
    let locks: UnsafeMutablePointer<Locked<Void>>
    let lockCount: Int
    let hasher: KeyHasher
    /// The commit group that is open. Changed under all locks, read under any.
    let openSequence: UnsafeMutablePointer<UInt64>
    let memoryBytes = Atomic<Int>(0)
    /// What of it segments take.
    let segmentBytes = Atomic<Int>(0)
    let coldSegments = Atomic<Int>(0)
    /// Partitions of which something is damaged that is on disk only, each in the incarnation that it was.
    let losses = Locked<[Int: UInt64]>([:])
    /// What of `segmentBytes` and `coldSegments` each partition stands for; under its lock.
    let segmentAccounts: UnsafeMutablePointer<(byteCount: Int, cold: Int)>
    let memoryLimit = Atomic<Int>(.max)
    private let isNull: Bool

    /// How long requests are remembered at least, seconds.
    public let onceWindowSeconds: Int
    /// The memory that this may take, bytes.
    public let onceMemoryBytes: Int

    let clock: any Clock
    /// The latest time by which anything was judged, milliseconds since 1970.
    let logTime: Atomic<UInt64>
    /// Whether there has been a key with a deadline.
    let mayExpire = Atomic<Bool>(false)
    let expired = Atomic<Int>(0)

    let budget: JournalBudget
    let wakeUp: WakeUp
    /// Bytes that must wait before the journal is woken: more than none while it pauses.
    let wakeThresholdBytes = Atomic<Int>(0)

    /// The schema that clients' commands are read by.
    private let publishedSchema = Locked<Schema>(Schema())
    private let publishedVersion = Atomic<UInt64>(0)

    /// What the committer and the checkpointer ask of each other.
    let checkpoints = CheckpointExchange()
    let imports = ImportDesk()
    let reader = BlockReader()

    /// Decides when replies may leave.
    public let gate: AcknowledgementGate
    /// How many partitions there are; a power of two.
    public let partitionCount: Int
    /// How many logs order them, each its share of neighbours; 0 if the node has a journal of its own.
    public let logCount: Int
    /// Which data this is: the same in all of its files.
    public let identity: LogIdentity
    /// Which stretch of its history this is: a new one begins when a log is rebuilt or restored.
    public let epoch: UInt32
    /// The last commit group before this epoch.
    public let epochStart: UInt64

    /// - Parameters:
    ///   - threads: How many threads execute.
    ///   - partition: Makes each partition.
    init(
        identity: LogIdentity, partitionCount: Int, threads: Int, hasher: KeyHasher,
        sequence: UInt64, epoch: UInt32, clock: any Clock, logTimeMilliseconds: UInt64,
        memoryBytesMax: Int?, once: (windowSeconds: Int, memoryBytes: Int),
        isNull: Bool, budget: JournalBudget, gate: AcknowledgementGate, wakeUp: WakeUp,
        logCount: Int = 0, partition: (Int) -> Partition
    ) {
        self.identity = identity
        self.epoch = epoch
        epochStart = sequence
        self.partitionCount = partitionCount
        self.logCount = logCount
        self.hasher = hasher
        self.isNull = isNull
        (onceWindowSeconds, onceMemoryBytes) = once
        self.clock = clock
        logTime = Atomic(logTimeMilliseconds)
        self.budget = budget
        self.gate = gate
        self.wakeUp = wakeUp
        lockCount = threads == 1 ? 1 : partitionCount
        locks = .allocate(capacity: lockCount)
        for index in 0..<lockCount { (locks + index).initialize(to: Locked(())) }
        openSequence = .allocate(capacity: 1)
        openSequence.initialize(to: sequence + 1)
        partitions = PartitionTable(count: partitionCount, partition)
        segmentAccounts = .allocate(capacity: partitionCount)
        segmentAccounts.initialize(repeating: (0, 0), count: partitionCount)
        for index in 0..<partitionCount {
            let bytes = partitions.partition(index).pointee.allocatedBytes
            memoryBytes.wrappingAdd(bytes, ordering: .relaxed)
            settleAccount(index)
            if partitions.partition(index).pointee.expiringCount > 0 {
                mayExpire.store(true, ordering: .relaxed)
            }
        }
        memoryLimit.store(memoryBytesMax ?? .max, ordering: .relaxed)
        publishSchema()
    }

    deinit {
        locks.deinitialize(count: lockCount)
        locks.deallocate()
        openSequence.deallocate()
        segmentAccounts.deallocate()
    }

    /// An empty batch for this node's keys.
    public func makeBatch() -> OperationBatch {
        OperationBatch(hasher: hasher, partitionCount: partitionCount)
    }

    // MARK: Executing

    /// What `execute` did.
    public enum Execution: Equatable, Sendable {
        /// All operations have their outcomes.
        case done
        /// Nothing was executed, because too much waits for the disk. Try again when the journal
        /// has moved.
        case busy
    }

    /// Executes a batch: its operations one after the other, each unit of several as one.
    ///
    /// - Complexity: O(1) expected per operation. Takes a lock per run of operations on one
    ///   partition; never waits for the disk.
    public func execute(_ batch: inout OperationBatch) -> Execution {
        if isNull { return executeNothing(&batch) }
        if batch.setsDeadlines { mayExpire.store(true, ordering: .relaxed) }
        let judgesDeadlines = mayExpire.load(ordering: .relaxed)
        var reserved = batch.journalBytesMax
        if judgesDeadlines { reserved += batch.removalBytesMax }
        var isJournalFull = false
        if reserved > 0 {
            switch budget.reserve(reserved) {
            case .granted: break
            case .busy: return .busy
            case .full: isJournalFull = true
            }
        }
        let logTime = judgesDeadlines || batch.hasRequests ? nowMilliseconds() : 0
        let now = judgesDeadlines ? logTime : nil
        batch.nowMilliseconds = now ?? 0
        let isMemoryFull = changedBytes >= memoryLimit.load(ordering: .relaxed)
        var application = PartitionTable.Application(
            isMemoryFull: isMemoryFull, isJournalFull: isJournalFull,
            nowMilliseconds: now, rows: batch.rows)
        executeAll(&batch, logTime, &application)
        if reserved > application.reservedBytes, !isJournalFull {
            budget.refund(reserved &- application.reservedBytes)
        }
        finish(application, batch)
        return .done
    }

    /// Takes account of what a batch has done.
    @inline(__always)
    func finish(_ application: PartitionTable.Application, _ batch: borrowing OperationBatch) {
        if application.allocatedBytes != 0 {
            memoryBytes.wrappingAdd(application.allocatedBytes, ordering: .relaxed)
        }
        if application.expiredCount > 0 {
            expired.wrappingAdd(application.expiredCount, ordering: .relaxed)
        }
        if batch.changesSchema { publishSchema() }
    }

    /// Executes a batch's operations one after the other, each unit of several as one.
    ///
    /// - Parameter logTime: By which requests that are executed once are judged, milliseconds since 1970.
    @inline(__always)
    func executeAll(
        _ batch: inout OperationBatch, _ logTime: Int64,
        _ application: inout PartitionTable.Application
    ) {
        var index = 0
        while index < batch.count {
            let operations = UnsafePointer(batch.operations + index)
            let unitCount = Int(operations.pointee.unitCount)
            if operations.pointee.kind == .transaction {
                let count = requestRunLength(batch, from: index)
                if count > 0 {
                    executeRequests(&batch, index..<(index &+ count), logTime, &application)
                    index &+= count
                } else {
                    executeTransaction(&batch, at: index, logTime, &application)
                    index &+= unitCount
                }
            } else if unitCount > 1 {
                executeUnit(operations, unitCount, batch.outcomes + index, &application)
                index &+= unitCount
            } else {
                let count = runLength(batch, from: index)
                locks[lockIndex(Int(operations.pointee.partition))].withLock { _ in
                    apply(operations, count, batch.outcomes + index, &application)
                }
                index &+= count
            }
        }
    }

    /// The lock that guards a partition.
    @inline(__always)
    func lockIndex(_ partition: Int) -> Int { partition & (lockCount &- 1) }

    /// How many operations from `start` on can be applied under one lock.
    @inline(__always)
    private func runLength(_ batch: borrowing OperationBatch, from start: Int) -> Int {
        let lock = lockIndex(Int(batch.operations[start].partition))
        var end = start &+ 1
        while end < batch.count, lockIndex(Int(batch.operations[end].partition)) == lock,
            batch.operations[end].unitCount == 1, batch.operations[end].kind != .transaction
        {
            end &+= 1
        }
        return end &- start
    }

    /// Applies operations whose locks are held.
    @inline(__always)
    func apply(
        _ operations: UnsafePointer<Operation>, _ count: Int,
        _ outcomes: UnsafeMutablePointer<Outcome>,
        _ application: inout PartitionTable.Application
    ) {
        let reservedBefore = application.reservedBytes
        follow(&application)
        if count == 1 {
            partitions.applyOne(operations, outcomes, &application)
        } else {
            partitions.apply(operations, count: count, outcomes: outcomes, &application)
        }
        if application.reservedBytes > reservedBefore { gate.didChange() }
    }

    /// What is applied now belongs to the open group, unless it is a log's entry. A lock is held.
    @inline(__always)
    func follow(_ application: inout PartitionTable.Application) {
        if !application.isLogged { application.sequence = openSequence.pointee }
    }

    /// Tells the journal if there is work for it; call after one or more batches.
    @inline(__always)
    public func wakeJournal() {
        let pending = budget.pendingBytes
        if pending > 0, pending >= wakeThresholdBytes.load(ordering: .relaxed) { wakeUp.signal() }
    }

    /// Replies without an engine: what parsing, encoding and the network cost alone.
    private func executeNothing(_ batch: inout OperationBatch) -> Execution {
        for index in 0..<batch.count {
            batch.outcomes[index] = Outcome(.applied, wasPresent: true, value: 1)
        }
        return .done
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
            for index in 0..<partitionCount where partitions.partition(index).pointee.hasPending {
                body(index, partitions.partition(index).pointee.takePending(spare: spare()))
                sequence = openSequence.pointee
            }
            if sequence != nil {
                openSequence.pointee += 1
                gate.didClose()
            }
            if checkpoints.takeCutRequest() { checkpoints.offer(freeze()) }
        }
        return sequence
    }

    // MARK: Schema

    /// A number that changes with the schema, never back.
    @inline(__always)
    public var schemaVersion: UInt64 { publishedVersion.load(ordering: .acquiring) }

    /// The schema as it is, and `schemaVersion`.
    public var schema: (schema: Schema, version: UInt64) {
        publishedSchema.withLock { ($0, publishedVersion.load(ordering: .relaxed)) }
    }

    /// Makes the partitions' schema, the same in all of them, known.
    func publishSchema() {
        publishedSchema.withLock { published in
            // In a cluster some partitions may be ahead of others, or none may be here.
            for index in 0..<(logCount > 0 ? partitionCount : 1) {
                let schema = locks[lockIndex(index)].withLock { _ in
                    partitions.partition(index).pointee.schema
                }
                if logCount == 0 || schema.changeCount > published.changeCount {
                    published = schema
                }
            }
            publishedVersion.wrappingAdd(1, ordering: .releasing)
        }
    }

    /// In a cluster, takes note of its schema, which this node's partitions may not have yet.
    public func learn(_ schema: Schema) {
        publishedSchema.withLock { published in
            guard schema.changeCount > published.changeCount else { return }
            published = schema
            publishedVersion.wrappingAdd(1, ordering: .releasing)
        }
    }

    /// Which of a cluster's logs orders which partitions.
    var shares: LogShares { LogShares(partitionCount: partitionCount, logCount: logCount) }

    /// How many changes of the cluster's schema the partitions of a log have.
    public func schemaChangeCount(ofLog number: Int) -> UInt64 {
        let first = shares.partitions(of: number).lowerBound
        return locks[lockIndex(first)].withLock { _ in
            partitions.partition(first).pointee.schema.changeCount
        }
    }

    // MARK: The whole

    /// Has everything up to a commit group brought to the disk, whatever the durability is.
    public func requestSync(to sequence: UInt64) {
        checkpoints.requestSync(to: sequence)
        wakeUp.signal()
    }

    /// The latest commit group that a reply may reflect.
    public var latestSequence: UInt64 {
        locks[lockIndex(0)].withLock { _ in openSequence.pointee }
    }

    /// How many counters there are, and the commit group up to which that is true.
    public func countAll() -> (count: Int, sequence: UInt64) {
        var count = 0
        var sequence: UInt64 = 0
        for index in 0..<partitionCount {
            locks[lockIndex(index)].withLock { _ in
                count += partitions.partition(index).pointee.count
                sequence = max(sequence, partitions.partition(index).pointee.lastSequence)
            }
        }
        return (count, sequence)
    }

    /// What each partition has: its keys, its memory, bytes, its cold segments, and its latest change's group.
    public var partitionStatistics:
        [(keys: Int, changedBytes: Int, segmentBytes: Int, coldSegments: Int, sequence: UInt64)]
    {
        (0..<partitionCount).map { index in
            locks[lockIndex(index)].withLock { _ in
                let partition = partitions.partition(index)
                let bytes = partition.pointee.tableBytes
                return (
                    partition.pointee.count, bytes.changed, bytes.segments,
                    partition.pointee.coldCount, partition.pointee.lastSequence
                )
            }
        }
    }

    /// Calls `body` with every plain key, its counter and its deadline, one partition after the other,
    /// each locked meanwhile.
    public func forEachPlainKey(
        _ body: (UnsafeRawBufferPointer, Int64, _ deadline: Int64?) -> Void
    ) {
        for index in 0..<partitionCount {
            locks[lockIndex(index)].withLock { _ in
                partitions.partition(index).pointee.forEachPlainKey(body)
            }
        }
    }

    /// Calls `body` with the key and the values of every record of a family, one partition after the
    /// other, each locked meanwhile.
    public func forEachRecord(
        family: UInt32, _ body: (RecordKey, UnsafeBufferPointer<Int64>) -> Void
    ) {
        for index in 0..<partitionCount {
            locks[lockIndex(index)].withLock { _ in
                partitions.partition(index).pointee.forEachRecord(family: family, body)
            }
        }
    }

    /// Traps if any partition's internal promises are broken. For tests.
    public func checkInvariants() {
        for index in 0..<partitionCount {
            locks[lockIndex(index)].withLock { _ in
                partitions.partition(index).pointee.checkInvariants()
            }
        }
    }

    /// Memory that counters take, bytes.
    public var countersBytes: Int { memoryBytes.load(ordering: .relaxed) }

    /// Memory that changes since the last checkpoint take, bytes.
    public var changedBytes: Int {
        memoryBytes.load(ordering: .relaxed) - segmentBytes.load(ordering: .relaxed)
    }

    /// Memory for records: what does not fit stays on disk, and nothing is created while changes alone
    /// take as much. Bytes; nil for no limit.
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
