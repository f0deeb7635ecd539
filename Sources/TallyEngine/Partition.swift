public import TallyCore

/// One partition's counters, and the operations on them that the journal does not hold yet.
///
/// `apply` is the only way state changes: it serves clients, and `replay` feeds it what the journal
/// holds. It depends on nothing but the state and the operations.
///
/// Not thread-safe: the owner locks.
public struct Partition: ~Copyable {
    var plain: PlainCounters
    var families: FamilySet
    var tokens: TokenWindow
    private var pending = PendingEntries()
    private var watches = KeyWatches()
    private let hasher: KeyHasher
    private let place: PartitionPlace
    /// Whether what takes effect must be written down here; else a log holds it already.
    public var isJournalled = true
    /// Whether this is where its counters are; else a node of a cluster has no replica of it.
    public var isPresent = true
    /// Which of those it is that have been in its place one after the other.
    public var incarnation: UInt64 = 0
    /// Blocks of cold segments that were dug up lately.
    let cache = BlockCache()

    /// The commit group that holds, or will hold, the latest change; 0 before the first.
    public private(set) var lastSequence: UInt64 = 0

    /// The commit group up to which a checkpoint holds everything; 0 for none.
    public private(set) var checkpointSequence: UInt64 = 0

    /// An empty partition that hashes keys with `hasher`.
    public init(place: PartitionPlace = .only, hasher: KeyHasher) {
        self.place = place
        self.hasher = hasher
        plain = PlainCounters(hasher: hasher, cache: cache)
        families = FamilySet(place: place, hasher: hasher, cache: cache)
        tokens = TokenWindow(hasher: hasher, cache: cache)
    }

    /// How many plain keys and records there are.
    public var count: Int { plain.count + families.recordCount }

    /// Memory taken, bytes, without what waits for the journal.
    @inline(__always)
    public var allocatedBytes: Int {
        plain.allocatedBytes &+ families.allocatedBytes &+ tokens.changedBytes
            &+ tokens.table.segmentBytes
    }

    /// Memory that changes since the last merge take, and segments, bytes.
    public var tableBytes: (changed: Int, segments: Int) {
        let families = families.tableBytes
        return (
            plain.changedBytes + families.changed + tokens.changedBytes,
            plain.segmentBytes + families.segments + tokens.table.segmentBytes
        )
    }

    /// The schema as the operations so far have left it.
    public var schema: Schema { families.schema }

    // MARK: Applying

    /// Records an operation that has taken effect for the commit group `sequence`.
    ///
    /// - Parameter rows: What the operation's places lead into.
    /// - Returns: journal bytes that it may take, an upper bound.
    @inline(__always)
    mutating func record(
        _ operation: UnsafePointer<Operation>, _ rows: UnsafeMutablePointer<Int64>,
        sequence: UInt64
    ) -> Int {
        lastSequence = sequence
        if !watches.isEmpty { watches.touch(operation) }
        return isJournalled ? pending.append(operation, rows) : 0
    }

    /// The same for a request that is remembered, which `append` appends.
    @inline(__always)
    mutating func recordRemembered(
        sequence: UInt64, _ append: (inout PendingEntries) -> Int
    ) -> Int {
        lastSequence = sequence
        return isJournalled ? append(&pending) : 0
    }

    // MARK: Watching

    /// Begins to watch the key of an operation, which may be any.
    public mutating func watch(_ operation: UnsafePointer<Operation>) -> KeyWatch {
        let key = StringTable.Lookup(operation)
        let deadline = operation.pointee.family == 0 ? plain.deadline(key) : nil
        _ = cache.takeFailure()
        let watch = KeyWatch(
            KeyWatch.Target(operation), partition: place.number, deadline: deadline)
        watches.add(watch)
        return watch
    }

    /// Watches no longer.
    public mutating func unwatch(_ watch: KeyWatch) { watches.remove(watch) }

    /// Applies what the journal's group `sequence` holds for this partition.
    ///
    /// Entries that the partition's checkpoint holds already are read, and not applied again.
    ///
    /// - Parameter imports: Finds the records of an import by its number.
    /// - Returns: how many entries that were.
    /// - Throws: `EntryError`; what stood before the bad entry has been applied.
    public mutating func replay(
        _ section: UnsafeRawBufferPointer, sequence: UInt64,
        imports: (UInt64) -> ImportedRuns? = { _ in nil }
    ) throws(EntryError) -> Int {
        let isApplied = sequence > checkpointSequence
        let rows = UnsafeMutablePointer<Int64>.allocate(capacity: EntryReader.rowsCapacity)
        defer { rows.deallocate() }
        var reader = EntryReader(section, place: place, hasher: hasher, rows: rows)
        var entries = 0
        while true {
            let offset = reader.offset
            guard var operation = try reader.next() else { break }
            entries += 1
            guard isApplied else { continue }
            var imported: ImportedRuns?
            if operation.kind == .importRuns {
                let number = UInt64(bitPattern: operation.operand)
                guard let found = imports(number) else { throw .importMissing(number) }
                operation = found.operation(
                    number: number, family: operation.family, partition: place.number)
                imported = found
            }
            let outcome = withExtendedLifetime(imported) { apply(&operation, rows) }
            if outcome.status == .unreadable, let failure = lastFailure {
                throw .unreadable(failure, offset: offset)
            }
            guard outcome.status == .applied,
                operation.kind != .add || outcome.acceptedCount == operation.count
            else { throw .diverged(offset: offset) }
        }
        lastSequence = max(lastSequence, sequence)
        return entries
    }

    /// Applies one operation whose place has not been looked up.
    mutating func apply(
        _ operation: UnsafePointer<Operation>, _ rows: UnsafeMutablePointer<Int64>
    ) -> Outcome {
        var place = IntegerTable.Lookup(key: 0, hash: 0)
        if operation.pointee.family != 0 {
            locate(.segment, operation, &place)
            locate(.block, operation, &place)
        }
        return apply(operation, place, rows)
    }

    /// Applies one operation. Nothing else changes state.
    ///
    /// - Parameters:
    ///   - place: Where the record is, as `locate` found it; good until the schema or all of the
    ///     partition changes.
    ///   - rows: What the operation's places lead into.
    /// - Complexity: O(columns) expected. Allocates only when tables grow.
    @inline(__always)
    mutating func apply(
        _ operation: UnsafePointer<Operation>, _ place: IntegerTable.Lookup,
        _ rows: UnsafeMutablePointer<Int64>
    ) -> Outcome {
        let outcome: Outcome
        if operation.pointee.family != 0 {
            outcome = families.apply(operation, place, rows)
        } else {
            switch operation.pointee.kind {
            case .clear: outcome = clear()
            case .remember: outcome = remember(operation, rows)
            case .raiseFloor:
                let isRaised = tokens.raiseFloor(to: UInt64(clamping: operation.pointee.operand))
                outcome = Outcome(isRaised ? .applied : .unchanged, wasPresent: true, value: 0)
            case .countKeys:
                outcome = Outcome(.applied, wasPresent: count > 0, value: Int64(count))
            case .changeSchema: outcome = changeSchema(operation)
            default:
                outcome =
                    guardsNames && isClaimed(operation)
                    ? Outcome(refused: .schemaChanged) : plain.apply(operation, rows)
            }
        }
        return cache.hasFailed ? failed() : outcome
    }

    /// What becomes of an operation whose key could not be read; nothing has changed.
    @inline(never)
    private mutating func failed() -> Outcome {
        lastFailure = cache.takeFailure()
        return Outcome(refused: .unreadable)
    }

    /// Why the last operation that was refused as unreadable was.
    private(set) var lastFailure: SegmentFileError?

    private mutating func clear() -> Outcome {
        guard count > 0 else { return Outcome(.unchanged, wasPresent: false, value: 0) }
        plain.removeAll()
        families.removeAll()
        return Outcome(.applied, wasPresent: true, value: 0)
    }

    private mutating func changeSchema(_ operation: UnsafePointer<Operation>) -> Outcome {
        if let numbered = NumberedChange(bytes: operation.pointee.keyBytes) {
            return changeSchema(numbered)
        }
        guard families.change(operation.pointee.keyBytes) else {
            return Outcome(refused: .schemaRefused)
        }
        return Outcome(.applied, wasPresent: true, value: 0)
    }

    /// Applies a change of a cluster's schema in its turn, once. A reservation tells, whenever it comes, whether
    /// there are plain keys that would be taken for the family's: none is made any more.
    private mutating func changeSchema(_ numbered: NumberedChange) -> Outcome {
        var isInTheWay = false
        if case .reserveFamily(let name, _, _) = numbered.change {
            isInTheWay = plain.hasKeys(ofFamily: name)
        }
        guard numbered.number > schema.changeCount else {
            return Outcome(.unchanged, wasPresent: isInTheWay, value: 0)
        }
        guard numbered.number == schema.changeCount + 1 else {
            return Outcome(refused: .schemaChanged)
        }
        guard families.change(numbered.change) else { return Outcome(refused: .schemaRefused) }
        return Outcome(.applied, wasPresent: isInTheWay, value: 0)
    }

    /// Whether an operation would make a plain key whose name is a family's: in a cluster, a node that does not
    /// know the family yet may ask for that.
    @inline(never)
    private mutating func isClaimed(_ operation: UnsafePointer<Operation>) -> Bool {
        operation.pointee.isWrite && operation.pointee.namesKey
            && schema.claims(operation.pointee.keyBytes) && plain.wouldCreate(operation)
    }

    /// Whether `isClaimed` is to be asked.
    @inline(__always)
    private var guardsNames: Bool { !isJournalled && !schema.families.isEmpty }

    /// Adds to a plain key, as `apply` does, and tells by how many bytes memory has grown.
    ///
    /// Most keys that are added to have just changed, and then no more memory is taken.
    @inline(__always)
    mutating func addToPlain(
        _ operation: UnsafePointer<Operation>
    ) -> (outcome: Outcome, allocatedBytes: Int) {
        if let outcome = plain.addInPlace(operation) { return (outcome, 0) }
        return addElsewhere(operation)
    }

    @inline(never)
    private mutating func addElsewhere(
        _ operation: UnsafePointer<Operation>
    ) -> (outcome: Outcome, allocatedBytes: Int) {
        if guardsNames, isClaimed(operation) { return (Outcome(refused: .schemaChanged), 0) }
        let bytesBefore = plain.allocatedBytes
        let outcome = plain.addElsewhere(operation)
        return (
            cache.hasFailed ? failed() : outcome, plain.allocatedBytes &- bytesBefore
        )
    }

    // MARK: Judging without changing

    /// Whether applying `operation` would create a counter or a record.
    public mutating func wouldCreate(_ operation: UnsafePointer<Operation>) -> Bool {
        defer { _ = cache.takeFailure() }
        return operation.pointee.family == 0
            ? plain.wouldCreate(operation) : families.wouldCreate(operation)
    }

    /// Whether the number that `operation` sets is not there: no such key, or a column at its default.
    public mutating func isAbsent(_ operation: UnsafePointer<Operation>) -> Bool {
        defer { _ = cache.takeFailure() }
        return operation.pointee.family == 0
            ? plain.wouldCreate(operation) : families.isAbsent(operation)
    }

    /// Why `operation`, one of several that are applied as one, must not be applied; nil if it may.
    ///
    /// - Complexity: O(1) expected, but for `changeSchema`: O(keys that changed lately).
    public mutating func refusal(
        of operation: UnsafePointer<Operation>, _ rows: UnsafeMutablePointer<Int64>
    ) -> Outcome.Status? {
        // Whoever adds to a plain key that can be read is not refused.
        if operation.pointee.kind == .add, operation.pointee.family == 0, plain.coldCount == 0 {
            return nil
        }
        let refusal = judge(operation, rows)
        return cache.hasFailed ? failed().status : refusal
    }

    private mutating func judge(
        _ operation: UnsafePointer<Operation>, _ rows: UnsafeMutablePointer<Int64>
    ) -> Outcome.Status? {
        if operation.pointee.kind == .changeSchema {
            if let numbered = NumberedChange(bytes: operation.pointee.keyBytes) {
                return numbered.number > schema.changeCount + 1 ? .schemaChanged : nil
            }
            var changed = schema
            guard let change = SchemaChange(bytes: operation.pointee.keyBytes),
                (try? changed.apply(change)) != nil
            else { return .schemaRefused }
            if case .addFamily(let name, _, _) = change, plain.hasKeys(ofFamily: name) {
                return .keysInTheWay
            }
            return nil
        }
        guard operation.pointee.isWrite else { return nil }
        guard operation.pointee.family != 0 else {
            // Whether it can be read must be known before any of the others is applied.
            if plain.coldCount > 0 { _ = plain.wouldCreate(operation) }
            return guardsNames && isClaimed(operation) ? .schemaChanged : nil
        }
        return families.refusal(of: operation, rows)
    }

    // MARK: Deadlines

    /// Whether the plain key of an operation has a deadline that is not after `now`.
    @inline(__always)
    borrowing func isDue(_ operation: UnsafePointer<Operation>, now: Int64) -> Bool {
        guard plain.expiringCount > 0, operation.pointee.namesKey else { return false }
        return plain.isDue(StringTable.Lookup(operation), now: now)
    }

    /// How many plain keys have a deadline.
    public var expiringCount: Int { plain.expiringCount }

    /// Calls `body` with plain keys whose deadline is not after `now`, and goes on next time where it has
    /// stopped. Whoever reads them then, as a client would, removes them.
    ///
    /// - Parameter recordsMax: How many records to look at, about.
    /// - Returns: whether all have been looked at, so that a rest is in order.
    /// - Complexity: O(`recordsMax`).
    public mutating func collectDue(
        now: Int64, recordsMax: Int, _ body: (UnsafeRawBufferPointer) -> Void
    ) -> Bool {
        plain.collectDue(now: now, recordsMax: recordsMax, body)
    }

    // MARK: Prefetching
    // Mutating only so that nothing is copied to be borrowed.

    /// Asks for the memory that `locate` will need.
    @inline(__always)
    mutating func prefetch(_ operation: UnsafePointer<Operation>) {
        if operation.pointee.family == 0 {
            plain.prefetchBucket(operation.pointee.hash)
        } else {
            families.prefetch(operation)
        }
    }

    /// Asks for the memory that the next step of locating, or applying, will need, and notes in `lookup`
    /// what is known of where a record of an integer key is. The steps follow one another.
    @inline(__always)
    mutating func locate(
        _ step: FamilyRecords.Step, _ operation: UnsafePointer<Operation>,
        _ lookup: inout IntegerTable.Lookup
    ) {
        guard operation.pointee.family != 0 else {
            if step == .segment { plain.prefetchRecord(operation.pointee.hash) }
            return
        }
        if step == .segment {
            // Good for a table that has just been made, too: it has no segments.
            lookup = IntegerTable.Lookup(
                key: place.compact(operation.pointee.integerKey), hash: operation.pointee.hash)
        }
        families.locate(step, operation, &lookup)
    }

    // MARK: Reading all

    /// Calls `body` with every plain key, its counter and its deadline, milliseconds since 1970, nil for
    /// none; in no order.
    public borrowing func forEachPlainKey(
        _ body: (UnsafeRawBufferPointer, Int64, _ deadline: Int64?) -> Void
    ) {
        plain.forEach(body)
    }

    /// Calls `body` with the key and the values of every record of a family, in no order.
    public borrowing func forEachRecord(
        family: UInt32, _ body: (RecordKey, UnsafeBufferPointer<Int64>) -> Void
    ) {
        families.forEach(family: family, body)
    }

    /// Traps if any internal promise is broken. For tests.
    public borrowing func checkInvariants() {
        plain.checkInvariants()
    }

    // MARK: Residency

    /// How many segments are cold.
    @inline(__always)
    public var coldCount: Int {
        plain.coldCount &+ families.coldCount &+ tokens.table.coldCount
    }

    @inline(never)
    borrowing func needWhereCold(_ operation: UnsafePointer<Operation>) -> Need? {
        let block: ColdBlock?
        if operation.pointee.family != 0 {
            block = families.missingBlock(operation)
        } else {
            switch operation.pointee.kind {
            case .clear, .countKeys, .transaction, .raiseFloor: block = nil
            case .remember: block = nil
            case .changeSchema:
                let change =
                    NumberedChange(bytes: operation.pointee.keyBytes)?.change
                    ?? SchemaChange(bytes: operation.pointee.keyBytes)
                switch change {
                case .addFamily(let name, _, _), .reserveFamily(let name, _, _):
                    block = plain.missingBlock(ofFamily: name)
                default: return nil
                }
            default: block = plain.missingBlock(operation)
            }
        }
        guard let block else { return nil }
        return cache.failure(of: block.address).map { .unreadable($0) } ?? .block(block)
    }

    // MARK: Merging

    /// Sets aside what has changed, so that it can be merged while changes go on.
    ///
    /// - Returns: a merge for each family that has records.
    /// - Complexity: O(families × segments).
    public mutating func freeze() -> [TableMerge] {
        plain.freeze() + families.freeze() + [tokens.freeze()]
    }

    /// Takes over what a merge has made, unless what it merged is no longer there.
    ///
    /// - Complexity: O(segments).
    public mutating func adopt(_ segments: [Segment], of merge: TableMerge) {
        if merge.family == Schema.tokens {
            tokens.adopt(segments, of: merge)
        } else if Schema.isPlain(merge.family) {
            plain.adopt(segments, of: merge)
        } else {
            families.adopt(segments, of: merge)
        }
    }

    /// A partition as a checkpoint left it, up to and with commit group `sequence`.
    public init(
        place: PartitionPlace, hasher: KeyHasher, schema: Schema, sequence: UInt64
    ) {
        self.init(place: place, hasher: hasher)
        families.load(schema)
        lastSequence = sequence
        checkpointSequence = sequence
    }

    /// Begins a family, or plain keys, with these segments, in order of their keys.
    ///
    /// - Returns: false if the schema has no such family.
    public mutating func load(_ segments: [Segment], family: UInt32) -> Bool {
        if family == Schema.tokens {
            tokens.load(segments)
            return true
        }
        if Schema.isPlain(family) {
            plain.load(segments, family: family)
            return true
        }
        return families.load(segments, family: family)
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
