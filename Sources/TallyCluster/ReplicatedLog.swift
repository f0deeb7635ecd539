public import TallyCore
import TallyEngine
public import TallyNode

/// One log as one node sees it: forms this node's messages, follows everybody's, applies them, and tells
/// those who wait what became of theirs.
///
/// It knows nothing of sockets and clocks. Whoever drives it gives it what comes from the broker and the
/// time, and sends what `poll` hands out; one thread does so, any may submit.
public final class ReplicatedLog: @unchecked Sendable {
    // Sendable because everything but `drafts`, which has a lock, is the driver's.

    /// A message on its way to the broker.
    public struct Publication {
        /// Its number among the producer's messages, by which answers are told apart.
        public let sequence: UInt64
        /// The name under which the broker may recognise a repetition.
        public let messageID: String
        /// Its bytes.
        public let bytes: [UInt8]

        /// A publication in all its parts.
        public init(sequence: UInt64, messageID: String, bytes: [UInt8]) {
            self.sequence = sequence
            self.messageID = messageID
            self.bytes = bytes
        }
    }

    /// The log's number.
    public let number: Int
    /// The partitions that it orders.
    public let partitions: Range<Int>
    private let cluster: LogIdentity
    private let node: Node
    private let drafts: Locked<LogDrafts>
    private var follower: LogFollower
    private var producer: LogProducer
    /// The message in flight, and who waits for it.
    private var flight: (publication: Publication, waiters: [Submission])?
    private let makeIdentity: () -> ProducerIdentity
    /// Whether this replica has come near the log's end, so that it may accept writes.
    public var isCaughtUp = false
    /// Why it is followed no further.
    public private(set) var halt: LogFollower.Halt?

    private var applied: OperationBatch
    private let firsts: UnsafeMutablePointer<Int>
    private let scratch: UnsafeMutablePointer<Int64>
    private let writeNanosecondsMax: UInt64

    /// - Parameters:
    ///   - node: Holds the partitions.
    ///   - state: How far they have come.
    ///   - makeIdentity: Makes this producer's identities.
    public init(
        number: Int, partitions: Range<Int>, cluster: LogIdentity, node: Node, state: LogState,
        writeMillisecondsMax: UInt64 = Limits.writeMillisecondsMax,
        makeIdentity: @escaping () -> ProducerIdentity
    ) {
        self.number = number
        self.partitions = partitions
        self.cluster = cluster
        self.node = node
        self.makeIdentity = makeIdentity
        drafts = Locked(LogDrafts(partitions: partitions))
        follower = LogFollower(cluster: cluster, log: UInt32(number), state: state)
        producer = LogProducer(identity: makeIdentity())
        applied = node.makeBatch()
        firsts = .allocate(capacity: partitions.count)
        firsts.initialize(repeating: 0, count: partitions.count)
        scratch = .allocate(capacity: EntryReader.rowsCapacity)
        writeNanosecondsMax = writeMillisecondsMax * 1_000_000
    }

    deinit {
        firsts.deallocate()
        scratch.deallocate()
    }

    /// How far the partitions have come.
    public var state: LogState { follower.state }

    // MARK: Submitting

    /// Whether what is submitted now would wait too long. Any thread.
    public var isFull: Bool { drafts.withLock { $0.isFull } }

    /// Adds a submission's operations on this log's partitions to the next message; nothing for a
    /// barrier. Any thread.
    public func submit(_ submission: Submission, now: UInt64) {
        drafts.withLock { $0.add(submission, now: now) }
    }

    // MARK: Sending

    /// The message that is to be sent now, nil if there is none.
    ///
    /// - Parameter now: Monotonic nanoseconds.
    public func poll(now: UInt64) -> Publication? {
        guard halt == nil else { return nil }
        if flight == nil, isCaughtUp { takeOff(now) }
        guard let flight, producer.isDue(now: now) else { return nil }
        producer.didSend(now: now)
        return flight.publication
    }

    private func takeOff(_ now: UInt64) {
        guard let draft = drafts.withLock({ $0.take() }) else { return }
        let (producer, sequence) = producer.begin(now: now, fresh: makeIdentity)
        let header = LogMessage.Header(
            cluster: cluster, log: UInt32(number), epoch: follower.state.epoch,
            producer: producer, producerSequence: sequence)
        flight = (
            Publication(
                sequence: sequence, messageID: header.messageID, bytes: draft.message(header)),
            draft.takeWaiters()
        )
        drafts.withLock { $0.reuse(draft) }
    }

    /// What the broker says of an attempt to store a message.
    public enum Answer: Equatable, Sendable {
        /// It is stored.
        case stored
        /// It has surely not been stored.
        case refused
        /// Nobody knows.
        case lost
    }

    /// Takes note of what the broker says of the message `sequence`.
    public func answered(_ sequence: UInt64, _ answer: Answer) {
        switch answer {
        case .stored: producer.acknowledged(sequence)
        case .refused: producer.refused(sequence)
        case .lost: producer.lost(sequence)
        }
    }

    /// Tells those who have waited for too long how things stand.
    ///
    /// - Parameter now: Monotonic nanoseconds.
    public func checkDeadlines(now: UInt64) {
        if let begun = producer.flightBegun, now - begun > writeNanosecondsMax {
            let waiters = flight?.waiters ?? []
            flight?.waiters = []
            if producer.giveUp() {
                flight = nil
                end(waiters, .logUnavailable)
            } else {
                end(waiters, .outcomeUnknown)
            }
        }
        while let since = drafts.withLock({ $0.since }), now > since,
            now - since > writeNanosecondsMax
        {
            dropDraft()
        }
    }

    private func dropDraft() {
        guard let draft = drafts.withLock({ $0.take() }) else { return }
        end(draft.takeWaiters(), .logUnavailable)
        drafts.withLock { $0.reuse(draft) }
    }

    private func end(_ waiters: [Submission], _ status: Outcome.Status) {
        for waiter in waiters { waiter.end(number, partitions, status) }
    }

    // MARK: Following

    /// Takes the message at `sequence` of the log.
    ///
    /// - Parameter milliseconds: Its time stamp, since 1970.
    /// - Returns: whether it was applied.
    /// - Throws: `Halt`: this replica of the log's partitions must not be used further.
    public func receive(
        sequence: UInt64, milliseconds: UInt64, _ bytes: UnsafeRawBufferPointer
    ) throws(LogFollower.Halt) -> Bool {
        guard halt == nil else { return false }
        do throws(LogFollower.Halt) {
            switch try follower.receive(sequence: sequence, milliseconds: milliseconds, bytes) {
            case .old: return false
            case .void(let header, let reason):
                returned(header, reason)
                return false
            case .apply(let message):
                try apply(message)
                returned(message.header, nil)
                return true
            }
        } catch {
            stop(error)
            throw error
        }
    }

    /// Follows the log no further: those who wait are told, and nothing more is accepted.
    public func stop(_ reason: LogFollower.Halt) {
        guard halt == nil else { return }
        halt = reason
        let waiters = flight?.waiters ?? []
        flight = nil
        end(waiters, .outcomeUnknown)
        refuseDrafts()
    }

    /// Tells those who have submitted to a log that is followed no further.
    public func refuseDrafts() {
        while !drafts.withLock({ $0.isEmpty }) { dropDraft() }
    }

    private func apply(_ message: LogMessage) throws(LogFollower.Halt) {
        applied.removeAll()
        for section in message.sections {
            guard partitions.contains(section.partition) else {
                throw .notApplied("partition \(section.partition) is not of this log")
            }
            let first = applied.count
            firsts[section.partition - partitions.lowerBound] = first
            do throws(EntryError) {
                try applied.appendRequests(
                    section.entries, partition: section.partition, scratch: scratch)
            } catch {
                throw .notApplied("partition \(section.partition): \(error)")
            }
            guard applied.count - first == section.operationCount else {
                throw .notApplied(
                    "partition \(section.partition): \(applied.count - first) operations instead of "
                        + "\(section.operationCount)")
            }
        }
        let isWhole = node.apply(
            &applied, sequence: follower.state.sequence,
            logTimeMilliseconds: Int64(follower.state.milliseconds))
        guard isWhole else { throw .notApplied("what it changes cannot be read from the disk") }
    }

    /// A message has come back by the log, and `applied` holds its outcomes if it counted.
    private func returned(_ header: LogMessage.Header, _ void: LogFollower.Void?) {
        guard let end = producer.returned(header, void, fresh: makeIdentity) else { return }
        let waiters = flight?.waiters ?? []
        flight = nil
        switch end {
        case .applied:
            let outcomes = applied.applied
            for waiter in waiters { waiter.end(number, partitions, outcomes, firsts: firsts) }
        case .void: self.end(waiters, .logUnavailable)
        }
    }
}
