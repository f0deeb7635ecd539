import TallyCore

/// The files of a checkpoint: segments, and the manifest that names them.
///
/// A segment file never changes. The manifest is replaced as a whole, after everything that it names
/// is on disk.
public enum CheckpointFiles {
    static let manifestName = "manifest"
    static let temporaryName = "manifest.tmp"

    /// The name of the segment file of this number.
    public static func segmentName(_ number: UInt64) -> String {
        let digits = String(number)
        return "segment-" + String(repeating: "0", count: max(0, 10 - digits.count)) + digits
    }

    /// The number in a file's name, nil for the name of another file.
    static func segmentNumber(_ name: String) -> UInt64? {
        guard name.hasPrefix("segment-"), let number = UInt64(name.dropFirst(8)),
            segmentName(number) == name
        else { return nil }
        return number
    }

    // MARK: Writing

    /// Writes a segment under its number and syncs it; the name survives a power loss after
    /// `syncDirectory`.
    ///
    /// - Throws: `DiskError`; what was written is removed as far as that works.
    public static func writeSegment<D: Disk>(
        _ bytes: UnsafeRawBufferPointer, number: UInt64, on disk: D
    ) throws(DiskError) {
        let name = segmentName(number)
        let file = try disk.create(name)
        do throws(DiskError) {
            try file.write(bytes, at: 0)
            try file.sync()
        } catch {
            try? disk.remove(name)
            throw error
        }
    }

    /// Replaces the manifest; afterwards it survives a power loss.
    ///
    /// - Throws: `DiskError`; then either the old or the new manifest counts.
    public static func replaceManifest<D: Disk>(
        _ manifest: Manifest, on disk: D
    ) throws(DiskError) {
        if try disk.list().contains(temporaryName) { try disk.remove(temporaryName) }
        let file = try disk.create(temporaryName)
        let bytes = manifest.bytes
        var failure: DiskError?
        bytes.withUnsafeBytes { buffer in
            do throws(DiskError) {
                try file.write(buffer, at: 0)
                try file.sync()
            } catch {
                failure = error
            }
        }
        if let failure { throw failure }
        // Segments' names first: the manifest must never name what is not there.
        try disk.syncDirectory()
        try disk.rename(temporaryName, to: manifestName)
        try disk.syncDirectory()
    }

    /// Removes segment files of these numbers, from the oldest on.
    public static func removeSegments<D: Disk>(
        _ numbers: some Sequence<UInt64>, on disk: D
    ) throws(DiskError) {
        for number in numbers.sorted() {
            do throws(DiskError) {
                try disk.remove(segmentName(number))
            } catch {
                // Somebody else was faster.
                if error.kind != .notFound { throw error }
            }
        }
    }

    // MARK: Reading

    /// The manifest, nil if there is none.
    ///
    /// - Throws: `StorageError`.
    public static func readManifest<D: Disk>(on disk: D) throws(StorageError) -> Manifest? {
        let names = try storage { () throws(DiskError) in try disk.list() }
        guard names.contains(manifestName) else {
            if let segment = names.first(where: { segmentNumber($0) != nil }),
                !names.contains(where: { $0.hasPrefix("journal-") })
            {
                throw .incompleteJournal(reason: "there is \(segment), but no manifest")
            }
            return nil
        }
        let bytes = try read(manifestName, on: disk) { byteCount in
            .allocate(byteCount: byteCount, alignment: 16)
        }
        defer { bytes.deallocate() }
        return try Manifest(UnsafeRawBufferPointer(bytes), file: manifestName)
    }

    /// Reads a whole segment file.
    ///
    /// - Parameter allocate: Makes the memory that the file is read into and that is returned.
    /// - Throws: `StorageError`.
    public static func readSegment<D: Disk>(
        _ segment: Manifest.Segment, on disk: D,
        allocate: (_ byteCount: Int) -> UnsafeMutableRawBufferPointer
    ) throws(StorageError) -> UnsafeMutableRawBufferPointer {
        let name = segmentName(segment.number)
        let memory = try read(name, on: disk) { byteCount in
            // An impossible size is told by the caller's check, not by an allocation.
            byteCount == Int(segment.byteCount)
                ? allocate(byteCount) : .allocate(byteCount: 0, alignment: 16)
        }
        guard memory.count >= Int(segment.byteCount) else {
            memory.deallocate()
            throw .damagedFile(name, reason: "its size is not \(segment.byteCount) bytes")
        }
        return memory
    }

    static func read<D: Disk>(
        _ name: String, on disk: D, allocate: (Int) -> UnsafeMutableRawBufferPointer
    ) throws(StorageError) -> UnsafeMutableRawBufferPointer {
        do throws(DiskError) {
            let file = try disk.open(name)
            let byteCount = try file.size()
            let memory = allocate(byteCount)
            let wanted = UnsafeMutableRawBufferPointer(
                rebasing: memory[..<min(byteCount, memory.count)])
            do throws(DiskError) {
                _ = try file.read(at: 0, into: wanted)
            } catch {
                memory.deallocate()
                throw error
            }
            return memory
        } catch {
            throw error.kind == .notFound ? .missing(file: name) : .disk(error)
        }
    }

    /// Removes what a crash left of checkpoints that were not finished.
    ///
    /// - Returns: the greatest number that a segment file had.
    /// - Throws: `StorageError`.
    public static func removeStrays<D: Disk>(
        _ manifest: Manifest?, on disk: D
    ) throws(StorageError) -> UInt64 {
        let named = Set(manifest?.segments.map(\.number) ?? [])
        return try storage { () throws(DiskError) in
            let names = try disk.list()
            let numbers = names.compactMap(segmentNumber)
            let strays = numbers.filter { !named.contains($0) }
            if names.contains(temporaryName) { try disk.remove(temporaryName) }
            try removeSegments(strays, on: disk)
            return numbers.max() ?? 0
        }
    }
}
