import TallyCore

/// Why data cannot be opened or written.
public enum StorageError: Error, Equatable, Sendable, CustomStringConvertible {
    /// What should be group `sequence` is not intact although it once was on disk.
    case damaged(file: String, offset: Int, sequence: UInt64, reason: String)
    /// The file was written by a version that this one does not know.
    case newerFormat(file: String, version: UInt32, supported: UInt32)
    /// The manifest or a segment is not what was written.
    case damagedFile(String, reason: String)
    /// A file that the manifest names is not there.
    case missing(file: String)
    /// The journal does not reach what the manifest reflects, or does not begin where it ends.
    case incompleteJournal(reason: String)
    /// The file does not belong to the data beside it.
    case foreign(file: String)
    /// The directory holds a part of a cluster's data, which has no journal of its own.
    case ofCluster
    /// The directory holds data that has a journal of its own.
    case notOfCluster
    /// An intact group could not be applied.
    case rejected(file: String, offset: Int, sequence: UInt64, reason: String)
    /// The disk refused.
    case disk(DiskError)

    /// One line for a log.
    public var description: String {
        switch self {
        case .damaged(let file, let offset, let sequence, let reason):
            "\(file) is damaged at byte \(offset), sequence \(sequence): \(reason)"
        case .newerFormat(let file, let version, let supported):
            "\(file) has format version \(version); this program reads up to \(supported)"
        case .foreign(let file):
            "\(file) belongs to other data"
        case .ofCluster:
            "the directory holds a part of a cluster's data, and is served with the cluster's NATS servers"
        case .notOfCluster: "the directory holds data of its own, and not a part of a cluster's"
        case .damagedFile(let file, let reason): "\(file) is damaged: \(reason)"
        case .missing(let file): "\(file) is missing, and the manifest names it"
        case .incompleteJournal(let reason): "the journal is incomplete: \(reason)"
        case .rejected(let file, let offset, let sequence, let reason):
            "\(file) cannot be applied at byte \(offset), sequence \(sequence): \(reason)"
        case .disk(let error): error.description
        }
    }
}

/// Runs `body` with the disk's errors as the storage's.
public func storage<Value: ~Copyable>(
    _ body: () throws(DiskError) -> Value
) throws(StorageError) -> Value {
    do throws(DiskError) {
        return try body()
    } catch {
        throw .disk(error)
    }
}
