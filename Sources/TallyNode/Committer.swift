import TallyCore
internal import TallyEngine
public import TallyStorage

/// Takes what has been executed to the disk, one commit group at a time.
///
/// Everything that arrives while a group is written and synced goes out with the next one. One
/// thread drives it (`CommitterThread`); a simulation drives it step by step.
public final class Committer<D: Disk>: @unchecked Sendable {
    // Sendable because only the driving thread calls it once the node serves.
    private let node: Node
    let disk: D
    let clock: any Clock
    private let durability: Durability
    private var writer: JournalWriter<D>?
    private var group = CommitGroup()
    private var spares: [EntryBuffer] = []
    /// Whether the last attempt to reserve a file found the disk full.
    private(set) var isOutOfSpace = false

    private static var spareBytes: Int { 1024 }
    /// Memory of an entry buffer that is kept for the next group.
    private static var spareBytesKept: Int { 64 << 10 }

    init(
        node: Node, disk: D, clock: any Clock, durability: Durability,
        writer: consuming JournalWriter<D>
    ) {
        self.node = node
        self.disk = disk
        self.clock = clock
        self.durability = durability
        node.checkpoints.note(
            sequence: writer.sequence, bytes: 0, logTimeMilliseconds: writer.logTimeMilliseconds)
        node.checkpoints.setJournalEnd(writer.end)
        self.writer = consume writer
    }

    deinit {
        for spare in spares { spare.deallocate() }
    }

    /// What `prepareSpace` found.
    public enum Space: Equatable, Sendable {
        /// There is enough, as before.
        case enough
        /// The disk has just become full.
        case exhausted(DiskError)
        /// The disk is still full.
        case stillExhausted
        /// The disk is no longer full.
        case regained
    }

    /// Creates the journal's next file when the current one runs low.
    ///
    /// - Throws: `StorageError` for anything but a full disk.
    public func prepareSpace() throws(StorageError) -> Space {
        guard let request = fileRequest() else { return .enough }
        do throws(DiskError) {
            return adopt(try request.create(on: disk))
        } catch {
            return try refuse(error)
        }
    }

    /// The file to create next, nil while there is space enough.
    func fileRequest() -> JournalFileRequest? {
        guard let wantsFile = writer?.wantsFile, wantsFile else { return nil }
        return writer?.fileRequest(nowMilliseconds: clock.wallMilliseconds())
    }

    /// Takes over the file of the latest request.
    func adopt(_ file: D.File) -> Space {
        node.budget.add(writer?.adopt(file) ?? 0)
        defer { isOutOfSpace = false }
        return isOutOfSpace ? .regained : .enough
    }

    /// Takes note that the latest request failed.
    func refuse(_ error: DiskError) throws(StorageError) -> Space {
        guard error.kind == .noSpace else { throw .disk(error) }
        node.budget.noteFullDisk()
        defer { isOutOfSpace = true }
        return isOutOfSpace ? .stillExhausted : .exhausted(error)
    }

    /// Closes the open group, writes it, and syncs it unless the user chose `none`.
    ///
    /// - Returns: whether there was anything to write.
    /// - Throws: `StorageError`. Nothing that is not yet acknowledged may then ever be: end the
    ///   process and recover.
    public func commit() throws(StorageError) -> Bool {
        let taken = closeGroup()
        if let taken {
            guard let sequence = writer?.sequence, sequence + 1 == taken.sequence else {
                preconditionFailure("commit groups out of order")
            }
            let written =
                try writer?.append(&group, nowMilliseconds: UInt64(node.nowMilliseconds())) ?? 0
            node.budget.settle(reserved: taken.reservedBytes, written: written)
            node.checkpoints.note(
                sequence: taken.sequence, bytes: written,
                logTimeMilliseconds: writer?.logTimeMilliseconds ?? 0)
        }
        let sequence = writer?.sequence ?? 0
        if durability != .none || node.checkpoints.wantsSync(to: sequence),
            sequence > node.gate.durableSequence
        {
            try writer?.sync()
            node.gate.didSync(sequence)
        }
        if taken != nil { node.checkpoints.setJournalEnd(writer?.end) }
        if let floor = node.checkpoints.takeTrimFloor() { try writer?.trim(to: floor) }
        return taken != nil
    }

    /// Writes and syncs what is left and seals the journal. Nothing may follow.
    ///
    /// - Throws: `StorageError`; what was durable before still is.
    public func close() throws(StorageError) {
        _ = try prepareSpace()
        while try commit() {}
        let now = clock.wallMilliseconds()
        let sequence = writer?.sequence ?? 0
        try writer.take()?.seal(nowMilliseconds: now)
        node.gate.didSync(sequence)
    }

    /// Whether anything waits to be written.
    public var hasPending: Bool { node.budget.pendingBytes > 0 }

    /// How long the driving thread waits after a group before it closes the next, nanoseconds, and
    /// how many pending bytes end the wait; nil for no wait.
    var pause: (nanoseconds: Int, bytesMax: Int)? {
        switch durability {
        case .always: nil
        case .interval(let milliseconds): (milliseconds * 500_000, Limits.groupBytesEager)
        case .none: (Limits.writeDelayMilliseconds * 1_000_000, Limits.groupBytesEager)
        }
    }

    private func closeGroup() -> (sequence: UInt64, reservedBytes: Int)? {
        var sections: [(partition: Int, section: PendingSection)] = []
        sections.reserveCapacity(node.partitionCount)
        let sequence = node.closeGroup(
            spare: { spares.popLast() ?? .allocate(Self.spareBytes) },
            { sections.append(($0, $1)) })
        guard let sequence else { return nil }
        group.removeAll()
        var reservedBytes = 0
        for (partition, section) in sections {
            group.append(
                partition: partition, entryCount: section.entryCount,
                entries: UnsafeRawBufferPointer(
                    start: section.buffer.bytes, count: section.byteCount))
            reservedBytes += section.reservedBytes
            keep(section.buffer)
        }
        node.budget.take(reservedBytes)
        return (sequence, reservedBytes)
    }

    private func keep(_ buffer: EntryBuffer) {
        if buffer.capacity <= Self.spareBytesKept, spares.count < node.partitionCount {
            spares.append(buffer)
        } else {
            buffer.deallocate()
        }
    }
}
