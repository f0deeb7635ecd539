import Logging
import NIOCore
import NIOFoundationCompat
import NIOPosix
import TallyCluster
import TallyCore
import TallyNATS
public import TallyNode
public import TallyStorage

#if canImport(FoundationEssentials)
    import FoundationEssentials
#else
    import Foundation
#endif

/// What a node asks another one for its checkpoint.
enum CopyRequest: Codable {
    /// To lend the files of a log's partitions.
    case lend(log: Int)
    /// A piece of a lent file.
    case read(loan: UInt64, file: UInt64, offset: Int, byteCount: Int)
    /// Nothing more.
    case giveBack(loan: UInt64)
}

/// Answers of a lender: a byte, and what follows it.
enum CopyAnswer: UInt8 {
    /// The loan's number, u64, and a manifest; or a piece of a file.
    case granted = 0
    /// Why not, as text.
    case refused = 1
}

/// A node's checkpoint, as far as sending and taking in its files goes.
public struct CheckpointPort: Sendable {
    let lend: @Sendable (Int) -> (loan: UInt64, manifest: Manifest)?
    let read: @Sendable (UInt64, UInt64, Int, Int) throws(DiskError) -> [UInt8]?
    let giveBack: @Sendable (UInt64) -> Void
    let contentSum: @Sendable (Int) throws -> (state: LogState, sum: ContentSum)?
    let discard: @Sendable ([UInt64]) -> Void
    let take:
        @Sendable (
            _ log: Int, _ manifest: Manifest, _ lender: String, _ copied: CopiedFiles,
            _ pieces: (UInt64, Int, Int) async throws -> ByteBuffer
        ) async throws -> LandedLog

    /// The checkpoint that `copies` lends and takes in.
    public init<D: Disk>(_ copies: CheckpointCopies<D>) {
        lend = { copies.lend(log: $0) }
        read = { (loan, file, offset, byteCount) throws(DiskError) in
            try copies.read(loan: loan, file: file, offset: offset, byteCount: byteCount)
        }
        giveBack = { copies.giveBack(loan: $0) }
        contentSum = { try copies.contentSum(ofLog: $0) }
        discard = { copies.discard($0) }
        take = { try await CheckpointTaking(copies).take(log: $0, $1, from: $2, $3, $4) }
    }
}

/// Lends a node's checkpoint to others that are to hold its logs.
///
/// On the client's loop; reads files elsewhere.
final class CheckpointLender: @unchecked Sendable {
    // Sendable because it is touched only on the loop.
    private let eventLoop: any EventLoop
    private let requests: RequestSubject
    private let port: CheckpointPort

    init(_ client: NATSClient, subject: String, port: CheckpointPort, logger: Logger) {
        eventLoop = client.eventLoop
        requests = RequestSubject(client, subject, logger)
        self.port = port
    }

    func start() {
        requests.start { [weak self] bytes, answer in self?.receive(bytes, answer) }
    }

    func stop() { requests.stop() }

    private func receive(_ bytes: ByteBuffer, _ answer: @escaping (ByteBuffer) -> Void) {
        guard let request = try? JSONDecoder().decode(CopyRequest.self, from: bytes) else {
            return
        }
        let port = port
        NIOThreadPool.singleton.runIfActive(eventLoop: eventLoop) {
            Self.answer(request, port)
        }.assumeIsolated().whenSuccess { answer($0) }
    }

    private static func answer(_ request: CopyRequest, _ port: CheckpointPort) -> ByteBuffer {
        switch request {
        case .lend(let log):
            guard let (loan, manifest) = port.lend(log) else {
                return refusal("there is no checkpoint of log \(log)")
            }
            var answer = ByteBuffer(bytes: [CopyAnswer.granted.rawValue])
            answer.writeInteger(loan)
            answer.writeBytes(manifest.bytes)
            return answer
        case .read(let loan, let file, let offset, let byteCount):
            do throws(DiskError) {
                guard offset >= 0, byteCount > 0,
                    let bytes = try port.read(loan, file, offset, byteCount)
                else { return refusal("the loan has ended") }
                var answer = ByteBuffer(bytes: [CopyAnswer.granted.rawValue])
                answer.writeBytes(bytes)
                return answer
            } catch {
                return refusal("\(error)")
            }
        case .giveBack(let loan):
            port.giveBack(loan)
            return ByteBuffer(bytes: [CopyAnswer.granted.rawValue])
        }
    }

    private static func refusal(_ reason: String) -> ByteBuffer {
        ByteBuffer(bytes: [CopyAnswer.refused.rawValue] + Array(reason.utf8))
    }
}
