import TallyCore

/// The operations of one partition that the next commit group will carry, as journal entries.
///
/// Adds to one key are combined while the group is open: the first is written as an entry, equal
/// ones after it only raise a count, and the count is written, as a run that points back to the
/// first entry, when another delta or another operation on the key ends it. So a hot key costs a
/// few bytes per group however often it is hit, and replay still sees every operation on a key in
/// its order. Operations on different keys may change places; they do not affect each other.
///
/// The entries' layout is `docs/journal.md`.
struct PendingEntries: ~Copyable {
    /// A key that was added to in this group.
    private struct AddedKey {
        /// Of the key's hash.
        var tag: UInt32
        /// One more than the offset of the entry that names the key; 0 for no key.
        var offsetPlusOne: UInt32
    }

    /// Adds to such a key that are not written yet.
    private struct Run {
        var delta: Int64
        /// 0 for no run.
        var count: UInt32
    }

    private static let runSlots = 64

    private var writer = EntryWriter(capacity: 1024)
    /// The latest key added to, by hash; most are never seen again in their group.
    private let addedKeys: UnsafeMutablePointer<AddedKey>
    private let runs: UnsafeMutablePointer<Run>
    /// Runs with unwritten adds, one bit a slot.
    private var openRuns: UInt64 = 0

    /// What the operations so far were allowed to take: an upper bound of what they will.
    private(set) var reservedBytes = 0

    init() {
        addedKeys = .allocate(capacity: Self.runSlots)
        addedKeys.initialize(repeating: AddedKey(tag: 0, offsetPlusOne: 0), count: Self.runSlots)
        runs = .allocate(capacity: Self.runSlots)
        runs.initialize(repeating: Run(delta: 0, count: 0), count: Self.runSlots)
    }

    deinit {
        addedKeys.deallocate()
        runs.deallocate()
    }

    /// Bytes written so far.
    var byteCount: Int { writer.byteCount }

    /// Entries written so far.
    var entryCount: UInt32 { writer.entryCount }

    /// Whether nothing has been recorded since the last `take`.
    var isEmpty: Bool { reservedBytes == 0 }

    // MARK: Recording

    /// Records an applied operation.
    ///
    /// - Parameter rows: What the operation's place leads into.
    /// - Returns: journal bytes that it may take, an upper bound.
    /// - Complexity: O(length of the key). Allocates only when the group outgrows its buffer.
    @inline(__always)
    mutating func append(
        _ operation: UnsafePointer<Operation>, _ rows: UnsafeMutablePointer<Int64>
    ) -> Int {
        let reserved = Partition.journalBytesMax(operation.pointee)
        reservedBytes &+= reserved
        if operation.pointee.kind == .add {
            appendAdd(operation, bytesMax: reserved)
        } else {
            appendOther(operation, rows)
        }
        return reserved
    }

    /// Records that a request whose words are there is remembered.
    mutating func appendRemembered(_ request: OnceRequest) -> Int {
        reservedBytes &+= request.journalBytesMax
        writer.writeRemembered(request)
        return request.journalBytesMax
    }

    /// The same for a request whose words are these instead.
    @inline(__always)
    mutating func appendRemembered(
        _ request: OnceRequest, _ words: OnceWords.Single
    ) -> Int {
        let reserved = Partition.rememberedBytesMax(wordCount: OnceWords.singleCount)
        reservedBytes &+= reserved
        writer.writeRemembered(request, words, bytesMax: reserved)
        return reserved
    }

    @inline(__always)
    private mutating func appendAdd(_ operation: UnsafePointer<Operation>, bytesMax: Int) {
        let slot = Self.slot(operation)
        let added = addedKeys + slot
        let tag = UInt32(truncatingIfNeeded: operation.pointee.hash &>> 32)
        if added.pointee.tag == tag, added.pointee.offsetPlusOne != 0,
            writer.isSame(added.pointee.offsetPlusOne &- 1, operation)
        {
            return extendRun(slot, operation)
        }
        if openRuns & 1 &<< UInt64(slot) != 0 { writeRun(slot) }
        let offset = writer.byteCount
        writer.writeAdd(operation, bytesMax: bytesMax)
        added.pointee = AddedKey(
            tag: tag, offsetPlusOne: UInt32(truncatingIfNeeded: offset) &+ 1)
    }

    private mutating func extendRun(_ slot: Int, _ operation: UnsafePointer<Operation>) {
        let run = runs + slot
        if run.pointee.count > 0 {
            let (sum, overflow) = run.pointee.count.addingReportingOverflow(operation.pointee.count)
            if run.pointee.delta == operation.pointee.operand, !overflow {
                run.pointee.count = sum
                return
            }
            writeRun(slot)
        }
        run.pointee = Run(delta: operation.pointee.operand, count: operation.pointee.count)
        openRuns |= 1 &<< UInt64(slot)
    }

    private mutating func appendOther(
        _ operation: UnsafePointer<Operation>, _ rows: UnsafeMutablePointer<Int64>
    ) {
        switch operation.pointee.kind {
        case .get, .readRecord, .readExpiry, .readForMove, .transaction, .countKeys, .add,
            .remember:
            preconditionFailure("not an operation for this entry")
        case .set, .setIfAbsent, .setIfPresent, .delete, .expire, .persist, .extendedSet,
            .extendedAdd, .setMoved, .deleteMoved:
            let slot = Self.slot(operation)
            if openRuns & 1 &<< UInt64(slot) != 0 { writeRun(slot) }
            addedKeys[slot].offsetPlusOne = 0
        case .raiseFloor: break
        case .setColumns, .setRecord, .deleteRecord, .clear, .changeSchema, .importRuns:
            // Runs of several keys or columns may be meant.
            writeOpenRuns()
            forgetRuns()
        }
        writer.write(operation, rows)
    }

    // MARK: Handing over

    /// Hands everything recorded so far to the caller, who deallocates it, and starts afresh on
    /// `spare`, of `spareBytes` bytes.
    mutating func take(
        spare: UnsafeMutableRawPointer, spareBytes: Int
    ) -> (bytes: UnsafeMutableRawPointer, capacity: Int) {
        reservedBytes = 0
        forgetRuns()
        return writer.take(spare: spare, spareBytes: spareBytes)
    }

    private mutating func forgetRuns() {
        addedKeys.update(repeating: AddedKey(tag: 0, offsetPlusOne: 0), count: Self.runSlots)
    }

    /// Writes out all runs, so that `byteCount` is final.
    mutating func writeOpenRuns() {
        while openRuns != 0 { writeRun(openRuns.trailingZeroBitCount) }
    }

    private mutating func writeRun(_ slot: Int) {
        let run = runs[slot]
        writer.writeAgain(
            offset: addedKeys[slot].offsetPlusOne - 1, delta: run.delta, count: run.count)
        runs[slot].count = 0
        openRuns &= ~(1 &<< UInt64(slot))
    }

    @inline(__always)
    private static func slot(_ operation: UnsafePointer<Operation>) -> Int {
        EntryWriter.slot(operation, of: runSlots)
    }
}
