internal import CTallyIntrinsics
import TallyCore

/// A mutable hash table of integer keys to rows of columns: what has changed since the last merge.
///
/// Extendible hashing as in `Memtable`: a directory indexed by the hash's top bits points to leaves,
/// which split when they are full, so that no insert ever moves more than one leaf. A leaf is an
/// array of slots, probed one after the other; a key's home is its hash scaled to the number of
/// slots, so a leaf can have any number of them.
///
///     slot: key u64 · value u32 of each column     (u64 in a leaf that has a larger value)
///
/// Values are coded (`ColumnCoding`): a row of zeros says that there is no such record, whatever
/// segments say. Rows are never removed singly. A key of 0 marks a free slot, so the record of key 0
/// has a place of its own. Not thread-safe.
struct IntegerMemtable: ~Copyable {
    /// What a leaf is; its slots follow in memory.
    struct Leaf {
        var count: UInt32
        var slotCount: UInt32
        /// Bytes of one value: 4 or 8.
        var valueBytes: UInt32
        /// How many top bits of the hash all keys of this leaf share.
        var depth: UInt32
    }

    typealias LeafPointer = UnsafeMutablePointer<Leaf>

    static let leafBytes = 16
    static let slotsMin = 8
    /// Slots from which on a leaf splits instead of growing.
    static let slotsMax = 2048
    static let depthMax = 32

    let columnCount: Int
    let hasher: KeyHasher
    private var directory: UnsafeMutablePointer<LeafPointer>
    private var depth = 1
    /// The record of key 0, if `hasZeroKey`.
    private let zeroKeyRow: UnsafeMutableRawPointer
    private var hasZeroKey = false

    /// Changes whenever a row comes or moves, so that what a search has found stays good as long as this
    /// is the same.
    private(set) var version: UInt32 = 0
    /// How many rows there are, those of zeros included.
    private(set) var count = 0
    /// Memory asked for, bytes.
    private(set) var allocatedBytes = 0

    init(columnCount: Int, hasher: KeyHasher) {
        self.columnCount = columnCount
        self.hasher = hasher
        directory = .allocate(capacity: 2)
        zeroKeyRow = .allocate(byteCount: columnCount * 8, alignment: 8)
        allocatedBytes = 2 * 8 + columnCount * 8
        let leaf = makeLeaf(slotCount: Self.slotsMin, valueBytes: 4, depth: 0)
        directory[0] = leaf
        directory[1] = leaf
    }

    deinit {
        Self.forEachLeaf(directory, depth) { UnsafeMutableRawPointer($0).deallocate() }
        directory.deallocate()
        zeroKeyRow.deallocate()
    }

    // MARK: Search

    @inline(__always)
    private static func slotBytes(_ leaf: LeafPointer, _ columnCount: Int) -> Int {
        8 &+ Int(leaf.pointee.valueBytes) &* columnCount
    }

    @inline(__always)
    private borrowing func leaf(_ hash: UInt64) -> LeafPointer {
        directory[Int(truncatingIfNeeded: hash &>> UInt64(64 &- depth))]
    }

    /// The slot where a search for `hash` begins.
    @inline(__always)
    private static func home(_ leaf: LeafPointer, _ hash: UInt64) -> Int {
        let scaled = (hash & 0xffff_ffff) &* UInt64(leaf.pointee.slotCount)
        return Int(truncatingIfNeeded: scaled &>> 32)
    }

    /// Asks the memory system for the slot of `hash`.
    @inline(__always)
    borrowing func prefetch(_ hash: UInt64) {
        let leaf = leaf(hash)
        let offset = Self.home(leaf, hash) &* Self.slotBytes(leaf, columnCount)
        tally_prefetch(UnsafeRawPointer(leaf) + Self.leafBytes + offset)
    }

    /// One row where it lies; valid until the next `write`.
    struct Row {
        fileprivate let values: UnsafeMutableRawPointer
        fileprivate let valueBytes: UInt32

        @inline(__always)
        subscript(column: Int) -> UInt64 {
            valueBytes == 4
                ? UInt64(values.load(fromByteOffset: column &* 4, as: UInt32.self))
                : values.load(fromByteOffset: column &* 8, as: UInt64.self)
        }

        /// Changes one value in its place.
        ///
        /// - Returns: false if it does not fit there; nothing has then changed.
        @inline(__always)
        func set(_ column: Int, _ value: UInt64) -> Bool {
            if valueBytes == 4 {
                guard value <= UInt64(UInt32.max) else { return false }
                values.storeBytes(
                    of: UInt32(truncatingIfNeeded: value), toByteOffset: column &* 4,
                    as: UInt32.self)
            } else {
                values.storeBytes(of: value, toByteOffset: column &* 8, as: UInt64.self)
            }
            return true
        }

        @inline(__always)
        fileprivate func set(_ row: UnsafePointer<UInt64>, _ columnCount: Int) {
            for column in 0..<columnCount { _ = set(column, row[column]) }
        }

        @inline(__always)
        func read(_ row: UnsafeMutablePointer<UInt64>, _ columnCount: Int) {
            for column in 0..<columnCount { row[column] = self[column] }
        }
    }

    /// The row of `key`, nil if there is none.
    ///
    /// - Complexity: O(1) expected.
    @inline(__always)
    borrowing func find(_ key: UInt64, hash: UInt64) -> Row? {
        if key == 0 { return hasZeroKey ? Row(values: zeroKeyRow, valueBytes: 8) : nil }
        let leaf = leaf(hash)
        guard let slot = Self.find(leaf, key, hash, columnCount) else { return nil }
        return Row(values: slot + 8, valueBytes: leaf.pointee.valueBytes)
    }

    @inline(__always)
    private static func find(
        _ leaf: LeafPointer, _ key: UInt64, _ hash: UInt64, _ columnCount: Int
    ) -> UnsafeMutableRawPointer? {
        let slotBytes = slotBytes(leaf, columnCount)
        let slots = UnsafeMutableRawPointer(leaf) + leafBytes
        let end = slots + Int(leaf.pointee.slotCount) &* slotBytes
        var slot = slots + home(leaf, hash) &* slotBytes
        while true {
            let found = slot.loadUnaligned(as: UInt64.self)
            if found == key { return slot }
            if found == 0 { return nil }
            slot += slotBytes
            if slot == end { slot = slots }
        }
    }

    // MARK: Change

    /// Stores the row of `key`.
    ///
    /// - Complexity: O(columns) amortised; at worst one leaf of some thousand rows is rebuilt.
    mutating func write(_ key: UInt64, hash: UInt64, _ row: UnsafePointer<UInt64>) {
        guard let found = find(key, hash: hash) else { return insert(key, hash: hash, row) }
        if found.valueBytes == 4, isWide(row) {
            let leaf = leaf(hash)
            rebuild(leaf, slotCount: Int(leaf.pointee.slotCount), valueBytes: 8, hash)
            return write(key, hash: hash, row)
        }
        found.set(row, columnCount)
    }

    /// Adds the row of a key that `find` has not found.
    ///
    /// - Complexity: As `write`.
    mutating func insert(_ key: UInt64, hash: UInt64, _ row: UnsafePointer<UInt64>) {
        count &+= 1
        version &+= 1
        if key == 0 {
            hasZeroKey = true
            return Row(values: zeroKeyRow, valueBytes: 8).set(row, columnCount)
        }
        var leaf = leaf(hash)
        while Self.isFull(leaf) {
            grow(leaf, hash)
            leaf = self.leaf(hash)
        }
        if leaf.pointee.valueBytes == 4, isWide(row) {
            rebuild(leaf, slotCount: Int(leaf.pointee.slotCount), valueBytes: 8, hash)
            leaf = self.leaf(hash)
        }
        Self.place(leaf, key, hash, row, columnCount)
    }

    /// Whether a value of the row takes more than 32 bits.
    @inline(__always)
    private borrowing func isWide(_ row: UnsafePointer<UInt64>) -> Bool {
        var seen: UInt64 = 0
        for column in 0..<columnCount { seen |= row[column] }
        return seen > UInt64(UInt32.max)
    }

    /// Three quarters of a leaf's slots may be taken.
    @inline(__always)
    private static func isFull(_ leaf: LeafPointer) -> Bool {
        leaf.pointee.count &+ 1 > leaf.pointee.slotCount &- leaf.pointee.slotCount / 4
    }

    /// Adds a key that is not there to a leaf with room.
    @inline(__always)
    private static func place(
        _ leaf: LeafPointer, _ key: UInt64, _ hash: UInt64, _ row: UnsafePointer<UInt64>,
        _ columnCount: Int
    ) {
        let slotBytes = slotBytes(leaf, columnCount)
        let slots = UnsafeMutableRawPointer(leaf) + leafBytes
        let end = slots + Int(leaf.pointee.slotCount) &* slotBytes
        var slot = slots + home(leaf, hash) &* slotBytes
        while slot.loadUnaligned(as: UInt64.self) != 0 {
            slot += slotBytes
            if slot == end { slot = slots }
        }
        slot.storeBytes(of: key, as: UInt64.self)
        Row(values: slot + 8, valueBytes: leaf.pointee.valueBytes).set(row, columnCount)
        leaf.pointee.count &+= 1
    }

    // MARK: Growth

    private mutating func makeLeaf(slotCount: Int, valueBytes: Int, depth: Int) -> LeafPointer {
        let byteCount = Self.leafBytes + slotCount * (8 + valueBytes * columnCount)
        let memory = UnsafeMutableRawPointer.allocate(byteCount: byteCount, alignment: 16)
        memory.initializeMemory(as: UInt8.self, repeating: 0, count: byteCount)
        allocatedBytes += byteCount
        let leaf = memory.assumingMemoryBound(to: Leaf.self)
        leaf.initialize(
            to: Leaf(
                count: 0, slotCount: UInt32(slotCount), valueBytes: UInt32(valueBytes),
                depth: UInt32(depth)))
        return leaf
    }

    private mutating func free(_ leaf: LeafPointer) {
        version &+= 1
        allocatedBytes -=
            Self.leafBytes + Int(leaf.pointee.slotCount) * Self.slotBytes(leaf, columnCount)
        UnsafeMutableRawPointer(leaf).deallocate()
    }

    private mutating func grow(_ leaf: LeafPointer, _ hash: UInt64) {
        let slotCount = Int(leaf.pointee.slotCount)
        if slotCount < Self.slotsMax || leaf.pointee.depth == Self.depthMax {
            rebuild(
                leaf, slotCount: slotCount * 2,
                valueBytes: Int(leaf.pointee.valueBytes), hash)
        } else {
            split(leaf, hash)
        }
    }

    /// Replaces a leaf by one of another shape.
    private mutating func rebuild(
        _ leaf: LeafPointer, slotCount: Int, valueBytes: Int, _ hash: UInt64
    ) {
        let replacement = makeLeaf(
            slotCount: slotCount, valueBytes: valueBytes, depth: Int(leaf.pointee.depth))
        move(leaf, hash) { _ in replacement }
        point(Int(leaf.pointee.depth), hash, to: replacement)
        free(leaf)
    }

    private mutating func split(_ leaf: LeafPointer, _ hash: UInt64) {
        let leafDepth = Int(leaf.pointee.depth)
        if leafDepth == depth { doubleDirectory() }
        let slotCount = Int(leaf.pointee.slotCount) * 5 / 8
        let valueBytes = Int(leaf.pointee.valueBytes)
        let lower = makeLeaf(slotCount: slotCount, valueBytes: valueBytes, depth: leafDepth + 1)
        let upper = makeLeaf(slotCount: slotCount, valueBytes: valueBytes, depth: leafDepth + 1)
        let bit: UInt64 = 1 << UInt64(63 - leafDepth)
        // Halves differ by chance; a half that does not fit is told by a full leaf.
        move(leaf, hash) { $0 & bit == 0 ? lower : upper }
        point(leafDepth + 1, hash & ~bit, to: lower)
        point(leafDepth + 1, hash | bit, to: upper)
        free(leaf)
    }

    /// Puts the rows of `leaf` into the leaves that `target` names by their hashes.
    private mutating func move(
        _ leaf: LeafPointer, _ hash: UInt64, _ target: (UInt64) -> LeafPointer
    ) {
        let row = UnsafeMutablePointer<UInt64>.allocate(capacity: columnCount)
        defer { row.deallocate() }
        let hasher = hasher
        let columnCount = columnCount
        Self.forEachSlot(leaf, columnCount, row) { key in
            let hash = hasher.hash(key)
            let leaf = target(hash)
            precondition(
                leaf.pointee.count &+ 1 < leaf.pointee.slotCount, "a leaf split unevenly")
            Self.place(leaf, key, hash, row, columnCount)
        }
    }

    /// Makes all directory entries of a leaf lead to `leaf`.
    private func point(_ leafDepth: Int, _ hash: UInt64, to leaf: LeafPointer) {
        let span = 1 << (depth - leafDepth)
        let index = Int(truncatingIfNeeded: hash >> UInt64(64 - depth))
        let first = index & ~(span - 1)
        for entry in first..<(first + span) { directory[entry] = leaf }
    }

    private mutating func doubleDirectory() {
        let larger = UnsafeMutablePointer<LeafPointer>.allocate(capacity: 2 << depth)
        for index in 0..<(1 << depth) {
            larger[index * 2] = directory[index]
            larger[index * 2 + 1] = directory[index]
        }
        directory.deallocate()
        directory = larger
        allocatedBytes += 8 << depth
        depth += 1
    }

    // MARK: Everything

    /// Calls `body` with the keys of rows, those of zeros left out, of the leaf that holds `position`.
    ///
    /// - Returns: the first hash behind the leaf, nil behind the last.
    borrowing func forEachKey(ofLeafAt position: UInt64, _ body: (UInt64) -> Void) -> UInt64? {
        let leaf = leaf(position)
        withUnsafeTemporaryAllocation(of: UInt64.self, capacity: columnCount) { row in
            let row = row.baseAddress.unsafelyUnwrapped
            let columnCount = columnCount
            let isZero = { (0..<columnCount).allSatisfy { row[$0] == 0 } }
            if hasZeroKey, self.leaf(hasher.hash(0)) == leaf {
                Row(values: zeroKeyRow, valueBytes: 8).read(row, columnCount)
                if !isZero() { body(0) }
            }
            Self.forEachSlot(leaf, columnCount, row) { if !isZero() { body($0) } }
        }
        return HashRange.end(of: position, depth: leaf.pointee.depth)
    }

    private static func forEachLeaf(
        _ directory: UnsafeMutablePointer<LeafPointer>, _ depth: Int, _ body: (LeafPointer) -> Void
    ) {
        var index = 0
        while index < 1 << depth {
            let leaf = directory[index]
            index += 1 << (depth - Int(leaf.pointee.depth))
            body(leaf)
        }
    }

    /// Calls `body` with each key of `leaf` after having written its row to `row`.
    private static func forEachSlot(
        _ leaf: LeafPointer, _ columnCount: Int, _ row: UnsafeMutablePointer<UInt64>,
        _ body: (UInt64) -> Void
    ) {
        let slotBytes = slotBytes(leaf, columnCount)
        var slot = UnsafeMutableRawPointer(leaf) + leafBytes
        for _ in 0..<leaf.pointee.slotCount {
            let key = slot.loadUnaligned(as: UInt64.self)
            if key != 0 {
                Row(values: slot + 8, valueBytes: leaf.pointee.valueBytes).read(row, columnCount)
                body(key)
            }
            slot += slotBytes
        }
    }

    /// Calls `body` with every key and its row, in no order.
    borrowing func forEach(_ body: (UInt64, UnsafePointer<UInt64>) -> Void) {
        let row = UnsafeMutablePointer<UInt64>.allocate(capacity: columnCount)
        defer { row.deallocate() }
        if hasZeroKey {
            Row(values: zeroKeyRow, valueBytes: 8).read(row, columnCount)
            body(0, row)
        }
        let columnCount = columnCount
        Self.forEachLeaf(directory, depth) { leaf in
            Self.forEachSlot(leaf, columnCount, row) { body($0, row) }
        }
    }
}
