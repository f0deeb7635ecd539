import Logging
import NIOCore
import NIOFoundationCompat
import TallyCluster
import TallyCore
import TallyNATS

#if canImport(FoundationEssentials)
    import FoundationEssentials
#else
    import Foundation
#endif

/// Up to where a log has been trimmed, as it is kept in the cluster's bucket.
struct LogFloor: Codable, Equatable {
    /// The last message that nobody needs.
    var sequence: UInt64
}

/// Removes from the streams what all who hold a log have in checkpoints.
///
/// The floor is raised by compare-and-set before anything is removed, so that two nodes that both believe it is
/// their turn never lower it.
struct LogTrimmer: Sendable {
    let settings: ClusterSettings
    let client: NATSClient
    let logger: Logger

    /// Raises a log's floor, and removes what is below.
    func trim(_ log: Int, to sequence: UInt64) async {
        do {
            let bucket = settings.bucket(client)
            let key = ClusterSettings.floorKey(ofLog: log)
            let last = try await bucket.last(key)
            if let last, last.isPresent {
                let floor = try JSONDecoder().decode(LogFloor.self, from: last.value)
                guard sequence > floor.sequence else { return }
            }
            let bytes = try JSONEncoder().encodeAsByteBuffer(
                LogFloor(sequence: sequence), allocator: .init())
            if let last {
                _ = try await bucket.update(key, bytes, revision: last.revision)
            } else {
                _ = try await bucket.create(key, bytes)
            }
            // The message at the floor stays, by which those who come back recognise the log.
            let removed = try await bucket.jetStream.purgeStream(
                settings.stream(ofLog: log), below: sequence)
            logger.info(
                "the log has been trimmed",
                metadata: [
                    "log": "\(log)", "sequence": "\(sequence)", "messages": "\(removed)",
                ])
        } catch {
            // Another node was faster, or there is no leader; there is a next time.
            logger.debug("not trimmed", metadata: ["log": "\(log)", "reason": "\(error)"])
        }
    }
}
