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
/// records, so a search costs the bucket's and the record's cache line. Deleted records are garbage
/// until their leaf is rebuilt, which happens before garbage exceeds half of the records.
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

    static let headerBytes = 64
    static let recordHeaderBytes = 8 + 2
    static let leafBucketsMax = 128
    static let depthMax = 32

    let hasher: KeyHasher
    var directory: UnsafeMutablePointer<DirectoryEntry>
    /// The directory has `1 << depth` entries; at least two, so that no shift is by 64.
    var depth: Int

    /// How many counters there are.
    var count = 0
    /// Bytes of memory asked for, the allocator's own overhead not included.
    var allocatedBytes = 0

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
    borrowing func directoryIndex(_ hash: UInt64) -> Int {
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
