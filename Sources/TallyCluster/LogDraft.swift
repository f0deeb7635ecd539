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
    /// When the first of them came, monotonic nanoseconds.
    private(set) var since: UInt64 = 0

    init(partitions: Range<Int>) {
        self.partitions = partitions
        sections = .allocate(capacity: partitions.count)
        for index in 0..<partitions.count { (sections + index).initialize(to: RequestSection()) }
    }

    deinit {
        sections.deinitialize(count: partitions.count)
        sections.deallocate()
    }

    var isEmpty: Bool { waiters.isEmpty }

    /// Adds what a submission asks of this log's partitions; nothing for a barrier.
    ///
    /// - Parameter byteCount: How much they are taken to be.
    func add(_ submission: Submission, byteCount: Int, now: UInt64) {
        if waiters.isEmpty { since = now }
        waiters.append(submission)
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
    }
}

/// The messages of a log that wait to be sent, oldest first.
struct LogDrafts {
    private var sealed: [LogDraft] = []
    private var current: LogDraft
    private var spare: LogDraft?
    private let partitions: Range<Int>
    private let byteCountMax: Int
    private let operationBytes: Int

    /// - Parameters:
    ///   - byteCountMax: Bytes beyond which what comes goes into another message.
    ///   - operationBytes: What every operation counts at least.
    init(
        partitions: Range<Int>, byteCountMax: Int = Limits.logMessageBytesMax,
        operationBytes: Int = 0
    ) {
        self.operationBytes = operationBytes
        self.partitions = partitions
        self.byteCountMax = byteCountMax
        current = LogDraft(partitions: partitions)
    }

    /// Whether so much waits that nothing should be added.
    var isFull: Bool { sealed.count >= Limits.draftsMax }

    var isEmpty: Bool { sealed.isEmpty && current.isEmpty }

    /// When the oldest one began, monotonic nanoseconds; nil if there is none.
    var since: UInt64? { isEmpty ? nil : (sealed.first ?? current).since }

    mutating func add(_ submission: Submission, now: UInt64) {
        let byteCount = max(
            submission.batch.journalBytesMax, submission.batch.count * operationBytes)
        if !current.isEmpty, current.byteCount + byteCount > byteCountMax {
            sealed.append(current)
            current = spare ?? LogDraft(partitions: partitions)
            spare = nil
        }
        current.add(submission, byteCount: byteCount, now: now)
    }

    /// The oldest one, which is then no longer here; nil if there is none.
    mutating func take() -> LogDraft? {
        if !sealed.isEmpty { return sealed.removeFirst() }
        guard !current.isEmpty else { return nil }
        defer {
            current = spare ?? LogDraft(partitions: partitions)
            spare = nil
        }
        return current
    }

    /// Gives back a draft that has been sent.
    mutating func reuse(_ draft: LogDraft) {
        draft.removeAll()
        spare = draft
    }
}
