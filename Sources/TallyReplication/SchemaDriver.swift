import Logging
import NIOCore
import TallyCluster
import TallyCore
import TallyNATS
import TallyNode
import TallyStorage

/// Sees to it that every log makes the changes of the cluster's schema in one order.
///
/// The order is that of keys in the cluster's bucket, `schema.<number>`, each created once. A change that has
/// its number is decided: whoever sees that a log lacks it sends it there. A family is added in two steps: its name is
/// reserved in all logs, and then opened if no plain key is in the way, else dropped.
///
/// On the client's loop, but for `change`.
final class SchemaDriver: @unchecked Sendable {
    // Sendable because what changes is touched only on the loop.
    private let client: NATSClient
    private let bucket: KeyValueBucket
    private let replica: Replica
    private let clock: any Clock
    private let logger: Logger
    private let wakeUp: @Sendable () -> Void
    /// How many changes have made what the cluster began with.
    private var base: UInt64 = 0
    /// All changes since that are known, the first first.
    private var changes: [SchemaChange] = []
    /// Changes that are known while some before them are not.
    private var early: [UInt64: SchemaChange] = [:]
    private var schema = Schema()
    /// Whether what the cluster's bucket has is known.
    var isCurrent = false
    /// How many changes some node has made.
    private var madeCount: UInt64 = 0
    /// Since when names have been reserved, monotonic nanoseconds.
    private var reservedSince: [String: UInt64] = [:]
    private var nextCheck: UInt64 = 0
    private var isChecking = false

    private static let checkNanoseconds: UInt64 = 2_000_000_000
    /// Whoever reserves a name opens or drops it well before.
    private static let reservationNanoseconds: UInt64 = 60_000_000_000
    private static let attemptsMax = 40
    private static let attemptInterval = Duration.milliseconds(100)

    init(
        _ replica: Replica, _ settings: ClusterSettings, _ client: NATSClient, clock: any Clock,
        logger: Logger, wakeUp: @escaping @Sendable () -> Void
    ) {
        self.client = client
        self.replica = replica
        self.clock = clock
        self.logger = logger
        self.wakeUp = wakeUp
        bucket = settings.bucket(client)
    }

    // MARK: What is decided

    /// The number of the latest change that is known.
    private var number: UInt64 { base + UInt64(changes.count) }

    /// Something has been put into the cluster's bucket.
    func receive(_ entry: KeyValueEntry) {
        guard let number = ClusterSettings.schemaNumber(ofKey: entry.key), entry.isPresent else {
            return
        }
        if number == 0 { return begin(entry) }
        let change = entry.value.withUnsafeReadableBytes { SchemaChange(bytes: $0) }
        guard let change else {
            return logger.error(
                "a change of the schema cannot be read", metadata: ["number": "\(number)"])
        }
        learn(NumberedChange(number: number, change: change))
    }

    /// The cluster has begun with a schema.
    private func begin(_ entry: KeyValueEntry) {
        guard base == 0, changes.isEmpty else { return }
        guard let schema = entry.value.withUnsafeReadableBytes({ Schema(bytes: $0) }) else {
            return logger.critical("the schema that the cluster began with cannot be read")
        }
        (self.schema, base) = (schema, schema.changeCount)
        replica.node.learn(schema)
    }

    private func learn(_ numbered: NumberedChange) {
        guard numbered.number > number else { return }
        early[numbered.number] = numbered.change
        while let change = early.removeValue(forKey: number + 1) {
            do throws(SchemaError) {
                try schema.apply(change)
            } catch {
                return logger.critical(
                    "a change of the schema is not possible",
                    metadata: ["change": "\(change)", "reason": "\(error)"])
            }
            changes.append(change)
            let now = clock.monotonicNanoseconds()
            for family in schema.families where family.isReserved {
                reservedSince[family.name] = reservedSince[family.name] ?? now
            }
            reservedSince = reservedSince.filter { name, _ in
                schema.family(named: name)?.isReserved == true
            }
        }
        replica.node.learn(schema)
    }

    // MARK: Changing

    /// Has a change decided and made in all logs.
    func change(_ change: SchemaChange) async -> SchemaAnswer {
        guard case .addFamily(let name, _, _) = change else {
            return await decideAndSpread(change).answer
        }
        let reserved = await decideAndSpread(change.asReservation)
        switch reserved {
        case .made(let isInTheWay):
            let next: SchemaChange = isInTheWay ? .dropFamily(name) : .openFamily(name)
            let ended = await decideAndSpread(next)
            guard isInTheWay, case .made = ended else { return ended.answer }
            return .refused(
                "there are plain keys that would be taken for the counter or its records; delete "
                    + "them first")
        case .ended(.delayed):
            // Nobody knows whether keys are in the way.
            _ = await decide(.dropFamily(name))
            return .refused("not all logs can be reached; nothing was changed, try again later")
        case .ended(let answer): return answer
        }
    }

    private enum Spread {
        case made(isInTheWay: Bool)
        case ended(SchemaAnswer)

        var answer: SchemaAnswer {
            switch self {
            case .made: .done
            case .ended(let answer): answer
            }
        }
    }

    private func decideAndSpread(_ change: SchemaChange) async -> Spread {
        switch await decide(change) {
        case .failure(let answer): return .ended(answer.answer)
        case .success(let number):
            for _ in 0..<Self.attemptsMax {
                let node = replica.node
                if let isInTheWay = await spread(upTo: number, 0..<node.partitionCount) {
                    return .made(isInTheWay: isInTheWay)
                }
                try? await Task.sleep(for: Self.attemptInterval)
            }
            return .ended(.delayed)
        }
    }

    private struct Undecided: Error {
        let answer: SchemaAnswer
    }

    /// Gives a change its number.
    private func decide(_ change: SchemaChange) async -> Result<UInt64, Undecided> {
        for _ in 0..<Self.attemptsMax {
            let (number, isBehind, refusal) = await onLoop { driver in
                var changed = driver.schema
                var refusal: String?
                do throws(SchemaError) {
                    try changed.apply(change)
                } catch {
                    refusal = "\(error)"
                }
                return (
                    driver.number + 1, !driver.isCurrent || driver.madeCount > driver.number,
                    refusal
                )
            }
            if isBehind {
                // What the others have made is still on its way here, or the bucket has lost it.
                try? await Task.sleep(for: .milliseconds(100))
                continue
            }
            if let refusal { return .failure(Undecided(answer: .refused(refusal))) }
            do throws(KeyValueError) {
                _ = try await bucket.create(
                    ClusterSettings.schemaKey(number), ByteBuffer(string: change.description))
                await onLoop { $0.learn(NumberedChange(number: number, change: change)) }
                return .success(number)
            } catch {
                switch error {
                case .conflict:
                    // Another one has the number; the watch tells which.
                    try? await Task.sleep(for: .milliseconds(20))
                case .outcomeUnknown: return .failure(Undecided(answer: .unknown))
                default:
                    return .failure(
                        Undecided(
                            answer: .refused(
                                "the NATS servers cannot be reached; nothing was changed, try again later"
                            )))
                }
            }
        }
        return .failure(
            Undecided(
                answer: .refused(
                    "others change the schema, or nodes have changes that the cluster does not know"
                )))
    }

    private func onLoop<Value: Sendable>(
        _ body: @escaping @Sendable (SchemaDriver) -> Value
    ) async -> Value {
        await client.onLoop { [self] complete in complete(body(self)) }
    }

    // MARK: Spreading

    /// Sends the changes up to a number to the logs of some partitions.
    ///
    /// - Returns: whether the last of them found plain keys in its way; nil if not all logs have made it.
    private func spread(upTo number: UInt64, _ partitions: Range<Int>) async -> Bool? {
        let (base, changes) = await onLoop { driver in
            (
                driver.base,
                Array(driver.changes.prefix(number > driver.base ? Int(number - driver.base) : 0))
            )
        }
        guard !changes.isEmpty else { return nil }
        // Most logs lack the last one only.
        let last = await send(changes, behind: base, from: changes.count - 1, partitions)
        switch last {
        case .lacking:
            return await send(changes, behind: base, from: 0, partitions).isInTheWay
        default: return last.isInTheWay
        }
    }

    private enum Sent {
        case made(Bool)
        /// Some partition lacks changes before it.
        case lacking
        case failed

        var isInTheWay: Bool? {
            if case .made(let isInTheWay) = self { isInTheWay } else { nil }
        }
    }

    private func send(
        _ changes: [SchemaChange], behind base: UInt64, from first: Int, _ partitions: Range<Int>
    ) async -> Sent {
        var batch = replica.node.makeBatch()
        for (index, change) in changes.enumerated() where index >= first {
            batch.appendChange(
                NumberedChange(number: base + UInt64(index) + 1, change: change), partitions)
        }
        let count = partitions.count
        let ended = EndedLogs()
        let submission = Submission(batch) { _ in ended.note() }
        let logs = Set(partitions.map { replica.log(of: $0) })
        guard replica.submit(submission, now: clock.monotonicNanoseconds()) else { return .failed }
        wakeUp()
        await ended.wait(for: logs.count)
        var result = Sent.made(false)
        for index in 0..<submission.batch.count {
            let outcome = submission.batch.outcomes[index]
            let isLast = index >= submission.batch.count - count
            switch outcome.status {
            case .applied, .unchanged:
                if isLast, outcome.wasPresent, case .made = result { result = .made(true) }
            case .schemaChanged: result = .lacking
            default: return .failed
            }
        }
        return result
    }

    /// Waits for the logs of a submission.
    private final class EndedLogs: Sendable {
        private struct State {
            var count = 0
            var waiter: (count: Int, continuation: CheckedContinuation<Void, Never>)?
        }

        private let state = Locked(State())

        func note() {
            let continuation = state.withLock { state in
                state.count += 1
                guard let waiter = state.waiter, waiter.count == state.count else {
                    return nil as CheckedContinuation<Void, Never>?
                }
                state.waiter = nil
                return waiter.continuation
            }
            continuation?.resume()
        }

        func wait(for count: Int) async {
            await withCheckedContinuation { continuation in
                let isOver = state.withLock { state in
                    if state.count == count { return true }
                    state.waiter = (count, continuation)
                    return false
                }
                if isOver { continuation.resume() }
            }
        }
    }

    // MARK: What others have left undone

    /// Sends changes to logs that lack them, and drops names that somebody has reserved and left.
    func tick(_ view: ClusterView) {
        madeCount = view.nodes.values.map(\.schemaChanges).max() ?? 0
        let now = clock.monotonicNanoseconds()
        guard now >= nextCheck, !isChecking, !changes.isEmpty else { return }
        nextCheck = now + Self.checkNanoseconds
        let number = number
        let lacking = replica.logs.filter { log in
            log.isServing && view.isPrimary(log.number)
                && replica.node.schemaChangeCount(ofLog: log.number) < number
        }
        let abandoned =
            view.isPrimary(0)
            ? reservedSince.filter { now - $0.value > Self.reservationNanoseconds }.map(\.key) : []
        guard !lacking.isEmpty || !abandoned.isEmpty else { return }
        isChecking = true
        Task {
            for log in lacking { _ = await spread(upTo: number, log.partitions) }
            for name in abandoned { _ = await decideAndSpread(.dropFamily(name)) }
            await onLoop { $0.isChecking = false }
        }
    }
}
