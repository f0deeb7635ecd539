import TallyCore

/// One partition's plain keys that have a deadline: a table of its own, so that keys without one
/// pay nothing.
///
/// A key whose deadline is taken away stays here until it is removed: so keys only ever move into this
/// table, and a walk that looks at it last misses none.
///
/// What is due is still here until somebody asks for it or `collectDue` comes across it: whoever
/// applies operations then removes it, by an operation like any other, so that the journal says when
/// a key has gone. Not thread-safe: its partition's lock guards it.
struct ExpiringKeys: ~Copyable {
    private(set) var table: StringTable
    private let row: UnsafeMutablePointer<UInt64>
    private var sweep = ExpirySweep()

    struct Entry {
        let value: Int64
        /// Milliseconds since 1970, not negative; nil for none.
        let deadline: Int64?

        func isDue(_ now: Int64) -> Bool { deadline.map { $0 <= now } ?? false }
    }

    fileprivate static func decode(_ row: UnsafePointer<UInt64>) -> Entry {
        Entry(
            value: Varint.unzigzag(row[0]),
            deadline: row[1] == 0 ? nil : Int64(clamping: row[1] - 1))
    }

    init(hasher: KeyHasher, cache: BlockCache) {
        table = StringTable(
            columns: [
                // The value, and one more than the deadline or 0.
                ColumnCoding(column: 0, isSigned: true), ColumnCoding(column: 1),
            ],
            keepsZeroRows: true, hasher: hasher, cache: cache)
        row = .allocate(capacity: 2)
    }

    deinit { row.deallocate() }

    @inline(__always)
    var isEmpty: Bool { table.recordCount == 0 }

    var count: Int { table.recordCount }

    /// What the key has, nil if it is not here.
    borrowing func find(_ key: StringTable.Lookup) -> Entry? {
        guard !isEmpty, table.read(key, row) else { return nil }
        return Self.decode(row)
    }

    mutating func store(_ entry: Entry, _ key: StringTable.Lookup) {
        row[0] = Varint.zigzag(entry.value)
        // What has passed has passed: before 1970, too.
        row[1] = entry.deadline.map { UInt64(max(0, $0)) + 1 } ?? 0
        table.write(key, row)
    }

    mutating func remove(_ key: StringTable.Lookup) { _ = table.remove(key) }

    mutating func removeAll() {
        table.removeAll()
        sweep = ExpirySweep()
    }

    borrowing func forEach(_ body: (UnsafeRawBufferPointer, Entry) -> Void) {
        table.forEach { body($0, Self.decode($1)) }
    }

    // MARK: Merging

    mutating func freeze() -> TableMerge { table.freeze(family: Schema.expiringKeys) }

    mutating func adopt(_ segments: [Segment], of merge: TableMerge) {
        table.adopt(segments, of: merge)
        sweep.forgetSegments()
    }

    /// Tells of every segment, as wanted more than any other: what is not in memory cannot be
    /// searched for what is due.
    mutating func survey(decay: Double, _ body: (Segment, _ demand: Double) -> Void) {
        table.survey(decay: decay) { segment, _ in body(segment, .infinity) }
    }

    mutating func replace(_ segment: Segment, with twin: Segment) -> Bool {
        table.replace(segment, with: twin)
    }

    mutating func load(_ segments: [Segment]) {
        table.load(segments.compactMap { $0 as? StringSegment })
    }

    // MARK: Looking for what is due

    /// Calls `body` with keys whose deadline is at or before `now`, some of them again and again until
    /// they are removed, and goes on next time where it has stopped.
    ///
    /// - Parameter recordsMax: How many records to look at, about.
    /// - Returns: whether everything has been looked at, so that a rest is in order.
    mutating func collectDue(
        now: Int64, recordsMax: Int, _ body: (UnsafeRawBufferPointer) -> Void
    ) -> Bool {
        guard !isEmpty else { return true }
        return sweep.run(table, now: now, recordsMax: recordsMax, body)
    }
}

/// Where a search for due keys stands.
///
/// The memtable is walked leaf by leaf. Of segments, which do not change, each block's earliest
/// deadline is noted when it is first read, so that it is read again only when something in it is due.
/// Cold segments are passed over.
private struct ExpirySweep {
    /// The first hash of the memtable's next leaf; nil while segments are looked at.
    private var hash: UInt64? = 0
    private var segment = 0
    private var block = 0
    /// The earliest deadline of each block of each segment that has not been found due yet.
    private var earliest: [[Int64]] = []

    mutating func forgetSegments() {
        earliest = []
        segment = 0
        block = 0
    }

    mutating func run(
        _ table: borrowing StringTable, now: Int64, recordsMax: Int,
        _ body: (UnsafeRawBufferPointer) -> Void
    ) -> Bool {
        var left = recordsMax
        while let position = hash {
            guard left > 0 else { return false }
            hash = table.visitLeaf(at: position) { key, row in
                left -= 1
                if ExpiringKeys.decode(row).isDue(now) { body(key) }
            }
        }
        while segment < table.segments.count {
            guard !table.segments[segment].isCold else {
                segment += 1
                continue
            }
            while earliest.count <= segment {
                let blocks = table.segments[earliest.count].view.blockCount
                earliest.append(Array(repeating: .min, count: blocks))
            }
            while block < earliest[segment].count {
                guard left > 0 else { return false }
                left -= 1
                if earliest[segment][block] <= now {
                    left -= visitBlock(table, now, body)
                }
                block += 1
            }
            segment += 1
            block = 0
        }
        hash = 0
        segment = 0
        return true
    }

    /// - Returns: how many records were looked at.
    private mutating func visitBlock(
        _ table: borrowing StringTable, _ now: Int64, _ body: (UnsafeRawBufferPointer) -> Void
    ) -> Int {
        var count = 0
        var next = Int64.max
        table.visitBlock(segment, block) { key, row, isCurrent in
            count += 1
            // What is no longer so is not due.
            guard isCurrent else { return }
            let entry = ExpiringKeys.decode(row)
            if entry.isDue(now) { body(key) }
            next = min(next, entry.deadline ?? .max)
        }
        earliest[segment][block] = next
        return count
    }
}
