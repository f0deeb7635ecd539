import TallyCore
import TallyEngine
import TallyNode

/// The next message of a log while it forms: what has been asked for since the last one left.
final class LogDraft {
    private let partitions: Range<Int>
    private let sections: UnsafeMutablePointer<RequestSection>
    /// Who waits for it.
    private(set) var waiters: [Submission] = []
    /// Entries so far, bytes, about.
    private(set) var byteCount = 0
    /// When the first of those who wait came, monotonic nanoseconds.
    private(set) var since: UInt64 = 0
    /// Its place among all drafts of its log.
    fileprivate(set) var number: UInt64 = 0
    /// What is asked of numbers that may be answered early.
    fileprivate(set) var pending = PendingAdditions()
    /// How many additions were answered, and when the first of them was, monotonic nanoseconds.
    fileprivate(set) var early: (count: Int, since: UInt64) = (0, 0)

    init(partitions: Range<Int>) {
        self.partitions = partitions
        sections = .allocate(capacity: partitions.count)
        for index in 0..<partitions.count { (sections + index).initialize(to: RequestSection()) }
    }

    deinit {
        sections.deinitialize(count: partitions.count)
        sections.deallocate()
    }

    var isEmpty: Bool { waiters.isEmpty && early.count == 0 }

    /// Whether somebody has waited for it since before `limit`, monotonic nanoseconds.
    fileprivate func isOverdue(_ limit: UInt64) -> Bool { !waiters.isEmpty && since < limit }

    /// Has a submission wait for it.
    fileprivate func wait(_ submission: Submission, now: UInt64) {
        if waiters.isEmpty { since = now }
        waiters.append(submission)
    }

    /// An addition has been answered.
    fileprivate func noteEarly(now: UInt64) {
        if early.count == 0 { early.since = now }
        early.count += 1
    }

    /// Adds what a submission asks of this log's partitions; nothing for a barrier.
    ///
    /// - Parameter byteCount: How much they are taken to be.
    fileprivate func add(_ submission: Submission, byteCount: Int) {
        _ = submission.batch.write(
            sections, partitions: partitions, isLocal: submission.isLocal, submission.tickets)
        self.byteCount += byteCount
    }

    /// How long the message will be, bytes.
    var messageBytes: Int {
        var sum = LogMessage.headerBytes
        for index in 0..<partitions.count {
            sum += LogMessage.sectionHeaderBytes + sections[index].byteCount
        }
        return sum
    }

    /// The message's bytes.
    func message(_ header: LogMessage.Header) -> [UInt8] {
        var writer = LogMessage.Writer(
            header, capacity: byteCount + partitions.count * LogMessage.sectionHeaderBytes)
        for (index, partition) in partitions.enumerated() where sections[index].operationCount > 0 {
            writer.append(
                partition: partition, operationCount: sections[index].operationCount,
                sections[index].bytes)
        }
        return writer.finish()
    }

    /// Starts afresh, and hands over those who wait.
    func takeWaiters() -> [Submission] {
        defer { waiters.removeAll(keepingCapacity: true) }
        return waiters
    }

    func removeAll() {
        for index in 0..<partitions.count { sections[index].removeAll() }
        waiters.removeAll(keepingCapacity: true)
        byteCount = 0
        pending.removeAll()
        early = (0, 0)
    }
}

/// The messages of a log that wait to be sent, oldest first.
struct LogDrafts {
    private var sealed: [LogDraft] = []
    private var current: LogDraft
    private var spare: LogDraft?
    /// What is on its way, and where in the log it is if that is known.
    private(set) var flying: LogDraft?
    private var flyingSequence = UInt64.max
    /// Whether nothing is answered early any more.
    var isLeaving = false
    /// Whether the last message was void, so that the next may be, too.
    var wasVoid = false
    /// Whether some additions may be answered early, so that all that is asked for is looked at.
    private(set) var answersEarly = false
    private let log: Int
    private let partitions: Range<Int>
    private let byteCountMax: Int
    private let operationBytes: Int

    /// - Parameters:
    ///   - byteCountMax: Bytes of a message beyond which what comes goes into another.
    ///   - operationBytes: What every operation counts at least.
    init(
        log: Int, partitions: Range<Int>, byteCountMax: Int = Limits.logMessageBytesMax,
        operationBytes: Int = 0
    ) {
        self.operationBytes = operationBytes
        self.log = log
        self.partitions = partitions
        self.byteCountMax =
            byteCountMax - LogMessage.headerBytes
            - partitions.count * LogMessage.sectionHeaderBytes
        current = LogDraft(partitions: partitions)
        current.number = 1
    }

    /// Whether so much waits that nothing should be added.
    var isFull: Bool { sealed.count >= Limits.draftsMax }

    var isEmpty: Bool { sealed.isEmpty && current.isEmpty }

    /// Adds a submission's operations to the latest.
    ///
    /// - Parameters:
    ///   - now: Monotonic nanoseconds.
    ///   - node: Tells what numbers are, so that those may be answered early that may.
    /// - Returns: whether the submission waits for it.
    mutating func add(_ submission: Submission, now: UInt64, _ node: Node? = nil) -> Bool {
        let byteCount = max(
            submission.messageBytesMax(partitions), submission.batch.count * operationBytes)
        if !current.isEmpty, current.byteCount + byteCount > byteCountMax {
            sealed.append(current)
            renew()
        }
        current.add(submission, byteCount: byteCount)
        if let node, answersEarly || !submission.candidates.isEmpty,
            !answerEarly(submission, now, node)
        {
            return false
        }
        current.wait(submission, now: now)
        return true
    }

    private mutating func renew() {
        let number = current.number
        current = spare ?? LogDraft(partitions: partitions)
        current.number = number + 1
        spare = nil
    }

    /// The oldest one, which is then no longer here; nil if there is none.
    mutating func take() -> LogDraft? {
        if !sealed.isEmpty { return sealed.removeFirst() }
        guard !current.isEmpty else { return nil }
        defer { renew() }
        return current
    }

    /// Those who have waited since before `limit`, monotonic nanoseconds, for what has not been sent; nil if there
    /// are none. What they asked for goes unless an addition that was answered is with it.
    mutating func takeOverdue(_ limit: UInt64) -> (waiters: [Submission], mayCome: Bool)? {
        guard let index = sealed.firstIndex(where: { $0.isOverdue(limit) }) else {
            guard current.isOverdue(limit) else { return nil }
            let waiters = current.takeWaiters()
            guard current.early.count == 0 else { return (waiters, true) }
            current.removeAll()
            return (waiters, false)
        }
        let waiters = sealed[index].takeWaiters()
        guard sealed[index].early.count == 0 else { return (waiters, true) }
        reuse(sealed.remove(at: index))
        return (waiters, false)
    }

    /// The oldest one, which then is on its way until `land`.
    mutating func takeOff() -> LogDraft? {
        flying = take()
        flyingSequence = .max
        return flying
    }

    /// The one that is on its way is at `sequence` of the log, and about to be applied.
    mutating func willApply(at sequence: UInt64) { flyingSequence = sequence }

    /// The one that was on its way is void.
    ///
    /// - Returns: the same, which then is on its way again.
    mutating func flyAgain() -> LogDraft? {
        wasVoid = true
        flyingSequence = .max
        return flying
    }

    /// The one that was on its way is so no more.
    ///
    /// - Returns: its number, nil if there was none.
    mutating func land(isApplied: Bool) -> UInt64? {
        if isApplied { wasVoid = false }
        guard let draft = flying else { return nil }
        flying = nil
        defer { reuse(draft) }
        return draft.number
    }

    /// Gives back a draft that has been sent.
    mutating func reuse(_ draft: LogDraft) {
        draft.removeAll()
        spare = draft
    }
}

// MARK: Early answers

extension LogDrafts {
    /// Numbers beyond which nothing is answered early: an addition might leave the 64-bit range.
    private static let earlyNumberMax: Int64 = 1 << 62

    /// When the oldest addition that was answered, and is not in the log yet, was; nil if there is none.
    var earlySince: UInt64? {
        if let flying, flying.early.count > 0 { return flying.early.since }
        return (sealed + [current]).first { $0.early.count > 0 }?.early.since
    }

    /// How many additions were answered that are not in the log yet.
    var earlyCount: Int {
        sealed.reduce(current.early.count + (flying?.early.count ?? 0)) { $0 + $1.early.count }
    }

    /// Answers those of a submission's additions that may be, which have been written to the latest draft.
    ///
    /// - Returns: whether anything of it waits for the log.
    private mutating func answerEarly(
        _ submission: Submission, _ now: UInt64, _ node: Node
    ) -> Bool {
        if !answersEarly {
            // What has gathered before was not looked at.
            answersEarly = true
            for draft in sealed + [current] { draft.pending.noteUnclear() }
            flying?.pending.noteUnclear()
        }
        let isLate =
            isLeaving || wasVoid || current.byteCount > byteCountMax
            || sealed.count >= Limits.earlyDraftsMax
            || earlySince.map { now > $0 && now - $0 > submission.earlyNanosecondsMax } ?? false
        var isFound = false
        var waits = false
        var candidate = 0
        for index in 0..<submission.batch.count {
            let operation = submission.batch.operations + index
            while candidate < submission.candidates.count,
                submission.candidates[candidate].index < index
            {
                candidate += 1
            }
            guard !submission.isLocal[index],
                partitions.contains(Int(operation.pointee.partition))
            else { continue }
            isFound = true
            guard candidate < submission.candidates.count,
                submission.candidates[candidate].index == index
            else {
                waits = true
                if operation.pointee.isWrite { current.pending.noteOther(operation) }
                continue
            }
            current.pending.add(operation)
            guard !isLate,
                let outcome = earlyOutcome(submission, submission.candidates[candidate], node)
            else {
                waits = true
                continue
            }
            current.noteEarly(now: now)
            submission.answerEarly(index, outcome, log: log, draft: current.number)
        }
        return waits || !isFound
    }

    /// The number that an addition will lead to if nobody else adds anything; nil if it cannot be told.
    private func earlyOutcome(
        _ submission: Submission, _ candidate: EarlyCandidate, _ node: Node
    ) -> Outcome? {
        let operation = UnsafePointer(submission.batch.operations + candidate.index)
        let base = submission.read(candidate.index, on: node)
        guard base.status == .applied else { return nil }
        // The message on its way is being applied: some of it may be in the number, and some not.
        if flying != nil, base.sequence >= flyingSequence { return nil }
        var sum = base.value
        for draft in [flying].compactMap({ $0 }) + sealed + [current] {
            guard draft.pending.isClear(operation) else { return nil }
            let (total, overflow) = sum.addingReportingOverflow(draft.pending.sum(operation))
            guard !overflow, total.magnitude <= Self.earlyNumberMax.magnitude else { return nil }
            sum = total
        }
        guard candidate.range.contains(sum) else {
            // Where a bound cuts off what is added, sums tell nothing.
            current.pending.noteOther(operation)
            return nil
        }
        var outcome = Outcome(
            .applied, wasPresent: base.wasPresent, value: sum,
            acceptedCount: operation.pointee.count)
        outcome.sequence = Outcome.noSequence
        return outcome
    }
}
