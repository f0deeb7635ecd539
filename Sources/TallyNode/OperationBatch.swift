public import TallyCore
import TallyEngine

/// Operations on their way to their partitions, and what became of them, in memory that is used
/// again for the next batch.
public struct OperationBatch: ~Copyable {
    private let hasher: KeyHasher
    private let partitionCount: Int
    private var capacity: Int

    private(set) var operations: UnsafeMutablePointer<Operation>
    /// What became of each operation, once the batch has been executed.
    public private(set) var outcomes: UnsafeMutablePointer<Outcome>

    /// How many operations there are.
    public private(set) var count = 0
    /// Journal bytes that the writes among them may take, an upper bound.
    private(set) var journalBytesMax = 0

    private static let capacityKept = 1024

    init(hasher: KeyHasher, partitionCount: Int) {
        self.hasher = hasher
        self.partitionCount = partitionCount
        capacity = Self.capacityKept
        operations = .allocate(capacity: capacity)
        outcomes = .allocate(capacity: capacity)
    }

    deinit {
        operations.deallocate()
        outcomes.deallocate()
    }

    /// Appends an operation on `key`, whose bytes must stay until the batch has been executed.
    ///
    /// - Precondition: `key` has at most `Limits.keyBytesMax` bytes and an address.
    @inline(__always)
    public mutating func append(
        _ kind: Operation.Kind, key: UnsafeRawBufferPointer, operand: Int64 = 0
    ) {
        let start = key.baseAddress.unsafelyUnwrapped
        append(
            Operation(
                kind, key: start, keyByteCount: key.count,
                hash: hasher.hash(start, count: key.count),
                partition: Slot(of: key).partition(of: partitionCount), operand: operand))
    }

    /// Appends the removal of every key of every partition, as one unit.
    public mutating func appendClear() {
        let first = count
        for partition in 0..<partitionCount {
            append(
                Operation(
                    .clear, key: UnsafeRawPointer(operations), keyByteCount: 0, hash: 0,
                    partition: partition))
        }
        makeUnit(from: first)
    }

    /// Makes the operations from `first` on apply as one: all or none, and nothing in between.
    ///
    /// - Parameter condition: Judged before any of them is applied.
    public mutating func makeUnit(
        from first: Int, condition: Operation.UnitCondition = .none
    ) {
        guard first < count else { return }
        operations[first].unitCount = UInt32(count - first)
        operations[first].unitCondition = condition
    }

    /// The latest commit group that the outcomes of these operations reflect.
    @inline(__always)
    public func latestSequence(_ operations: Range<Int>) -> UInt64 {
        var latest: UInt64 = 0
        for index in operations { latest = max(latest, outcomes[index].sequence) }
        return latest
    }

    /// Empties the batch.
    public mutating func removeAll() {
        count = 0
        journalBytesMax = 0
        if capacity > Self.capacityKept * 16 { resize(to: Self.capacityKept) }
    }

    @inline(__always)
    private mutating func append(_ operation: Operation) {
        if count == capacity { resize(to: capacity * 2) }
        (operations + count).initialize(to: operation)
        count &+= 1
        if operation.isWrite {
            journalBytesMax &+=
                Int(operation.keyByteCount) &+ Partition.entryOverheadMax(operation.kind)
        }
    }

    @inline(never)
    private mutating func resize(to newCapacity: Int) {
        let resized = UnsafeMutablePointer<Operation>.allocate(capacity: newCapacity)
        resized.initialize(from: operations, count: count)
        operations.deallocate()
        operations = resized
        outcomes.deallocate()
        outcomes = .allocate(capacity: newCapacity)
        capacity = newCapacity
    }
}
