public import TallyCore
import TallyEngine

/// Operations on their way to their partitions, and what became of them, in memory that is used
/// again for the next batch.
public struct OperationBatch: ~Copyable {
    let hasher: KeyHasher
    let partitionCount: Int
    private var capacity: Int

    /// The operations, in order.
    public private(set) var operations: UnsafeMutablePointer<Operation>
    /// What became of each operation, once the batch has been executed.
    public private(set) var outcomes: UnsafeMutablePointer<Outcome>
    /// What the operations' places in rows lead into: values to be set, and values that were read.
    public private(set) var rows: UnsafeMutablePointer<Int64>
    private var rowsCount = 0
    private var rowsCapacity: Int
    /// Copies of what does not stay where it is.
    private var texts: [UnsafeMutableRawBufferPointer] = []
    /// What must live until the operations have been executed.
    private var held: [AnyObject] = []
    /// The keys that transactions watch.
    private var watched: [WatchedKeys] = []
    /// Whether there are requests among them that are to be executed once.
    private(set) var hasRequests = false

    /// How many operations there are.
    public private(set) var count = 0
    /// Journal bytes that the writes among them may take, an upper bound.
    public private(set) var journalBytesMax = 0
    /// Whether there may be operations among them that give keys a deadline.
    private(set) var setsDeadlines = false
    /// Whether anything but plain reads is among them.
    public private(set) var changesAnything = false
    /// Whether a change of the schema is among them.
    private(set) var changesSchema = false
    /// The time by which deadlines were judged, milliseconds since 1970; 0 where there are none.
    public var nowMilliseconds: Int64 = 0

    private static let capacityKept = 1024

    init(hasher: KeyHasher, partitionCount: Int) {
        self.hasher = hasher
        self.partitionCount = partitionCount
        capacity = Self.capacityKept
        operations = .allocate(capacity: capacity)
        outcomes = .allocate(capacity: capacity)
        rowsCapacity = Self.capacityKept
        rows = .allocate(capacity: rowsCapacity)
    }

    deinit {
        operations.deallocate()
        outcomes.deallocate()
        rows.deallocate()
        for text in texts { text.deallocate() }
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

    // MARK: Records

    /// Names a record: a family and one of its keys.
    public struct Record {
        /// The family's number.
        public let family: UInt32
        /// The key, if it is an integer.
        public let integerKey: UInt64
        /// The key, if it is bytes; they must stay until the batch has been executed.
        public let stringKey: UnsafeRawBufferPointer?
        /// The slot of a key of bytes.
        public let slot: Slot?

        /// A record with an integer key.
        public init(family: UInt32, key: UInt64) {
            self.family = family
            integerKey = key
            stringKey = nil
            slot = nil
        }

        /// A record with a key of bytes, which has an address, placed by `slot`.
        public init(family: UInt32, key: UnsafeRawBufferPointer, slot: Slot) {
            self.family = family
            integerKey = 0
            stringKey = key
            self.slot = slot
        }
    }

    /// Appends an operation on a record.
    ///
    /// - Parameters:
    ///   - column: The column's number; for `readRecord` the family's version.
    ///   - operand: As in `Operation`.
    ///   - count: As in `Operation`.
    @inline(__always)
    public mutating func append(
        _ kind: Operation.Kind, _ record: Record, column: UInt32 = 0, operand: Int64 = 0,
        count: UInt32 = 1
    ) {
        var operation: Operation
        if let key = record.stringKey, let slot = record.slot {
            let start = key.baseAddress.unsafelyUnwrapped
            operation = Operation(
                kind, key: start, keyByteCount: key.count,
                hash: hasher.hash(start, count: key.count),
                partition: slot.partition(of: partitionCount), operand: operand, count: count)
        } else {
            operation = Operation(
                kind, integerKey: record.integerKey,
                hash: hasher.hash(
                    PartitionPlace.compact(record.integerKey, count: partitionCount)),
                partition: PartitionPlace.partition(
                    of: record.integerKey, count: partitionCount),
                operand: operand, count: count)
        }
        operation.family = record.family
        operation.column = column
        append(operation)
    }

    /// Appends the reading of all columns of a record, as many as a family of this version has.
    @inline(__always)
    public mutating func appendRead(_ record: Record, version: UInt32, columnCount: Int) {
        let place = rowsCount
        makeRows(columnCount)
        rowsCount &+= columnCount
        append(
            .readRecord, record, column: version, operand: Int64(place),
            count: UInt32(truncatingIfNeeded: columnCount))
    }

    /// Appends a pair for the `setColumns` or `setRecord` that will follow.
    public mutating func appendPair(column: UInt32, _ value: Int64) {
        makeRows(2)
        rows[rowsCount] = Int64(column)
        rows[rowsCount + 1] = value
        rowsCount += 2
    }

    /// Appends `setColumns` or `setRecord` with the last `pairCount` pairs.
    public mutating func append(_ kind: Operation.Kind, _ record: Record, pairCount: Int) {
        append(
            kind, record, operand: Int64(rowsCount - 2 * pairCount), count: UInt32(pairCount))
    }

    @inline(__always)
    private mutating func makeRows(_ count: Int) {
        if rowsCount &+ count > rowsCapacity { growRows(count) }
    }

    @inline(never)
    private mutating func growRows(_ count: Int) {
        rowsCapacity = max(rowsCapacity * 2, rowsCount + count)
        let grown = UnsafeMutablePointer<Int64>.allocate(capacity: rowsCapacity)
        grown.update(from: rows, count: rowsCount)
        rows.deallocate()
        rows = grown
    }

    /// Appends a change of the schema of every partition, as one unit.
    public mutating func appendChange(_ change: SchemaChange) {
        appendChange(change.description, 0..<partitionCount)
    }

    /// The same for a cluster's schema, whose changes have numbers, and some of its partitions.
    public mutating func appendChange(_ numbered: NumberedChange, _ partitions: Range<Int>) {
        appendChange(numbered.description, partitions)
    }

    private mutating func appendChange(_ description: String, _ partitions: Range<Int>) {
        let text = Array(description.utf8)
        let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: text.count, alignment: 1)
        copy.copyBytes(from: text)
        texts.append(copy)
        let first = count
        for partition in partitions {
            append(
                Operation(
                    .changeSchema, key: UnsafeRawPointer(copy.baseAddress.unsafelyUnwrapped),
                    keyByteCount: copy.count, hash: 0, partition: partition))
        }
        makeUnit(from: first)
    }

    /// Appends taking over an import's records, each partition's if it has any, as one unit.
    ///
    /// - Parameter runs: By partition; they must live until the batch has been executed.
    mutating func appendImport(_ number: UInt64, family: UInt32, _ runs: [ImportedRuns?]) {
        let first = count
        for (partition, runs) in runs.enumerated() {
            guard let runs else { continue }
            append(runs.operation(number: number, family: family, partition: partition))
        }
        makeUnit(from: first)
    }

    // MARK: Transactions

    /// Begins a transaction: what is appended until `endTransaction` is applied as one, but each
    /// operation, or unit, is judged by itself.
    ///
    /// - Parameter watched: If one of these keys has changed, nothing is applied.
    /// - Returns: where it begins; its outcome says whether it was applied, now or before.
    @inline(__always)
    public mutating func beginTransaction(_ watched: WatchedKeys? = nil) -> Int {
        if let watched { self.watched.append(watched) }
        append(
            Operation(
                .transaction, key: UnsafeRawPointer(operations), keyByteCount: 0, hash: 0,
                partition: watched?.watches.first?.partition ?? 0,
                operand: watched == nil ? 0 : Int64(self.watched.count), count: 0))
        return count &- 1
    }

    /// Ends the transaction that began at `first`.
    @inline(__always)
    public mutating func endTransaction(from first: Int) {
        operations[first].unitCount = UInt32(truncatingIfNeeded: count &- first)
        if count > first &+ 1 { operations[first].partition = operations[first &+ 1].partition }
    }

    /// Ends the transaction that began at `first` as a request that is to be executed once.
    ///
    /// - Parameter fingerprint: Of its command.
    /// - Returns: false if too much would have to be remembered of it, or nothing; it must then go.
    public mutating func endTransaction(
        from first: Int, once token: RequestToken, fingerprint: UInt64
    ) -> Bool {
        endTransaction(from: first)
        let wordCount = OnceWords.wordCount(operations, (first &+ 1)..<count)
        guard wordCount <= Limits.onceWordsMax, count > first &+ 1 else { return false }
        let place = rowsCount
        let rowsNeeded = OnceRequest.rowsCount(wordCount: wordCount)
        makeRows(rowsNeeded)
        rowsCount &+= rowsNeeded
        let request = OnceRequest(rows + place)
        request.write(token, fingerprint: fingerprint, wordCount: wordCount)
        operations[first].hash = hasher.hash(token)
        operations[first].count = UInt32(truncatingIfNeeded: place &+ 1)
        journalBytesMax &+= request.journalBytesMax
        hasRequests = true
        return true
    }

    /// The keys that a transaction watches.
    func watched(_ transaction: Operation) -> WatchedKeys? {
        transaction.operand > 0 ? watched[Int(transaction.operand) - 1] : nil
    }

    /// The request that a transaction is, if it is to be executed once.
    @inline(__always)
    func request(_ transaction: UnsafePointer<Operation>) -> OnceRequest? {
        let place = Int(transaction.pointee.count) &- 1
        return place < 0 ? nil : OnceRequest(rows + place)
    }

    /// Appends raising the floor of what a partition remembers.
    mutating func appendRaiseFloor(_ partition: Int, to milliseconds: UInt64) {
        append(
            Operation(
                .raiseFloor, key: UnsafeRawPointer(operations), keyByteCount: 0, hash: 0,
                partition: partition, operand: Int64(clamping: milliseconds)))
    }

    /// Keeps an object, on whose memory operations' keys depend, until the batch has been executed.
    public mutating func hold(_ object: AnyObject) { held.append(object) }

    // MARK: Everything

    /// Appends the removal of every key of every partition, as one unit.
    public mutating func appendClear() { appendToAll(.clear) }

    /// Appends counting every key and record of every partition, as one unit.
    public mutating func appendCount() { appendToAll(.countKeys) }

    private mutating func appendToAll(_ kind: Operation.Kind) {
        let first = count
        for partition in 0..<partitionCount {
            append(
                Operation(
                    kind, key: UnsafeRawPointer(operations), keyByteCount: 0, hash: 0,
                    partition: partition))
        }
        makeUnit(from: first)
    }

    /// Forgets the operations from `first` on.
    public mutating func removeLast(to first: Int) {
        for index in first..<count {
            if operations[index].isWrite {
                journalBytesMax -= Partition.journalBytesMax(operations[index])
            } else if operations[index].kind == .transaction,
                let request = request(operations + index)
            {
                journalBytesMax -= request.journalBytesMax
            }
        }
        count = first
        if first == 0 {
            rowsCount = 0
            forgetTransactions()
        }
    }

    /// Appends `extendedSet` or `extendedAdd`, whose words `write` writes.
    ///
    /// - Parameter wordCount: Of the words, with those that applying adds.
    public mutating func append(
        _ kind: Operation.Kind, key: UnsafeRawBufferPointer, wordCount: Int,
        _ write: (UnsafeMutablePointer<Int64>) -> Void
    ) {
        append(kind, key: key, operand: appendWords(wordCount, write))
    }

    /// The same for a column of a record.
    public mutating func append(
        _ kind: Operation.Kind, _ record: Record, column: UInt32, wordCount: Int,
        _ write: (UnsafeMutablePointer<Int64>) -> Void
    ) {
        append(kind, record, column: column, operand: appendWords(wordCount, write))
    }

    /// Appends words to the rows.
    ///
    /// - Returns: where they are.
    mutating func appendWords(
        _ wordCount: Int, _ write: (UnsafeMutablePointer<Int64>) -> Void
    ) -> Int64 {
        let place = rowsCount
        makeRows(wordCount)
        write(rows + place)
        rowsCount += wordCount
        return Int64(place)
    }

    /// Appends giving a plain key the value and the deadline of another, as operations of one unit.
    ///
    /// - Parameter replaces: Whether it may be there already.
    public mutating func appendCopy(
        _ source: UnsafeRawBufferPointer, to target: UnsafeRawBufferPointer, replaces: Bool
    ) {
        let words = appendWords(MovedKey.wordCount) {
            ExtendedSet(
                value: 0, condition: replaces ? .none : .ifAbsent, expiry: .remove, deadline: 0
            ).write($0)
            $0[MovedKey.stateWord] = MovedKey.State.absent.rawValue
        }
        append(.readForMove, key: source, operand: words)
        append(.setMoved, key: target, operand: words)
    }

    /// Appends giving a plain key another name, as operations of one unit.
    ///
    /// - Parameter replaces: Whether a key of that name may be there already.
    public mutating func appendMove(
        _ source: UnsafeRawBufferPointer, to target: UnsafeRawBufferPointer, replaces: Bool
    ) {
        appendCopy(source, to: target, replaces: replaces)
        append(.deleteMoved, key: source, operand: operations[count - 1].operand)
    }

    /// Appends a word behind the rows that there are.
    public mutating func appendWord(_ word: Int64) { _ = appendWords(1) { $0[0] = word } }

    /// Appends giving a key a deadline, milliseconds since 1970.
    public mutating func appendExpire(
        _ key: UnsafeRawBufferPointer, deadline: Int64, _ condition: ExpiryCondition
    ) {
        append(.expire, key: key, operand: deadline)
        operations[count - 1].count = condition.rawValue
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

    /// A batch's operations and what became of them, to be read without the batch; good until it changes.
    public struct Results {
        /// The operations.
        public let operations: UnsafePointer<Operation>
        /// What became of each.
        public let outcomes: UnsafePointer<Outcome>
        /// What their places lead into.
        public let rows: UnsafePointer<Int64>
        /// The time by which deadlines were judged, milliseconds since 1970; 0 where there are none.
        public let nowMilliseconds: Int64

        /// The latest commit group that the outcomes of these operations reflect.
        @inline(__always)
        public func latestSequence(_ operations: Range<Int>) -> UInt64 {
            var latest: UInt64 = 0
            for index in operations { latest = max(latest, outcomes[index].sequence) }
            return latest
        }
    }

    /// What became of its operations.
    @inline(__always)
    public var results: Results {
        Results(
            operations: operations, outcomes: outcomes, rows: rows,
            nowMilliseconds: nowMilliseconds)
    }

    /// Empties the batch.
    public mutating func removeAll() {
        // What was needed just now may be needed again; what was not goes.
        let isSpacious = capacity > Self.capacityKept * 16 && count < capacity / 8
        let hasSpaciousRows =
            rowsCapacity > Self.capacityKept * 16 && rowsCount < rowsCapacity / 8
        count = 0
        rowsCount = 0
        journalBytesMax = 0
        setsDeadlines = false
        changesAnything = false
        changesSchema = false
        forgetTransactions()
        if !texts.isEmpty {
            for text in texts { text.deallocate() }
            texts.removeAll()
        }
        if hasSpaciousRows {
            rowsCapacity = Self.capacityKept
            rows.deallocate()
            rows = .allocate(capacity: rowsCapacity)
        }
        if isSpacious { resize(to: Self.capacityKept) }
    }

    @inline(__always)
    private mutating func forgetTransactions() {
        hasRequests = false
        if !watched.isEmpty { watched.removeAll() }
        if !held.isEmpty { held.removeAll() }
    }

    /// Appends an operation that has all its parts.
    @inline(__always)
    mutating func append(_ operation: Operation) {
        if count == capacity { resize(to: capacity * 2) }
        (operations + count).initialize(to: operation)
        count &+= 1
        if operation.isWrite {
            changesAnything = true
            journalBytesMax &+= Partition.journalBytesMax(operation)
            if operation.kind.setsDeadline { setsDeadlines = true }
            if operation.kind == .changeSchema { changesSchema = true }
        } else if operation.kind == .transaction {
            changesAnything = true
        }
    }

    /// Journal bytes that the removal of keys whose deadline has come may take beside the operations, an
    /// upper bound.
    ///
    /// - Complexity: O(operations).
    var removalBytesMax: Int {
        var sum = 0
        for index in 0..<count where operations[index].family == 0 && operations[index].namesKey {
            // Before the operation, and after one that sets a deadline that has passed.
            let times = operations[index].kind.setsDeadline ? 2 : 1
            sum &+= times &* Partition.journalBytesMax(ofRemoving: operations[index])
        }
        return sum
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
