public import Logging
internal import NIOCore
internal import NIOFoundationCompat
internal import NIOPosix
public import ServiceLifecycle
import Synchronization
public import TallyCluster
public import TallyCore
public import TallyNATS
internal import TallyNode

#if canImport(FoundationEssentials)
    import FoundationEssentials
#else
    import Foundation
#endif

/// Keeps a node in step with its cluster until it is told to stop: the logs that it follows, and the other
/// nodes.
public final class ReplicationService: Service, @unchecked Sendable {
    // Sendable because everything that changes is touched only on the client's loop.
    private let client: NATSClient
    private let settings: ClusterSettings
    private let replica: Replica
    private let drivers: [LogDriver]
    private let logger: Logger
    private let onEnd: @Sendable () -> Void
    private let isAwake = Atomic<Bool>(false)
    private var membership: MembershipDriver!
    private let peers: PeerDriver
    private var schema: SchemaDriver!
    private let lender: CheckpointLender
    private let verifier: VerifyDriver
    private let clock: any Clock
    private let trimmer: LogTrimmer
    /// Up to where this node has had the logs trimmed.
    private var floors: [Int: UInt64] = [:]
    private var nextTrim: UInt64 = 0

    private static let tickInterval = TimeAmount.milliseconds(50)

    /// - Parameters:
    ///   - client: Started; it is closed in the end.
    ///   - checkpoints: Its checkpoint, for others to copy, and where theirs go.
    ///   - copyBytesPerSecond: How fast theirs are copied, all together.
    ///   - own: What this node tells the others of itself.
    ///   - onEnd: Called, on a thread of its own, when no more clients come and the logs are still followed.
    public init(
        _ replica: Replica, _ settings: ClusterSettings, _ client: NATSClient,
        checkpoints: CheckpointPort, copyBytesPerSecond: Int = Limits.copyBytesPerSecond,
        own: NodeRecord, clock: any Clock, logger: Logger, onEnd: @escaping @Sendable () -> Void
    ) {
        self.client = client
        self.settings = settings
        self.replica = replica
        self.onEnd = onEnd
        self.logger = logger
        self.clock = clock
        trimmer = LogTrimmer(settings: settings, client: client, logger: logger)
        let pace = CopyPace(bytesPerSecond: copyBytesPerSecond, clock: clock)
        drivers = replica.logs.map {
            LogDriver(
                $0, settings, client, checkpoints: checkpoints, pace: pace, clock: clock,
                logger: logger, onRoom: { replica.noteRoom() },
                onHalt: { _ = replica.node.requestCheckpoint() })
        }
        guard let identity = settings.logIdentity else {
            preconditionFailure("settings without an identity passed")
        }
        peers = PeerDriver(
            replica, settings, client, own: own.node, cluster: identity, clock: clock,
            logger: logger)
        lender = CheckpointLender(
            client, subject: settings.copySubject(of: own.node), port: checkpoints,
            logger: logger)
        verifier = VerifyDriver(
            replica, client: client, subject: settings.verifySubject(of: own.node),
            port: checkpoints, clock: clock, logger: logger)
        schema = SchemaDriver(
            replica, settings, client, clock: clock, logger: logger,
            wakeUp: { [unowned self] in wakeUp() })
        membership = MembershipDriver(
            settings, client, own: own, clock: clock, logger: logger,
            progress: { [unowned self] in progress },
            onContact: { replica.noteContact(now: clock.monotonicNanoseconds()) },
            onEntry: { [unowned self] in receive($0) },
            onCurrent: { [unowned self] in schema.isCurrent = true },
            onView: { [unowned self] in place($0) })
        replica.setView(membership.view)
    }

    /// There is something to send. From any thread.
    public func wakeUp() {
        guard !isAwake.exchange(true, ordering: .sequentiallyConsistent) else { return }
        client.eventLoop.execute {
            self.isAwake.store(false, ordering: .sequentiallyConsistent)
            for driver in self.drivers { driver.poll() }
            self.peers.poll()
        }
    }

    /// Has the cluster's schema changed, and tells what became of that on some thread. From any thread.
    public func changeSchema(
        _ change: SchemaChange, _ completion: @escaping @Sendable (SchemaAnswer) -> Void
    ) {
        Task { completion(await schema.change(change)) }
    }

    /// Follows the logs until it is shut down gracefully.
    public func run() async throws {
        client.eventLoop.execute {
            for driver in self.drivers { driver.startIfHeld() }
            self.membership.start()
            self.peers.start()
            self.lender.start()
            self.verifier.start()
        }
        let ticks = client.eventLoop.scheduleRepeatedTask(
            initialDelay: Self.tickInterval, delay: Self.tickInterval
        ) { _ in self.tick() }
        try? await gracefulShutdown()
        client.eventLoop.execute { self.membership.sayGoodbye() }
        await settle()
        try? await NIOThreadPool.singleton.runIfActive { self.onEnd() }
        ticks.cancel()
        client.eventLoop.execute {
            self.membership.stop()
            self.peers.stop()
            self.lender.stop()
            self.verifier.stop()
            for driver in self.drivers { driver.stop() }
        }
        try? await client.close().get()
    }

    /// Waits for what has been answered to reach the logs, for a bounded time.
    private func settle() async {
        let since = clock.monotonicNanoseconds()
        for log in replica.logs { log.isLeaving = true }
        while replica.logs.contains(where: { $0.earlyOwed > 0 }) {
            guard clock.monotonicNanoseconds() - since < Limits.writeMillisecondsMax * 1_000_000
            else {
                return logger.critical("additions that were answered have not reached their log")
            }
            try? await Task.sleep(for: .milliseconds(5))
        }
    }

    /// How far this node has come with its logs, those on their way here included.
    private var progress: (logs: [Int: NodeRecord.Progress], schemaChanges: UInt64) {
        var progress = replica.progress
        for driver in drivers where driver.isCopying {
            progress[driver.number] = NodeRecord.Progress(
                phase: .copying, epoch: 0, sequence: 0, durableSequence: 0)
        }
        let held = replica.logs.lazy.filter(\.isHeld)
        let changes = held.map { self.replica.node.schemaChangeCount(ofLog: $0.number) }.max()
        return (progress, changes ?? 0)
    }

    private func considerTrimming(_ view: ClusterView) {
        let now = clock.monotonicNanoseconds()
        guard now >= nextTrim else { return }
        nextTrim = now + UInt64(Limits.trimSeconds) * 1_000_000_000
        for log in 0..<settings.logs where view.isPrimary(log) {
            guard let floor = TrimRule.floor(log, copies: settings.copies, view),
                floor > floors[log, default: 0]
            else { continue }
            floors[log] = floor
            Task { await trimmer.trim(log, to: floor) }
        }
    }

    private func tick() {
        if !verifier.holdsCut { replica.takeCutIfWanted() }
        for driver in drivers { driver.tick() }
        membership.tick()
        peers.tick()
    }

    /// Something has been put into the cluster's bucket.
    private func receive(_ entry: KeyValueEntry) {
        guard let log = ClusterSettings.log(ofHistoryKey: entry.key) else {
            return schema.receive(entry)
        }
        guard entry.isPresent, drivers.indices.contains(log) else { return }
        do {
            let history = try JSONDecoder().decode(LogHistory.self, from: entry.value)
            replica.setHistory(history, ofLog: log)
            drivers[log].learn(history)
        } catch {
            logger.error(
                "what is said of a log cannot be read",
                metadata: ["log": "\(log)", "error": "\(error)"])
        }
    }

    /// Acts on who is to hold what.
    private func place(_ view: ClusterView) {
        replica.setView(view)
        considerTrimming(view)
        schema.tick(view)
        for driver in drivers {
            driver.mend(view)
            switch PlacementStep.due(driver.number, isHeld: driver.isHeldOrComing, view) {
            case .none: driver.stay()
            case .acquire: driver.acquire(view)
            case .release:
                // What has been answered must reach the log first.
                if driver.isReadyToLeave { driver.release() }
            }
        }
    }
}
