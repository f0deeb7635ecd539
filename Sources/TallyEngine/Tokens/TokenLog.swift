internal import CTallyIntrinsics
import TallyCore

/// The latest requests in the order in which they were executed, and where each one's token is.
///
/// Records stand one behind the other in chunks and never move; the first chunks are small. They are
/// found by extendible hashing, as in `StringMemtable`, but with the order and the removals left
/// out: a directory, indexed by the upper bits of a tag, leads to leaves of entries, searched one after
/// the other from the tag's lower bits on; a leaf that is three quarters full splits in two. So
/// nothing ever takes longer than moving one leaf's entries.
///
///     record: token u64 u64 · fingerprint · words, the first of which says how many they are
///     leaf:   count u32 · depth u32 │ 128 × (tag u32 · position u32)
///
/// Not thread-safe: its partition's lock guards it.
struct TokenLog: ~Copyable {
    /// A record's first word.
    typealias Record = UnsafeMutablePointer<UInt64>
    /// A tag above one more than the record's position; 0 for none.
    private typealias Entry = UInt64
    /// A leaf's count and depth as one word, and its entries behind.
    fileprivate typealias Leaf = UnsafeMutablePointer<UInt64>

    /// Where a new request's entry goes, until the log changes.
    struct Place {
        fileprivate let leaf: Leaf
        fileprivate let slot: Int
        fileprivate let tag: UInt64
    }

    private struct Chunk {
        let words: UnsafeMutablePointer<UInt64>
        /// How many words are used; `lastUsed` says that of the last chunk.
        var usedCount = 0
    }

    private static let leafEntries = 128
    private static let leafEntriesMax: UInt64 = 96
    private static let depthOne: UInt64 = 1 << 32
    /// Tags have 32 bits, of which the lower seven are the place in a leaf.
    private static let depthMax = 25
    private static let chunkBits = 13
    private static let firstChunkWords = 64
    private static let headWords = 3

    private var directory: UnsafeMutablePointer<Leaf>
    /// The directory has `1 << depth` entries.
    private var depth = 0
    private var chunks: [Chunk]
    /// The last chunk, the position at which it begins, and how many of its words there are and are used.
    private var last: UnsafeMutablePointer<UInt64>
    private var lastPosition = 0
    private var lastCapacity = Self.firstChunkWords
    private var lastUsed = 0
    /// How many rows the requests become when they are merged.
    private(set) var rowCount = 0
    /// Memory taken, bytes.
    private(set) var allocatedBytes: Int

    init() {
        directory = .allocate(capacity: 1)
        directory.initialize(to: Self.makeLeaf(depth: 0))
        last = .allocate(capacity: Self.firstChunkWords)
        chunks = [Chunk(words: last)]
        allocatedBytes = (2 + Self.leafEntries + Self.firstChunkWords) * 8
    }

    deinit {
        forEachLeaf { $0.deallocate() }
        directory.deallocate()
        for chunk in chunks { chunk.words.deallocate() }
    }

    // MARK: Search

    @inline(__always)
    private static func tag(_ hash: UInt64) -> UInt64 { hash &>> 32 }

    @inline(__always)
    private borrowing func leaf(_ tag: UInt64) -> Leaf {
        directory[Int(truncatingIfNeeded: tag &>> UInt64(truncatingIfNeeded: 32 &- depth))]
    }

    /// The first place in a leaf where a tag's entry may be, and the next one behind a place.
    @inline(__always)
    private static func firstSlot(_ tag: UInt64) -> Int {
        1 &+ Int(truncatingIfNeeded: tag) & (leafEntries &- 1)
    }

    @inline(__always)
    private static func slot(behind slot: Int) -> Int { 1 &+ slot & (leafEntries &- 1) }

    @inline(__always)
    private borrowing func record(_ entry: Entry) -> Record {
        let position = Int(entry & 0xffff_ffff) &- 1
        return chunks[position &>> Self.chunkBits].words + position & (1 &<< Self.chunkBits &- 1)
    }

    /// Asks the memory system for the index entry that `hash` leads to, those behind it, where a search
    /// may go on, and the count of its leaf.
    @inline(__always)
    borrowing func prefetch(_ hash: UInt64) {
        let tag = Self.tag(hash)
        let leaf = leaf(tag)
        let slot = leaf + Self.firstSlot(tag)
        tally_prefetch(leaf)
        tally_prefetch(slot)
        tally_prefetch(slot + 7)
    }

    /// The record of a request, nil if there is none.
    ///
    /// - Complexity: O(1) expected.
    @inline(__always)
    borrowing func find(_ token: RequestToken, hash: UInt64) -> Record? {
        let tag = Self.tag(hash)
        let leaf = leaf(tag)
        let entry = leaf[slot(of: token, tag, in: leaf)]
        return entry == 0 ? nil : record(entry)
    }

    /// Where the entry of a request goes, nil if there is one with this token already.
    @inline(__always)
    borrowing func place(for token: RequestToken, hash: UInt64) -> Place? {
        let tag = Self.tag(hash)
        let leaf = leaf(tag)
        let slot = slot(of: token, tag, in: leaf)
        return leaf[slot] == 0 ? Place(leaf: leaf, slot: slot, tag: tag) : nil
    }

    /// Where in its leaf a token's entry is, or may be put if there is none.
    @inline(__always)
    private borrowing func slot(of token: RequestToken, _ tag: UInt64, in leaf: Leaf) -> Int {
        var slot = Self.firstSlot(tag)
        while leaf[slot] != 0 {
            if leaf[slot] &>> 32 == tag {
                let record = record(leaf[slot])
                if record[0] == token.high, record[1] == token.low { break }
            }
            slot = Self.slot(behind: slot)
        }
        return slot
    }

    @inline(__always)
    static func fingerprint(_ record: Record) -> UInt64 { record[2] }

    /// Its outcomes, as `OnceWords` lays them out.
    @inline(__always)
    static func words(_ record: Record) -> UnsafePointer<Int64> {
        UnsafeRawPointer(record + headWords).assumingMemoryBound(to: Int64.self)
    }

    // MARK: Change

    /// Appends a request whose place has been found since the log last changed.
    ///
    /// - Parameter count: Of its words.
    /// - Returns: where they are to be written.
    /// - Complexity: O(1), amortised; at worst a leaf's entries move.
    @inline(__always)
    mutating func append(
        _ token: RequestToken, fingerprint: UInt64, count: Int, at place: Place
    ) -> UnsafeMutablePointer<Int64> {
        let wordCount = Self.headWords &+ count
        if lastUsed &+ wordCount > lastCapacity { addChunk(wordCount) }
        let record = last + lastUsed
        record[0] = token.high
        record[1] = token.low
        record[2] = fingerprint
        place.leaf[place.slot] =
            place.tag &<< 32 | UInt64(truncatingIfNeeded: lastPosition &+ lastUsed &+ 1)
        place.leaf[0] &+= 1
        lastUsed &+= wordCount
        rowCount &+= OnceRows.count(wordCount: count)
        if place.leaf[0] & 0xffff_ffff >= Self.leafEntriesMax { split(place.leaf, place.tag) }
        return UnsafeMutableRawPointer(record + Self.headWords).assumingMemoryBound(to: Int64.self)
    }

    /// Begins another chunk, larger than the last one.
    @inline(never)
    private mutating func addChunk(_ wordCount: Int) {
        let capacityMax = 1 << Self.chunkBits
        precondition(wordCount <= capacityMax, "a request with too many words")
        precondition(chunks.count < 1 << (32 - Self.chunkBits) - 1, "too many requests")
        chunks[chunks.count - 1].usedCount = lastUsed
        lastCapacity = min(max(2 * lastCapacity, wordCount), capacityMax)
        last = .allocate(capacity: lastCapacity)
        lastUsed = 0
        lastPosition = chunks.count << Self.chunkBits
        chunks.append(Chunk(words: last))
        allocatedBytes += lastCapacity * 8
    }

    // MARK: Leaves

    private static func makeLeaf(depth: UInt64) -> Leaf {
        let leaf = Leaf.allocate(capacity: 1 + leafEntries)
        leaf.initialize(repeating: 0, count: 1 + leafEntries)
        leaf[0] = depth * depthOne
        return leaf
    }

    /// Puts an entry into a leaf that has room.
    @inline(__always)
    private static func put(_ entry: Entry, _ leaf: Leaf) {
        var slot = firstSlot(entry &>> 32)
        while leaf[slot] != 0 { slot = Self.slot(behind: slot) }
        leaf[slot] = entry
        leaf[0] &+= 1
    }

    /// Puts those of a leaf's entries whose next bit is set into a leaf of their own.
    @inline(never)
    private mutating func split(_ leaf: Leaf, _ tag: UInt64) {
        let leafDepth = Int(leaf[0] >> 32)
        precondition(leafDepth < Self.depthMax, "too many tokens hash alike")
        if leafDepth == depth { doubleDirectory() }
        let halves = (
            Self.makeLeaf(depth: UInt64(leafDepth + 1)), Self.makeLeaf(depth: UInt64(leafDepth + 1))
        )
        for slot in 1...Self.leafEntries where leaf[slot] != 0 {
            let isUpper = leaf[slot] >> UInt64(63 - leafDepth) & 1 == 1
            Self.put(leaf[slot], isUpper ? halves.1 : halves.0)
        }
        leaf.deallocate()
        let span = 1 << (depth - leafDepth)
        let first = Int(tag >> UInt64(32 - leafDepth)) * span
        for index in 0..<span {
            directory[first + index] = index < span / 2 ? halves.0 : halves.1
        }
        allocatedBytes += (1 + Self.leafEntries) * 8
    }

    private mutating func doubleDirectory() {
        let doubled = UnsafeMutablePointer<Leaf>.allocate(capacity: 2 << depth)
        for index in 0..<(2 << depth) {
            (doubled + index).initialize(to: directory[index >> 1])
        }
        directory.deallocate()
        directory = doubled
        allocatedBytes += 8 << depth
        depth += 1
    }

    private borrowing func forEachLeaf(_ body: (Leaf) -> Void) {
        var index = 0
        while index < 1 << depth {
            let leaf = directory[index]
            // Read first: `body` may free it.
            index += 1 << (depth - Int(leaf[0] >> 32))
            body(leaf)
        }
    }

    // MARK: Everything

    /// Calls `body` with every record, in the order in which they were appended.
    borrowing func forEach(_ body: (Record) -> Void) {
        for (index, chunk) in chunks.enumerated() {
            let usedCount = index == chunks.count - 1 ? lastUsed : chunk.usedCount
            var offset = 0
            while offset < usedCount {
                let record = chunk.words + offset
                body(record)
                offset += Self.headWords + OnceWords.wordCount(Self.words(record)[0])
            }
        }
    }
}

/// A log that is no longer written to, shared with whoever merges it.
final class FrozenTokenLog: @unchecked Sendable {
    // Sendable because nothing ever changes.
    private let log: TokenLog
    private let hasher: KeyHasher

    init(_ log: consuming TokenLog, hasher: KeyHasher) {
        self.log = log
        self.hasher = hasher
    }

    var rowCount: Int { log.rowCount }
    var allocatedBytes: Int { log.allocatedBytes }

    /// Writes the row of `key`, if it has one.
    func read(_ key: UnsafeRawBufferPointer, _ row: UnsafeMutablePointer<UInt64>) -> Bool {
        guard let key = OnceRows.Key(key),
            let record = log.find(key.token, hash: hasher.hash(key.token))
        else { return false }
        return OnceRows.write(key.index, of: record, to: row)
    }

    /// Calls `body` with every key and its row.
    func forEach(_ body: (UnsafeRawBufferPointer, UnsafePointer<UInt64>) -> Void) {
        let row = UnsafeMutablePointer<UInt64>.allocate(capacity: OnceRows.columnCount)
        let keyBytes = UnsafeMutableRawPointer.allocate(
            byteCount: OnceRows.Key.byteCountMax, alignment: 8)
        defer {
            row.deallocate()
            keyBytes.deallocate()
        }
        log.forEach { record in
            var key = OnceRows.Key(RequestToken(high: record[0], low: record[1]))
            while OnceRows.write(key.index, of: record, to: row) {
                let count = key.write(to: keyBytes)
                body(UnsafeRawBufferPointer(start: keyBytes, count: count), row)
                key.index += 1
            }
        }
    }
}
