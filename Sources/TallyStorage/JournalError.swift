import TallyCore

/// Why a journal cannot be opened or written.
public enum JournalError: Error, Equatable, Sendable, CustomStringConvertible {
    /// What should be group `sequence` is not intact although it once was on disk.
    case damaged(file: String, offset: Int, sequence: UInt64, reason: String)
    /// The file was written by a version that this one does not know.
    case newerFormat(file: String, version: UInt32, supported: UInt32)
    /// The file does not belong to the journal beside it.
    case foreign(file: String)
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
            "\(file) belongs to another journal"
        case .rejected(let file, let offset, let sequence, let reason):
            "\(file) cannot be applied at byte \(offset), sequence \(sequence): \(reason)"
        case .disk(let error): error.description
        }
    }
}
