import Logging
import Synchronization
import TallyCore
import TallyNode
import TallyServer
import TallyStorage

/// The threads that work for a node while it serves: checkpoints, residency, expiry.
final class BackgroundThreads: Sendable {
    private let makeCheckpoints: @Sendable (RESPServer) -> CheckpointThread<DirectoryDisk>
    private let checkpoints = Locked<CheckpointThread<DirectoryDisk>?>(nil)
    private let residency: ResidencyThread
    private let expiry: ExpiryThread
    private let isStopped = Atomic<Bool>(false)

    init(
        node: Node, _ checkpointer: Checkpointer<DirectoryDisk>, _ residency: Residency,
        _ expiry: Expiry, clock: any Clock, configuration: CheckpointConfiguration, logger: Logger
    ) {
        makeCheckpoints = { server in
            CheckpointThread(
                checkpointer, node: node, clock: clock, configuration: configuration,
                openDirectory: { (path) throws(DiskError) in try DirectoryDisk(path: path) },
                onEvent: { event in
                    Self.report(event, logger)
                    if case .finished(_, _, let bytesWritten, let milliseconds) = event {
                        server.checkpointFinished(
                            milliseconds: milliseconds, byteCount: bytesWritten)
                    }
                })
        }
        self.residency = ResidencyThread(
            residency, node: node, clock: clock, onDamage: { Self.report($0, logger) })
        self.expiry = ExpiryThread(expiry, clock: clock)
    }

    /// - Parameter server: Is told of checkpoints.
    func start(_ server: RESPServer) {
        let thread = makeCheckpoints(server)
        checkpoints.withLock { $0 = thread }
        thread.start()
        residency.start()
        expiry.start()
    }

    /// Ends them after a last checkpoint; what the journal, or the logs, are driven by must still run.
    func stop() {
        guard !isStopped.exchange(true, ordering: .sequentiallyConsistent) else { return }
        expiry.stop()
        residency.stop()
        checkpoints.withLock { $0.take() }?.stop()
    }

    private static func report(_ event: CheckpointEvent, _ logger: Logger) {
        switch event {
        case .finished(let sequence, let segmentsWritten, let bytesWritten, let milliseconds):
            logger.info(
                "checkpoint",
                metadata: [
                    "group": "\(sequence)", "segments_written": "\(segmentsWritten)",
                    "bytes_written": "\(bytesWritten)", "milliseconds": "\(milliseconds)",
                ])
        case .failed(let error):
            logger.error(
                "no checkpoint could be made; the journal keeps everything, and grows",
                metadata: ["error": "\(error)"])
        case .damaged(let file):
            logger.error(
                "a segment file is damaged; the next checkpoint writes it anew if it is in memory",
                metadata: ["damage": "\(file)"])
        }
    }

    static func report(_ damage: String, _ logger: Logger) {
        logger.error(
            "a segment file is damaged; keys of its intact blocks are served, others are refused",
            metadata: ["damage": "\(damage)"])
    }
}
