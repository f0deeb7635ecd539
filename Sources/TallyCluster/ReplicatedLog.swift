internal import Synchronization
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
    private var flight: (publication: Publication, waiters: [Submission])? {
        didSet {
            let begun = flight == nil ? 0 : producer.flightBegun ?? 0
            counts.flightBegun.store(begun, ordering: .relaxed)
        }
    }
    /// What has become of this node's messages.
    public let counts = LogCounts()
    private let makeIdentity: () -> ProducerIdentity
    /// Whether this node has a replica of the log's partitions. Any thread.
    public var isHeld: Bool { held.load(ordering: .relaxed) }
    private let held = Atomic<Bool>(false)
    /// Whether this replica can be asked. Any thread.
    public var isServing: Bool { serving.load(ordering: .relaxed) }
    private let serving = Atomic<Bool>(false)
    /// Whether this replica has come near the log's end, so that it may accept writes.
    public var isCaughtUp = false {
        didSet { serving.store(isCaughtUp && halt == nil, ordering: .relaxed) }
    }
    /// Whether the stream that holds the log is gone, or lacks what has been applied. Then nobody can be served,
    /// until it is back or an operator decides.
    public var isStranded = false {
        didSet { if isStranded { isCaughtUp = false } }
    }
    /// Why it is followed no further.
    public private(set) var halt: LogFollower.Halt? {
        didSet { serving.store(isCaughtUp && halt == nil, ordering: .relaxed) }
    }

    /// Whether the last message was noted but not applied, or in part: what is here must not be kept.
    public private(set) var isIncomplete = false

    /// Messages that have come and are not applied yet, because the first of them needs what is being read
    /// from the disk.
    private var waiting: [WaitingMessage] = []
    /// Called on some thread when `resume` should be.
    public var onReadable: (@Sendable () -> Void)?

    private struct WaitingMessage {
        let sequence: UInt64
        let milliseconds: UInt64
        let bytes: [UInt8]
    }

    /// What is to be done between a message and the next one.
    private var mark: (sequence: UInt64, body: () -> Void)?

    private let applied: MessageBatch
    private let writeNanosecondsMax: UInt64

    /// - Parameters:
    ///   - node: Holds the partitions.
    ///   - state: How far they have come; nil if this node has no replica of them.
    ///   - makeIdentity: Makes this producer's identities.
    public init(
        number: Int, partitions: Range<Int>, cluster: LogIdentity, node: Node, state: LogState?,
        writeMillisecondsMax: UInt64 = Limits.writeMillisecondsMax,
        makeIdentity: @escaping () -> ProducerIdentity
    ) {
        self.number = number
        self.partitions = partitions
        self.cluster = cluster
        self.node = node
        self.makeIdentity = makeIdentity
        drafts = Locked(LogDrafts(log: number, partitions: partitions))
        follower = LogFollower(
            cluster: cluster, log: UInt32(number),
            state: state ?? LogState(epoch: 1, streamNanoseconds: 0))
        held.store(state != nil, ordering: .relaxed)
        applySequence.store(state?.sequence ?? 0, ordering: .relaxed)
        producer = LogProducer(identity: makeIdentity())
        applied = MessageBatch(node: node, partitions: partitions)
        writeNanosecondsMax = writeMillisecondsMax * 1_000_000
    }

    /// How far the partitions have come.
    public var state: LogState { follower.state }

    /// The last message that has been applied. Any thread.
    public var appliedSequence: UInt64 { applySequence.load(ordering: .acquiring) }
    private let applySequence = Atomic<UInt64>(0)

    // MARK: Coming and going

    /// Begins a replica of partitions that have come as far as `state`.
    ///
    /// - Parameter partitions: What is in them; nil for nothing.
    public func begin(_ state: LogState, _ partitions: PartitionSetAside? = nil) {
        leave()
        node.install(self.partitions, partitions)
        follower = LogFollower(cluster: cluster, log: UInt32(number), state: state)
        applySequence.store(state.sequence, ordering: .releasing)
        halt = nil
        isIncomplete = false
        drafts.withLock { $0.isLeaving = false }
        held.store(true, ordering: .relaxed)
    }

    /// Goes on in a new epoch, which begins with what this replica has.
    public func begin(epoch: UInt32, streamNanoseconds: UInt64) {
        isCaughtUp = false
        isStranded = false
        letGo()
        var state = follower.state
        state.epoch = epoch
        state.streamNanoseconds = streamNanoseconds
        follower = LogFollower(cluster: cluster, log: UInt32(number), state: state)
        halt = nil
        // For the next checkpoint to hold it.
        node.noteMessage(byteCount: 0)
    }

    /// This node has no replica any more; those who wait are told.
    public func leave() {
        isCaughtUp = false
        isStranded = false
        held.store(false, ordering: .relaxed)
        letGo()
        node.remove(partitions)
    }

    private func letGo() {
        waiting.removeAll()
        let waiters = flight?.waiters ?? []
        flight = nil
        land(isApplied: false)
        end(waiters, .outcomeUnknown)
        // A message that may be stored must not be followed by another under its number.
        producer = LogProducer(identity: makeIdentity())
        refuseDrafts()
    }

    /// Whether something of its partitions is damaged that this node has nowhere else.
    public var hasLosses: Bool { node.hasLosses(partitions) }

    // MARK: Submitting

    /// Whether what is submitted now would wait too long. Any thread.
    public var isFull: Bool { drafts.withLock { $0.isFull } }

    /// Adds a submission's operations on this log's partitions to the next message; nothing for a
    /// barrier. Any thread.
    ///
    /// - Returns: false if all of them have been answered early, so that the log will not tell of them.
    @discardableResult
    public func submit(_ submission: Submission, now: UInt64) -> Bool {
        drafts.withLock { $0.add(submission, now: now, node) }
    }

    /// The last of this node's messages, by their numbers in `EarlyAnswer`, that is on its way no more. Any thread.
    public var settledDraft: UInt64 { settled.load(ordering: .acquiring) }
    private let settled = Atomic<UInt64>(0)

    /// How many additions have been answered that are not in the log yet. Any thread.
    public var earlyOwed: Int { drafts.withLock { $0.earlyCount } }

    /// Whether nothing is answered early any more, since this node is about to give the log's partitions up. Any
    /// thread.
    public var isLeaving: Bool {
        get { drafts.withLock { $0.isLeaving } }
        set { drafts.withLock { $0.isLeaving = newValue } }
    }

    // MARK: Sending

    /// The message that is to be sent now, nil if there is none.
    ///
    /// - Parameter now: Monotonic nanoseconds.
    public func poll(now: UInt64) -> Publication? {
        guard halt == nil else { return nil }
        if flight == nil, let begun = landedBegun {
            pace.landed(begun: begun, now: now)
            landedBegun = nil
        }
        if flight == nil, isCaughtUp, now >= pace.notBefore { takeOff(now) }
        guard let flight, producer.isDue(now: now) else { return nil }
        producer.didSend(now: now)
        counts.attempts.wrappingAdd(1, ordering: .relaxed)
        return flight.publication
    }

    private var pace = LogPace()
    /// When the message was taken on that has just come back.
    private var landedBegun: UInt64?

    /// When `poll` should be called if nothing happens before, monotonic nanoseconds; nil if that need not be.
    public var nextPoll: UInt64? {
        flight == nil && isCaughtUp && !drafts.withLock({ $0.isEmpty }) ? pace.notBefore : nil
    }

    private func takeOff(_ now: UInt64) {
        guard let draft = drafts.withLock({ $0.takeOff() }) else { return }
        flyingEarly = draft.early.count
        let waiters = draft.takeWaiters()
        guard draft.messageBytes <= Limits.logMessageBytesMax else {
            land(isApplied: false)
            return end(waiters, .messageTooLong)
        }
        launch(draft, waiters, now)
        counts.early.wrappingAdd(UInt64(flyingEarly), ordering: .relaxed)
    }

    private func launch(_ draft: LogDraft, _ waiters: [Submission], _ now: UInt64) {
        let (producer, sequence) = producer.begin(now: now, fresh: makeIdentity)
        let header = LogMessage.Header(
            cluster: cluster, log: UInt32(number), epoch: follower.state.epoch,
            producer: producer, producerSequence: sequence)
        let bytes = draft.message(header)
        flight = (
            Publication(sequence: sequence, messageID: header.messageID, bytes: bytes), waiters
        )
        counts.messages.wrappingAdd(1, ordering: .relaxed)
        counts.bytes.wrappingAdd(UInt64(bytes.count), ordering: .relaxed)
    }

    /// How often what is on its way was void and has been sent anew.
    private var voidCount = 0
    private static let voidCountMax = 3

    /// How many additions in the message in flight have been answered.
    private var flyingEarly = 0

    /// Nothing is on its way any more.
    private func land(isApplied: Bool) {
        if !isApplied { counts.earlyLost.wrappingAdd(UInt64(flyingEarly), ordering: .relaxed) }
        flyingEarly = 0
        guard let number = drafts.withLock({ $0.land(isApplied: isApplied) }) else { return }
        settled.store(number, ordering: .releasing)
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
            // What has been answered must reach the log, however long that takes.
            if flyingEarly == 0, producer.giveUp() {
                flight = nil
                land(isApplied: false)
                end(waiters, .logUnavailable)
            } else {
                end(waiters, .outcomeUnknown)
            }
        }
        let limit = now - min(now, writeNanosecondsMax)
        while let overdue = drafts.withLock({ $0.takeOverdue(limit) }) {
            end(overdue.waiters, overdue.mayCome ? .outcomeUnknown : .logUnavailable)
        }
    }

    private func end(_ waiters: [Submission], _ status: Outcome.Status) {
        switch status {
        case .logUnavailable: counts.refused.wrappingAdd(UInt64(waiters.count), ordering: .relaxed)
        case .outcomeUnknown: counts.unknown.wrappingAdd(UInt64(waiters.count), ordering: .relaxed)
        default: break
        }
        for waiter in waiters { waiter.end(number, partitions, status) }
    }

    // MARK: Following

    /// What became of a message that has come.
    public enum Receipt: Equatable, Sendable {
        /// It was applied.
        case applied
        /// It was known, or is void.
        case passedOver
        /// It waits for what is read from the disk, or behind such a message.
        case waiting
    }

    /// Takes the message at `sequence` of the log.
    ///
    /// - Parameter milliseconds: Its time stamp, since 1970.
    /// - Throws: `Halt`: this replica of the log's partitions must not be used further.
    public func receive(
        sequence: UInt64, milliseconds: UInt64, _ bytes: UnsafeRawBufferPointer
    ) throws(LogFollower.Halt) -> Receipt {
        guard halt == nil else { return .passedOver }
        // Asked of those behind another, too, so that what they need is read meanwhile.
        if mustRead(sequence, bytes) || !waiting.isEmpty {
            waiting.append(
                WaitingMessage(
                    sequence: sequence, milliseconds: milliseconds, bytes: Array(bytes)))
            return .waiting
        }
        return try process(sequence, milliseconds, bytes)
    }

    /// Has `body` called when the message at `sequence` has been dealt with, and none behind it; at once if
    /// that is so now.
    ///
    /// - Returns: false, and `body` will not be called, if the log has come further.
    public func mark(at sequence: UInt64, _ body: @escaping () -> Void) -> Bool {
        guard sequence >= follower.state.sequence else { return false }
        if sequence == follower.state.sequence {
            body()
        } else {
            mark = (sequence, body)
        }
        return true
    }

    /// How many messages wait for what is read from the disk.
    public var waitingCount: Int { waiting.count }

    /// Goes on with messages that have waited for what is read from the disk.
    ///
    /// - Throws: `Halt`, as `receive`.
    public func resume() throws(LogFollower.Halt) {
        var count = 0
        defer { waiting.removeFirst(min(count, waiting.count)) }
        while count < waiting.count {
            let message = waiting[count]
            let isReady = message.bytes.withUnsafeBytes { !mustRead(message.sequence, $0) }
            guard isReady else { return }
            count += 1
            let result = message.bytes.withUnsafeBytes { bytes in
                Result { () throws(LogFollower.Halt) in
                    try process(message.sequence, message.milliseconds, bytes)
                }
            }
            _ = try result.get()
        }
    }

    /// Whether a message needs what is not in memory; it is then being read.
    private func mustRead(_ sequence: UInt64, _ bytes: UnsafeRawBufferPointer) -> Bool {
        guard node.hasColdSegments, sequence > follower.state.sequence else { return false }
        // What cannot be read as a message is refused in its turn.
        guard let message = try? LogMessage(bytes), (try? applied.gather(message)) != nil,
            case .blocks(let blocks) = node.needs(of: applied.batch, from: 0)
        else { return false }
        node.read(blocks) { [onReadable] in onReadable?() }
        return true
    }

    private func process(
        _ sequence: UInt64, _ milliseconds: UInt64, _ bytes: UnsafeRawBufferPointer
    ) throws(LogFollower.Halt) -> Receipt {
        let receipt = try judge(sequence, milliseconds, bytes)
        if let mark, mark.sequence == follower.state.sequence {
            self.mark = nil
            mark.body()
        }
        return receipt
    }

    private func judge(
        _ sequence: UInt64, _ milliseconds: UInt64, _ bytes: UnsafeRawBufferPointer
    ) throws(LogFollower.Halt) -> Receipt {
        do throws(LogFollower.Halt) {
            defer {
                node.noteMessage(byteCount: bytes.count)
                applySequence.store(follower.state.sequence, ordering: .releasing)
            }
            switch try follower.receive(sequence: sequence, milliseconds: milliseconds, bytes) {
            case .old: return .passedOver
            case .void(let header, let reason):
                returned(header, reason)
                return .passedOver
            case .apply(let message):
                isIncomplete = true
                try apply(message)
                isIncomplete = false
                returned(message.header, nil)
                return .applied
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
        letGo()
    }

    /// It is known now which stream holds the log: when that was created, nanoseconds since 1970.
    public func setStream(nanoseconds: UInt64) { follower.setStream(nanoseconds: nanoseconds) }

    /// Tells those who have submitted to a log that is followed no further.
    public func refuseDrafts() {
        while let draft = drafts.withLock({ $0.take() }) {
            counts.earlyLost.wrappingAdd(UInt64(draft.early.count), ordering: .relaxed)
            settled.store(draft.number, ordering: .releasing)
            end(draft.takeWaiters(), .logUnavailable)
            drafts.withLock { $0.reuse(draft) }
        }
    }

    private func apply(_ message: LogMessage) throws(LogFollower.Halt) {
        try applied.gather(message)
        if message.header.producer == producer.identity {
            drafts.withLock { $0.willApply(at: follower.state.sequence) }
        }
        let isWhole = node.apply(
            &applied.batch, sequence: follower.state.sequence,
            logTimeMilliseconds: Int64(follower.state.milliseconds))
        guard isWhole else { throw .notApplied("what it changes cannot be read from the disk") }
    }

    /// A message has come back by the log, and `applied` holds its outcomes if it counted.
    private func returned(_ header: LogMessage.Header, _ void: LogFollower.Void?) {
        let begun = producer.flightBegun
        guard let end = producer.returned(header, void, fresh: makeIdentity) else { return }
        landedBegun = begun
        let waiters = flight?.waiters ?? []
        flight = nil
        if end == .void, flyingEarly > 0, voidCount < Self.voidCountMax,
            let draft = drafts.withLock({ $0.flyAgain() })
        {
            // What has been answered must get into the log, if under another name.
            voidCount += 1
            return launch(draft, waiters, begun ?? 0)
        }
        voidCount = 0
        land(isApplied: end == .applied)
        switch end {
        case .applied:
            let outcomes = applied.batch.results
            for waiter in waiters {
                waiter.end(number, partitions, outcomes, firsts: applied.firsts)
            }
        case .void: self.end(waiters, .logUnavailable)
        }
    }
}
