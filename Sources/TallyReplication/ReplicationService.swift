public import Logging
internal import NIOCore
internal import NIOPosix
public import ServiceLifecycle
import Synchronization
public import TallyCluster
public import TallyCore
public import TallyNATS

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

    private static let tickInterval = TimeAmount.milliseconds(50)

    /// - Parameters:
    ///   - client: Started; it is closed in the end.
    ///   - own: What this node tells the others of itself.
    ///   - onEnd: Called, on a thread of its own, when no more clients come and the logs are still followed.
    public init(
        _ replica: Replica, _ settings: ClusterSettings, _ client: NATSClient, own: NodeRecord,
        clock: any Clock, logger: Logger, onEnd: @escaping @Sendable () -> Void
    ) {
        self.client = client
        self.settings = settings
        self.replica = replica
        self.onEnd = onEnd
        self.logger = logger
        drivers = replica.logs.map {
            LogDriver($0, settings, client, clock: clock, logger: logger)
        }
        membership = MembershipDriver(
            settings, client, own: own, clock: clock, logger: logger,
            progress: { replica.progress }, onView: { [unowned self] in place($0) })
    }

    /// There is something to send. From any thread.
    public func wakeUp() {
        guard !isAwake.exchange(true, ordering: .sequentiallyConsistent) else { return }
        client.eventLoop.execute {
            self.isAwake.store(false, ordering: .sequentiallyConsistent)
            for driver in self.drivers { driver.poll() }
        }
    }

    /// Follows the logs until it is shut down gracefully.
    public func run() async throws {
        client.eventLoop.execute {
            for driver in self.drivers { driver.startIfHeld() }
            self.membership.start()
        }
        let ticks = client.eventLoop.scheduleRepeatedTask(
            initialDelay: Self.tickInterval, delay: Self.tickInterval
        ) { _ in self.tick() }
        try? await gracefulShutdown()
        client.eventLoop.execute { self.membership.sayGoodbye() }
        try? await NIOThreadPool.singleton.runIfActive { self.onEnd() }
        ticks.cancel()
        client.eventLoop.execute {
            self.membership.stop()
            for driver in self.drivers { driver.stop() }
        }
        try? await client.close().get()
    }

    private func tick() {
        replica.takeCutIfWanted()
        for driver in drivers { driver.tick() }
        membership.tick()
    }

    /// Acts on who is to hold what.
    private func place(_ view: ClusterView) {
        replica.setView(view)
        for driver in drivers {
            switch PlacementStep.due(driver.number, isHeld: driver.isHeldOrComing, view) {
            case .none: continue
            case .acquire: driver.acquire(view)
            case .release: driver.release()
            }
        }
    }
}
