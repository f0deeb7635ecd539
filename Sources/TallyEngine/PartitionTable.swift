public import TallyCore

/// All partitions of a node, side by side in memory.
///
/// Not thread-safe: the owner locks each partition that an operation names.
public struct PartitionTable: ~Copyable {
    private let partitions: UnsafeMutablePointer<Partition>

    /// How many partitions there are.
    public let count: Int

    /// Makes `count` partitions.
    public init(count: Int, _ make: (Int) -> Partition) {
        self.count = count
        partitions = .allocate(capacity: count)
        for index in 0..<count { (partitions + index).initialize(to: make(index)) }
    }

    deinit {
        partitions.deinitialize(count: count)
        partitions.deallocate()
    }

    /// How operations are to be applied, and what comes of it all together.
    public struct Application {
        /// The commit group that is open.
        public var sequence: UInt64
        /// Whether operations that would create a counter are refused.
        public let isMemoryFull: Bool
        /// Whether operations that would change anything are refused.
        public let isJournalFull: Bool
        /// What the operations' places in rows lead into.
        public let rows: UnsafeMutablePointer<Int64>
        /// Journal bytes that the applied operations may take, an upper bound.
        public private(set) var reservedBytes = 0
        /// How much more memory, bytes, the counters take than before.
        public private(set) var allocatedBytes = 0

        /// An application that has not begun.
        public init(isMemoryFull: Bool, isJournalFull: Bool, rows: UnsafeMutablePointer<Int64>) {
            sequence = 0
            self.rows = rows
            self.isMemoryFull = isMemoryFull
            self.isJournalFull = isJournalFull
        }

        @inline(__always)
        fileprivate mutating func note(reserved: Int, allocated: Int) {
            reservedBytes &+= reserved
            allocatedBytes &+= allocated
        }
    }

    /// Operations whose memory is asked for together.
    private static let prefetchCount = 32

    /// Applies operations one by one, in order, each seeing the outcome of those before it.
    ///
    /// - Parameter outcomes: Room for one outcome per operation.
    /// - Complexity: O(1) expected per operation. Allocates only when tables grow.
    public borrowing func apply(
        _ operations: UnsafePointer<Operation>, count: Int,
        outcomes: UnsafeMutablePointer<Outcome>, _ application: inout Application
    ) {
        var places = InlineArray<32, IntegerTable.Lookup>(
            repeating: IntegerTable.Lookup(key: 0, hash: 0))
        var start = 0
        while start < count {
            let end = min(start &+ Self.prefetchCount, count)
            prefetch(operations + start, end &- start, &places)
            for index in start..<end {
                apply(
                    operations + index, places[index &- start], outcomes + index, &application)
            }
            start = end
        }
    }

    /// Lets the waits for memory of several operations overlap.
    @inline(__always)
    private borrowing func prefetch(
        _ operations: UnsafePointer<Operation>, _ count: Int,
        _ places: inout InlineArray<32, IntegerTable.Lookup>
    ) {
        var hasRecords = false
        for index in 0..<count {
            if operations[index].family != 0 { hasRecords = true }
            partitions[Int(operations[index].partition)].prefetch(operations + index)
        }
        guard count > 1 || hasRecords else { return }
        locate(.segment, operations, count, &places)
        guard hasRecords else { return }
        locate(.index, operations, count, &places)
        locate(.block, operations, count, &places)
    }

    @inline(__always)
    private borrowing func locate(
        _ step: FamilyRecords.Step, _ operations: UnsafePointer<Operation>, _ count: Int,
        _ places: inout InlineArray<32, IntegerTable.Lookup>
    ) {
        for index in 0..<count {
            partitions[Int(operations[index].partition)].locate(
                step, operations + index, &places[index])
        }
    }

    @inline(__always)
    private borrowing func apply(
        _ operation: UnsafePointer<Operation>, _ place: IntegerTable.Lookup,
        _ outcome: UnsafeMutablePointer<Outcome>, _ application: inout Application
    ) {
        let partition = partitions + Int(operation.pointee.partition)
        defer { outcome.pointee.sequence = partition.pointee.lastSequence }
        guard operation.pointee.isWrite else {
            outcome.pointee = partition.pointee.apply(operation, place, application.rows)
            return
        }
        if application.isJournalFull {
            outcome.pointee = Outcome(refused: .journalFull)
            return
        }
        if application.isMemoryFull, partition.pointee.wouldCreate(operation) {
            outcome.pointee = Outcome(refused: .memoryFull)
            return
        }
        let allocatedBytes = partition.pointee.allocatedBytes
        outcome.pointee = partition.pointee.apply(operation, place, application.rows)
        if outcome.pointee.status == .applied {
            let reserved = partition.pointee.record(
                operation, application.rows, sequence: application.sequence)
            application.note(
                reserved: reserved,
                allocated: partition.pointee.allocatedBytes &- allocatedBytes)
        }
    }

    /// One partition, to look at or to change; lives as long as the table.
    public func partition(_ index: Int) -> UnsafeMutablePointer<Partition> {
        precondition(index < count, "no such partition")
        return partitions + index
    }
}
