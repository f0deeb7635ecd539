import TallyCore

/// Copies of a data directory that share its files as far as those never change.
///
/// Segments, imports and finished journal files get another name in the target; the manifest and the
/// journal file that is being written are copied.
public enum BackupFiles {
    /// Marks a directory whose history goes on in a new epoch: it was restored from a backup, and the
    /// original may have gone on, too.
    static let restoredName = "restored"

    /// Why a backup was not made.
    public enum Failure: Error, Equatable, Sendable, CustomStringConvertible {
        /// The target holds files already.
        case notEmpty
        /// The source is no data directory.
        case noData
        /// The disk refused.
        case disk(DiskError)

        /// One line for people.
        public var description: String {
            switch self {
            case .notEmpty: "the target directory is not empty"
            case .noData: "there is no data in the source directory"
            case .disk(let error): error.description
            }
        }
    }

    /// Makes `target`, an empty directory, a backup of `source`, whose server may go on writing the
    /// journal; nothing else may change meanwhile.
    ///
    /// - Parameters:
    ///   - end: Where the journal ends that the backup is to hold; nil if nobody writes it.
    ///   - isRestored: Whether servers are to begin a new epoch on the target.
    public static func copy<D: Disk>(
        _ source: D, to target: D, end: JournalEnd?, isRestored: Bool
    ) throws(Failure) {
        let names = try run { () throws(DiskError) in try source.list() }
        let numbers = names.compactMap(JournalFormat.fileNumber).sorted()
        // A node of a cluster has no journal: what is not in its checkpoint is in the logs.
        guard !numbers.isEmpty || names.contains(CheckpointFiles.manifestName) else {
            throw .noData
        }
        guard try run({ () throws(DiskError) in try target.list() }).isEmpty else {
            throw .notEmpty
        }
        try run { () throws(DiskError) in
            for number in numbers where number < end?.number ?? .max {
                try link(JournalFormat.fileName(number), source, target)
            }
            if let end, end.offset > 0 {
                let name = JournalFormat.fileName(end.number)
                try copyFile(name, source, target, byteCount: end.offset)
            }
            let manifest = CheckpointFiles.manifestName
            if names.contains(manifest) { try copyFile(manifest, source, target) }
            for name in names
            where CheckpointFiles.segmentNumber(name) != nil || ImportFiles.parse(name) != nil {
                try link(name, source, target)
            }
            if isRestored, !numbers.isEmpty { try target.create(restoredName).sync() }
            try target.syncDirectory()
        }
    }

    private static func run<Value>(
        _ body: () throws(DiskError) -> Value
    ) throws(Failure) -> Value {
        do throws(DiskError) {
            return try body()
        } catch {
            throw .disk(error)
        }
    }

    /// Gives a file another name, if it is still there: what goes meanwhile was not needed.
    private static func link<D: Disk>(
        _ name: String, _ source: D, _ target: D
    ) throws(DiskError) {
        do throws(DiskError) {
            try source.link(name, to: target)
        } catch {
            if error.kind != .notFound { throw error }
        }
    }

    /// Copies a file's first bytes, all of them if nothing else is said.
    private static func copyFile<D: Disk>(
        _ name: String, _ source: D, _ target: D, byteCount: Int? = nil
    ) throws(DiskError) {
        let original = try source.open(name)
        let size = try original.size()
        let byteCount = min(byteCount ?? size, size)
        let buffer = UnsafeMutableRawBufferPointer.allocate(
            byteCount: 1 << 20, alignment: JournalFormat.memoryAlignment)
        defer { buffer.deallocate() }
        let copy = try target.create(name)
        var offset = 0
        while offset < byteCount {
            let wanted = min(buffer.count, byteCount - offset)
            let count = try original.read(
                at: offset, into: UnsafeMutableRawBufferPointer(rebasing: buffer[..<wanted]))
            if count == 0 { break }
            try copy.write(UnsafeRawBufferPointer(rebasing: buffer[..<count]), at: offset)
            offset += count
        }
        try copy.sync()
    }

    /// Takes note that a restored directory's new epoch has begun.
    static func removeMark<D: Disk>(on disk: D) throws(DiskError) {
        guard try disk.list().contains(restoredName) else { return }
        try disk.remove(restoredName)
        try disk.syncDirectory()
    }
}
