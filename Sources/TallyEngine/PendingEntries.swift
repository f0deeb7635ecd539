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
    /// Most bytes of a run's entry.
    private static let runBytesMax = 21

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

    private var bytes: UnsafeMutableRawPointer
    private var capacity: Int
    /// The latest key added to, by hash; most are never seen again in their group.
    private let addedKeys: UnsafeMutablePointer<AddedKey>
    private let runs: UnsafeMutablePointer<Run>
    /// Runs with unwritten adds, one bit a slot.
    private var openRuns: UInt64 = 0

    /// Bytes written so far.
    private(set) var byteCount = 0
    /// Entries written so far.
    private(set) var entryCount: UInt32 = 0
    /// What the operations so far were allowed to take: an upper bound of what they will.
    private(set) var reservedBytes = 0

    init() {
        capacity = 1024
        bytes = .allocate(byteCount: capacity, alignment: 16)
        addedKeys = .allocate(capacity: Self.runSlots)
        addedKeys.initialize(repeating: AddedKey(tag: 0, offsetPlusOne: 0), count: Self.runSlots)
        runs = .allocate(capacity: Self.runSlots)
        runs.initialize(repeating: Run(delta: 0, count: 0), count: Self.runSlots)
    }

    deinit {
        bytes.deallocate()
        addedKeys.deallocate()
        runs.deallocate()
    }

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

    @inline(__always)
    private mutating func appendAdd(_ operation: UnsafePointer<Operation>, bytesMax: Int) {
        let slot = Self.slot(operation)
        let added = addedKeys + slot
        let tag = UInt32(truncatingIfNeeded: operation.pointee.hash &>> 32)
        if added.pointee.tag == tag, added.pointee.offsetPlusOne != 0,
            isSame(added.pointee.offsetPlusOne &- 1, operation)
        {
            return extendRun(slot, operation)
        }
        if openRuns & 1 &<< UInt64(slot) != 0 { writeRun(slot) }
        let offset = byteCount
        writeAdd(operation, bytesMax: bytesMax)
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
        case .get, .readRecord, .readExpiry, .readForMove, .transaction, .countKeys, .add:
            preconditionFailure("not an operation for this entry")
        case .set, .setIfAbsent, .setIfPresent, .delete, .expire, .persist, .extendedSet,
            .extendedAdd, .setMoved, .deleteMoved:
            let slot = Self.slot(operation)
            if openRuns & 1 &<< UInt64(slot) != 0 { writeRun(slot) }
            addedKeys[slot].offsetPlusOne = 0
        case .remember, .raiseFloor: break
        case .setColumns, .setRecord, .deleteRecord, .clear, .changeSchema, .importRuns:
            // Runs of several keys or columns may be meant.
            writeOpenRuns()
            forgetRuns()
        }
        write(operation, rows)
    }

    // MARK: Handing over

    /// Hands everything recorded so far to the caller, who deallocates it, and starts afresh on
    /// `spare`, of `spareBytes` bytes.
    mutating func take(
        spare: UnsafeMutableRawPointer, spareBytes: Int
    ) -> (bytes: UnsafeMutableRawPointer, capacity: Int) {
        let taken = (bytes, capacity)
        bytes = spare
        capacity = spareBytes
        byteCount = 0
        entryCount = 0
        reservedBytes = 0
        forgetRuns()
        return taken
    }

    private mutating func forgetRuns() {
        addedKeys.update(repeating: AddedKey(tag: 0, offsetPlusOne: 0), count: Self.runSlots)
    }

    /// Writes out all runs, so that `byteCount` is final.
    mutating func writeOpenRuns() {
        while openRuns != 0 { writeRun(openRuns.trailingZeroBitCount) }
    }

    // MARK: Entries

    @inline(__always)
    private mutating func writeAdd(_ operation: UnsafePointer<Operation>, bytesMax: Int) {
        let start = reserve(bytesMax)
        let isPlain = operation.pointee.family == 0
        var end = start
        if operation.pointee.count > 1 {
            end = writeHead(isPlain ? .addRun : .columnAddRun, operation, at: end)
            end += Varint.write(Varint.zigzag(operation.pointee.operand), to: end)
            end += Varint.write(UInt64(operation.pointee.count), to: end)
        } else if operation.pointee.operand == 1 {
            end = writeHead(isPlain ? .increment : .columnIncrement, operation, at: end)
        } else {
            end = writeHead(isPlain ? .add : .columnAdd, operation, at: end)
            end += Varint.write(Varint.zigzag(operation.pointee.operand), to: end)
        }
        byteCount &+= end - start
        entryCount &+= 1
    }

    private mutating func write(
        _ operation: UnsafePointer<Operation>, _ rows: UnsafeMutablePointer<Int64>
    ) {
        let start = reserve(Partition.journalBytesMax(operation.pointee))
        let isPlain = operation.pointee.family == 0
        var end = start
        switch operation.pointee.kind {
        case .set, .setIfAbsent, .setIfPresent:
            // A column's condition has been judged, and says nothing more.
            let kind: EntryKind =
                switch operation.pointee.kind {
                case _ where !isPlain: .columnSet
                case .set: .set
                case .setIfAbsent: .setIfAbsent
                default: .setIfPresent
                }
            end = writeHead(kind, operation, at: end)
            end += Varint.write(Varint.zigzag(operation.pointee.operand), to: end)
        case .delete, .deleteMoved:
            end = writeHead(isPlain ? .delete : .columnDelete, operation, at: end)
        case .setColumns, .setRecord:
            let kind = operation.pointee.kind
            end = writeRecord(
                kind == .setRecord ? .recordSet : .recordSetColumns, operation, at: end)
            let count = Int(operation.pointee.count)
            end += Varint.write(UInt64(count), to: end)
            let pairs = rows + Int(operation.pointee.operand)
            for index in 0..<count {
                end += Varint.write(UInt64(bitPattern: pairs[2 * index]), to: end)
                end += Varint.write(Varint.zigzag(pairs[2 * index + 1]), to: end)
            }
        case .deleteRecord:
            end = writeRecord(.recordDelete, operation, at: end)
        case .clear:
            end.storeBytes(of: EntryKind.clear.rawValue, as: UInt8.self)
            end += 1
        case .changeSchema:
            end = writeHead(.schemaChange, operation, at: end)
        case .importRuns:
            end.storeBytes(of: EntryKind.importRuns.rawValue, as: UInt8.self)
            end += 1
            end += Varint.write(UInt64(operation.pointee.family), to: end)
            end += Varint.write(UInt64(bitPattern: operation.pointee.operand), to: end)
        case .expire:
            end = writeHead(.expire, operation, at: end)
            end += Varint.write(Varint.zigzag(operation.pointee.operand), to: end)
            end += Varint.write(UInt64(operation.pointee.count), to: end)
        case .persist:
            end = writeHead(.persist, operation, at: end)
        case .extendedSet, .setMoved:
            end = writeHead(.extendedSet, operation, at: end)
            end = writeWords(ExtendedSet.wordCount, operation, rows, at: end)
        case .extendedAdd:
            end = writeHead(isPlain ? .extendedAdd : .columnExtendedAdd, operation, at: end)
            end = writeWords(ExtendedAdd.wordCount, operation, rows, at: end)
        case .remember:
            end = writeRemembered(operation, rows, at: end)
        case .raiseFloor:
            end.storeBytes(of: EntryKind.raiseFloor.rawValue, as: UInt8.self)
            end += 1
            end += Varint.write(UInt64(bitPattern: operation.pointee.operand), to: end)
        case .get, .readRecord, .readExpiry, .readForMove, .transaction, .countKeys, .add:
            preconditionFailure("not an operation for this entry")
        }
        byteCount += end - start
        entryCount += 1
    }

    private func writeRemembered(
        _ operation: UnsafePointer<Operation>, _ rows: UnsafeMutablePointer<Int64>,
        at start: UnsafeMutableRawPointer
    ) -> UnsafeMutableRawPointer {
        let place = rows + Int(operation.pointee.operand)
        var end = start
        end.storeBytes(of: EntryKind.remember.rawValue, as: UInt8.self)
        end += 1
        Bytes.copy(operation.pointee.key, to: end, RequestToken.byteCount)
        end += RequestToken.byteCount
        end.storeBytes(of: UInt64(bitPattern: place[0]).littleEndian, as: UInt64.self)
        end += 8
        end += Varint.write(UInt64(bitPattern: place[1]), to: end)
        for word in 0..<Int(place[1]) {
            end += Varint.write(Varint.zigzag(place[2 + word]), to: end)
        }
        return end
    }

    private func writeWords(
        _ count: Int, _ operation: UnsafePointer<Operation>, _ rows: UnsafeMutablePointer<Int64>,
        at start: UnsafeMutableRawPointer
    ) -> UnsafeMutableRawPointer {
        var end = start
        for word in 0..<count {
            end += Varint.write(
                Varint.zigzag(rows[Int(operation.pointee.operand) + word]), to: end)
        }
        return end
    }

    private mutating func writeRun(_ slot: Int) {
        let start = reserve(Self.runBytesMax)
        let run = runs[slot]
        var end = start
        end.storeBytes(of: EntryKind.again.rawValue, as: UInt8.self)
        end += 1
        end += Varint.write(UInt64(addedKeys[slot].offsetPlusOne - 1), to: end)
        end += Varint.write(Varint.zigzag(run.delta), to: end)
        end += Varint.write(UInt64(run.count), to: end)
        byteCount += end - start
        entryCount += 1
        runs[slot].count = 0
        openRuns &= ~(1 &<< UInt64(slot))
    }

    /// Writes an entry's kind and what it names: a plain key, a column of a record, or a text.
    @inline(__always)
    private func writeHead(
        _ kind: EntryKind, _ operation: UnsafePointer<Operation>, at start: UnsafeMutableRawPointer
    ) -> UnsafeMutableRawPointer {
        guard operation.pointee.family == 0 else {
            let end = writeRecord(kind, operation, at: start)
            return end + Varint.write(UInt64(operation.pointee.column), to: end)
        }
        start.storeBytes(of: kind.rawValue, as: UInt8.self)
        return writeKey(operation, at: start + 1)
    }

    @inline(__always)
    private func writeKey(
        _ operation: UnsafePointer<Operation>, at start: UnsafeMutableRawPointer
    ) -> UnsafeMutableRawPointer {
        let key = start + Varint.write(UInt64(operation.pointee.keyByteCount), to: start)
        Bytes.copy(operation.pointee.key, to: key, Int(operation.pointee.keyByteCount))
        return key + Int(operation.pointee.keyByteCount)
    }

    /// Writes an entry's kind and the record that it names.
    private func writeRecord(
        _ kind: EntryKind, _ operation: UnsafePointer<Operation>, at start: UnsafeMutableRawPointer
    ) -> UnsafeMutableRawPointer {
        start.storeBytes(of: kind.rawValue, as: UInt8.self)
        let isString = operation.pointee.keyKind == .string
        let head = UInt64(operation.pointee.family) << 1 | (isString ? 1 : 0)
        let key = start + 1 + Varint.write(head, to: start + 1)
        if isString { return writeKey(operation, at: key) }
        return key + Varint.write(operation.pointee.integerKey, to: key)
    }

    @inline(__always)
    private mutating func reserve(_ wanted: Int) -> UnsafeMutableRawPointer {
        if byteCount &+ wanted > capacity { grow(wanted) }
        return bytes + byteCount
    }

    @inline(never)
    private mutating func grow(_ wanted: Int) {
        capacity = max(capacity * 2, byteCount + wanted)
        let grown = UnsafeMutableRawPointer.allocate(byteCount: capacity, alignment: 16)
        grown.copyMemory(from: bytes, byteCount: byteCount)
        bytes.deallocate()
        bytes = grown
    }

    /// Whether the add at `entryOffset` is to what `operation` adds to.
    @inline(__always)
    private mutating func isSame(
        _ entryOffset: UInt32, _ operation: UnsafePointer<Operation>
    ) -> Bool {
        guard operation.pointee.family == 0 else { return isSameColumn(entryOffset, operation) }
        // The key follows the kind and a length of one or two bytes.
        let entry = bytes + Int(entryOffset)
        let kind = entry.load(as: UInt8.self)
        guard kind <= EntryKind.addRun.rawValue else { return false }
        let first = entry.load(fromByteOffset: 1, as: UInt8.self)
        var length = Int(first)
        var start = 2
        if first >= 0x80 {
            length = Int(first & 0x7f) | Int(entry.load(fromByteOffset: 2, as: UInt8.self)) &<< 7
            start = 3
        }
        return length == Int(operation.pointee.keyByteCount)
            && Bytes.equal(entry + start, operation.pointee.key, length)
    }

    /// Compares what the operation's entry would name with what the entry does.
    private mutating func isSameColumn(
        _ entryOffset: UInt32, _ operation: UnsafePointer<Operation>
    ) -> Bool {
        let start = reserve(Partition.journalBytesMax(operation.pointee))
        let entry = bytes + Int(entryOffset)
        guard entry.load(as: UInt8.self) >= EntryKind.columnIncrement.rawValue else { return false }
        let end = writeHead(.columnAdd, operation, at: start)
        return Bytes.equal(entry + 1, start + 1, end - start - 1)
    }

    @inline(__always)
    private static func slot(_ operation: UnsafePointer<Operation>) -> Int {
        let hash = operation.pointee.hash &>> 8 &+ UInt64(operation.pointee.column)
        return Int(truncatingIfNeeded: hash) & (runSlots &- 1)
    }
}
