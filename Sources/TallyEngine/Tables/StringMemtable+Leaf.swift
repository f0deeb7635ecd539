import TallyCore

extension StringMemtable {
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
            UnsafeMutableRawPointer(leaf) + StringMemtable.headerBytes + Int(index) &* byteCount
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
    static func tag(_ hash: UInt64) -> UInt8 {
        max(2, UInt8(truncatingIfNeeded: hash &>> 24))
    }

    /// Counters a leaf holds before it grows: 85 % of its slots.
    @inline(__always)
    static func loadMax(_ leaf: Leaf) -> UInt32 {
        (leaf.pointee.bucketMask &+ 1) &* UInt32(Bucket.slots * 217 / 256)
            &+ (leaf.pointee.bucketMask &>> 3)
    }

    @inline(__always)
    static func place(_ leaf: Leaf, hash: UInt64, offset: UInt32) {
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
    static func key(_ record: UnsafeMutableRawPointer) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(
            start: record + recordHeaderBytes,
            count: Int(
                record.loadUnaligned(fromByteOffset: 8, as: UInt16.self) & ~removedFlag))
    }

    @inline(__always)
    static func keyEquals(
        _ record: UnsafeMutableRawPointer, _ key: UnsafeRawPointer, _ keyByteCount: Int
    ) -> Bool {
        Int(record.loadUnaligned(fromByteOffset: 8, as: UInt16.self) & ~removedFlag)
            == keyByteCount
            && Bytes.equal(record + recordHeaderBytes, key, keyByteCount)
    }

    static func forEachRecord(
        _ leaf: Leaf, _ body: (UnsafeMutableRawPointer, UInt32) -> Void
    ) {
        for index in 0...leaf.pointee.bucketMask {
            let bucket = Bucket(leaf, index)
            for slot in 0..<Bucket.slots where bucket.tag(slot) != 0 {
                body(leaf.pointee.records + Int(bucket.offset(slot)), index)
            }
        }
    }

    static func forEachLeaf(
        _ directory: UnsafeMutablePointer<DirectoryEntry>, depth: Int, _ body: (Leaf) -> Void
    ) {
        var index = 0
        while index < 1 << depth {
            let leaf = directory[index].leaf
            index += 1 << (depth - Int(leaf.pointee.depth))
            body(leaf)
        }
    }

    static func free(_ leaf: Leaf) {
        leaf.pointee.records.deallocate()
        UnsafeMutableRawPointer(leaf).deallocate()
    }

    // MARK: Walking

    /// Calls `body` with the records, removed keys' left out, of the leaf that holds `position`.
    ///
    /// - Returns: the first hash behind the leaf, nil behind the last.
    borrowing func forEachRecord(
        ofLeafAt position: UInt64, _ body: (UnsafeMutableRawPointer) -> Void
    ) -> UInt64? {
        let leaf = directory[directoryIndex(position)].leaf
        Self.forEachRecord(leaf) { record, _ in
            if !Self.isRemoved(record) { body(record) }
        }
        return HashRange.end(of: position, depth: leaf.pointee.depth)
    }

    /// The same with the records' keys.
    borrowing func forEachKey(
        ofLeafAt position: UInt64, _ body: (UnsafeRawBufferPointer) -> Void
    ) -> UInt64? {
        forEachRecord(ofLeafAt: position) { body(Self.key($0)) }
    }
}

/// Hashes that share their upper bits.
enum HashRange {
    /// The first hash behind those that share their `depth` upper bits with `hash`, nil behind all.
    static func end(of hash: UInt64, depth: UInt32) -> UInt64? {
        guard depth > 0 else { return nil }
        let shift = UInt64(64 &- depth)
        let next = (hash &>> shift &+ 1) &<< shift
        return next == 0 ? nil : next
    }
}
