public import TallyCore

/// One partition's counters, and the operations on them that the journal does not hold yet.
///
/// `apply` is the only way state changes: it serves clients, and `replay` feeds it what the journal
/// holds. It depends on nothing but the state and the operations.
///
/// Not thread-safe: the owner locks.
public struct Partition: ~Copyable {
    /// Most bytes that an operation adds to the journal, its key not included.
    @inlinable @inline(__always)
    public static func entryOverheadMax(_ kind: Operation.Kind) -> Int {
        switch kind {
        // An entry of its own, or a run that points back to one.
        case .add: 24
        case .set, .setIfAbsent, .setIfPresent: 13
        case .delete, .clear, .get: 3
        }
    }

    private var table: Memtable
    private var pending = PendingEntries()
    private let hasher: KeyHasher

    /// The commit group that holds, or will hold, the latest change; 0 before the first.
    public private(set) var lastSequence: UInt64 = 0

    /// An empty partition that hashes keys with `hasher`.
    public init(hasher: KeyHasher) {
        self.hasher = hasher
        table = Memtable(hasher: hasher)
    }

    /// How many counters there are.
    public var count: Int { table.count }

    /// Memory taken, bytes, without what waits for the journal.
    public var allocatedBytes: Int { table.allocatedBytes }

    // MARK: Applying

    /// Records an operation that has taken effect for the commit group `sequence`.
    ///
    /// - Returns: journal bytes that it may take, an upper bound.
    @inline(__always)
    mutating func record(_ operation: UnsafePointer<Operation>, sequence: UInt64) -> Int {
        lastSequence = sequence
        return pending.append(operation)
    }

    /// Applies what the journal's group `sequence` holds for this partition.
    ///
    /// - Returns: how many entries that were.
    /// - Throws: `EntryError`; what stood before the bad entry has been applied.
    public mutating func replay(
        _ section: UnsafeRawBufferPointer, partition: Int, sequence: UInt64
    ) throws(EntryError) -> Int {
        var reader = EntryReader(section, partition: partition, hasher: hasher)
        var entries = 0
        while true {
            let offset = reader.offset
            guard var operation = try reader.next() else { break }
            let outcome = apply(&operation)
            guard outcome.status == .applied,
                operation.kind != .add || outcome.acceptedCount == operation.count
            else { throw .diverged(offset: offset) }
            entries += 1
        }
        lastSequence = sequence
        return entries
    }

    /// Whether applying `operation` would create a counter.
    public borrowing func wouldCreate(_ operation: UnsafePointer<Operation>) -> Bool {
        switch operation.pointee.kind {
        case .add, .set, .setIfAbsent: find(operation) == nil
        case .get, .setIfPresent, .delete, .clear: false
        }
    }

    /// Asks for the memory that `prefetchRecord` will need.
    @inline(__always)
    borrowing func prefetchBucket(_ hash: UInt64) {
        table.prefetchBucket(hash)
    }

    /// Asks for the memory that applying an operation on a key of this hash will need.
    @inline(__always)
    borrowing func prefetchRecord(_ hash: UInt64) {
        table.prefetchRecord(hash)
    }

    /// Applies one operation. Nothing else changes state.
    ///
    /// - Complexity: O(1) expected. Allocates only when tables grow.
    @inline(__always)
    mutating func apply(_ operation: UnsafePointer<Operation>) -> Outcome {
        switch operation.pointee.kind {
        case .get:
            guard let record = find(operation) else {
                return Outcome(.applied, wasPresent: false, value: 0)
            }
            return Outcome(.applied, wasPresent: true, value: Memtable.value(record))
        case .add:
            return add(operation)
        case .set, .setIfAbsent, .setIfPresent:
            return set(operation)
        case .delete:
            let old = table.remove(
                operation.pointee.key, Int(operation.pointee.keyByteCount),
                hash: operation.pointee.hash)
            guard let old else { return Outcome(.unchanged, wasPresent: false, value: 0) }
            return Outcome(.applied, wasPresent: true, value: old)
        case .clear:
            guard table.count > 0 else {
                return Outcome(.unchanged, wasPresent: false, value: 0)
            }
            table.removeAll()
            return Outcome(.applied, wasPresent: true, value: 0)
        }
    }

    @inline(__always)
    private mutating func add(_ operation: UnsafePointer<Operation>) -> Outcome {
        let record = find(operation)
        let old = record.map(Memtable.value) ?? 0
        let accepted: UInt32
        let sum: Int64
        if operation.pointee.count == 1 {
            let (value, overflow) = old.addingReportingOverflow(operation.pointee.operand)
            guard !overflow else {
                return Outcome(.overflow, wasPresent: record != nil, value: old)
            }
            sum = value
            accepted = 1
        } else {
            accepted = Self.acceptedCount(old, operation.pointee.operand, operation.pointee.count)
            guard accepted > 0 else {
                return Outcome(.overflow, wasPresent: record != nil, value: old)
            }
            sum = old &+ operation.pointee.operand &* Int64(accepted)
        }
        if let record {
            Memtable.setValue(record, sum)
        } else {
            insert(operation, sum)
        }
        return Outcome(
            .applied, wasPresent: record != nil, value: sum, acceptedCount: accepted)
    }

    /// How many of `count` additions of `delta` to `value`, judged one by one, stay within 64 bits.
    ///
    /// - Complexity: O(1).
    static func acceptedCount(_ value: Int64, _ delta: Int64, _ count: UInt32) -> UInt32 {
        guard delta != 0 else { return count }
        let limit = delta > 0 ? Int64.max : Int64.min
        let room = UInt64(bitPattern: delta > 0 ? limit &- value : value &- limit)
        return UInt32(min(UInt64(count), room / delta.magnitude))
    }

    private mutating func set(_ operation: UnsafePointer<Operation>) -> Outcome {
        let record = find(operation)
        let old = record.map(Memtable.value) ?? 0
        let holds =
            switch operation.pointee.kind {
            case .setIfAbsent: record == nil
            case .setIfPresent: record != nil
            default: true
            }
        if holds {
            if let record {
                Memtable.setValue(record, operation.pointee.operand)
            } else {
                insert(operation, operation.pointee.operand)
            }
        }
        return Outcome(holds ? .applied : .unchanged, wasPresent: record != nil, value: old)
    }

    @inline(__always)
    private borrowing func find(_ operation: UnsafePointer<Operation>) -> UnsafeMutableRawPointer? {
        table.find(
            operation.pointee.key, Int(operation.pointee.keyByteCount), hash: operation.pointee.hash
        )
    }

    @inline(__always)
    private mutating func insert(_ operation: UnsafePointer<Operation>, _ value: Int64) {
        table.insert(
            operation.pointee.key, Int(operation.pointee.keyByteCount),
            hash: operation.pointee.hash, value: value)
    }

    // MARK: Reading all

    /// Calls `body` with every key and counter, in no order.
    public borrowing func forEach(_ body: (UnsafeRawBufferPointer, Int64) -> Void) {
        table.forEach(body)
    }

    /// Traps if any internal promise is broken. For tests.
    public borrowing func checkInvariants() {
        table.checkInvariants()
    }

    // MARK: Handing over to the journal

    /// Whether anything waits for the next commit group.
    public var hasPending: Bool { !pending.isEmpty }

    /// Hands over what waits for the journal.
    ///
    /// - Parameter spare: Memory to go on with, which this partition now owns.
    /// - Returns: the entries, whose memory the caller now owns.
    public mutating func takePending(spare: EntryBuffer) -> PendingSection {
        pending.writeOpenRuns()
        let byteCount = pending.byteCount
        let entryCount = pending.entryCount
        let reserved = pending.reservedBytes
        let (bytes, capacity) = pending.take(spare: spare.bytes, spareBytes: spare.capacity)
        return PendingSection(
            buffer: EntryBuffer(bytes: bytes, capacity: capacity), byteCount: byteCount,
            entryCount: entryCount, reservedBytes: reserved)
    }
}

/// Memory for entries, owned by whoever holds it.
public struct EntryBuffer {
    /// Its first byte.
    public let bytes: UnsafeMutableRawPointer
    /// Its size, bytes.
    public let capacity: Int

    /// Takes over `capacity` bytes at `bytes`.
    init(bytes: UnsafeMutableRawPointer, capacity: Int) {
        self.bytes = bytes
        self.capacity = capacity
    }

    /// Allocates `capacity` bytes.
    public static func allocate(_ capacity: Int) -> EntryBuffer {
        EntryBuffer(bytes: .allocate(byteCount: capacity, alignment: 16), capacity: capacity)
    }

    /// Gives the memory back.
    public func deallocate() { bytes.deallocate() }
}

/// One partition's part of a commit group.
public struct PendingSection {
    /// Where the entries are.
    public let buffer: EntryBuffer
    /// How long they are, bytes.
    public let byteCount: Int
    /// How many they are.
    public let entryCount: UInt32
    /// What was reserved for them, at least `byteCount`.
    public let reservedBytes: Int
}
