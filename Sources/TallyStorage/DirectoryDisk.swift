internal import CTallyIntrinsics
internal import Glibc

/// A real directory, through plain system calls.
public final class DirectoryDisk: Disk {
    /// The directory's path.
    public let path: String
    private let descriptor: Int32
    private let lockDescriptor: Int32

    private static let lockName = "LOCK"

    /// Opens `path` and locks it against other processes.
    ///
    /// - Parameter isCreated: Whether to make the directory if it is not there.
    /// - Throws: `locked` when another process has it open.
    public init(path: String, isCreated: Bool = true) throws(DiskError) {
        self.path = path
        if isCreated { try Self.makeDirectory(path) }
        descriptor = Glibc.open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { throw Self.error("open directory", path) }
        lockDescriptor = openat(descriptor, Self.lockName, O_RDWR | O_CREAT | O_CLOEXEC, 0o640)
        // From here on `deinit` closes what is open.
        guard lockDescriptor >= 0 else { throw Self.error("open", "\(path)/\(Self.lockName)") }
        guard flock(lockDescriptor, LOCK_EX | LOCK_NB) == 0 else {
            throw errno == EWOULDBLOCK
                ? DiskError(.locked, operation: "lock", file: path) : Self.error("lock", path)
        }
    }

    /// Makes the directory if it is not there, and its name in its parent survive a power loss.
    private static func makeDirectory(_ path: String) throws(DiskError) {
        if mkdir(path, 0o750) != 0 {
            guard errno == EEXIST else { throw error("create directory", path) }
            return
        }
        let parent = Glibc.open(path + "/..", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard parent >= 0 else { throw error("open the parent of", path) }
        defer { close(parent) }
        guard fsync(parent) == 0 else { throw error("sync the parent of", path) }
    }

    deinit {
        if lockDescriptor >= 0 { close(lockDescriptor) }
        close(descriptor)
    }

    /// The names of all files but the lock.
    public func list() throws(DiskError) -> [String] {
        let duplicate = openat(descriptor, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard duplicate >= 0, let stream = fdopendir(duplicate) else {
            throw Self.error("list", path)
        }
        defer { closedir(stream) }
        var names: [String] = []
        errno = 0
        while let entry = readdir(stream) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
                String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            }
            if name != ".", name != "..", name != Self.lockName { names.append(name) }
        }
        guard errno == 0 else { throw Self.error("list", path) }
        return names
    }

    /// Creates an empty file that must not exist yet.
    ///
    /// Its writes go around the system's page cache where the file system and their alignment
    /// allow it: nothing written is soon read, and copying it costs more than the rest of a write.
    public func create(_ name: String) throws(DiskError) -> DescriptorFile {
        let flags = O_RDWR | O_CREAT | O_EXCL
        do throws(DiskError) {
            return try openFile(name, flags | Self.direct, "create")
        } catch {
            guard error.kind == .system(EINVAL) else { throw error }
            try? remove(name)
            return try openFile(name, flags, "create")
        }
    }

    /// O_DIRECT, which the C library's header hides.
    #if arch(arm64)
        fileprivate static let direct: Int32 = 0o200000
    #else
        fileprivate static let direct: Int32 = 0o40000
    #endif

    /// Opens an existing file for reading and writing.
    public func open(_ name: String) throws(DiskError) -> DescriptorFile {
        try openFile(name, O_RDWR, "open")
    }

    /// Reads bytes of a file if the system has them, and the file's name, in memory.
    public func readCached(
        _ name: String, at offset: Int, into buffer: UnsafeMutableRawBufferPointer
    ) -> Bool {
        tally_read_cached(descriptor, name, Int64(offset), buffer.baseAddress, buffer.count)
    }

    /// Gives a file another name, replacing what has it.
    public func rename(_ name: String, to newName: String) throws(DiskError) {
        guard renameat(descriptor, name, descriptor, newName) == 0 else {
            throw Self.error("rename", name)
        }
    }

    /// Removes a file's name.
    public func remove(_ name: String) throws(DiskError) {
        guard unlinkat(descriptor, name, 0) == 0 else { throw Self.error("remove", name) }
    }

    /// Gives a file the same name in another directory, or copies it to another file system.
    public func link(_ name: String, to target: DirectoryDisk) throws(DiskError) {
        if linkat(descriptor, name, target.descriptor, name, 0) == 0 { return }
        guard [EXDEV, EPERM, EMLINK, EOPNOTSUPP].contains(errno) else {
            throw Self.error("link", name)
        }
        let source = try open(name)
        let copy = try target.create(name)
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 4096)
        defer { buffer.deallocate() }
        var offset = 0
        while true {
            let count = try source.read(at: offset, into: buffer)
            if count == 0 { break }
            try copy.write(UnsafeRawBufferPointer(rebasing: buffer[..<count]), at: offset)
            offset += count
        }
        try copy.sync()
    }

    /// Makes all names as they are now survive a power loss.
    public func syncDirectory() throws(DiskError) {
        guard fsync(descriptor) == 0 else { throw Self.error("sync directory", path) }
    }

    private func openFile(
        _ name: String, _ flags: Int32, _ operation: String
    ) throws(DiskError) -> DescriptorFile {
        let file = openat(descriptor, name, flags | O_CLOEXEC, 0o640)
        guard file >= 0 else { throw Self.error(operation, name) }
        return DescriptorFile(file, name: name)
    }

    fileprivate static func error(_ operation: String, _ file: String) -> DiskError {
        let kind: DiskError.Kind =
            switch errno {
            case ENOSPC, EDQUOT: .noSpace
            case ENOENT: .notFound
            case EEXIST: .exists
            default: .system(errno)
            }
        return DiskError(kind, operation: operation, file: file)
    }
}

/// A file of a `DirectoryDisk`.
public final class DescriptorFile: DiskFile {
    private let descriptor: Int32
    private let name: String

    fileprivate init(_ descriptor: Int32, name: String) {
        self.descriptor = descriptor
        self.name = name
    }

    deinit { close(descriptor) }

    /// Size, bytes.
    public func size() throws(DiskError) -> Int {
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw error("measure") }
        return Int(status.st_size)
    }

    /// Reads up to `buffer.count` bytes from `offset` on.
    public func read(
        at offset: Int, into buffer: UnsafeMutableRawBufferPointer
    ) throws(DiskError) -> Int {
        var done = 0
        while done < buffer.count, let base = buffer.baseAddress {
            let count = pread(descriptor, base + done, buffer.count - done, offset + done)
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw error("read") }
            if count == 0 { break }
            done += count
        }
        return done
    }

    /// Writes all `bytes` at `offset`.
    public func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws(DiskError) {
        var done = 0
        while done < bytes.count, let base = bytes.baseAddress {
            let count = pwrite(descriptor, base + done, bytes.count - done, offset + done)
            if count < 0, errno == EINTR || errno == EINVAL && useCache() { continue }
            guard count > 0 else { throw error("write") }
            done += count
        }
    }

    /// Reserves space for the first `byteCount` bytes.
    public func allocate(_ byteCount: Int) throws(DiskError) {
        while true {
            let result = posix_fallocate(descriptor, 0, byteCount)
            if result == EINTR { continue }
            guard result == 0 else {
                errno = result
                throw error("reserve space for")
            }
            return
        }
    }

    /// Cuts or extends the file to `byteCount` bytes.
    public func truncate(_ byteCount: Int) throws(DiskError) {
        guard ftruncate(descriptor, byteCount) == 0 else { throw error("truncate") }
    }

    /// Makes what has been written survive a power loss.
    public func sync() throws(DiskError) {
        guard fdatasync(descriptor) == 0 else { throw error("sync") }
    }

    /// Stops going around the page cache, after a write that is not aligned for it.
    ///
    /// - Returns: false if that was the case already.
    private func useCache() -> Bool {
        let flags = fcntl(descriptor, F_GETFL)
        guard flags >= 0, flags & DirectoryDisk.direct != 0 else { return false }
        return fcntl(descriptor, F_SETFL, flags & ~DirectoryDisk.direct) == 0
    }

    private func error(_ operation: String) -> DiskError { DirectoryDisk.error(operation, name) }
}

/// The system's text for an error number.
func systemErrorText(_ number: Int32) -> String {
    var text = [CChar](repeating: 0, count: 256)
    guard strerror_r(number, &text, text.count) == 0 else { return "error \(number)" }
    return String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
}
