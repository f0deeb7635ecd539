internal import Synchronization
public import TallyCore
import TallyEngine
public import TallyNode

/// One log whose partitions others have, as a node sees it that passes operations on to them.
///
/// What is passed on is laid out as a log's message, and combined like one, so that a hot key costs little
/// on the way, too. Whoever drives it sends what `poll` hands out to a node that serves the log, and gives
/// it what comes back; one thread does so, any may submit.
public final class RemoteLog: @unchecked Sendable {
    // Sendable because everything but `drafts`, which has a lock, is the driver's.

    /// Operations on their way to another node.
    public struct Request {
        /// By which answers are told apart.
        public let number: UInt64
        /// What is sent.
        public let bytes: [UInt8]
    }

    private struct Flight {
        let bytes: [UInt8]
        let waiters: [Submission]
        let begun: UInt64
        /// When it is to be sent; nil while an answer is awaited.
        var due: UInt64?
    }

    /// The log's number.
    public let number: Int
    /// Its partitions.
    public let partitions: Range<Int>
    private let cluster: LogIdentity
    private let drafts: Locked<LogDrafts>
    /// Those whose reads are to go through the log, too.
    private let orderedDrafts: Locked<LogDrafts>
    private var flights: [UInt64: Flight] = [:]
    private var nextNumber: UInt64 = 1
    private let identity: ProducerIdentity
    private let answered: MessageBatch
    private let waitNanosecondsMax: UInt64

    /// - Parameters:
    ///   - node: Makes room for operations.
    ///   - identity: This life of the node.
    public init(
        number: Int, partitions: Range<Int>, cluster: LogIdentity, node: Node,
        identity: ProducerIdentity, waitMillisecondsMax: UInt64 = Limits.writeMillisecondsMax
    ) {
        self.number = number
        self.partitions = partitions
        self.cluster = cluster
        self.identity = identity
        // What comes back must fit into a message, too.
        func makeDrafts() -> LogDrafts {
            LogDrafts(
                log: number, partitions: partitions, byteCountMax: Limits.forwardBytesMax,
                operationBytes: 32)
        }
        drafts = Locked(makeDrafts())
        orderedDrafts = Locked(makeDrafts())
        answered = MessageBatch(node: node, partitions: partitions)
        waitNanosecondsMax = waitMillisecondsMax * 1_000_000
    }

    // MARK: Submitting

    /// Whether what is submitted now would wait too long. Any thread.
    public var isFull: Bool {
        drafts.withLock { $0.isFull } || orderedDrafts.withLock { $0.isFull }
    }

    /// Adds a submission's operations on this log's partitions to the next request. Any thread.
    func submit(_ submission: Submission, now: UInt64) {
        if submission.isOrdered {
            orderedDrafts.withLock { _ = $0.add(submission, now: now) }
        } else {
            drafts.withLock { _ = $0.add(submission, now: now) }
        }
    }

    // MARK: Sending

    /// A request that is to be sent now, nil if there is none.
    ///
    /// - Parameter now: Monotonic nanoseconds.
    public func poll(now: UInt64) -> Request? {
        takeOff(orderedDrafts, epoch: Self.orderedEpoch, now)
        takeOff(drafts, epoch: 0, now)
        // The oldest first, for what is asked to arrive in order where nothing is lost.
        let due = flights.lazy.filter { $0.value.due.map { $0 <= now } == true }
        guard let (number, flight) = due.min(by: { $0.key < $1.key }) else { return nil }
        flights[number]?.due = nil
        return Request(number: number, bytes: flight.bytes)
    }

    /// In place of an epoch in a request: reads go through the log, too.
    static let orderedEpoch: UInt32 = 1

    private func takeOff(_ drafts: borrowing Locked<LogDrafts>, epoch: UInt32, _ now: UInt64) {
        while flights.count < Limits.forwardsInFlight, let draft = drafts.withLock({ $0.take() }) {
            takeOff(draft, epoch: epoch, now)
            drafts.withLock { $0.reuse(draft) }
        }
    }

    private func takeOff(_ draft: LogDraft, epoch: UInt32, _ now: UInt64) {
        guard draft.messageBytes <= Limits.logMessageBytesMax else {
            return end(draft.takeWaiters(), .messageTooLong)
        }
        let bytes = draft.message(
            LogMessage.Header(
                cluster: cluster, log: UInt32(number), epoch: epoch, producer: identity,
                producerSequence: nextNumber))
        let waiters = draft.takeWaiters()
        flights[nextNumber] = Flight(bytes: bytes, waiters: waiters, begun: now, due: now)
        nextNumber += 1
    }

    // MARK: What comes back

    /// What became of an attempt.
    public enum Answer {
        /// The other node says this.
        case answer(UnsafeRawBufferPointer)
        /// It has surely not reached anybody.
        case notSent
        /// Nobody knows.
        case lost
    }

    /// Takes note of what became of the request `number`.
    public func answered(_ number: UInt64, _ answer: Answer, now: UInt64) {
        guard let flight = flights[number] else { return }
        switch answer {
        case .notSent: retry(number, now)
        case .lost: end(number, flight, .outcomeUnknown)
        case .answer(let bytes):
            switch read(bytes, flight) {
            case .notServed: retry(number, now)
            case .unreadable: end(number, flight, .outcomeUnknown)
            case .executed:
                flights[number] = nil
                let outcomes = answered.batch.results
                for waiter in flight.waiters {
                    waiter.end(self.number, partitions, outcomes, firsts: answered.firsts)
                }
            }
        }
    }

    /// Gives the operations that were sent the outcomes of an answer.
    private func read(
        _ bytes: UnsafeRawBufferPointer, _ flight: Flight
    ) -> OutcomeMessage.Reading {
        flight.bytes.withUnsafeBytes { sent in
            guard let message = try? LogMessage(sent), (try? answered.gather(message)) != nil else {
                preconditionFailure("a node cannot read what it has sent")
            }
            return OutcomeMessage.read(bytes, into: &answered.batch)
        }
    }

    private func retry(_ number: UInt64, _ now: UInt64) {
        flights[number]?.due = now + Limits.forwardRetryMilliseconds * 1_000_000
    }

    private func end(_ number: UInt64, _ flight: Flight, _ status: Outcome.Status) {
        flights[number] = nil
        end(flight.waiters, status)
    }

    private func end(_ waiters: [Submission], _ status: Outcome.Status) {
        for waiter in waiters { waiter.end(number, partitions, status) }
    }

    /// Tells those who have waited for too long how things stand.
    ///
    /// - Parameter now: Monotonic nanoseconds.
    public func checkDeadlines(now: UInt64) {
        for (number, flight) in flights.sorted(by: { $0.key < $1.key })
        where now - min(now, flight.begun) > waitNanosecondsMax {
            end(number, flight, flight.due == nil ? .outcomeUnknown : .logUnavailable)
        }
        dropOverdue(drafts, now)
        dropOverdue(orderedDrafts, now)
    }

    private func dropOverdue(_ drafts: borrowing Locked<LogDrafts>, _ now: UInt64) {
        let limit = now - min(now, waitNanosecondsMax)
        while let overdue = drafts.withLock({ $0.takeOverdue(limit) }) {
            end(overdue.waiters, .logUnavailable)
        }
    }
}
