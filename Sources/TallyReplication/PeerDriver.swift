import Logging
import NIOCore
import TallyCluster
import TallyCore
import TallyNATS

/// Passes operations on to the nodes that have their partitions, and takes those that others pass on.
///
/// On the client's loop.
final class PeerDriver: @unchecked Sendable {
    // Sendable because it is touched only on the loop.
    private let client: NATSClient
    private let settings: ClusterSettings
    private let replica: Replica
    private let own: NodeIdentity
    private let desk: ForwardDesk
    private let clock: any Clock
    private let logger: Logger
    private let requests: RequestSubject

    private static let answerTimeout = Duration.seconds(10)

    init(
        _ replica: Replica, _ settings: ClusterSettings, _ client: NATSClient, own: NodeIdentity,
        cluster: LogIdentity, clock: any Clock, logger: Logger
    ) {
        self.client = client
        self.settings = settings
        self.replica = replica
        self.own = own
        self.clock = clock
        self.logger = logger
        requests = RequestSubject(client, settings.forwardSubject(of: own), logger)
        let eventLoop = client.eventLoop
        desk = ForwardDesk(replica, cluster: cluster) { body in eventLoop.execute { body() } }
        desk.now = { clock.monotonicNanoseconds() }
    }

    func start() {
        requests.start { [weak self] bytes, answer in self?.receive(bytes, answer) }
    }

    func stop() { requests.stop() }

    private func receive(_ bytes: ByteBuffer, _ answer: @escaping (ByteBuffer) -> Void) {
        bytes.withUnsafeReadableBytes {
            desk.receive($0, now: clock.monotonicNanoseconds()) { answer(ByteBuffer(bytes: $0)) }
        }
    }

    /// Sends what is to be passed on.
    func poll() {
        let now = clock.monotonicNanoseconds()
        for remote in replica.remotes {
            while let request = remote.poll(now: now) { send(request, remote, now) }
        }
        replica.noteRoom()
    }

    func tick() {
        let now = clock.monotonicNanoseconds()
        for remote in replica.remotes { remote.checkDeadlines(now: now) }
        poll()
    }

    private func send(_ request: RemoteLog.Request, _ remote: RemoteLog, _ now: UInt64) {
        let shard = replica.view?.shards[remote.number]
        // It may have come to serve the log itself meanwhile, and takes the operations as another node would.
        guard let target = shard?.primary ?? shard?.replicas.first else {
            return remote.answered(request.number, .notSent, now: now)
        }
        do throws(NATSNotSent) {
            try client.request(
                ByteBuffer(bytes: request.bytes), to: settings.forwardSubject(of: target),
                timeout: Self.answerTimeout
            ) { result in
                self.answered(request.number, remote, result)
            }
        } catch {
            remote.answered(request.number, .notSent, now: now)
        }
    }

    private func answered(
        _ number: UInt64, _ remote: RemoteLog, _ result: Result<NATSMessage, NATSRequestError>
    ) {
        let now = clock.monotonicNanoseconds()
        switch result {
        case .success(let message):
            message.payload.withUnsafeReadableBytes {
                remote.answered(number, .answer($0), now: now)
            }
        case .failure(.noResponders), .failure(.notSent):
            remote.answered(number, .notSent, now: now)
        case .failure(let error):
            logger.debug("no answer", metadata: ["reason": "\(error)"])
            remote.answered(number, .lost, now: now)
        }
        poll()
    }
}
