public import TallyCore

/// What clients ask of one partition and nobody has judged yet, as entries on their way to the log.
///
/// Additions of one number to one key are combined while the section grows: after the first they are
/// a run, whose count is raised in its place. So a hot key costs a few bytes however often it is hit,
/// and every addition has a place of its own in the run, from which its outcome follows. Operations on
/// different keys may change places, those on one key never do.
///
/// The layout is `docs/log.md`.
public struct RequestSection: ~Copyable {
    /// Where the outcome of an operation will be.
    public struct Ticket: Equatable, Sendable {
        /// Which of the section's operations it is, or which run it is part of.
        public let index: UInt32
        /// How many additions of the run come before it; nil if it is not part of one.
        public let element: UInt32?

        init(index: UInt32, element: UInt32? = nil) {
            self.index = index
            self.element = element
        }
    }

    /// A key that was added to lately.
    private struct AddedKey {
        /// Of the key's hash.
        var tag: UInt32 = 0
        /// One more than the offset of the entry that names the key; 0 for no key.
        var offsetPlusOne: UInt32 = 0
        /// Where the count of its run is; 0 for no run.
        var runOffset: UInt32 = 0
        /// Which of the operations the run is.
        var runIndex: UInt32 = 0
        var delta: Int64 = 0
    }

    private var writer: EntryWriter
    private let addedKeys: UnsafeMutablePointer<AddedKey>
    /// How many operations there are; runs are two.
    public private(set) var operationCount: UInt32 = 0
    /// Whether additions may still be combined with earlier ones.
    private var hasAddedKeys = false

    private static let slots = 64
    private static let runBytesMax = 1 + 5 + 10 + 4

    /// An empty section.
    public init() {
        writer = EntryWriter(capacity: 512)
        addedKeys = .allocate(capacity: Self.slots)
        addedKeys.initialize(repeating: AddedKey(), count: Self.slots)
    }

    deinit { addedKeys.deallocate() }

    /// Bytes written so far.
    public var byteCount: Int { writer.byteCount }

    /// The entries; good until the section changes.
    public var bytes: UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: writer.bytes, count: writer.byteCount)
    }

    /// Starts afresh.
    public mutating func removeAll() {
        writer.removeAll()
        operationCount = 0
        forgetAddedKeys()
    }

    // MARK: Appending

    /// Appends an operation.
    ///
    /// - Parameters:
    ///   - rows: What its place leads into.
    ///   - combines: Whether it may become part of a run.
    /// - Complexity: O(length of the key).
    @inline(__always)
    public mutating func append(
        _ operation: UnsafePointer<Operation>, _ rows: UnsafeMutablePointer<Int64>, combines: Bool
    ) -> Ticket {
        guard operation.pointee.kind == .add, combines else {
            return appendOther(operation, rows)
        }
        let added = addedKeys + EntryWriter.slot(operation, of: Self.slots)
        let tag = UInt32(truncatingIfNeeded: operation.pointee.hash &>> 32)
        if added.pointee.tag == tag, added.pointee.offsetPlusOne != 0,
            writer.isSame(added.pointee.offsetPlusOne &- 1, operation)
        {
            return extendRun(added, operation)
        }
        added.pointee = AddedKey(
            tag: tag, offsetPlusOne: UInt32(truncatingIfNeeded: writer.byteCount) &+ 1)
        hasAddedKeys = true
        writer.writeAdd(operation, bytesMax: Partition.journalBytesMax(operation.pointee))
        return nextTicket()
    }

    private mutating func extendRun(
        _ added: UnsafeMutablePointer<AddedKey>, _ operation: UnsafePointer<Operation>
    ) -> Ticket {
        if added.pointee.runOffset != 0, added.pointee.delta == operation.pointee.operand {
            let place = writer.bytes + Int(added.pointee.runOffset)
            let count = UInt32(littleEndian: place.loadUnaligned(as: UInt32.self))
            let (sum, overflow) = count.addingReportingOverflow(operation.pointee.count)
            if !overflow {
                place.storeBytes(of: sum.littleEndian, as: UInt32.self)
                return Ticket(index: added.pointee.runIndex, element: count)
            }
        }
        var end = writer.reserve(Self.runBytesMax)
        end.storeBytes(of: RequestKind.run.rawValue, as: UInt8.self)
        end += 1
        end += Varint.write(UInt64(added.pointee.offsetPlusOne - 1), to: end)
        end += Varint.write(Varint.zigzag(operation.pointee.operand), to: end)
        added.pointee.runOffset = UInt32(end - writer.bytes)
        added.pointee.delta = operation.pointee.operand
        // The read comes before it.
        added.pointee.runIndex = operationCount + 1
        end.storeBytes(of: operation.pointee.count.littleEndian, as: UInt32.self)
        writer.finish(at: end + 4)
        operationCount += 2
        return Ticket(index: added.pointee.runIndex, element: 0)
    }

    private mutating func appendOther(
        _ operation: UnsafePointer<Operation>, _ rows: UnsafeMutablePointer<Int64>
    ) -> Ticket {
        switch operation.pointee.kind {
        case .transaction, .countKeys, .importRuns, .remember:
            preconditionFailure("not an operation for this entry")
        case .readRecord, .setColumns, .setRecord, .deleteRecord, .clear, .changeSchema:
            // Several columns or keys that were added to may be meant.
            forgetAddedKeys()
        case .raiseFloor: break
        default:
            addedKeys[EntryWriter.slot(operation, of: Self.slots)].offsetPlusOne = 0
        }
        writer.writeRequest(operation, rows)
        return nextTicket()
    }

    /// The next `count` operations, none of which combines, are one unit.
    public mutating func beginUnit(count: Int, _ condition: Operation.UnitCondition) {
        forgetAddedKeys()
        let start = writer.reserve(2 + Varint.bytesMax)
        start.storeBytes(of: RequestKind.unit.rawValue, as: UInt8.self)
        start.storeBytes(of: condition.rawValue, toByteOffset: 1, as: UInt8.self)
        writer.finish(at: start + 2 + Varint.write(UInt64(count), to: start + 2))
    }

    /// The next `count` operations are one transaction; none of them combines.
    ///
    /// - Returns: where the transaction's own outcome will be.
    public mutating func beginTransaction(count: Int) -> Ticket {
        forgetAddedKeys()
        let start = writer.reserve(1 + Varint.bytesMax)
        start.storeBytes(of: RequestKind.transaction.rawValue, as: UInt8.self)
        writer.finish(at: start + 1 + Varint.write(UInt64(count), to: start + 1))
        return nextTicket()
    }

    /// The next `count` operations are one request that is to be executed once.
    ///
    /// - Returns: where the request's own outcome will be.
    public mutating func beginOnce(
        _ token: RequestToken, fingerprint: UInt64, count: Int
    ) -> Ticket {
        forgetAddedKeys()
        let head = 1 + RequestToken.byteCount + 8
        let start = writer.reserve(head + Varint.bytesMax)
        start.storeBytes(of: RequestKind.once.rawValue, as: UInt8.self)
        token.write(to: start + 1)
        start.storeBytes(
            of: fingerprint.littleEndian, toByteOffset: 1 + RequestToken.byteCount, as: UInt64.self)
        writer.finish(at: start + head + Varint.write(UInt64(count), to: start + head))
        return nextTicket()
    }

    @inline(__always)
    private mutating func nextTicket() -> Ticket {
        operationCount &+= 1
        return Ticket(index: operationCount &- 1)
    }

    @inline(__always)
    private mutating func forgetAddedKeys() {
        guard hasAddedKeys else { return }
        hasAddedKeys = false
        addedKeys.update(repeating: AddedKey(), count: Self.slots)
    }
}

extension EntryWriter {
    /// Writes the entry of an operation that has not been judged.
    fileprivate mutating func writeRequest(
        _ operation: UnsafePointer<Operation>, _ rows: UnsafeMutablePointer<Int64>
    ) {
        let isPlain = operation.pointee.family == 0
        switch operation.pointee.kind {
        case .add: writeAdd(operation, bytesMax: Partition.journalBytesMax(operation.pointee))
        case .setIfPresent where !isPlain: writeHeaded(.columnSetIfPresent, operation, value: true)
        case .setIfAbsent where !isPlain: writeHeaded(.columnSetIfAbsent, operation, value: true)
        case .get: writeHeaded(isPlain ? .get : .columnGet, operation)
        case .readRecord:
            let start = reserve(Self.headBytesMax(operation) + 2 * Varint.bytesMax)
            var end = writeRecord(RequestKind.recordRead.rawValue, operation, at: start)
            end += Varint.write(UInt64(operation.pointee.column), to: end)
            end += Varint.write(UInt64(operation.pointee.count), to: end)
            finish(at: end)
        case .readExpiry: writeHeaded(.expiryRead, operation)
        case .readForMove:
            let start = reserve(
                Self.headBytesMax(operation) + ExtendedSet.wordCount * Varint.bytesMax)
            let end = writeHead(RequestKind.moveRead.rawValue, operation, at: start)
            finish(at: writeWords(ExtendedSet.wordCount, operation, rows, at: end))
        case .setMoved: writeHeaded(.moveSet, operation)
        case .deleteMoved: writeHeaded(.moveDelete, operation)
        default: write(operation, rows)
        }
    }

    private mutating func writeHeaded(
        _ kind: RequestKind, _ operation: UnsafePointer<Operation>, value: Bool = false
    ) {
        let start = reserve(Self.headBytesMax(operation) + Varint.bytesMax)
        var end = writeHead(kind.rawValue, operation, at: start)
        if value { end += Varint.write(Varint.zigzag(operation.pointee.operand), to: end) }
        finish(at: end)
    }

    /// Most bytes of an entry's kind and what it names.
    private static func headBytesMax(_ operation: UnsafePointer<Operation>) -> Int {
        Int(operation.pointee.keyByteCount) + 24
    }
}
