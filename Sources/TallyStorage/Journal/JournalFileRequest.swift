/// A journal file that is to be created; can be carried out on another thread than the writer's.
public struct JournalFileRequest: Sendable {
    let name: String
    let header: JournalFileHeader
    let fileBytes: Int
    let isZeroed: Bool

    private static let zeroBytes = 256 << 10

    /// Creates the file, reserves its space, and makes both survive a power loss.
    ///
    /// - Throws: `noSpace`, and then nothing is left behind, or another error.
    public func create<D: Disk>(on disk: D) throws(DiskError) -> D.File {
        let file = try disk.create(name)
        do throws(DiskError) {
            try fill(file)
        } catch {
            if error.kind == .noSpace { try? disk.remove(name) }
            throw error
        }
        try disk.syncDirectory()
        return file
    }

    private func fill(_ file: some DiskFile) throws(DiskError) {
        try file.allocate(fileBytes)
        let bytes = UnsafeMutableRawBufferPointer.allocate(
            byteCount: Self.zeroBytes, alignment: JournalFormat.memoryAlignment)
        defer { bytes.deallocate() }
        bytes.initializeMemory(as: UInt8.self, repeating: 0)
        var offset = JournalFormat.sectorBytes
        while isZeroed, offset < fileBytes {
            let count = min(Self.zeroBytes, fileBytes - offset)
            try file.write(UnsafeRawBufferPointer(rebasing: bytes[..<count]), at: offset)
            offset += count
        }
        if let base = bytes.baseAddress { header.write(to: base) }
        try file.write(
            UnsafeRawBufferPointer(rebasing: bytes[..<JournalFormat.sectorBytes]), at: 0)
        try file.sync()
    }
}
