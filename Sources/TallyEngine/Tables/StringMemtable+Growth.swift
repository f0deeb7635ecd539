import TallyCore

extension StringMemtable {
    /// The leaf for `hash` with room for one more record, after growing or splitting it as needed.
    @inline(__always)
    mutating func leafWithRoom(_ hash: UInt64, recordBytes: Int) -> Leaf {
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
    mutating func shrinkIfSparse(_ leaf: Leaf, hash: UInt64) {
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
        let bytes = recordBytes(Self.key(record).count)
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

    mutating func resetToOneLeaf() {
        directory.deallocate()
        depth = 1
        directory = .allocate(capacity: 2)
        allocatedBytes = 2 * MemoryLayout<DirectoryEntry>.stride
        count = 0
        let leaf = allocateLeaf(1, recordBytes: 64, depth: 0)
        directory.initialize(repeating: DirectoryEntry(leaf), count: 2)
    }
}
