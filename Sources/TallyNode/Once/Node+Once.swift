internal import Synchronization
public import TallyCore
import TallyEngine

/// Requests with a token, which are counted once however often they come.
extension Node {
    /// Executes a request, or tells what became of it before.
    ///
    /// - Parameter unit: Where its header is, and its operations behind it.
    func executeOnce(
        _ once: OnceRequest, _ batch: inout OperationBatch, _ unit: Range<Int>,
        _ watches: [KeyWatch], _ logTime: Int64, _ application: inout PartitionTable.Application
    ) {
        var needed = locks(of: batch.operations + unit.lowerBound + 1, unit.count - 1, watches)
        needed.insert(lockIndex(Int(batch.operations[unit.lowerBound].partition)))
        withLocked(needed) {
            whileOpen(&application) { application in
                executeLocked(
                    once, &batch, unit, watches, judgingTime(logTime), &application)
            }
        }
    }

    /// How many operations from `start` on are requests of one operation each that one lock guards, with their
    /// headers.
    @inline(__always)
    func requestRunLength(_ batch: borrowing OperationBatch, from start: Int) -> Int {
        let lock = lockIndex(Int(batch.operations[start].partition))
        var end = start
        while end < batch.count, batch.operations[end].isRequestOfOne,
            lockIndex(Int(batch.operations[end].partition)) == lock
        {
            end &+= 2
        }
        return end &- start
    }

    /// Executes such requests.
    func executeRequests(
        _ batch: inout OperationBatch, _ run: Range<Int>, _ logTime: Int64,
        _ application: inout PartitionTable.Application
    ) {
        let time = judgingTime(logTime)
        locks[lockIndex(Int(batch.operations[run.lowerBound].partition))].withLock { _ in
            whileOpen(&application) { application in
                var start = run.lowerBound
                var end = min(start &+ PartitionTable.prefetchCount, run.upperBound)
                partitions.prefetchRequests(batch.operations + start, count: end &- start)
                while start < run.upperBound {
                    partitions.locateRequests(batch.operations + start, count: end &- start)
                    let next = min(end &+ PartitionTable.prefetchCount, run.upperBound)
                    // What the next ones need first comes while these are executed.
                    partitions.prefetchRequests(batch.operations + end, count: next &- end)
                    while start < end {
                        execute(oneAt: start, &batch, time, &application)
                        start &+= 2
                    }
                    end = next
                }
            }
        }
    }

    @inline(__always)
    private func execute(
        oneAt start: Int, _ batch: inout OperationBatch, _ time: JudgingTime,
        _ application: inout PartitionTable.Application
    ) {
        let header = batch.operations + start
        guard let once = batch.request(header) else { return }
        let isDone = partitions.executeAddition(
            header, once, batch.outcomes + start, nowMilliseconds: time.now,
            horizon: time.horizon, &application)
        if isDone { return }
        executeLocked(once, &batch, start..<(start &+ 2), [], time, &application)
    }

    /// By what requests are judged, milliseconds since 1970.
    private typealias JudgingTime = (now: UInt64, horizon: UInt64)

    private func judgingTime(_ logTime: Int64) -> JudgingTime {
        (UInt64(logTime), onceHorizon(UInt64(logTime)))
    }

    /// Applies to the open commit group what `body` does, under locks that are held.
    @inline(__always)
    private func whileOpen(
        _ application: inout PartitionTable.Application,
        _ body: (inout PartitionTable.Application) -> Void
    ) {
        let reservedBefore = application.reservedBytes
        follow(&application)
        body(&application)
        if application.reservedBytes > reservedBefore { gate.didChange() }
    }

    /// Executes a request, or tells what became of it before, when all locks that are needed are held.
    private func executeLocked(
        _ once: OnceRequest, _ batch: inout OperationBatch, _ unit: Range<Int>,
        _ watches: [KeyWatch], _ time: JudgingTime, _ application: inout PartitionTable.Application
    ) {
        let header = batch.operations + unit.lowerBound
        let home = partitions.partition(Int(header.pointee.partition))
        let judgement = home.pointee.judge(
            once.token, hash: header.pointee.hash, fingerprint: once.fingerprint,
            nowMilliseconds: time.now, horizon: time.horizon, once.words, capacity: once.wordCount)
        let range = (unit.lowerBound &+ 1)..<unit.upperBound
        let status: Outcome.Status
        switch judgement {
        case .new:
            if !watches.isEmpty, areTouched(watches, application) {
                return skip(&batch, unit, .unchanged, watches)
            }
            if let refusal = refusal(ofAll: range, &batch, application) {
                status = refusal
                break
            }
            applyAll(&batch, range, &application)
            _ = OnceWords.encode(
                batch.operations, batch.outcomes, range, rows: batch.rows, to: once.words)
            partitions.remember(header, once, &application)
            status = .applied
        case .repeated(let wordCount):
            let isTold = OnceWords.decode(
                once.words, count: wordCount, batch.operations, batch.outcomes, range,
                rows: batch.rows)
            status = isTold ? .applied : .replyLost
        case .reused: status = .tokenReused
        case .tooOld: status = .tokenTooOld
        case .tooNew: status = .tokenTooNew
        case .unreadable: status = .unreadable
        }
        // What is told was true when the home partition last changed, or before.
        let sequence = home.pointee.lastSequence
        batch.outcomes[unit.lowerBound] = Outcome(refused: status)
        batch.outcomes[unit.lowerBound].sequence = sequence
        for index in range {
            if status != .applied { batch.outcomes[index] = Outcome(refused: status) }
            batch.outcomes[index].sequence = sequence
        }
    }

    /// Why a request cannot be executed now for reasons that are not the request's, nil if it can: that is
    /// not remembered.
    @inline(__always)
    private func refusal(
        ofAll range: Range<Int>, _ batch: inout OperationBatch,
        _ application: PartitionTable.Application
    ) -> Outcome.Status? {
        if application.isJournalFull { return .journalFull }
        for index in range {
            let operation = UnsafePointer(batch.operations + index)
            let partition = partitions.partition(Int(operation.pointee.partition))
            let refusal = partition.pointee.refusal(of: operation, application.rows)
            switch refusal {
            case .unreadable, .schemaChanged: return refusal
            default: break
            }
            if application.isMemoryFull, partition.pointee.wouldCreate(operation) {
                return .memoryFull
            }
        }
        return nil
    }

    /// Whether a request on this partition is remembered.
    public func remembers(
        _ token: RequestToken, fingerprint: UInt64, partition: Int
    ) -> Bool {
        locks[lockIndex(partition)].withLock { _ in
            withUnsafeTemporaryAllocation(of: Int64.self, capacity: 1) { words in
                let judgement = partitions.partition(partition).pointee.judge(
                    token, hash: hasher.hash(token), fingerprint: fingerprint, nowMilliseconds: 0,
                    horizon: 0,
                    words.baseAddress.unsafelyUnwrapped, capacity: 0)
                if case .repeated = judgement { return true }
                return false
            }
        }
    }

    // MARK: The floor

    /// Tokens made until then, milliseconds since 1970, may have been forgotten.
    private func onceHorizon(_ now: UInt64) -> UInt64 {
        let window = UInt64(onceWindowSeconds) * 1000
        return now > window ? now - window : 0
    }

    /// How many records remember requests, and the memory that they take, bytes.
    public var onceStatistics: (records: Int, byteCount: Int) {
        var sum = (records: 0, byteCount: 0)
        for index in 0..<partitionCount {
            locks[lockIndex(index)].withLock { _ in
                let found = partitions.partition(index).pointee.tokenStatistics
                sum.records += found.records
                sum.byteCount += found.byteCount
            }
        }
        return sum
    }

    /// Appends raising a partition's floor, if it ought to be higher.
    func collectFloor(_ partition: Int, _ batch: inout OperationBatch) {
        let horizon = onceHorizon(UInt64(nowMilliseconds()))
        let wanted = locks[lockIndex(partition)].withLock { _ in
            partitions.partition(partition).pointee.wantedFloor(
                horizon: horizon, step: UInt64(onceWindowSeconds) * 1000 / 64,
                byteCountMax: onceMemoryBytes / partitionCount)
        }
        if let wanted { batch.appendRaiseFloor(partition, to: wanted) }
    }
}
