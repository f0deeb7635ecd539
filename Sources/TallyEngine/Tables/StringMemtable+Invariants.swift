import TallyCore

extension StringMemtable {
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
                recordBytes += UInt32(self.recordBytes(key.count))
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
