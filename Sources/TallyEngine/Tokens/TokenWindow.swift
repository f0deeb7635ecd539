import TallyCore

/// What became of the requests that carried a token, as far back as the floor.
///
/// A table like any other under a log of the latest requests, which is not in order: its keys are tokens,
/// so it is in order of time, and what is below the floor goes in merges.
/// Not thread-safe: its partition's lock guards it.
struct TokenWindow: ~Copyable {
    private(set) var table: StringTable
    /// What came since the last merge began.
    private var log = TokenLog()
    /// Tokens made at this time or before, milliseconds since 1970, cannot be judged.
    private(set) var floorMilliseconds: UInt64 = 0
    /// The latest token that is remembered, and the latest that what is under the log may have.
    private var latest = RequestToken(high: 0, low: 0)
    private var latestSettled = RequestToken(high: 0, low: 0)
    private let row: UnsafeMutablePointer<UInt64>
    /// Room for a key.
    private let keyBytes: UnsafeMutableRawPointer

    init(hasher: KeyHasher, cache: BlockCache) {
        table = StringTable(
            columns: OnceRows.columns, keepsZeroRows: true, hasher: hasher, cache: cache)
        row = .allocate(capacity: OnceRows.columnCount)
        keyBytes = .allocate(byteCount: OnceRows.Key.byteCountMax, alignment: 8)
    }

    deinit {
        row.deallocate()
        keyBytes.deallocate()
    }

    /// How many records there are.
    var recordCount: Int { table.recordCount &+ log.rowCount }

    /// Memory taken by what has changed since the last merge, bytes.
    @inline(__always)
    var changedBytes: Int { table.memtableBytes &+ log.allocatedBytes }

    /// Memory taken by the latest requests, bytes.
    @inline(__always)
    var logBytes: Int { log.allocatedBytes }

    @inline(__always)
    mutating func prefetch(_ hash: UInt64) { log.prefetch(hash) }

    /// Whether nothing but the log can have a token.
    @inline(__always)
    mutating func isLaterThanSettled(_ token: RequestToken) -> Bool { latestSettled < token }

    /// Writes what is remembered of a request, its outcomes' words, to `words`.
    ///
    /// - Parameter capacity: Room in `words`.
    /// - Returns: its fingerprint and how many words there are; nil if nothing is remembered.
    @inline(__always)
    mutating func read(
        _ token: RequestToken, hash: UInt64, _ words: UnsafeMutablePointer<Int64>, capacity: Int
    ) -> (fingerprint: UInt64, wordCount: Int)? {
        if let record = log.find(token, hash: hash) {
            let found = TokenLog.words(record)
            let count = OnceWords.wordCount(found[0])
            words.update(from: found, count: min(count, capacity))
            return (TokenLog.fingerprint(record), count)
        }
        return isLaterThanSettled(token) ? nil : readSettled(token, words, capacity: capacity)
    }

    /// The same for a request that is not in the log.
    @inline(never)
    private mutating func readSettled(
        _ token: RequestToken, _ words: UnsafeMutablePointer<Int64>, capacity: Int
    ) -> (fingerprint: UInt64, wordCount: Int)? {
        guard table.recordCount > 0 else { return nil }
        var key = OnceRows.Key(token)
        guard table.read(lookup(key), row) else { return nil }
        let fingerprint = row[0]
        let count = OnceWords.wordCount(Varint.unzigzag(row[1]))
        var next = 1
        for word in 0..<min(count, capacity) {
            if next == OnceRows.columnCount {
                key.index += 1
                next = 0
                guard table.read(lookup(key), row) else { return (fingerprint, 0) }
            }
            words[word] = next == 0 ? Int64(bitPattern: row[0]) : Varint.unzigzag(row[next])
            next += 1
        }
        return (fingerprint, count)
    }

    private mutating func lookup(_ key: OnceRows.Key) -> StringTable.Lookup {
        let count = key.write(to: keyBytes)
        let bytes = UnsafeRawBufferPointer(start: keyBytes, count: count)
        return StringTable.Lookup(keyBytes, count: count, hash: table.hasher.hash(bytes))
    }

    /// Where a request is to be remembered, nil if it is among the latest already.
    @inline(__always)
    mutating func place(for token: RequestToken, hash: UInt64) -> TokenLog.Place? {
        log.place(for: token, hash: hash)
    }

    /// Remembers a request whose place has been found since the last one was remembered.
    ///
    /// - Parameter count: Of its words.
    /// - Returns: where they are to be written as `OnceWords` lays them out.
    @inline(__always)
    mutating func remember(
        _ token: RequestToken, fingerprint: UInt64, count: Int, at place: TokenLog.Place
    ) -> UnsafeMutablePointer<Int64> {
        if latest < token { latest = token }
        return log.append(token, fingerprint: fingerprint, count: count, at: place)
    }

    /// The block that must be read before `read` need not wait.
    mutating func missingBlock(_ token: RequestToken) -> ColdBlock? {
        guard table.coldCount > 0, !isLaterThanSettled(token),
            log.find(token, hash: table.hasher.hash(token)) == nil
        else { return nil }
        return table.missingBlock(lookup(OnceRows.Key(token)))
    }

    // MARK: The floor

    /// Raises the floor; what is below goes in the next merges.
    mutating func raiseFloor(to milliseconds: UInt64) -> Bool {
        guard milliseconds > floorMilliseconds else { return false }
        floorMilliseconds = milliseconds
        let key = RequestToken(high: (milliseconds + 1) << 16, low: 0)
        key.write(to: keyBytes)
        table.floor = Array(UnsafeRawBufferPointer(start: keyBytes, count: RequestToken.byteCount))
        return true
    }

    /// Where the floor ought to be, so that tokens made before `horizon` go, and that the window takes at
    /// most `byteCountMax` bytes; nil if it is good as it is.
    ///
    /// - Parameter step: Not to be raised by less for the horizon's sake, milliseconds.
    /// - Complexity: O(segments), and O(blocks) if the window takes too much.
    borrowing func wantedFloor(horizon: UInt64, step: UInt64, byteCountMax: Int) -> UInt64? {
        var wanted = floorMilliseconds
        if horizon > floorMilliseconds + step, let end = firstBlockEndMilliseconds, end <= horizon {
            wanted = horizon
        }
        // A quarter at a time, so that there is room for a while.
        var excess = table.segmentBytes + changedBytes - byteCountMax
        if excess > 0 {
            excess += byteCountMax / 4
            for segment in table.segments {
                for block in 0..<segment.view.blockCount where excess > 0 {
                    excess -= segment.view.blockRange(block).count
                    let start = Self.milliseconds(segment.view.separator(block))
                    if start > 0 { wanted = max(wanted, start - 1) }
                }
            }
        }
        return wanted > floorMilliseconds ? wanted : nil
    }

    /// When all tokens in segments' first block had been made; nil if there is only one block.
    private var firstBlockEndMilliseconds: UInt64? {
        guard let first = table.segments.first else { return nil }
        if first.view.blockCount > 1 { return Self.milliseconds(first.view.separator(1)) }
        guard table.segments.count > 1 else { return nil }
        return Self.milliseconds(table.segments[1].view.separator(0))
    }

    /// When the first token behind a separator was made, about, and not before.
    private static func milliseconds(_ separator: UnsafeRawBufferPointer) -> UInt64 {
        var high: UInt64 = 0
        for index in 0..<8 {
            high = high << 8 | UInt64(index < separator.count ? separator[index] : 0)
        }
        return high >> 16
    }

    // MARK: Merging and residency

    mutating func freeze() -> TableMerge {
        latestSettled = latest
        if log.rowCount > 0 {
            var full = TokenLog()
            swap(&full, &log)
            let rowCount = full.rowCount
            let frozen = FrozenTokenLog(full, hasher: table.hasher)
            table.add(.tokens(frozen), recordCount: rowCount)
        }
        return table.freeze(family: Schema.tokens)
    }

    mutating func adopt(_ segments: [Segment], of merge: TableMerge) {
        table.adopt(segments, of: merge)
    }

    mutating func load(_ segments: [Segment]) {
        table.load(segments.compactMap { $0 as? StringSegment })
    }

    /// Goes on with what a checkpoint holds of requests that were made until `milliseconds`, 1970 being 0.
    mutating func setLatest(milliseconds: UInt64) {
        // Tokens may have been made a little later.
        latest = RequestToken(
            high: (milliseconds + Limits.tokenFutureMillisecondsMax + 1) << 16, low: 0)
        latestSettled = latest
    }

    mutating func survey(decay: Double, _ body: (Segment, _ demand: Double) -> Void) {
        table.survey(decay: decay, body)
    }

    mutating func replace(_ segment: Segment, with twin: Segment) -> Bool {
        table.replace(segment, with: twin)
    }
}
