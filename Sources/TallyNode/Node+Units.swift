import TallyCore
import TallyEngine

/// Operations that are applied together, under the locks of all their partitions.
extension Node {
    // MARK: Units

    func executeUnit(
        _ operations: UnsafePointer<Operation>, _ count: Int,
        _ outcomes: UnsafeMutablePointer<Outcome>,
        _ application: inout PartitionTable.Application
    ) {
        withLocked(locks(of: operations, count)) {
            removeDue(operations, count, &application)
            applyUnit(operations, count, outcomes, &application)
        }
    }

    /// Applies all of a unit's operations, whose locks are held, or none.
    private func applyUnit(
        _ operations: UnsafePointer<Operation>, _ count: Int,
        _ outcomes: UnsafeMutablePointer<Outcome>,
        _ application: inout PartitionTable.Application
    ) {
        guard let refusal = refusal(of: operations, count, application) else {
            return apply(operations, count, outcomes, &application)
        }
        for index in 0..<count {
            outcomes[index] = Outcome(refused: refusal)
            outcomes[index].sequence =
                partitions.partition(Int(operations[index].partition)).pointee.lastSequence
        }
    }

    private func removeDue(
        _ operations: UnsafePointer<Operation>, _ count: Int,
        _ application: inout PartitionTable.Application
    ) {
        guard application.nowMilliseconds != nil else { return }
        let reservedBefore = application.reservedBytes
        follow(&application)
        partitions.removeDue(operations, count: count, &application)
        if application.reservedBytes > reservedBefore { gate.didChange() }
    }

    /// Why none of a unit's operations may be applied; nil if they may.
    private func refusal(
        of unit: UnsafePointer<Operation>, _ count: Int,
        _ application: PartitionTable.Application
    ) -> Outcome.Status? {
        var hasWrites = false
        for index in 0..<count where unit[index].isWrite { hasWrites = true }
        guard hasWrites else { return nil }
        if application.isJournalFull { return .journalFull }
        for index in 0..<count {
            let refusal = partitions.partition(Int(unit[index].partition)).pointee.refusal(
                of: unit + index, application.rows)
            if let refusal { return refusal }
        }
        if unit.pointee.unitCondition == .allAbsent {
            let areAllAbsent = (0..<count).allSatisfy { index in
                partitions.partition(Int(unit[index].partition)).pointee.isAbsent(unit + index)
            }
            if !areAllAbsent { return .unchanged }
        }
        guard application.isMemoryFull else { return nil }
        let createsAny = (0..<count).contains { index in
            partitions.partition(Int(unit[index].partition)).pointee.wouldCreate(unit + index)
        }
        return createsAny ? .memoryFull : nil
    }

    /// The locks of the operations' partitions, and of those whose keys a transaction watches.
    func locks(
        of operations: UnsafePointer<Operation>, _ count: Int,
        _ watches: [KeyWatch] = []
    ) -> LockSet {
        var needed = LockSet()
        for index in 0..<count { needed.insert(lockIndex(Int(operations[index].partition))) }
        for watch in watches { needed.insert(lockIndex(watch.partition)) }
        return needed
    }

    func withLocked(_ needed: LockSet, _ body: () -> Void) {
        var rest = needed
        guard let first = rest.popFirst() else { return body() }
        locks[first].withLock { _ in withLocked(rest, body) }
    }

    func withAllLocked(_ body: () -> Void) {
        var all = LockSet()
        for index in 0..<lockCount { all.insert(index) }
        withLocked(all, body)
    }

    // MARK: Transactions

    /// Executes a transaction: nothing, if a key that it watches has changed.
    ///
    /// - Parameter logTime: By which requests that are executed once are judged, milliseconds since 1970.
    func executeTransaction(
        _ batch: inout OperationBatch, at start: Int, _ logTime: Int64,
        _ application: inout PartitionTable.Application
    ) {
        let watches = batch.watched(batch.operations[start])?.watches ?? []
        let end = start + Int(batch.operations[start].unitCount)
        if let once = batch.request(batch.operations + start) {
            return executeOnce(once, &batch, start..<end, watches, logTime, &application)
        }
        let needed = locks(of: batch.operations + start, end - start, watches)
        withLocked(needed) {
            if areTouched(watches, application) {
                return skip(&batch, start..<end, .unchanged, watches)
            }
            skip(&batch, start..<(start + 1), .applied, watches)
            applyAll(&batch, (start + 1)..<end, &application)
        }
    }

    /// Whether a key that is watched has changed; its lock is held.
    func areTouched(
        _ watches: [KeyWatch], _ application: PartitionTable.Application
    ) -> Bool {
        watches.contains { $0.isTouched(nowMilliseconds: application.nowMilliseconds) }
    }

    /// Applies a transaction's operations, whose locks are held, each or each unit judged by itself.
    @inline(__always)
    func applyAll(
        _ batch: inout OperationBatch, _ range: Range<Int>,
        _ application: inout PartitionTable.Application
    ) {
        var index = range.lowerBound
        while index < range.upperBound {
            let operations = UnsafePointer(batch.operations + index)
            let count = Int(operations.pointee.unitCount)
            if count > 1 {
                removeDue(operations, count, &application)
                applyUnit(operations, count, batch.outcomes + index, &application)
            } else {
                apply(operations, 1, batch.outcomes + index, &application)
            }
            index += count
        }
    }

    /// Gives operations an outcome that reflects all that the transaction was judged by.
    func skip(
        _ batch: inout OperationBatch, _ range: Range<Int>, _ status: Outcome.Status,
        _ watches: [KeyWatch]
    ) {
        var sequence: UInt64 = 0
        for watch in watches {
            sequence = max(
                sequence, partitions.partition(watch.partition).pointee.lastSequence)
        }
        for index in range {
            batch.outcomes[index] = Outcome(refused: status)
            batch.outcomes[index].sequence = sequence
        }
    }
}

/// A set of locks, walked in ascending order, so that they are always taken in one order.
struct LockSet {
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
