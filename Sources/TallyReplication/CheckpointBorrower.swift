import NIOCore
import NIOFoundationCompat
import NIOPosix
import TallyCluster
import TallyCore
import TallyNATS
import TallyNode
import TallyStorage

#if canImport(FoundationEssentials)
    import FoundationEssentials
#else
    import Foundation
#endif

/// Why a log's partitions could not be copied.
enum CopyError: Error, CustomStringConvertible {
    case refused(String)
    case unreadable

    var description: String {
        switch self {
        case .refused(let reason): reason
        case .unreadable: "the answer cannot be understood"
        }
    }
}

/// How fast a node copies.
final class CopyPace: Sendable {
    private let pace: Locked<TransferPace>
    private let clock: any Clock

    init(bytesPerSecond: Int, clock: any Clock) {
        pace = Locked(TransferPace(bytesPerSecond: bytesPerSecond))
        self.clock = clock
    }

    /// Waits as long as so many bytes are to take.
    func wait(after byteCount: Int) async {
        let now = clock.monotonicNanoseconds()
        let delay = pace.withLock { $0.delay(after: byteCount, now: now) }
        if delay > 0 { try? await Task.sleep(for: .nanoseconds(Int64(clamping: delay))) }
    }
}

/// Copies a log's partitions from another node's checkpoint.
struct CheckpointBorrower: Sendable {
    let client: NATSClient
    /// The other node's name, and where it is asked.
    let lender: String
    let subject: String
    /// What attempts that have failed have copied.
    let copied: CopiedFiles
    let port: CheckpointPort
    /// Of all copies of this node together.
    let pace: CopyPace

    private static let timeout = Duration.seconds(10)
    /// As long as the other node waits, too.
    private static let patience = Duration.seconds(Int64(Limits.copySilenceSeconds))
    private static let retryInterval = Duration.milliseconds(500)

    /// Copies all files and makes them part of this node's checkpoint.
    ///
    /// - Parameter epoch: The log's; a checkpoint of another one is of no use.
    func copy(log: Int, epoch: UInt32) async throws -> LandedLog {
        var lent = try await ask(.lend(log: log))
        guard let loan = lent.readInteger(as: UInt64.self) else { throw CopyError.unreadable }
        let manifest = try lent.withUnsafeReadableBytes {
            try Manifest($0, file: "the other node's manifest")
        }
        do {
            guard manifest.logs[log]?.state.epoch == epoch else {
                throw CopyError.refused("its checkpoint is of another epoch of the log")
            }
            let landed = try await port.take(log, manifest, lender, copied) {
                file, offset, byteCount in
                let piece = try await ask(
                    .read(loan: loan, file: file, offset: offset, byteCount: byteCount))
                await pace.wait(after: piece.readableBytes)
                return piece
            }
            _ = try? await ask(.giveBack(loan: loan))
            return landed
        } catch {
            _ = try? await ask(.giveBack(loan: loan))
            throw error
        }
    }

    /// Asks, and again if nothing comes back.
    private func ask(_ request: CopyRequest) async throws -> ByteBuffer {
        let bytes = try JSONEncoder().encodeAsByteBuffer(request, allocator: .init())
        let deadline = ContinuousClock.now + Self.patience
        while true {
            do {
                let message = try await client.request(
                    bytes, subject: subject, timeout: Self.timeout)
                var answer = message.payload
                guard let first = answer.readInteger(as: UInt8.self),
                    let kind = CopyAnswer(rawValue: first)
                else { throw CopyError.unreadable }
                if kind == .refused { throw CopyError.refused(String(buffer: answer)) }
                return answer
            } catch let error as NATSRequestError {
                guard ContinuousClock.now < deadline else { throw error }
                try await Task.sleep(for: Self.retryInterval)
            }
        }
    }
}

/// Takes another node's files in.
struct CheckpointTaking<D: Disk>: Sendable {
    private let copies: CheckpointCopies<D>

    init(_ copies: CheckpointCopies<D>) { self.copies = copies }

    /// - Parameters:
    ///   - lender: The other node's name.
    ///   - copied: What need not be fetched; what has been fetched stays there if something fails.
    ///   - piece: Fetches a piece of the other node's file: its number, where, and how long.
    func take(
        log: Int, _ manifest: Manifest, from lender: String, _ copied: CopiedFiles,
        _ piece: (UInt64, Int, Int) async throws -> ByteBuffer
    ) async throws -> LandedLog {
        do {
            let here = try await takeFiles(manifest, from: lender, copied, piece)
            let landed = try await withCheckedThrowingContinuation { continuation in
                copies.add(log: log, here) { continuation.resume(with: $0) }
            }
            copied.giveUp()
            return landed
        } catch {
            // What has come is as good as before unless something is wrong with this node's disk, or with what there is.
            if !(error is NATSRequestError || error is CopyError) {
                await discard(copied.removeAll { _ in false })
            }
            throw error
        }
    }

    private func sources(_ manifest: Manifest, _ lender: String) -> Set<CopiedFiles.Source> {
        var sources: Set<CopiedFiles.Source> = []
        for (partition, tables) in manifest.partitions.enumerated() {
            for table in tables {
                for segment in table.segments {
                    sources.insert(
                        CopiedFiles.Source(
                            lender: lender, segment: segment, partition: partition,
                            family: table.family))
                }
            }
        }
        return sources
    }

    /// - Returns: the manifest with the numbers that the files have here.
    private func takeFiles(
        _ manifest: Manifest, from lender: String, _ copied: CopiedFiles,
        _ piece: (UInt64, Int, Int) async throws -> ByteBuffer
    ) async throws -> Manifest {
        // What others have brought, or was of an older checkpoint.
        let wanted = sources(manifest, lender)
        await discard(copied.removeAll { wanted.contains($0) })
        var here = manifest
        for (partition, tables) in manifest.partitions.enumerated() {
            var named: [Manifest.Table] = []
            for table in tables {
                var segments: [Manifest.Segment] = []
                for segment in table.segments {
                    let source = CopiedFiles.Source(
                        lender: lender, segment: segment, partition: partition,
                        family: table.family)
                    let taken =
                        if let known = copied.find(source) { known } else {
                            try await take(source, of: manifest, piece)
                        }
                    copied.add(source, taken)
                    segments.append(taken)
                }
                named.append(Manifest.Table(family: table.family, segments: segments))
            }
            here.partitions[partition] = named
        }
        return here
    }

    private func discard(_ numbers: [UInt64]) async {
        _ = try? await onDisk { copies.discard(numbers) }
    }

    private func take(
        _ source: CopiedFiles.Source, of manifest: Manifest,
        _ piece: (UInt64, Int, Int) async throws -> ByteBuffer
    ) async throws -> Manifest.Segment {
        let incoming = try await onDisk { try copies.makeFile() }
        do {
            try await fetch(source.segment, into: incoming, piece)
            return try await onDisk {
                try copies.finish(
                    incoming, source.segment, of: manifest, partition: source.partition,
                    family: source.family)
            }
        } catch {
            await discard([incoming.number])
            throw error
        }
    }

    private func fetch(
        _ segment: Manifest.Segment, into incoming: CheckpointCopies<D>.Incoming,
        _ piece: (UInt64, Int, Int) async throws -> ByteBuffer
    ) async throws {
        var offset = 0
        let byteCount = Int(segment.byteCount)
        while offset < byteCount {
            let bytes = try await piece(
                segment.number, offset, min(Limits.copyPieceBytes, byteCount - offset))
            guard bytes.readableBytes > 0 else {
                throw CopyError.refused("a file is shorter than the manifest says")
            }
            let at = offset
            try await onDisk {
                try bytes.withUnsafeReadableBytes { try incoming.write($0, at: at) }
            }
            offset += bytes.readableBytes
        }
    }

    private func onDisk<Value: Sendable>(
        _ body: @escaping @Sendable () throws -> Value
    ) async throws -> Value {
        try await NIOThreadPool.singleton.runIfActive(body)
    }
}
