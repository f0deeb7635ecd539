internal import CTallyIntrinsics
import TallyCore

/// Where the parts of an integer segment lie. Valid while the segment lives.
struct IntegerSegmentView: SegmentView {
    static var kind: SegmentKind { .integer }

    /// Of a cold segment the index, so that asking the memory system for a block does no harm.
    let blocks: UnsafeRawPointer
    /// Whether the blocks are on disk only.
    let isCold: Bool
    let firstKeys: UnsafePointer<UInt64>
    let offsets: UnsafePointer<UInt32>
    let blockCount: Int
    let columnCount: Int
    let lastKey: UInt64
    let table: SearchTable

    /// Makes the search table, which the owner must deallocate.
    init(_ header: SegmentHeader, blocks: UnsafeRawPointer?, index: UnsafeRawPointer) {
        self.blocks = blocks ?? index
        isCold = blocks == nil
        blockCount = Int(header.blockCount)
        firstKeys = index.assumingMemoryBound(to: UInt64.self)
        offsets = (index + blockCount * 8).assumingMemoryBound(to: UInt32.self)
        columnCount = header.columns.count
        lastKey = header.lastKey
        table = SearchTable(firstKeys, blockCount)
    }

    func deallocate() { table.deallocate() }

    var allocatedBytes: Int { table.allocatedBytes }

    static func indexBytes(blockCount: Int) -> Int { blockCount * 12 + 4 }

    static func isIndexSound(_ header: SegmentHeader, _ index: UnsafeRawBufferPointer) -> Bool {
        let blockCount = Int(header.blockCount)
        guard index.count == indexBytes(blockCount: blockCount) else { return false }
        var reader = FieldReader(index)
        var last: UInt64 = 0
        for number in 0..<blockCount {
            let key = reader.take(UInt64.self)
            guard number == 0 ? key == header.firstKey : key > last else { return false }
            last = key
        }
        return last <= header.lastKey
            && Segment.areOffsetsSound(header, index, blockCount * 8)
    }

    var blockBytesMin: Int { IntegerBlock.headerBytes + columnCount }

    /// The bytes of block `number`.
    @inline(__always)
    func block(_ number: Int) -> UnsafeRawBufferPointer {
        let start = Int(offsets[number])
        return UnsafeRawBufferPointer(
            start: blocks + start, count: Int(offsets[number &+ 1]) &- start)
    }

    func blockRange(_ number: Int) -> Range<Int> {
        Int(offsets[number])..<Int(offsets[number + 1])
    }

    /// The block that holds `key` if any does; the first one for keys before it.
    ///
    /// - Complexity: O(log blocks) at worst, O(1) where keys are spread evenly.
    @inline(__always)
    func blockNumber(_ key: UInt64) -> Int { table.lastIndex(firstKeys, notAbove: key) }

    /// Asks the memory system for the index's entries in a part of the search table.
    @inline(__always)
    func prefetchIndex(part: Int) {
        let start = table.start(ofPart: part)
        tally_prefetch(firstKeys + start)
        tally_prefetch(offsets + start)
    }

    /// As `blockNumber`, of a key whose part of the search table is known.
    @inline(__always)
    func blockNumber(_ key: UInt64, inPart part: Int) -> Int {
        table.lastIndex(firstKeys, notAbove: key, inPart: part)
    }

    /// Asks the memory system for block `number`.
    @inline(__always)
    func prefetch(_ number: Int) {
        guard !isCold else { return }
        let block = block(number)
        let start = block.baseAddress.unsafelyUnwrapped
        // Most blocks are no larger; more lines than there are cost less than a wrong guess.
        tally_prefetch(start)
        tally_prefetch(start + 64)
        tally_prefetch(start + 128)
        tally_prefetch(start + 192)
        tally_prefetch(start + 256)
        var offset = 320
        while offset < block.count {
            tally_prefetch(start + offset)
            offset &+= 64
        }
    }

    /// Reads the record of `key` from block `number`.
    ///
    /// - Returns: whether it is there.
    @inline(__always)
    func read(_ key: UInt64, block number: Int, _ values: UnsafeMutablePointer<UInt64>) -> Bool {
        read(key, block: number, in: block(number), values)
    }

    /// As above, with the block's bytes, wherever they are.
    @inline(__always)
    func read(
        _ key: UInt64, block number: Int, in block: UnsafeRawBufferPointer,
        _ values: UnsafeMutablePointer<UInt64>
    ) -> Bool {
        let first = firstKeys[number]
        guard key >= first else { return false }
        let layout = IntegerBlock.Layout(
            block.baseAddress.unsafelyUnwrapped, byteCount: block.count, columnCount: columnCount)
        guard let rank = layout.rank(key &- first) else { return false }
        layout.rows.read(rank, values)
        return true
    }

    /// How to read block `number`.
    @inline(__always)
    func layout(_ number: Int) -> IntegerBlock.Layout {
        let block = block(number)
        return IntegerBlock.Layout(
            block.baseAddress.unsafelyUnwrapped, byteCount: block.count, columnCount: columnCount)
    }
}
