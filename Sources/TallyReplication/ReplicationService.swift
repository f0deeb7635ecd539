public import Logging
internal import NIOCore
public import ServiceLifecycle
import Synchronization
public import TallyCluster
public import TallyCore
public import TallyNATS

/// Keeps a node in step with its cluster's logs until it is told to stop.
public final class ReplicationService: Service, @unchecked Sendable {
    // Sendable because the drivers are touched only on the client's loop.
    private let client: NATSClient
    private let drivers: [LogDriver]
    private let logger: Logger
    private let isAwake = Atomic<Bool>(false)

    private static let tickInterval = TimeAmount.milliseconds(50)

    /// - Parameter client: Started; it is closed in the end.
    public init(
        _ replica: Replica, _ settings: ClusterSettings, _ client: NATSClient, clock: any Clock,
        logger: Logger
    ) {
        self.client = client
        self.logger = logger
        drivers = replica.logs.map {
            LogDriver($0, settings, client, clock: clock, logger: logger)
        }
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
        client.eventLoop.execute { for driver in self.drivers { driver.start() } }
        let ticks = client.eventLoop.scheduleRepeatedTask(
            initialDelay: Self.tickInterval, delay: Self.tickInterval
        ) { _ in
            for driver in self.drivers { driver.tick() }
        }
        try? await gracefulShutdown()
        ticks.cancel()
        client.eventLoop.execute { for driver in self.drivers { driver.stop() } }
        try? await client.close().get()
    }
}
