import TallyCore

/// One partition's plain keys: the built-in family, with string keys and one signed 64-bit column.
///
/// A key exists from its first write until it is deleted, at 0 as well. Those with a deadline are in a
/// table of their own; a key is in one of the two.
struct PlainCounters: ~Copyable {
    private(set) var table: StringTable
    private(set) var expiring: ExpiringKeys
    let row: UnsafeMutablePointer<UInt64>

    init(hasher: KeyHasher, cache: BlockCache) {
        table = StringTable(
            columns: [ColumnCoding(column: 0, isSigned: true)], keepsZeroRows: true,
            hasher: hasher, cache: cache)
        expiring = ExpiringKeys(hasher: hasher, cache: cache)
        row = .allocate(capacity: 1)
    }

    deinit { row.deallocate() }

    var count: Int { table.recordCount + expiring.count }

    /// How many have a deadline.
    @inline(__always)
    var expiringCount: Int { expiring.count }

    @inline(__always)
    var allocatedBytes: Int { changedBytes &+ segmentBytes }

    @inline(__always)
    var changedBytes: Int { table.memtableBytes &+ expiring.table.memtableBytes }

    @inline(__always)
    var segmentBytes: Int { table.segmentBytes &+ expiring.table.segmentBytes }

    @inline(__always)
    borrowing func prefetchBucket(_ hash: UInt64) { table.prefetchBucket(hash) }

    @inline(__always)
    borrowing func prefetchRecord(_ hash: UInt64) { table.prefetchRecord(hash) }

    /// A key's counter where it can be read and, in the memtable, changed.
    private enum Found {
        case here(UnsafeMutableRawPointer, Int64)
        /// In what stands under the memtable.
        case below(Int64)
        /// Among those with a deadline.
        case expiring(ExpiringKeys.Entry)
        case nowhere

        /// The counter, nil for none.
        @inline(__always)
        var value: Int64? {
            switch self {
            case .here(_, let value), .below(let value): value
            case .expiring(let entry): entry.value
            case .nowhere: nil
            }
        }

        /// The deadline, nil for none.
        var deadline: Int64? {
            if case .expiring(let entry) = self { entry.deadline } else { nil }
        }
    }

    @inline(__always)
    private borrowing func find(_ operation: UnsafePointer<Operation>) -> Found {
        if let record = table.findLive(StringTable.Lookup(operation)) {
            return .here(record, Self.decode(StringMemtable.value(record)))
        }
        return findElsewhere(operation)
    }

    /// The same for a key that is not live in the memtable.
    private borrowing func findElsewhere(_ operation: UnsafePointer<Operation>) -> Found {
        if !expiring.isEmpty, let entry = expiring.find(StringTable.Lookup(operation)) {
            return .expiring(entry)
        }
        guard table.hasBase, table.read(StringTable.Lookup(operation), row) else { return .nowhere }
        return .below(Self.decode(row[0]))
    }

    @inline(__always)
    private static func decode(_ coded: UInt64) -> Int64 { Varint.unzigzag(coded) }

    /// Gives a key another value; its deadline stays.
    @inline(__always)
    private mutating func store(
        _ value: Int64, _ found: Found, _ operation: UnsafePointer<Operation>
    ) {
        if case .here(let record, _) = found {
            return StringMemtable.setValue(record, Varint.zigzag(value))
        }
        if case .expiring(let entry) = found {
            return expiring.store(
                ExpiringKeys.Entry(value: value, deadline: entry.deadline),
                StringTable.Lookup(operation))
        }
        row[0] = Varint.zigzag(value)
        table.write(StringTable.Lookup(operation), row)
    }

    /// Gives a key a value and a deadline, or none.
    private mutating func store(
        _ value: Int64, deadline: Int64?, _ found: Found, _ operation: UnsafePointer<Operation>
    ) {
        guard !hasFailed else { return }
        let key = StringTable.Lookup(operation)
        switch found {
        case .here, .below:
            guard deadline != nil else { return store(value, found, operation) }
            _ = table.remove(key)
        case .nowhere:
            guard deadline != nil else { return store(value, found, operation) }
        case .expiring: break
        }
        expiring.store(ExpiringKeys.Entry(value: value, deadline: deadline), key)
    }

    @inline(__always)
    mutating func apply(
        _ operation: UnsafePointer<Operation>, _ rows: UnsafeMutablePointer<Int64>
    ) -> Outcome {
        switch operation.pointee.kind {
        case .get: return get(operation)
        case .add: return addInPlace(operation) ?? addElsewhere(operation)
        case .set, .setIfAbsent, .setIfPresent: return set(operation)
        case .delete: return delete(operation)
        case .readExpiry, .expire, .persist, .extendedSet, .extendedAdd:
            return applyExtended(operation, rows)
        case .readForMove, .setMoved, .deleteMoved:
            return move(operation, rows + Int(operation.pointee.operand))
        case .readRecord, .setColumns, .setRecord, .deleteRecord, .importRuns, .clear,
            .changeSchema, .transaction, .countKeys, .remember, .raiseFloor:
            preconditionFailure("not an operation on a plain key")
        }
    }

    /// Adds to a key that has just changed, in its place; nil for any other.
    @inline(__always)
    mutating func addInPlace(_ operation: UnsafePointer<Operation>) -> Outcome? {
        guard let record = table.findLive(StringTable.Lookup(operation)) else { return nil }
        let old = Self.decode(StringMemtable.value(record))
        let (sum, accepted) = ColumnRules.addWithin64Bits(
            operation.pointee.operand, to: old, count: operation.pointee.count)
        guard accepted > 0 else { return Outcome(.overflow, wasPresent: true, value: old) }
        StringMemtable.setValue(record, Varint.zigzag(sum))
        return Outcome(.applied, wasPresent: true, value: sum, acceptedCount: accepted)
    }

    /// Adds to a key that is not live in the memtable.
    @inline(never)
    mutating func addElsewhere(_ operation: UnsafePointer<Operation>) -> Outcome {
        let found = findElsewhere(operation)
        let old = found.value ?? 0
        let wasPresent = found.value != nil
        let (sum, accepted) = ColumnRules.addWithin64Bits(
            operation.pointee.operand, to: old, count: operation.pointee.count)
        guard accepted > 0 else { return Outcome(.overflow, wasPresent: wasPresent, value: old) }
        store(sum, found, operation)
        return Outcome(.applied, wasPresent: wasPresent, value: sum, acceptedCount: accepted)
    }

    @inline(__always)
    private borrowing func get(_ operation: UnsafePointer<Operation>) -> Outcome {
        guard let record = table.findLive(StringTable.Lookup(operation)) else {
            return getElsewhere(operation)
        }
        let value = Self.decode(StringMemtable.value(record))
        return Outcome(.applied, wasPresent: true, value: value)
    }

    @inline(never)
    private borrowing func getElsewhere(_ operation: UnsafePointer<Operation>) -> Outcome {
        let value = findElsewhere(operation).value
        return Outcome(.applied, wasPresent: value != nil, value: value ?? 0)
    }

    private mutating func set(_ operation: UnsafePointer<Operation>) -> Outcome {
        let found = find(operation)
        let old = found.value ?? 0
        let wasPresent = found.value != nil
        let holds =
            switch operation.pointee.kind {
            case .setIfAbsent: !wasPresent
            case .setIfPresent: wasPresent
            default: true
            }
        if holds { store(operation.pointee.operand, deadline: nil, found, operation) }
        return Outcome(holds ? .applied : .unchanged, wasPresent: wasPresent, value: old)
    }

    private mutating func delete(_ operation: UnsafePointer<Operation>) -> Outcome {
        let found = find(operation)
        guard let value = found.value else {
            return Outcome(.unchanged, wasPresent: false, value: 0)
        }
        if case .expiring = found {
            expiring.remove(StringTable.Lookup(operation))
        } else {
            _ = table.remove(StringTable.Lookup(operation))
        }
        return Outcome(.applied, wasPresent: true, value: value)
    }

    // MARK: Deadlines

    private mutating func applyExtended(
        _ operation: UnsafePointer<Operation>, _ rows: UnsafeMutablePointer<Int64>
    ) -> Outcome {
        let found = find(operation)
        let value = found.value ?? 0
        let wasPresent = found.value != nil
        let unchanged = Outcome(.unchanged, wasPresent: wasPresent, value: value)
        switch operation.pointee.kind {
        case .readExpiry:
            return Outcome(
                .applied, wasPresent: wasPresent, value: found.deadline ?? Outcome.noDeadline)
        case .expire:
            let condition = ExpiryCondition(rawValue: operation.pointee.count) ?? .always
            let deadline = operation.pointee.operand
            guard wasPresent, condition.holds(deadline, over: found.deadline) else {
                return unchanged
            }
            store(value, deadline: deadline, found, operation)
        case .persist:
            guard found.deadline != nil else { return unchanged }
            store(value, deadline: nil, found, operation)
        case .extendedSet:
            let request = ExtendedSet(rows + Int(operation.pointee.operand))
            switch request.condition {
            case .ifAbsent where wasPresent, .ifPresent where !wasPresent: return unchanged
            default: break
            }
            let deadline = Self.deadline(request.expiry, request.deadline, found.deadline)
            store(request.value, deadline: deadline, found, operation)
        default:
            let words = rows + Int(operation.pointee.operand)
            let request = ExtendedAdd(words)
            guard let sum = request.sum(value) else {
                words[ExtendedAdd.differenceWord] = 0
                return unchanged
            }
            words[ExtendedAdd.differenceWord] = sum &- value
            let deadline = Self.deadline(request.expiry, request.deadline, found.deadline)
            store(sum, deadline: deadline, found, operation)
            return Outcome(.applied, wasPresent: wasPresent, value: sum)
        }
        return Outcome(.applied, wasPresent: wasPresent, value: value)
    }

    /// A step of giving a key another name.
    private mutating func move(
        _ operation: UnsafePointer<Operation>, _ words: UnsafeMutablePointer<Int64>
    ) -> Outcome {
        let found = find(operation)
        let value = found.value ?? 0
        let state = MovedKey.State(rawValue: words[MovedKey.stateWord]) ?? .absent
        let request = ExtendedSet(words)
        let unchanged = Outcome(.unchanged, wasPresent: found.value != nil, value: value)
        switch operation.pointee.kind {
        case .readForMove:
            ExtendedSet(
                value: value, condition: request.condition,
                expiry: found.deadline == nil ? .remove : .set, deadline: found.deadline ?? 0
            ).write(words)
            let next: MovedKey.State = found.value == nil ? .absent : .found
            words[MovedKey.stateWord] = next.rawValue
        case .setMoved:
            guard state == .found, request.condition == .none || found.value == nil else {
                return unchanged
            }
            let deadline = Self.deadline(request.expiry, request.deadline, nil)
            store(request.value, deadline: deadline, found, operation)
            words[MovedKey.stateWord] = MovedKey.State.set.rawValue
        default:
            return state == .set ? delete(operation) : unchanged
        }
        return Outcome(.applied, wasPresent: found.value != nil, value: value)
    }

    /// The deadline that a change leaves.
    private static func deadline(
        _ change: ExpiryChange, _ new: Int64, _ old: Int64?
    ) -> Int64? {
        switch change {
        case .remove: nil
        case .keep: old
        case .set: new
        case .setIfNone: old ?? new
        }
    }

    /// A key's deadline, nil for none.
    borrowing func deadline(_ key: StringTable.Lookup) -> Int64? {
        expiring.find(key)?.deadline
    }

    /// Whether a key's deadline is at or before `now`.
    borrowing func isDue(_ key: StringTable.Lookup, now: Int64) -> Bool {
        expiring.find(key)?.isDue(now) ?? false
    }

    mutating func collectDue(
        now: Int64, recordsMax: Int, _ body: (UnsafeRawBufferPointer) -> Void
    ) -> Bool {
        expiring.collectDue(now: now, recordsMax: recordsMax, body)
    }

    /// Whether applying `operation` would create a counter.
    borrowing func wouldCreate(_ operation: UnsafePointer<Operation>) -> Bool {
        switch operation.pointee.kind {
        case .add, .set, .setIfAbsent, .extendedSet, .extendedAdd, .setMoved:
            find(operation).value == nil
        default: false
        }
    }

    /// Whether there are keys that would belong to a family of this name: `name` or `name:…`.
    ///
    /// - Complexity: O(keys that changed since the last merge).
    borrowing func hasKeys(ofFamily name: String) -> Bool {
        let prefix = Array("\(name):".utf8)
        return table.contains(Array(name.utf8)) || table.containsPrefix(prefix)
            || expiring.table.contains(Array(name.utf8))
            || expiring.table.containsPrefix(prefix)
    }

    /// A block that must be read before `hasKeys(ofFamily:)` need not wait, nil if there is none.
    borrowing func missingBlock(ofFamily name: String) -> ColdBlock? {
        let prefix = Array("\(name):".utf8)
        return table.missingBlock(Array(name.utf8)) ?? table.missingBlock(startingWith: prefix)
            ?? expiring.table.missingBlock(Array(name.utf8))
            ?? expiring.table.missingBlock(startingWith: prefix)
    }

    mutating func removeAll() {
        table.removeAll()
        expiring.removeAll()
    }

    @inline(__always)
    var coldCount: Int { table.coldCount &+ expiring.table.coldCount }

    /// Whether the last look at a key failed; nothing must then be changed.
    private var hasFailed: Bool { table.hasFailed || expiring.table.hasFailed }

    var segments: [Segment] { table.segments + expiring.table.segments }

    borrowing func missingBlock(_ operation: UnsafePointer<Operation>) -> ColdBlock? {
        let key = StringTable.Lookup(operation)
        return expiring.table.missingBlock(key) ?? table.missingBlock(key)
    }

    mutating func survey(decay: Double, _ body: (Segment, _ demand: Double) -> Void) {
        table.survey(decay: decay, body)
        expiring.survey(decay: decay, body)
    }

    mutating func replace(_ segment: Segment, with twin: Segment) -> Bool {
        segment.header.family == Schema.plainKeys
            ? table.replace(segment, with: twin) : expiring.replace(segment, with: twin)
    }

    /// Sets aside what has changed.
    mutating func freeze() -> [TableMerge] {
        [table.freeze(family: Schema.plainKeys), expiring.freeze()]
    }

    mutating func adopt(_ segments: [Segment], of merge: TableMerge) {
        if merge.family == Schema.plainKeys {
            table.adopt(segments, of: merge)
        } else {
            expiring.adopt(segments, of: merge)
        }
    }

    /// Begins with these segments of one of the two tables, in order of their keys.
    mutating func load(_ segments: [Segment], family: UInt32) {
        if family == Schema.plainKeys {
            table.load(segments.compactMap { $0 as? StringSegment })
        } else {
            expiring.load(segments)
        }
    }

    /// Calls `body` with every key, its value and its deadline, nil for none.
    borrowing func forEach(_ body: (UnsafeRawBufferPointer, Int64, _ deadline: Int64?) -> Void) {
        table.forEach { body($0, Self.decode($1[0]), nil) }
        expiring.forEach { body($0, $1.value, $1.deadline) }
    }

    borrowing func checkInvariants() {
        table.checkInvariants()
        expiring.table.checkInvariants()
        expiring.forEach { key, _ in
            let hash = table.hasher.hash(key)
            guard let start = key.baseAddress else { return }
            let lookup = StringTable.Lookup(start, count: key.count, hash: hash)
            precondition(!table.read(lookup, row), "a key in both tables")
        }
    }
}
