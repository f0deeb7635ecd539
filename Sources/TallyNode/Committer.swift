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
    private let clock: any Clock
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
        node: Node, clock: any Clock, durability: Durability,
        writer: consuming JournalWriter<D>
    ) {
        self.node = node
        self.clock = clock
        self.durability = durability
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

    /// Reserves the journal's next file when the current one runs low.
    ///
    /// - Throws: `JournalError` for anything but a full disk.
    public func prepareSpace() throws(JournalError) -> Space {
        guard let wantsFile = writer?.wantsFile, wantsFile else { return .enough }
        do throws(JournalError) {
            let bytes = try writer?.prepareFile(nowMilliseconds: clock.wallMilliseconds()) ?? 0
            node.budget.add(bytes)
            defer { isOutOfSpace = false }
            return isOutOfSpace ? .regained : .enough
        } catch {
            guard case .disk(let diskError) = error, diskError.kind == .noSpace else {
                throw error
            }
            defer { isOutOfSpace = true }
            return isOutOfSpace ? .stillExhausted : .exhausted(diskError)
        }
    }

    /// Closes the open group, writes it, and syncs it unless the user chose `none`.
    ///
    /// - Returns: how many entries the group had; nil if there was nothing to write.
    /// - Throws: `JournalError`. Nothing that is not yet acknowledged may then ever be: end the
    ///   process and recover.
    public func commit() throws(JournalError) -> Int? {
        guard let taken = closeGroup() else { return nil }
        guard let sequence = writer?.sequence, sequence + 1 == taken.sequence else {
            preconditionFailure("commit groups out of order")
        }
        let written =
            try writer?.append(&group, nowMilliseconds: clock.wallMilliseconds()) ?? 0
        node.budget.settle(reserved: taken.reservedBytes, written: written)
        if durability != .none {
            try writer?.sync()
            node.gate.didSync(taken.sequence)
        }
        return Int(group.entryCount)
    }

    /// Writes and syncs what is left and seals the journal. Nothing may follow.
    ///
    /// - Throws: `JournalError`; what was durable before still is.
    public func close() throws(JournalError) {
        _ = try prepareSpace()
        while try commit() != nil {}
        let now = clock.wallMilliseconds()
        let sequence = writer?.sequence ?? 0
        try writer.take()?.seal(nowMilliseconds: now)
        node.gate.didSync(sequence)
    }

    /// Whether anything waits to be written.
    public var hasPending: Bool { node.budget.pendingBytes > 0 }

    /// How long the driving thread lets operations gather before it writes them, milliseconds.
    var gatherMilliseconds: Int {
        switch durability {
        case .always: 0
        case .interval(let milliseconds): milliseconds / 2
        case .none: Limits.writeDelayMilliseconds
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
