import TallyCluster
import TallyCore
import TallyStorage

/// Files of another node's checkpoint that have been copied and are not part of this node's yet: an attempt that fails
/// leaves them to the next one.
final class CopiedFiles: Sendable {
    /// Where a file comes from. A node gives no number twice.
    struct Source: Hashable, Sendable {
        let lender: String
        let segment: Manifest.Segment
        let partition: Int
        let family: UInt32
    }

    /// As they are called here.
    private let files = Locked<[Source: Manifest.Segment]>([:])

    /// A file that has been copied whole, nil if it has not.
    func find(_ source: Source) -> Manifest.Segment? { files.withLock { $0[source] } }

    /// A file has been copied whole, and checked.
    func add(_ source: Source, _ segment: Manifest.Segment) {
        files.withLock { $0[source] = segment }
    }

    /// How many there are.
    var count: Int { files.withLock { $0.count } }

    /// Forgets those that are not to be kept.
    ///
    /// - Returns: their numbers.
    func removeAll(but isKept: (Source) -> Bool) -> [UInt64] {
        files.withLock { files in
            let removed = files.filter { !isKept($0.key) }
            for source in removed.keys { files[source] = nil }
            return removed.values.map(\.number)
        }
    }

    /// All are part of this node's checkpoint from now on.
    func giveUp() { files.withLock { $0.removeAll() } }
}
