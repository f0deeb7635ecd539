internal import CTallyIntrinsics
import TallyCore

/// An immutable, sorted, compressed run of an integer-keyed family's records, in memory.
///
///     header │ block │ block │ … │ zeros up to a multiple of 8 │ index
///     index: first key u64 of each block │ offset u32 of each block, and of their end
///
/// Offsets count from the first block. The bytes are those of the segment's file
/// (`docs/segments.md`).
public final class IntegerSegment: @unchecked Sendable {
    // Sendable because nothing ever changes.

    /// Whose records these are.
    public let header: SegmentHeader
    /// For searching without touching this object.
    let view: IntegerSegmentView
    private let memory: UnsafeMutableRawBufferPointer

    /// The segment's bytes, as its file has them.
    public var bytes: UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(rebasing: memory[..<Int(header.byteCount)])
    }

    /// Memory taken, bytes.
    public var allocatedBytes: Int { memory.count }

    /// Memory for a segment of `byteCount` bytes, to be filled and given to `init(adopting:)`.
    public static func allocate(byteCount: Int) -> UnsafeMutableRawBufferPointer {
        let memory = UnsafeMutableRawBufferPointer.allocate(
            byteCount: byteCount + Bits.paddingBytes, alignment: 64)
        (memory.baseAddress.unsafelyUnwrapped + byteCount).initializeMemory(
            as: UInt8.self, repeating: 0, count: Bits.paddingBytes)
        return memory
    }

    /// Takes over memory from `allocate` that holds a segment.
    ///
    /// - Throws: `SegmentError` when header or index are not what a writer wrote; the memory is then
    ///   given back. Blocks are checked by `verifyBlocks`.
    /// - Complexity: O(blocks).
    public convenience init(
        adopting memory: UnsafeMutableRawBufferPointer
    ) throws(SegmentError) {
        let bytes = UnsafeRawBufferPointer(rebasing: memory.dropLast(Bits.paddingBytes))
        let header: SegmentHeader
        do throws(SegmentError) {
            header = try SegmentHeader(bytes)
            try Self.checkIndex(header, bytes)
        } catch {
            memory.deallocate()
            throw error
        }
        self.init(header, memory)
    }

    /// Takes over memory whose content is known to be good.
    init(_ header: SegmentHeader, _ memory: UnsafeMutableRawBufferPointer) {
        self.header = header
        self.memory = memory
        let base = UnsafeRawPointer(memory.baseAddress.unsafelyUnwrapped)
        view = IntegerSegmentView(
            blocks: base + header.headerBytes, index: base + Int(header.indexOffset),
            blockCount: Int(header.blockCount), columnCount: header.columns.count,
            lastKey: header.lastKey)
    }

    deinit {
        view.table.deallocate()
        memory.deallocate()
    }

    static func indexBytes(blockCount: Int) -> Int { blockCount * 12 + 4 }

    private static func checkIndex(
        _ header: SegmentHeader, _ bytes: UnsafeRawBufferPointer
    ) throws(SegmentError) {
        let blockCount = Int(header.blockCount)
        let indexOffset = Int(header.indexOffset)
        guard header.kind == .integer, header.byteCount == UInt64(bytes.count),
            indexOffset & 7 == 0,
            indexOffset + indexBytes(blockCount: blockCount) == bytes.count,
            header.firstKey <= header.lastKey
        else { throw .damagedHeader }
        let index = UnsafeRawBufferPointer(rebasing: bytes[indexOffset...])
        guard CRC32C.checksum(index) == header.indexChecksum else { throw .damagedIndex }
        // The checksum says that a writer meant it; this, that a search cannot leave the memory.
        let blocksBytes = indexOffset - header.headerBytes
        var reader = FieldReader(index, offset: blockCount * 8)
        var offset = reader.take(UInt32.self)
        guard offset == 0 else { throw .damagedIndex }
        for _ in 0..<blockCount {
            let next = reader.take(UInt32.self)
            guard next > offset, Int(next) <= blocksBytes else { throw .damagedIndex }
            offset = next
        }
    }

    /// Compares every block with its checksum, and with what the index says.
    ///
    /// - Throws: `damagedBlock` for the first that differs.
    /// - Complexity: O(bytes).
    public func verifyBlocks() throws(SegmentError) {
        for number in 0..<view.blockCount {
            let block = view.block(number)
            guard block.count > IntegerBlock.headerBytes + view.columnCount,
                IntegerBlock.isIntact(block)
            else {
                throw .damagedBlock(
                    number: number, offset: header.headerBytes + Int(view.offsets[number]))
            }
        }
    }
}

extension IntegerBlock {
    /// Whether a block's checksum is right.
    static func isIntact(_ block: UnsafeRawBufferPointer) -> Bool {
        let stored = UInt32(littleEndian: block.loadUnaligned(as: UInt32.self))
        return CRC32C.checksum(UnsafeRawBufferPointer(rebasing: block[4...])) == stored
    }
}

/// Where the parts of an integer segment lie. Valid while the segment lives.
struct IntegerSegmentView {
    let blocks: UnsafeRawPointer
    let firstKeys: UnsafePointer<UInt64>
    let offsets: UnsafePointer<UInt32>
    let blockCount: Int
    let columnCount: Int
    let lastKey: UInt64
    let table: SearchTable

    /// Makes the search table, which the owner must deallocate.
    init(
        blocks: UnsafeRawPointer, index: UnsafeRawPointer, blockCount: Int, columnCount: Int,
        lastKey: UInt64
    ) {
        self.blocks = blocks
        firstKeys = index.assumingMemoryBound(to: UInt64.self)
        offsets = (index + blockCount * 8).assumingMemoryBound(to: UInt32.self)
        self.blockCount = blockCount
        self.columnCount = columnCount
        self.lastKey = lastKey
        table = SearchTable(firstKeys, blockCount)
    }

    /// The bytes of block `number`.
    @inline(__always)
    func block(_ number: Int) -> UnsafeRawBufferPointer {
        let start = Int(offsets[number])
        return UnsafeRawBufferPointer(
            start: blocks + start, count: Int(offsets[number &+ 1]) &- start)
    }

    /// The block that holds `key` if any does; the first one for keys before it.
    ///
    /// - Complexity: O(log blocks) at worst, O(1) where keys are spread evenly.
    @inline(__always)
    func blockNumber(_ key: UInt64) -> Int { table.lastIndex(firstKeys, notAbove: key) }

    /// Asks the memory system for block `number`.
    @inline(__always)
    func prefetch(_ number: Int) {
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
        let first = firstKeys[number]
        guard key >= first else { return false }
        let block = block(number)
        let layout = IntegerBlock.Layout(
            block.baseAddress.unsafelyUnwrapped, byteCount: block.count, columnCount: columnCount)
        guard let rank = layout.rank(key &- first) else { return false }
        layout.rows.read(rank, values)
        return true
    }
}
