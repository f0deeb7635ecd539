import TallyCore

/// Entries of one partition, one behind the other, in memory that grows.
///
/// Their layout is `docs/journal.md`, and `docs/log.md` for those of requests.
struct EntryWriter: ~Copyable {
    /// What has been written.
    private(set) var bytes: UnsafeMutableRawPointer
    private(set) var capacity: Int
    /// Bytes written so far.
    private(set) var byteCount = 0
    /// Entries written so far.
    private(set) var entryCount: UInt32 = 0

    init(capacity: Int) {
        self.capacity = capacity
        bytes = .allocate(byteCount: capacity, alignment: 16)
    }

    deinit { bytes.deallocate() }

    /// Hands everything written so far to the caller, who deallocates it, and starts afresh on
    /// `spare`, of `spareBytes` bytes.
    mutating func take(
        spare: UnsafeMutableRawPointer, spareBytes: Int
    ) -> (bytes: UnsafeMutableRawPointer, capacity: Int) {
        let taken = (bytes, capacity)
        bytes = spare
        capacity = spareBytes
        removeAll()
        return taken
    }

    /// Starts afresh on the same memory.
    mutating func removeAll() {
        byteCount = 0
        entryCount = 0
    }

    /// An entry that ends at `end` has been written where `reserve` said.
    @inline(__always)
    mutating func finish(at end: UnsafeMutableRawPointer) {
        byteCount = end - bytes
        entryCount &+= 1
    }

    /// Writes more additions to the key of the entry at `offset`.
    mutating func writeAgain(offset: UInt32, delta: Int64, count: UInt32) {
        var end = reserve(Self.againBytesMax)
        end.storeBytes(of: EntryKind.again.rawValue, as: UInt8.self)
        end += 1
        end += Varint.write(UInt64(offset), to: end)
        end += Varint.write(Varint.zigzag(delta), to: end)
        end += Varint.write(UInt64(count), to: end)
        finish(at: end)
    }

    private static let againBytesMax = 21

    /// Writes the entry of an addition, which takes at most `bytesMax` bytes.
    @inline(__always)
    mutating func writeAdd(_ operation: UnsafePointer<Operation>, bytesMax: Int) {
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

    /// Writes the entry of any other operation that the journal has entries for.
    ///
    /// - Parameter rows: What the operation's place leads into.
    mutating func write(
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
                (kind == .setRecord ? EntryKind.recordSet : .recordSetColumns).rawValue, operation,
                at: end)
            let count = Int(operation.pointee.count)
            end += Varint.write(UInt64(count), to: end)
            let pairs = rows + Int(operation.pointee.operand)
            for index in 0..<count {
                end += Varint.write(UInt64(bitPattern: pairs[2 * index]), to: end)
                end += Varint.write(Varint.zigzag(pairs[2 * index + 1]), to: end)
            }
        case .deleteRecord:
            end = writeRecord(EntryKind.recordDelete.rawValue, operation, at: end)
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
        case .raiseFloor:
            end.storeBytes(of: EntryKind.raiseFloor.rawValue, as: UInt8.self)
            end += 1
            end += Varint.write(UInt64(bitPattern: operation.pointee.operand), to: end)
        case .get, .readRecord, .readExpiry, .readForMove, .transaction, .countKeys, .add,
            .remember:
            preconditionFailure("not an operation for this entry")
        }
        byteCount += end - start
        entryCount += 1
    }

    /// Writes the entry that remembers a request whose words are there.
    mutating func writeRemembered(_ request: OnceRequest) {
        let start = reserve(request.journalBytesMax)
        var end = writeHead(request, wordCount: request.wordCount, at: start)
        for index in 0..<request.wordCount {
            end += Varint.write(Varint.zigzag(request.words[index]), to: end)
        }
        finish(at: end)
    }

    /// The same for a request whose words are these, which takes at most `bytesMax` bytes.
    @inline(__always)
    mutating func writeRemembered(
        _ request: OnceRequest, _ words: OnceWords.Single, bytesMax: Int
    ) {
        var end = writeHead(request, wordCount: OnceWords.singleCount, at: reserve(bytesMax))
        end += Varint.write(Varint.zigzag(words.0), to: end)
        end += Varint.write(Varint.zigzag(words.1), to: end)
        end += Varint.write(Varint.zigzag(words.2), to: end)
        finish(at: end)
    }

    @inline(__always)
    private func writeHead(
        _ request: OnceRequest, wordCount: Int, at start: UnsafeMutableRawPointer
    ) -> UnsafeMutableRawPointer {
        start.storeBytes(of: EntryKind.remember.rawValue, as: UInt8.self)
        let end = start + 1
        request.token.write(to: end)
        end.storeBytes(
            of: request.fingerprint.littleEndian, toByteOffset: RequestToken.byteCount,
            as: UInt64.self)
        let words = end + RequestToken.byteCount + 8
        return words + Varint.write(UInt64(wordCount), to: words)
    }

    func writeWords(
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

    /// Writes an entry's kind and what it names: a plain key, a column of a record, or a text.
    @inline(__always)
    func writeHead(
        _ kind: EntryKind, _ operation: UnsafePointer<Operation>, at start: UnsafeMutableRawPointer
    ) -> UnsafeMutableRawPointer {
        writeHead(kind.rawValue, operation, at: start)
    }

    /// The same with a kind's number.
    @inline(__always)
    func writeHead(
        _ kind: UInt8, _ operation: UnsafePointer<Operation>, at start: UnsafeMutableRawPointer
    ) -> UnsafeMutableRawPointer {
        guard operation.pointee.family == 0 else {
            let end = writeRecord(kind, operation, at: start)
            return end + Varint.write(UInt64(operation.pointee.column), to: end)
        }
        start.storeBytes(of: kind, as: UInt8.self)
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

    /// Writes the number of an entry's kind and the record that it names.
    func writeRecord(
        _ kind: UInt8, _ operation: UnsafePointer<Operation>, at start: UnsafeMutableRawPointer
    ) -> UnsafeMutableRawPointer {
        start.storeBytes(of: kind, as: UInt8.self)
        let isString = operation.pointee.keyKind == .string
        let head = UInt64(operation.pointee.family) << 1 | (isString ? 1 : 0)
        let key = start + 1 + Varint.write(head, to: start + 1)
        if isString { return writeKey(operation, at: key) }
        return key + Varint.write(operation.pointee.integerKey, to: key)
    }

    /// Where the next entry goes; there is room for `wanted` bytes.
    @inline(__always)
    mutating func reserve(_ wanted: Int) -> UnsafeMutableRawPointer {
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
    mutating func isSame(
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

    /// Which of `count`, a power of two, places for what has been added to lately an operation has.
    @inline(__always)
    static func slot(_ operation: UnsafePointer<Operation>, of count: Int) -> Int {
        let hash = operation.pointee.hash &>> 8 &+ UInt64(operation.pointee.column)
        return Int(truncatingIfNeeded: hash) & (count &- 1)
    }
}
