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
        /// The commit group that is open, or the log's entry that is applied.
        public var sequence: UInt64
        /// Whether it is a log's entry, so that the sequence stays.
        public let isLogged: Bool
        /// Whether operations that would create a counter are refused.
        public let isMemoryFull: Bool
        /// Whether operations that would change anything are refused.
        public let isJournalFull: Bool
        /// What the operations' places in rows lead into.
        public let rows: UnsafeMutablePointer<Int64>
        /// The time by which deadlines are judged, milliseconds since 1970; nil where there are none.
        public let nowMilliseconds: Int64?
        /// Journal bytes that the applied operations may take, an upper bound.
        public private(set) var reservedBytes = 0
        /// How much more memory, bytes, the counters take than before.
        public private(set) var allocatedBytes = 0
        /// How many keys were removed because their deadline had come.
        public fileprivate(set) var expiredCount = 0

        /// An application that has not begun.
        public init(
            isMemoryFull: Bool, isJournalFull: Bool, nowMilliseconds: Int64?,
            rows: UnsafeMutablePointer<Int64>
        ) {
            sequence = 0
            isLogged = false
            self.nowMilliseconds = nowMilliseconds
            self.rows = rows
            self.isMemoryFull = isMemoryFull
            self.isJournalFull = isJournalFull
        }

        /// Applying the entry `sequence` of a log: nothing but state and entry may matter.
        public init(
            sequence: UInt64, nowMilliseconds: Int64?, rows: UnsafeMutablePointer<Int64>
        ) {
            self.sequence = sequence
            isLogged = true
            self.nowMilliseconds = nowMilliseconds
            self.rows = rows
            isMemoryFull = false
            isJournalFull = false
        }

        @inline(__always)
        mutating func note(reserved: Int, allocated: Int) {
            reservedBytes &+= reserved
            allocatedBytes &+= allocated
        }
    }

    /// Operations whose memory is asked for together.
    @inlinable public static var prefetchCount: Int { 32 }

    /// Applies operations one by one, in order, each seeing the outcome of those before it.
    ///
    /// - Parameter outcomes: Room for one outcome per operation.
    /// - Complexity: O(1) expected per operation. Allocates only when tables grow.
    public borrowing func apply(
        _ operations: UnsafePointer<Operation>, count: Int,
        outcomes: UnsafeMutablePointer<Outcome>, _ application: inout Application
    ) {
        guard count > 1 else { return applyOne(operations, outcomes, &application) }
        var places = InlineArray<32, IntegerTable.Lookup>(
            repeating: IntegerTable.Lookup(key: 0, hash: 0))
        var start = 0
        var end = min(Self.prefetchCount, count)
        var hasRecords = prefetch(operations, end)
        while start < count {
            locate(operations + start, end &- start, hasRecords, &places)
            let next = min(end &+ Self.prefetchCount, count)
            // What the next ones need first comes while these are applied.
            if next > end { hasRecords = prefetch(operations + end, next &- end) }
            for index in start..<end {
                apply(
                    operations + index, places[index &- start], outcomes + index, &application)
            }
            start = end
            end = next
        }
    }

    /// Applies one operation: there is nothing whose waits could overlap.
    public borrowing func applyOne(
        _ operation: UnsafePointer<Operation>, _ outcome: UnsafeMutablePointer<Outcome>,
        _ application: inout Application
    ) {
        var place = IntegerTable.Lookup(key: 0, hash: 0)
        if operation.pointee.family != 0 {
            let partition = partitions + Int(operation.pointee.partition)
            partition.pointee.locate(.segment, operation, &place)
            partition.pointee.locate(.block, operation, &place)
        }
        apply(operation, place, outcome, &application)
    }

    /// Asks for the memory that locating several operations' keys needs first, so that the waits overlap.
    ///
    /// - Returns: whether some of them are about records.
    @inline(__always)
    private borrowing func prefetch(
        _ operations: UnsafePointer<Operation>, _ count: Int
    ) -> Bool {
        var hasRecords = false
        for index in 0..<count {
            if operations[index].family != 0 { hasRecords = true }
            (partitions + Int(operations[index].partition)).pointee.prefetch(operations + index)
        }
        return hasRecords
    }

    /// Finds what applying several operations needs, and asks for it.
    @inline(__always)
    private borrowing func locate(
        _ operations: UnsafePointer<Operation>, _ count: Int, _ hasRecords: Bool,
        _ places: inout InlineArray<32, IntegerTable.Lookup>
    ) {
        guard count > 1 || hasRecords else { return }
        locate(.segment, operations, count, &places)
        guard hasRecords else { return }
        locate(.index, operations, count, &places)
        locate(.block, operations, count, &places)
    }

    /// Asks for the memory that `locateRequests` needs first, so that the waits for it overlap.
    ///
    /// - Parameters:
    ///   - operations: Requests of one operation each: a header, whose hash is its token's, and its operation.
    ///   - count: Of the operations, headers and all.
    public borrowing func prefetchRequests(_ operations: UnsafePointer<Operation>, count: Int) {
        var index = 0
        while index < count {
            let partition = partitions + Int(operations[index].partition)
            partition.pointee.tokens.prefetch(operations[index].hash)
            partition.pointee.prefetch(operations + (index &+ 1))
            index &+= 2
        }
    }

    /// Asks for the records that executing such requests needs.
    public borrowing func locateRequests(_ operations: UnsafePointer<Operation>, count: Int) {
        var index = 1
        while index < count {
            if operations[index].family == 0 {
                (partitions + Int(operations[index].partition)).pointee.plain.prefetchRecord(
                    operations[index].hash)
            }
            index &+= 2
        }
    }

    @inline(__always)
    private borrowing func locate(
        _ step: FamilyRecords.Step, _ operations: UnsafePointer<Operation>, _ count: Int,
        _ places: inout InlineArray<32, IntegerTable.Lookup>
    ) {
        for index in 0..<count {
            (partitions + Int(operations[index].partition)).pointee.locate(
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
        if let now = application.nowMilliseconds, operation.pointee.family == 0,
            partition.pointee.isDue(operation, now: now)
        {
            if !application.isJournalFull {
                removeDue(operation, partition, &application)
            } else if !operation.pointee.isWrite {
                // The journal cannot say that it is gone.
                outcome.pointee = Outcome(.applied, wasPresent: false, value: 0)
                return
            }
        }
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
        applyWrite(operation, place, outcome, partition, &application)
        if let now = application.nowMilliseconds, operation.pointee.family == 0,
            operation.pointee.kind.setsDeadline, partition.pointee.isDue(operation, now: now)
        {
            removeDue(operation, partition, &application)
        }
    }

    @inline(__always)
    borrowing func applyWrite(
        _ operation: UnsafePointer<Operation>, _ place: IntegerTable.Lookup,
        _ outcome: UnsafeMutablePointer<Outcome>, _ partition: UnsafeMutablePointer<Partition>,
        _ application: inout Application
    ) {
        if operation.pointee.kind == .add, operation.pointee.family == 0 {
            return addToPlain(operation, outcome, partition, &application)
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

    @inline(__always)
    borrowing func addToPlain(
        _ operation: UnsafePointer<Operation>, _ outcome: UnsafeMutablePointer<Outcome>,
        _ partition: UnsafeMutablePointer<Partition>, _ application: inout Application
    ) {
        let added = partition.pointee.addToPlain(operation)
        outcome.pointee = added.outcome
        guard added.outcome.status == .applied else { return }
        let reserved = partition.pointee.record(
            operation, application.rows, sequence: application.sequence)
        application.note(reserved: reserved, allocated: added.allocatedBytes)
    }

    // MARK: Deadlines

    /// Removes the key of `operation`, whose deadline has come, by an operation like any other.
    @inline(never)
    private borrowing func removeDue(
        _ operation: UnsafePointer<Operation>, _ partition: UnsafeMutablePointer<Partition>,
        _ application: inout Application
    ) {
        var deletion = Operation(
            .delete, key: operation.pointee.key, keyByteCount: Int(operation.pointee.keyByteCount),
            hash: operation.pointee.hash, partition: Int(operation.pointee.partition))
        var outcome = Outcome(refused: .unreadable)
        applyWrite(
            &deletion, IntegerTable.Lookup(key: 0, hash: 0), &outcome, partition, &application)
        if outcome.status == .applied { application.expiredCount += 1 }
    }

    /// Removes those of the operations' keys whose deadline has come, so that the operations can be
    /// judged as one.
    public borrowing func removeDue(
        _ operations: UnsafePointer<Operation>, count: Int, _ application: inout Application
    ) {
        guard let now = application.nowMilliseconds, !application.isJournalFull else { return }
        for index in 0..<count where operations[index].family == 0 {
            let partition = partitions + Int(operations[index].partition)
            if partition.pointee.isDue(operations + index, now: now) {
                removeDue(operations + index, partition, &application)
            }
        }
    }

    /// One partition, to look at or to change; lives as long as the table.
    public func partition(_ index: Int) -> UnsafeMutablePointer<Partition> {
        precondition(index < count, "no such partition")
        return partitions + index
    }
}
