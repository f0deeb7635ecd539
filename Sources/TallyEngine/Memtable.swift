internal import CTallyIntrinsics
import TallyCore

/// A mutable hash table of string keys to signed 64-bit counters, without a pause at any size.
///
/// Extendible hashing (Fagin et al., 1979): a directory, indexed by the hash's top bits, points to
/// leaves; a full leaf grows, then splits in two, so no single insert ever moves more than one
/// leaf's records. Within a leaf, 64-byte buckets hold a tag and a record offset for 12 records and
/// overflow to their neighbours, counted so that a search knows where to stop (as in Facebook's
/// F14). Records lie in one run of bytes per leaf.
///
///     directory → leaf header │ bucket │ bucket │ …        records: value i64 · length u16 · key
///                  64 bytes     12 × (tag u8, offset u32)
///
/// A directory entry holds the leaf's address, its number of buckets and the address of its
/// records, so a search costs the bucket's and the record's cache line. Deleted records are garbage until their leaf is rebuilt, which happens before garbage exceeds half of the records.
/// Not thread-safe: its partition's lock guards it.
struct Memtable: ~Copyable {
    typealias Leaf = UnsafeMutablePointer<LeafHeader>

    /// What a search needs of a leaf, kept in step with it.
    struct DirectoryEntry {
        /// The leaf's address, a multiple of 64, plus the binary logarithm of its buckets' number.
        private let leafAndBuckets: UInt
        let records: UnsafeMutableRawPointer

        init(_ leaf: Leaf) {
            leafAndBuckets =
                UInt(bitPattern: leaf)
                | UInt((leaf.pointee.bucketMask &+ 1).trailingZeroBitCount)
            records = leaf.pointee.records
        }

        @inline(__always)
        var leaf: Leaf { UnsafeMutablePointer(bitPattern: leafAndBuckets & ~63).unsafelyUnwrapped }

        @inline(__always)
        var bucketMask: UInt32 { (1 &<< UInt32(leafAndBuckets & 63)) &- 1 }
    }

    struct LeafHeader {
        var records: UnsafeMutableRawPointer
        var recordBytesUsed: UInt32
        var recordBytesCapacity: UInt32
        var garbageBytes: UInt32
        var count: UInt32
        var bucketMask: UInt32
        /// How many top bits of the hash all keys of this leaf share.
        var depth: UInt32
    }

    private static let headerBytes = 64
    private static let recordHeaderBytes = 8 + 2
    private static let leafBucketsMax = 128
    private static let depthMax = 32

    private let hasher: KeyHasher
    private var directory: UnsafeMutablePointer<DirectoryEntry>
    /// The directory has `1 << depth` entries; at least two, so that no shift is by 64.
    private var depth: Int

    /// How many counters there are.
    private(set) var count = 0
    /// Bytes of memory asked for, the allocator's own overhead not included.
    private(set) var allocatedBytes = 0

    init(hasher: KeyHasher) {
        self.hasher = hasher
        depth = 1
        directory = .allocate(capacity: 2)
        resetToOneLeaf()
    }

    deinit {
        Self.forEachLeaf(directory, depth: depth) { Self.free($0) }
        directory.deallocate()
    }

    /// Asks the memory system for the bucket that `hash` leads to.
    @inline(__always)
    borrowing func prefetchBucket(_ hash: UInt64) {
        let entry = directory[directoryIndex(hash)]
        tally_prefetch(
            Bucket.address(entry.leaf, UInt32(truncatingIfNeeded: hash) & entry.bucketMask))
    }

    /// Asks the memory system for the record that `hash` leads to, if its bucket has one.
    @inline(__always)
    borrowing func prefetchRecord(_ hash: UInt64) {
        let entry = directory[directoryIndex(hash)]
        let bucket = Bucket(entry.leaf, UInt32(truncatingIfNeeded: hash) & entry.bucketMask)
        var matches = bucket.matches(Self.tag(hash))
        if let slot = matches.next() { tally_prefetch(entry.records + Int(bucket.offset(slot))) }
    }

    @inline(__always)
    private borrowing func directoryIndex(_ hash: UInt64) -> Int {
        Int(truncatingIfNeeded: hash &>> UInt64(64 &- depth))
    }

    // MARK: Search

    /// The record of the key, or nil. Valid until the next insert or removal.
    ///
    /// - Complexity: O(1) expected.
    @inline(__always)
    borrowing func find(
        _ key: UnsafeRawPointer, _ keyByteCount: Int, hash: UInt64
    ) -> UnsafeMutableRawPointer? {
        let entry = directory[directoryIndex(hash)]
        let tag = Self.tag(hash)
        var index = UInt32(truncatingIfNeeded: hash) & entry.bucketMask
        // Deletions may leave every bucket overflowing: then the leaf's size ends the search.
        var probes = entry.bucketMask
        while true {
            let bucket = Bucket(entry.leaf, index)
            var matches = bucket.matches(tag)
            while let slot = matches.next() {
                let record = entry.records + Int(bucket.offset(slot))
                if Self.keyEquals(record, key, keyByteCount) { return record }
            }
            if bucket.overflowCount == 0 || probes == 0 { return nil }
            probes &-= 1
            index = (index &+ 1) & entry.bucketMask
        }
    }

    /// The counter in `record`.
    @inline(__always)
    static func value(_ record: UnsafeMutableRawPointer) -> Int64 {
        record.loadUnaligned(as: Int64.self)
    }

    /// Changes the counter in `record`.
    @inline(__always)
    static func setValue(_ record: UnsafeMutableRawPointer, _ value: Int64) {
        record.storeBytes(of: value, as: Int64.self)
    }

    // MARK: Change

    /// Adds a key that `find` has just not found.
    ///
    /// - Complexity: O(1) amortised; at worst one leaf of some thousand records is rebuilt.
    mutating func insert(
        _ key: UnsafeRawPointer, _ keyByteCount: Int, hash: UInt64, value: Int64
    ) {
        precondition(keyByteCount <= Limits.keyBytesMax, "key too long for a record")
        let recordBytes = Self.recordHeaderBytes &+ keyByteCount
        let leaf = leafWithRoom(hash, recordBytes: recordBytes)
        let offset = leaf.pointee.recordBytesUsed
        let record = leaf.pointee.records + Int(offset)
        record.storeBytes(of: value, as: Int64.self)
        record.storeBytes(of: UInt16(keyByteCount), toByteOffset: 8, as: UInt16.self)
        (record + Self.recordHeaderBytes).copyMemory(from: key, byteCount: keyByteCount)
        leaf.pointee.recordBytesUsed &+= UInt32(recordBytes)
        Self.place(leaf, hash: hash, offset: offset)
        leaf.pointee.count &+= 1
        count &+= 1
    }

    /// Removes the key.
    ///
    /// - Returns: its counter, or nil if it was not there.
    /// - Complexity: O(1) amortised.
    mutating func remove(_ key: UnsafeRawPointer, _ keyByteCount: Int, hash: UInt64) -> Int64? {
        let leaf = directory[directoryIndex(hash)].leaf
        let tag = Self.tag(hash)
        let mask = leaf.pointee.bucketMask
        let home = UInt32(truncatingIfNeeded: hash) & mask
        var index = home
        var probes = mask
        while true {
            let bucket = Bucket(leaf, index)
            var matches = bucket.matches(tag)
            while let slot = matches.next() {
                let record = leaf.pointee.records + Int(bucket.offset(slot))
                guard Self.keyEquals(record, key, keyByteCount) else { continue }
                let value = Self.value(record)
                bucket.clear(slot)
                var passed = home
                while passed != index {
                    Bucket(leaf, passed).removeOverflow()
                    passed = (passed &+ 1) & mask
                }
                leaf.pointee.count &-= 1
                leaf.pointee.garbageBytes &+= UInt32(Self.recordHeaderBytes &+ keyByteCount)
                count &-= 1
                shrinkIfSparse(leaf, hash: hash)
                return value
            }
            if bucket.overflowCount == 0 || probes == 0 { return nil }
            probes &-= 1
            index = (index &+ 1) & mask
        }
    }

    /// Removes everything and gives its memory back.
    mutating func removeAll() {
        Self.forEachLeaf(directory, depth: depth) { Self.free($0) }
        resetToOneLeaf()
    }

    /// Calls `body` with every key and counter, in no order.
    borrowing func forEach(_ body: (UnsafeRawBufferPointer, Int64) -> Void) {
        Self.forEachLeaf(directory, depth: depth) { leaf in
            Self.forEachRecord(leaf) { record, _ in
                body(Self.key(record), Self.value(record))
            }
        }
    }
}

// MARK: - Growth

extension Memtable {
    /// The leaf for `hash` with room for one more record, after growing or splitting it as needed.
    @inline(__always)
    private mutating func leafWithRoom(_ hash: UInt64, recordBytes: Int) -> Leaf {
        let leaf = directory[directoryIndex(hash)].leaf
        let bytesNeeded = leaf.pointee.recordBytesUsed &+ UInt32(recordBytes)
        if leaf.pointee.count < Self.loadMax(leaf),
            bytesNeeded <= leaf.pointee.recordBytesCapacity
        {
            return leaf
        }
        return makeRoom(hash, recordBytes: recordBytes)
    }

    @inline(never)
    private mutating func makeRoom(_ hash: UInt64, recordBytes: Int) -> Leaf {
        while true {
            let leaf = directory[directoryIndex(hash)].leaf
            if leaf.pointee.count < Self.loadMax(leaf) {
                let needed = Int(leaf.pointee.recordBytesUsed) + recordBytes
                if needed > Int(leaf.pointee.recordBytesCapacity) {
                    growRecords(leaf, toFit: needed)
                    setEntries(leaf, hash: hash)
                }
                return leaf
            }
            let bucketCount = Int(leaf.pointee.bucketMask) + 1
            if bucketCount < Self.leafBucketsMax || leaf.pointee.depth >= splitDepthMax {
                replace(leaf, with: rebuilt(leaf, bucketCount: bucketCount * 2), hash: hash)
            } else {
                split(leaf, hash: hash)
            }
        }
    }

    /// How deep leaves are split: 64 times deeper than evenly spread hashes need, and no more, so
    /// that keys whose hashes agree make a leaf large instead of the directory.
    private var splitDepthMax: Int {
        min(Self.depthMax, max(2, Int.bitWidth - count.leadingZeroBitCount - 4))
    }

    private mutating func growRecords(_ leaf: Leaf, toFit needed: Int) {
        let capacity = max(needed, Int(leaf.pointee.recordBytesCapacity) * 5 / 4, 64)
        let grown = UnsafeMutableRawPointer.allocate(byteCount: capacity, alignment: 16)
        grown.copyMemory(
            from: leaf.pointee.records, byteCount: Int(leaf.pointee.recordBytesUsed))
        leaf.pointee.records.deallocate()
        allocatedBytes += capacity - Int(leaf.pointee.recordBytesCapacity)
        leaf.pointee.records = grown
        leaf.pointee.recordBytesCapacity = UInt32(capacity)
    }

    /// Halves a leaf whose buckets are mostly empty, and rebuilds one that is mostly garbage.
    private mutating func shrinkIfSparse(_ leaf: Leaf, hash: UInt64) {
        let bucketCount = Int(leaf.pointee.bucketMask) + 1
        let isSparse = bucketCount > 1 && Int(leaf.pointee.count) < bucketCount * 2
        let isGarbage =
            leaf.pointee.garbageBytes > 256
            && leaf.pointee.garbageBytes > leaf.pointee.recordBytesUsed / 2
        guard isSparse || isGarbage else { return }
        let smaller = isSparse ? bucketCount / 2 : bucketCount
        replace(leaf, with: rebuilt(leaf, bucketCount: smaller), hash: hash)
    }

    private mutating func split(_ leaf: Leaf, hash: UInt64) {
        let leafDepth = Int(leaf.pointee.depth)
        if leafDepth == depth { doubleDirectory() }
        let bytes = Int(leaf.pointee.recordBytesUsed)
        let bucketCount = Int(leaf.pointee.bucketMask) + 1
        let zero = allocateLeaf(bucketCount, recordBytes: bytes * 5 / 8, depth: leafDepth + 1)
        let one = allocateLeaf(bucketCount, recordBytes: bytes * 5 / 8, depth: leafDepth + 1)
        Self.forEachRecord(leaf) { record, _ in
            let recordHash = hasher.hash(Self.key(record))
            let isOne = recordHash >> UInt64(63 - leafDepth) & 1 == 1
            copy(record, hash: recordHash, to: isOne ? one : zero)
        }
        setEntries(zero, hash: hash & ~(1 << UInt64(63 - leafDepth)))
        setEntries(one, hash: hash | 1 << UInt64(63 - leafDepth))
        release(leaf)
    }

    private mutating func doubleDirectory() {
        precondition(depth < Self.depthMax, "directory deeper than the hash allows")
        let doubled = UnsafeMutablePointer<DirectoryEntry>.allocate(capacity: 2 << depth)
        for index in 0..<(1 << depth) {
            (doubled + 2 * index).initialize(repeating: directory[index], count: 2)
        }
        directory.deallocate()
        allocatedBytes += (1 << depth) * MemoryLayout<DirectoryEntry>.stride
        directory = doubled
        depth += 1
    }

    private mutating func replace(_ leaf: Leaf, with replacement: Leaf, hash: UInt64) {
        setEntries(replacement, hash: hash)
        release(leaf)
    }

    /// Makes every directory entry under the prefix of `hash` that belongs to `leaf` say so.
    private mutating func setEntries(_ leaf: Leaf, hash: UInt64) {
        let leafDepth = Int(leaf.pointee.depth)
        let span = 1 << (depth - leafDepth)
        let first = Int(hash >> UInt64(64 - leafDepth)) * span
        (directory + first).update(repeating: DirectoryEntry(leaf), count: span)
    }

    private mutating func rebuilt(_ leaf: Leaf, bucketCount: Int) -> Leaf {
        let bytes = Int(leaf.pointee.recordBytesUsed - leaf.pointee.garbageBytes)
        let copyOfLeaf = allocateLeaf(
            bucketCount, recordBytes: max(64, bytes * 5 / 4), depth: Int(leaf.pointee.depth))
        Self.forEachRecord(leaf) { record, _ in
            copy(record, hash: hasher.hash(Self.key(record)), to: copyOfLeaf)
        }
        return copyOfLeaf
    }

    private mutating func copy(_ record: UnsafeMutableRawPointer, hash: UInt64, to leaf: Leaf) {
        let bytes = Self.recordHeaderBytes + Self.key(record).count
        let needed = Int(leaf.pointee.recordBytesUsed) + bytes
        if needed > Int(leaf.pointee.recordBytesCapacity) { growRecords(leaf, toFit: needed) }
        let offset = leaf.pointee.recordBytesUsed
        (leaf.pointee.records + Int(offset)).copyMemory(from: record, byteCount: bytes)
        leaf.pointee.recordBytesUsed += UInt32(bytes)
        Self.place(leaf, hash: hash, offset: offset)
        leaf.pointee.count += 1
    }

    private mutating func allocateLeaf(_ bucketCount: Int, recordBytes: Int, depth: Int) -> Leaf {
        let bytes = Self.headerBytes + bucketCount * Bucket.byteCount
        let memory = UnsafeMutableRawPointer.allocate(byteCount: bytes, alignment: 64)
        memory.initializeMemory(as: UInt8.self, repeating: 0, count: bytes)
        let leaf = memory.bindMemory(to: LeafHeader.self, capacity: 1)
        leaf.initialize(
            to: LeafHeader(
                records: .allocate(byteCount: recordBytes, alignment: 16),
                recordBytesUsed: 0, recordBytesCapacity: UInt32(recordBytes), garbageBytes: 0,
                count: 0, bucketMask: UInt32(bucketCount - 1), depth: UInt32(depth)))
        allocatedBytes += bytes + recordBytes
        return leaf
    }

    private mutating func release(_ leaf: Leaf) {
        let bucketCount = Int(leaf.pointee.bucketMask) + 1
        allocatedBytes -=
            Self.headerBytes + bucketCount * Bucket.byteCount
            + Int(leaf.pointee.recordBytesCapacity)
        Self.free(leaf)
    }

    private mutating func resetToOneLeaf() {
        directory.deallocate()
        depth = 1
        directory = .allocate(capacity: 2)
        allocatedBytes = 2 * MemoryLayout<DirectoryEntry>.stride
        count = 0
        let leaf = allocateLeaf(1, recordBytes: 64, depth: 0)
        directory.initialize(repeating: DirectoryEntry(leaf), count: 2)
    }
}

// MARK: - Buckets and records

extension Memtable {
    /// One cache line of a leaf: tags 12 × u8 · overflow u8 · 3 unused · offsets 12 × u32.
    ///
    /// A tag of 0 marks a free slot. The overflow count says how many records that belong here
    /// lie further on; 255 means "at least so many" and stays.
    struct Bucket {
        static let byteCount = 64
        static let slots = 12
        private let base: UnsafeMutableRawPointer

        @inline(__always)
        init(_ leaf: Leaf, _ index: UInt32) {
            base = Self.address(leaf, index)
        }

        @inline(__always)
        static func address(_ leaf: Leaf, _ index: UInt32) -> UnsafeMutableRawPointer {
            UnsafeMutableRawPointer(leaf) + Memtable.headerBytes + Int(index) &* byteCount
        }

        @inline(__always)
        var overflowCount: UInt8 { base.load(fromByteOffset: 12, as: UInt8.self) }

        @inline(__always)
        func offset(_ slot: Int) -> UInt32 {
            base.load(fromByteOffset: 16 &+ slot &* 4, as: UInt32.self)
        }

        @inline(__always)
        func tag(_ slot: Int) -> UInt8 { base.load(fromByteOffset: slot, as: UInt8.self) }

        /// Slots whose tag is `tag`, and in rare cases its neighbour `tag ^ 1`.
        @inline(__always)
        func matches(_ tag: UInt8) -> SlotMatches {
            let pattern = UInt64(tag) &* 0x0101_0101_0101_0101
            return SlotMatches(
                first: Self.zeroBytes(base.load(as: UInt64.self) ^ pattern),
                second: Self.zeroBytes(base.load(fromByteOffset: 8, as: UInt64.self) ^ pattern)
                    & 0x8080_8080)
        }

        /// A slot that is free, or nil.
        @inline(__always)
        func freeSlot() -> Int? {
            var free = matches(0)
            return free.next()
        }

        @inline(__always)
        func fill(_ slot: Int, tag: UInt8, offset: UInt32) {
            base.storeBytes(of: tag, toByteOffset: slot, as: UInt8.self)
            base.storeBytes(of: offset, toByteOffset: 16 &+ slot &* 4, as: UInt32.self)
        }

        func clear(_ slot: Int) {
            base.storeBytes(of: 0, toByteOffset: slot, as: UInt8.self)
        }

        func addOverflow() {
            if overflowCount < 255 {
                base.storeBytes(of: overflowCount + 1, toByteOffset: 12, as: UInt8.self)
            }
        }

        func removeOverflow() {
            if overflowCount < 255 {
                base.storeBytes(of: overflowCount - 1, toByteOffset: 12, as: UInt8.self)
            }
        }

        /// High bit of every byte that is zero; above a true hit there may be false ones.
        @inline(__always)
        private static func zeroBytes(_ word: UInt64) -> UInt64 {
            (word &- 0x0101_0101_0101_0101) & ~word & 0x8080_8080_8080_8080
        }
    }

    struct SlotMatches {
        var first: UInt64
        var second: UInt64

        @inline(__always)
        mutating func next() -> Int? {
            if first != 0 {
                let slot = first.trailingZeroBitCount &>> 3
                first &= first &- 1
                return slot
            }
            if second != 0 {
                let slot = 8 &+ second.trailingZeroBitCount &>> 3
                second &= second &- 1
                return slot
            }
            return nil
        }
    }

    /// 2...255: `matches` can mistake a tag for its neighbour, and must never take a free slot,
    /// whose offset is stale, for a record.
    @inline(__always)
    private static func tag(_ hash: UInt64) -> UInt8 {
        max(2, UInt8(truncatingIfNeeded: hash &>> 24))
    }

    /// Counters a leaf holds before it grows: 85 % of its slots.
    @inline(__always)
    private static func loadMax(_ leaf: Leaf) -> UInt32 {
        (leaf.pointee.bucketMask &+ 1) &* UInt32(Bucket.slots * 217 / 256)
            &+ (leaf.pointee.bucketMask &>> 3)
    }

    @inline(__always)
    private static func place(_ leaf: Leaf, hash: UInt64, offset: UInt32) {
        var index = UInt32(truncatingIfNeeded: hash) & leaf.pointee.bucketMask
        while true {
            let bucket = Bucket(leaf, index)
            if let slot = bucket.freeSlot() {
                bucket.fill(slot, tag: tag(hash), offset: offset)
                return
            }
            bucket.addOverflow()
            index = (index &+ 1) & leaf.pointee.bucketMask
        }
    }

    @inline(__always)
    private static func key(_ record: UnsafeMutableRawPointer) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(
            start: record + recordHeaderBytes,
            count: Int(record.loadUnaligned(fromByteOffset: 8, as: UInt16.self)))
    }

    @inline(__always)
    private static func keyEquals(
        _ record: UnsafeMutableRawPointer, _ key: UnsafeRawPointer, _ keyByteCount: Int
    ) -> Bool {
        Int(record.loadUnaligned(fromByteOffset: 8, as: UInt16.self)) == keyByteCount
            && Bytes.equal(record + recordHeaderBytes, key, keyByteCount)
    }

    private static func forEachRecord(
        _ leaf: Leaf, _ body: (UnsafeMutableRawPointer, UInt32) -> Void
    ) {
        for index in 0...leaf.pointee.bucketMask {
            let bucket = Bucket(leaf, index)
            for slot in 0..<Bucket.slots where bucket.tag(slot) != 0 {
                body(leaf.pointee.records + Int(bucket.offset(slot)), index)
            }
        }
    }

    private static func forEachLeaf(
        _ directory: UnsafeMutablePointer<DirectoryEntry>, depth: Int, _ body: (Leaf) -> Void
    ) {
        var index = 0
        while index < 1 << depth {
            let leaf = directory[index].leaf
            index += 1 << (depth - Int(leaf.pointee.depth))
            body(leaf)
        }
    }

    private static func free(_ leaf: Leaf) {
        leaf.pointee.records.deallocate()
        UnsafeMutableRawPointer(leaf).deallocate()
    }
}

// MARK: - Invariants

extension Memtable {
    /// Traps unless every record is found from its own key, and all counts add up.
    ///
    /// - Complexity: O(*n*); for tests.
    borrowing func checkInvariants() {
        var total = 0
        var bytes = (1 << depth) * MemoryLayout<DirectoryEntry>.stride
        Self.forEachLeaf(directory, depth: depth) { leaf in
            var leafCount: UInt32 = 0
            var recordBytes: UInt32 = 0
            Self.forEachRecord(leaf) { record, _ in
                leafCount += 1
                let key = Self.key(record)
                recordBytes += UInt32(Self.recordHeaderBytes + key.count)
                let hash = hasher.hash(key)
                precondition(
                    directory[directoryIndex(hash)].leaf == leaf, "record in a strange leaf")
                precondition(
                    find(key.baseAddress ?? UnsafeRawPointer(record), key.count, hash: hash)
                        == record, "record cannot be found")
            }
            precondition(leafCount == leaf.pointee.count, "leaf miscounts its records")
            precondition(
                recordBytes + leaf.pointee.garbageBytes == leaf.pointee.recordBytesUsed,
                "leaf miscounts its bytes")
            precondition(
                leaf.pointee.recordBytesUsed <= leaf.pointee.recordBytesCapacity,
                "records beyond their memory")
            total += Int(leafCount)
            bytes +=
                Self.headerBytes + (Int(leaf.pointee.bucketMask) + 1) * Bucket.byteCount
                + Int(leaf.pointee.recordBytesCapacity)
        }
        precondition(total == count, "table miscounts its records")
        precondition(bytes == allocatedBytes, "table miscounts its memory")
    }
}
