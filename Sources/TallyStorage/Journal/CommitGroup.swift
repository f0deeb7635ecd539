import TallyCore

/// One commit group while it is put together, in memory that is used again for the next.
public struct CommitGroup: ~Copyable {
    private var bytes: UnsafeMutableRawPointer
    private var capacity: Int
    private var end = GroupHeader.byteCount
    private(set) var sectionCount: UInt32 = 0

    /// How many entries it holds.
    public private(set) var entryCount: UInt32 = 0

    /// An empty group.
    public init() {
        capacity = 4096
        bytes = .allocate(byteCount: capacity, alignment: JournalFormat.memoryAlignment)
    }

    deinit { bytes.deallocate() }

    /// Bytes behind the header.
    public var payloadBytes: Int { end - GroupHeader.byteCount }

    /// Empties it for the next group.
    public mutating func removeAll() {
        end = GroupHeader.byteCount
        sectionCount = 0
        entryCount = 0
    }

    /// Appends the entries of one partition.
    public mutating func append(
        partition: Int, entryCount: UInt32, entries: UnsafeRawBufferPointer
    ) {
        let needed = end + GroupSection.headerBytes + entries.count + JournalFormat.sectorBytes
        if needed > capacity { grow(toFit: needed) }
        store(UInt32(partition), bytes, end)
        store(entryCount, bytes, end + 4)
        store(UInt32(entries.count), bytes, end + 8)
        if let base = entries.baseAddress {
            (bytes + end + GroupSection.headerBytes).copyMemory(
                from: base, byteCount: entries.count)
        }
        end += GroupSection.headerBytes + entries.count
        sectionCount += 1
        self.entryCount += entryCount
    }

    /// The group's bytes as they go into the file, padding included.
    mutating func finish(
        _ header: GroupHeader, identity: LogIdentity, file: UInt64
    ) -> UnsafeRawBufferPointer {
        header.write(to: bytes, identity: identity, file: file)
        let extent = header.extentBytes
        (bytes + end).initializeMemory(as: UInt8.self, repeating: 0, count: extent - end)
        return UnsafeRawBufferPointer(start: bytes, count: extent)
    }

    private mutating func grow(toFit needed: Int) {
        capacity = max(needed, capacity * 2)
        let grown = UnsafeMutableRawPointer.allocate(
            byteCount: capacity, alignment: JournalFormat.memoryAlignment)
        grown.copyMemory(from: bytes, byteCount: end)
        bytes.deallocate()
        bytes = grown
    }
}
