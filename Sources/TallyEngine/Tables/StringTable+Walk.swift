import TallyCore

/// Walks over parts of a table, for whoever looks at everything without holding a lock for long.
extension StringTable {
    /// Calls `body` with the records of the memtable's leaf that holds the hash `position`.
    ///
    /// - Returns: the first hash behind the leaf, nil behind the last.
    /// - Complexity: O(records of the leaf).
    borrowing func visitLeaf(
        at position: UInt64, _ body: (UnsafeRawBufferPointer, UnsafePointer<UInt64>) -> Void
    ) -> UInt64? {
        withUnsafeTemporaryAllocation(of: UInt64.self, capacity: columnCount) { row in
            let row = row.baseAddress.unsafelyUnwrapped
            return memtable.forEachRecord(ofLeafAt: position) { record in
                memtable.read(record, row)
                body(StringMemtable.key(record), row)
            }
        }
    }

    /// Calls `body` with the records of a block, and whether each is what the table has for its key.
    ///
    /// - Complexity: O(records of the block).
    borrowing func visitBlock(
        _ segment: Int, _ block: Int,
        _ body: (UnsafeRawBufferPointer, UnsafePointer<UInt64>, _ isCurrent: Bool) -> Void
    ) {
        withUnsafeTemporaryAllocation(of: UInt64.self, capacity: SegmentHeader.columnsMax) { row in
            let row = row.baseAddress.unsafelyUnwrapped
            withBlock(segment, block) { layout in
                var rank = 0
                layout.forEachKey { key in
                    let isRecord = take(row, maps[segment]) { layout.rows.read(rank, $0) }
                    rank += 1
                    if isRecord { body(key, row, !isKnown(key, before: frozen.count)) }
                }
            }
        }
    }
}
