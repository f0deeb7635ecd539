/// The port through which all files are reached: one flat directory.
///
/// Writes may be cached and reordered until `sync`; names may be lost until `syncDirectory`. A
/// simulated disk makes the most of both.
public protocol Disk: Sendable {
    /// A file of this disk.
    associatedtype File: DiskFile

    /// The names of all files, in no order.
    func list() throws(DiskError) -> [String]
    /// Creates an empty file that must not exist yet.
    func create(_ name: String) throws(DiskError) -> File
    /// Opens an existing file for reading and writing.
    func open(_ name: String) throws(DiskError) -> File
    /// Reads `buffer.count` bytes of an existing file from `offset` on if the system has them in memory, so
    /// that nobody waits for the device.
    ///
    /// - Returns: whether they have been read; else nothing is known of what is in the buffer.
    func readCached(_ name: String, at offset: Int, into buffer: UnsafeMutableRawBufferPointer)
        -> Bool
    /// Gives a file another name, replacing what has it.
    func rename(_ name: String, to newName: String) throws(DiskError)
    /// Removes a file's name.
    func remove(_ name: String) throws(DiskError)
    /// Gives a file that no longer changes the same name in another directory, so that both share it,
    /// or copies it where that cannot be.
    func link(_ name: String, to target: Self) throws(DiskError)
    /// Makes all names as they are now survive a power loss.
    func syncDirectory() throws(DiskError)
}

/// An open file.
///
/// Not for concurrent use by several threads. Closed when it is released.
public protocol DiskFile: AnyObject, Sendable {
    /// Size, bytes.
    func size() throws(DiskError) -> Int
    /// Reads up to `buffer.count` bytes from `offset` on.
    ///
    /// - Returns: how many bytes there were; fewer than asked for only at the end of the file.
    func read(at offset: Int, into buffer: UnsafeMutableRawBufferPointer) throws(DiskError) -> Int
    /// Writes all `bytes` at `offset`.
    func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws(DiskError)
    /// Reserves space for the first `byteCount` bytes, reading as zeros, so that writing them can
    /// no longer fail for lack of it.
    ///
    /// - Throws: `noSpace`; the file may then be partly reserved.
    func allocate(_ byteCount: Int) throws(DiskError)
    /// Cuts or extends the file to `byteCount` bytes.
    func truncate(_ byteCount: Int) throws(DiskError)
    /// Makes what has been written survive a power loss.
    ///
    /// After it has thrown nothing is known about unsynced writes, and the file must not be synced
    /// again: the system may have dropped them and would then report success.
    func sync() throws(DiskError)
}

/// Why the disk did not do what it was asked.
public struct DiskError: Error, Equatable, Sendable, CustomStringConvertible {
    /// Kinds that callers tell apart.
    public enum Kind: Equatable, Sendable {
        /// No space is left on the device or in the quota.
        case noSpace
        /// There is no such file.
        case notFound
        /// There is such a file already.
        case exists
        /// Another process holds the directory.
        case locked
        /// The system's error number.
        case system(Int32)
    }

    /// What happened.
    public let kind: Kind
    /// What was tried, as a verb: `write`.
    public let operation: String
    /// On which file.
    public let file: String

    /// An error of `operation` on `file`.
    public init(_ kind: Kind, operation: String, file: String) {
        self.kind = kind
        self.operation = operation
        self.file = file
    }

    /// One line for a log.
    public var description: String {
        let reason =
            switch kind {
            case .noSpace: "no space left"
            case .notFound: "no such file"
            case .exists: "exists already"
            case .locked: "in use by another process"
            case .system(let number): systemErrorText(number)
            }
        return "cannot \(operation) \(file): \(reason)"
    }
}
