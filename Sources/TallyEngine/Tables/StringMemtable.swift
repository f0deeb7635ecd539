internal import CTallyIntrinsics
import TallyCore

/// A mutable hash table of string keys to rows of columns, without a pause at any size.
///
/// Extendible hashing (Fagin et al., 1979): a directory, indexed by the hash's top bits, points to
/// leaves; a full leaf grows, then splits in two, so no single insert ever moves more than one
/// leaf's records. Within a leaf, 64-byte buckets hold a tag and a record offset for 12 records and
/// overflow to their neighbours, counted so that a search knows where to stop (as in Facebook's
/// F14). Records lie in one run of bytes per leaf.
///
///     directory → leaf header │ bucket │ bucket │ …        records: first value u64 · length u16 ·
///                  64 bytes     12 × (tag u8, offset u32)           key · further values u64
///
/// Values are coded (`ColumnCoding`). The length's upper bit marks a record that says that the key has
/// been removed, whatever segments say.
///
/// A directory entry holds the leaf's address, its number of buckets and the address of its
/// records, so a search costs the bucket's and the record's cache line. Deleted records are garbage
/// until their leaf is rebuilt, which happens before garbage exceeds half of the records.
/// Not thread-safe: its partition's lock guards it.
struct StringMemtable: ~Copyable {
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
    /// Of a record's length: the key has been removed.
    static let removedFlag: UInt16 = 0x8000
    static let leafBucketsMax = 128
    static let depthMax = 32

    let hasher: KeyHasher
    let columnCount: Int
    var directory: UnsafeMutablePointer<DirectoryEntry>
    /// The directory has `1 << depth` entries; at least two, so that no shift is by 64.
    var depth: Int

    /// How many records there are, those of removed keys included.
    var count = 0
    /// Bytes of memory asked for, the allocator's own overhead not included.
    var allocatedBytes = 0

    init(columnCount: Int, hasher: KeyHasher) {
        self.hasher = hasher
        self.columnCount = columnCount
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
        guard let slot = matches.next() else { return }
        let record = entry.records + Int(bucket.offset(slot))
        tally_prefetch(record)
        // Records lie as they come, over two lines more often than not where keys are not short.
        tally_prefetch(record + Self.prefetchedBytes)
    }

    /// How much of a record is asked for.
    private static var prefetchedBytes: Int { 32 }

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

    /// The first value of `record`.
    @inline(__always)
    static func value(_ record: UnsafeMutableRawPointer) -> UInt64 {
        record.loadUnaligned(as: UInt64.self)
    }

    /// Changes the first value of `record`.
    @inline(__always)
    static func setValue(_ record: UnsafeMutableRawPointer, _ value: UInt64) {
        record.storeBytes(of: value, as: UInt64.self)
    }

    /// Whether `record` says that its key has been removed.
    @inline(__always)
    static func isRemoved(_ record: UnsafeMutableRawPointer) -> Bool {
        record.loadUnaligned(fromByteOffset: 8, as: UInt16.self) & removedFlag != 0
    }

    /// Writes the values of `record` to `row`.
    @inline(__always)
    borrowing func read(
        _ record: UnsafeMutableRawPointer, _ row: UnsafeMutablePointer<UInt64>
    ) {
        row[0] = Self.value(record)
        guard columnCount > 1 else { return }
        let key = Self.key(record)
        let rest = record + (Self.recordHeaderBytes &+ key.count)
        for column in 1..<columnCount {
            row[column] = rest.loadUnaligned(fromByteOffset: (column &- 1) &* 8, as: UInt64.self)
        }
    }

    /// Gives `record` other values, or marks its key as removed.
    borrowing func write(
        _ record: UnsafeMutableRawPointer, _ row: UnsafePointer<UInt64>, isRemoved: Bool = false
    ) {
        Self.setValue(record, row[0])
        let key = Self.key(record)
        record.storeBytes(
            of: UInt16(key.count) | (isRemoved ? Self.removedFlag : 0), toByteOffset: 8,
            as: UInt16.self)
        let rest = record + (Self.recordHeaderBytes &+ key.count)
        for column in 1..<max(1, columnCount) {
            rest.storeBytes(of: row[column], toByteOffset: (column &- 1) &* 8, as: UInt64.self)
        }
    }

    /// Bytes of the record of a key.
    @inline(__always)
    borrowing func recordBytes(_ keyByteCount: Int) -> Int {
        Self.recordHeaderBytes &+ keyByteCount &+ (columnCount &- 1) &* 8
    }

    // MARK: Change

    /// Adds a key that `find` has just not found, with its first value; `write` gives it others.
    ///
    /// - Returns: its record.
    /// - Complexity: O(1) amortised; at worst one leaf of some thousand records is rebuilt.
    @discardableResult
    mutating func insert(
        _ key: UnsafeRawPointer, _ keyByteCount: Int, hash: UInt64, value: UInt64
    ) -> UnsafeMutableRawPointer {
        precondition(keyByteCount <= Limits.keyBytesMax, "key too long for a record")
        let recordBytes = recordBytes(keyByteCount)
        let leaf = leafWithRoom(hash, recordBytes: recordBytes)
        let offset = leaf.pointee.recordBytesUsed
        let record = leaf.pointee.records + Int(offset)
        record.storeBytes(of: value, as: UInt64.self)
        record.storeBytes(of: UInt16(keyByteCount), toByteOffset: 8, as: UInt16.self)
        (record + Self.recordHeaderBytes).copyMemory(from: key, byteCount: keyByteCount)
        leaf.pointee.recordBytesUsed &+= UInt32(recordBytes)
        Self.place(leaf, hash: hash, offset: offset)
        leaf.pointee.count &+= 1
        count &+= 1
        return record
    }

    /// Removes the key's record.
    ///
    /// - Returns: its first value, or nil if it was not there.
    /// - Complexity: O(1) amortised.
    @discardableResult
    mutating func remove(_ key: UnsafeRawPointer, _ keyByteCount: Int, hash: UInt64) -> UInt64? {
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
                leaf.pointee.garbageBytes &+= UInt32(recordBytes(keyByteCount))
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

    /// Calls `body` with every key and its record, in no order.
    borrowing func forEach(_ body: (UnsafeRawBufferPointer, UnsafeMutableRawPointer) -> Void) {
        Self.forEachLeaf(directory, depth: depth) { leaf in
            Self.forEachRecord(leaf) { record, _ in body(Self.key(record), record) }
        }
    }
}
