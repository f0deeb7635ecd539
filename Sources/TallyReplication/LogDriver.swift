import Logging
import NIOCore
import NIOPosix
import Synchronization
import TallyCluster
import TallyCore
import TallyNATS
import TallyNode

/// Joins one log to the stream that holds it: sends what the log hands out, and gives it what comes back.
///
/// On the client's loop.
final class LogDriver: @unchecked Sendable {
    // Sendable because it is touched only on the loop.
    private let log: ReplicatedLog
    private let settings: ClusterSettings
    private let jetStream: JetStream
    private let clock: any Clock
    private let logger: Logger
    private let checkpoints: CheckpointPort
    private let pace: CopyPace
    private let onRoom: () -> Void
    private let onHalt: () -> Void
    private var isComing = false
    /// Whether another node's checkpoint is being copied.
    private(set) var isCopying = false
    private var notBefore: UInt64 = 0
    /// What the cluster says of the log; nil before it is known.
    private var history: LogHistory?
    private var consumer: OrderedConsumer?
    /// Bytes of messages that have come and wait for what is read from the disk.
    private var waitingCredit: CircularBuffer<Int> = []
    /// The last message that the stream had when reading it began.
    private var endSequence: UInt64?

    /// What may be on its way to this node.
    private static let credit = (messages: 1024, bytes: 32 << 20)
    /// Since when there is no stream, or one that lacks what this node has; nil if it is as it should be.
    private var strandedSince: UInt64?

    /// A stream may seem to be gone while servers start.
    private static let strandedNanoseconds: UInt64 = 10_000_000_000
    private static let retryNanoseconds: UInt64 = 1_000_000_000
    /// From one copy of what cannot be used further to the next.
    private static let mendNanoseconds: UInt64 = 60_000_000_000
    /// Additions that were answered and are lost, as far as that has been told.
    private var earlyLost: UInt64 = 0
    private var isPollScheduled = false
    /// What attempts to copy that have failed have brought.
    private let copied = CopiedFiles()
    /// Who could not lend a checkpoint when it was last asked.
    private var failedLender: NodeIdentity?
    /// Since when a copy waits to take its place.
    private var landingSince: UInt64?
    private static let landingNanosecondsMax: UInt64 = 10_000_000_000
    private static let failureNanoseconds: UInt64 = 5_000_000_000
    private static let publishTimeout = Duration.seconds(5)

    /// - Parameters:
    ///   - onRoom: Called when messages may have left.
    ///   - onHalt: Called when what this node has should be in a checkpoint soon.
    init(
        _ log: ReplicatedLog, _ settings: ClusterSettings, _ client: NATSClient,
        checkpoints: CheckpointPort, pace: CopyPace, clock: any Clock, logger: Logger,
        onRoom: @escaping () -> Void, onHalt: @escaping () -> Void
    ) {
        self.onRoom = onRoom
        self.onHalt = onHalt
        self.checkpoints = checkpoints
        self.pace = pace
        self.log = log
        self.settings = settings
        jetStream = JetStream(client)
        self.clock = clock
        var logger = logger
        logger[metadataKey: "log"] = "\(log.number)"
        self.logger = logger
    }

    var number: Int { log.number }

    /// Whether this node has a replica of the log's partitions, or is about to.
    var isHeldOrComing: Bool { log.isHeld || isComing }

    func startIfHeld() {
        if log.isHeld { start() }
    }

    // MARK: Epochs

    /// The cluster says which stream holds the log, and what it begins with.
    func learn(_ history: LogHistory) {
        guard history.follows(self.history) else { return }
        self.history = history
        // Only with it a node can tell what positions mean.
        noteProgress()
        guard log.isHeld, log.halt == nil, log.state.epoch < history.epoch else { return }
        log.stop(.newerEpoch(history.epoch))
        halted("epoch \(history.epoch) has begun")
    }

    /// Has a replica that is followed no further go on, where that is known to be right.
    func mend(_ view: ClusterView) {
        guard let history, log.isHeld, !isComing else { return }
        guard let halt = log.halt else {
            // What others have is fetched again, and meanwhile this one serves what it can.
            if log.isCaughtUp, log.hasLosses { acquire(view) }
            return
        }
        switch history.step(number, halt, log.state, view) {
        case .none: return
        case .begin:
            // What it has is not what it was at any message.
            guard !log.isIncomplete else { return }
            logger.notice(
                "a new epoch begins with what this node has",
                metadata: [
                    "epoch": "\(history.epoch)", "sequence": "\(history.startSequence)",
                ])
            log.begin(epoch: history.epoch, streamNanoseconds: history.streamNanoseconds)
            onHalt()
            start()
        case .copy: acquire(view)
        }
    }

    // MARK: Coming and going

    /// Gets a replica of the log's partitions and follows it: from the log's beginning if that is there and
    /// not far, else from another node's checkpoint.
    ///
    /// A replica that is there and cannot go on is kept until it can be replaced.
    func acquire(_ view: ClusterView) {
        guard let history, !isComing, clock.monotonicNanoseconds() >= notBefore else { return }
        isComing = true
        jetStream.stream(settings.stream(ofLog: log.number)) { result in
            switch result {
            case .success(let info): self.acquire(view, info, history)
            case .failure(let error):
                self.logger.debug("no stream", metadata: ["reason": "\(error)"])
                self.rest()
            }
        }
    }

    private func acquire(_ view: ClusterView, _ info: StreamInfo, _ history: LogHistory) {
        let canFollow = canBeginAnew(view, info, history)
        let lender = history.lender(
            log.number, first: info.state.firstSequence, canFollow: canFollow,
            failed: failedLender, view)
        if let lender {
            isCopying = true
            // What is answered from now on might not be in the log when the copy has come.
            log.isLeaving = true
            logger.notice("a checkpoint is copied", metadata: ["from": "\(lender)"])
            let borrower = CheckpointBorrower(
                client: jetStream.client, lender: "\(lender)",
                subject: settings.copySubject(of: lender), copied: copied, port: checkpoints,
                pace: pace)
            let (number, eventLoop) = (log.number, jetStream.client.eventLoop)
            Task {
                let result: Result<LandedLog, any Error>
                do {
                    result = .success(try await borrower.copy(log: number, epoch: history.epoch))
                } catch {
                    result = .failure(error)
                }
                eventLoop.execute { self.land(result, from: lender) }
            }
        } else if canFollow {
            logger.info("the log is followed from its beginning")
            isComing = false
            log.begin(
                LogState(
                    epoch: history.epoch, streamNanoseconds: history.streamNanoseconds))
            start()
        } else if log.isHeld {
            logger.info("what is damaged here cannot be copied yet: nobody is known to have it")
            rest()
        } else {
            logger.error(
                "the log cannot be followed from its beginning, and nobody is there who has a checkpoint",
                metadata: [
                    "first": "\(info.state.firstSequence)", "epoch": "\(history.epoch)",
                ])
            rest()
        }
    }

    private func canBeginAnew(
        _ view: ClusterView, _ info: StreamInfo, _ history: LogHistory
    ) -> Bool {
        !log.isHeld
            && history.canBeginAnew(
                log.number, streamNanoseconds: info.created.unsignedNanoseconds,
                first: info.state.firstSequence, last: info.state.lastSequence, view)
    }

    /// Whether something that was answered is not in the log yet; `result` then lands a little later.
    private func owes(
        _ result: Result<LandedLog, any Error>, from lender: NodeIdentity
    ) -> Bool {
        let now = clock.monotonicNanoseconds()
        let since = landingSince ?? now
        landingSince = since
        guard log.halt == nil, log.earlyOwed > 0, now - since < Self.landingNanosecondsMax else {
            landingSince = nil
            return false
        }
        jetStream.client.eventLoop.scheduleTask(in: .milliseconds(20)) {
            self.land(result, from: lender)
        }
        return true
    }

    private func land(_ result: Result<LandedLog, any Error>, from lender: NodeIdentity) {
        isCopying = false
        switch result {
        case .success(let landed):
            logger.notice(
                "the checkpoint has been copied", metadata: ["sequence": "\(landed.state.sequence)"]
            )
            if owes(result, from: lender) { return }
            isComing = false
            failedLender = nil
            if log.isHeld { notBefore = clock.monotonicNanoseconds() + Self.mendNanoseconds }
            stop()
            log.begin(landed.state, landed.partitions)
            landed.end()
            // Another epoch may have begun meanwhile.
            if let history, landed.state.epoch < history.epoch {
                log.stop(.newerEpoch(history.epoch))
            }
            start()
        case .failure(let error):
            logger.warning(
                "the copy has failed",
                metadata: ["reason": "\(error)", "copied_files": "\(copied.count)"])
            failedLender = lender
            rest(Self.failureNanoseconds)
        }
    }

    private func rest(_ nanoseconds: UInt64 = retryNanoseconds) {
        isComing = false
        notBefore = clock.monotonicNanoseconds() + nanoseconds
    }

    /// Whether nothing is lost if the replica is given up; nothing is answered early from now on.
    var isReadyToLeave: Bool {
        log.isLeaving = true
        return log.earlyOwed == 0
    }

    /// The replica is to stay.
    func stay() {
        if !isComing { log.isLeaving = false }
        if !isHeldOrComing, copied.count > 0 { dropCopies() }
    }

    /// The log is not to be held any more, and what has been copied of it is of no use.
    private func dropCopies() {
        let (numbers, port) = (copied.removeAll { _ in false }, checkpoints)
        NIOThreadPool.singleton.submit { _ in port.discard(numbers) }
    }

    /// Gives the replica up.
    func release() {
        logger.notice("the log is left to others")
        stop()
        log.leave()
    }

    /// Begins, or goes on, to follow the log, unless that has been begun.
    func start() {
        guard consumer == nil, log.halt == nil else { return }
        endSequence = nil
        var options = OrderedConsumerOptions()
        // The last message comes again, to be recognised.
        options.start = .sequence(max(1, log.state.sequence))
        if log.state.streamNanoseconds > 0 {
            options.created = NATSTime(
                unsignedNanoseconds: log.state.streamNanoseconds)
        }
        let consumer = OrderedConsumer(
            jetStream.client, stream: settings.stream(ofLog: log.number), options: options,
            onEvent: { self.handle($0) }, onMessage: { self.receive($0) })
        consumer.grant(messages: Self.credit.messages, bytes: Self.credit.bytes)
        self.consumer = consumer
        log.onReadable = { [weak self, eventLoop = jetStream.client.eventLoop] in
            eventLoop.execute { [weak self] in self?.resume() }
        }
    }

    func stop() {
        strandedSince = nil
        consumer?.stop()
        consumer = nil
        waitingCredit.removeAll()
    }

    /// What the log hands out is sent.
    func poll() {
        let now = clock.monotonicNanoseconds()
        while let publication = log.poll(now: now) { publish(publication) }
        pollLater(now)
        onRoom()
    }

    /// What waits for a while before it is sent must be sent then.
    private func pollLater(_ now: UInt64) {
        guard !isPollScheduled, let next = log.nextPoll, next > now else { return }
        isPollScheduled = true
        jetStream.client.eventLoop.scheduleTask(in: .nanoseconds(Int64(next - now))) {
            self.isPollScheduled = false
            self.poll()
        }
    }

    /// Tells those who have waited for too long, and sends again what may be lost.
    func tick() {
        tellOfLosses()
        if log.halt != nil || !log.isHeld { return log.refuseDrafts() }
        log.checkDeadlines(now: clock.monotonicNanoseconds())
        poll()
    }

    /// What was answered early and is given up must not go unseen.
    private func tellOfLosses() {
        let lost = log.counts.earlyLost.load(ordering: .relaxed)
        guard lost > earlyLost else { return }
        logger.critical(
            "additions that were answered before they were in the log are lost",
            metadata: ["count": "\(lost - earlyLost)"])
        earlyLost = lost
    }

    private func publish(_ publication: ReplicatedLog.Publication) {
        let sequence = publication.sequence
        do throws(NATSNotSent) {
            try jetStream.publish(
                ByteBuffer(bytes: publication.bytes), to: settings.subject(ofLog: log.number),
                PublishExpectations(
                    messageID: publication.messageID, stream: settings.stream(ofLog: log.number)),
                timeout: Self.publishTimeout
            ) { outcome in
                self.log.answered(sequence, self.answer(outcome))
                self.poll()
            }
        } catch {
            logger.debug("not sent", metadata: ["reason": "\(error)"])
            log.answered(sequence, .refused)
        }
    }

    private func answer(_ outcome: PublishOutcome) -> ReplicatedLog.Answer {
        switch outcome {
        case .acknowledged: return .stored
        case .refused(let reason):
            logger.debug("refused", metadata: ["reason": "\(reason)"])
            return .refused
        case .unknown(let reason):
            logger.debug("outcome unknown", metadata: ["reason": "\(reason)"])
            return .lost
        }
    }

    // MARK: What comes

    private func receive(_ message: StreamMessage) {
        let milliseconds = UInt64(max(0, message.time.nanoseconds / 1_000_000))
        do {
            let receipt = try message.payload.withUnsafeReadableBytes {
                try log.receive(
                    sequence: message.sequence, milliseconds: milliseconds, $0)
            }
            if receipt == .waiting { return waitingCredit.append(message.creditBytes) }
        } catch {
            return halted("\(error)")
        }
        consumer?.grant(messages: 1, bytes: message.creditBytes)
        noteProgress()
        poll()
    }

    /// What messages have waited for has been read from the disk.
    private func resume() {
        do {
            try log.resume()
        } catch {
            return halted("\(error)")
        }
        while waitingCredit.count > log.waitingCount {
            let bytes = waitingCredit.removeFirst()
            consumer?.grant(messages: 1, bytes: bytes)
        }
        noteProgress()
        poll()
    }

    private func noteProgress() {
        guard !log.isCaughtUp, history != nil, log.halt == nil, let endSequence,
            log.state.sequence >= endSequence
        else { return }
        log.isCaughtUp = true
        logger.debug("caught up", metadata: ["sequence": "\(log.state.sequence)"])
    }

    private func handle(_ event: OrderedConsumerEvent) {
        switch event {
        case .started(let info):
            strandedSince = nil
            log.isStranded = false
            endSequence = info.state.lastSequence
            log.setStream(nanoseconds: info.created.unsignedNanoseconds)
            noteProgress()
            poll()
        case .interrupted(let reason):
            logger.notice("reading is interrupted", metadata: ["reason": "\(reason)"])
            noteInterruption(reason)
        case .missing(let range):
            // Only what comes again to be recognised.
            if range.upperBound <= log.state.sequence { return }
            // What it has may be all there is, so it is kept until another node's can take its place.
            log.stop(
                log.isCaughtUp
                    ? .missing(expected: range.lowerBound, found: range.upperBound + 1)
                    : .trimmed(first: range.upperBound + 1))
            halted("messages \(range) are gone")
        case .ended(let end):
            log.stop(.otherHistory("\(end)"))
            halted("\(end)")
        }
    }

    private func noteInterruption(_ reason: OrderedConsumerEvent.Interruption) {
        switch reason {
        case .streamMissing, .streamBehind: break
        default: return strandedSince = nil
        }
        let now = clock.monotonicNanoseconds()
        let since = strandedSince ?? now
        strandedSince = since
        guard now - since >= Self.strandedNanoseconds, !log.isStranded else { return }
        log.isStranded = true
        logger.critical(
            "the log's stream is gone or lacks what this node has; tally cluster recover begins it anew",
            metadata: ["reason": "\(reason)", "sequence": "\(log.state.sequence)"])
        onHalt()
    }

    private func halted(_ reason: String) {
        logger.critical(
            "the log is followed no further, and its partitions take no more changes",
            metadata: ["reason": "\(reason)", "sequence": "\(log.state.sequence)"])
        stop()
        onHalt()
    }
}
