internal import CTallyIntrinsics
import TallyCore

/// Where the parts of a string segment lie. Valid while the segment lives.
struct StringSegmentView: SegmentView {
    static var kind: SegmentKind { .string }

    /// Of a cold segment the index.
    let blocks: UnsafeRawPointer
    /// Whether the blocks are on disk only.
    let isCold: Bool
    let offsets: UnsafePointer<UInt32>
    private let separatorOffsets: UnsafePointer<UInt32>
    private let separators: UnsafeRawPointer
    let blockCount: Int
    let columnCount: Int

    init(_ header: SegmentHeader, blocks: UnsafeRawPointer?, index: UnsafeRawPointer) {
        self.blocks = blocks ?? index
        isCold = blocks == nil
        blockCount = Int(header.blockCount)
        columnCount = header.columns.count
        let offsetsBytes = (blockCount + 1) * 4
        offsets = index.assumingMemoryBound(to: UInt32.self)
        separatorOffsets = (index + offsetsBytes).assumingMemoryBound(to: UInt32.self)
        separators = index + 2 * offsetsBytes
    }

    func deallocate() {}

    var allocatedBytes: Int { 0 }

    static func indexBytes(blockCount: Int, separatorBytes: Int) -> Int {
        (blockCount + 1) * 8 + separatorBytes
    }

    static func isIndexSound(_ header: SegmentHeader, _ index: UnsafeRawBufferPointer) -> Bool {
        let blockCount = Int(header.blockCount)
        let separatorsOffset = indexBytes(blockCount: blockCount, separatorBytes: 0)
        guard index.count >= separatorsOffset, Segment.areOffsetsSound(header, index, 0) else {
            return false
        }
        var reader = FieldReader(index, offset: (blockCount + 1) * 4)
        var offset = reader.take(UInt32.self)
        guard offset == 0 else { return false }
        for _ in 0..<blockCount {
            let next = reader.take(UInt32.self)
            guard next >= offset else { return false }
            offset = next
        }
        return separatorsOffset + Int(offset) == index.count
    }

    var blockBytesMin: Int { StringBlock.headerBytes + columnCount }

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

    /// What separates block `number` from the one before.
    @inline(__always)
    func separator(_ number: Int) -> UnsafeRawBufferPointer {
        let start = Int(separatorOffsets[number])
        return UnsafeRawBufferPointer(
            start: separators + start, count: Int(separatorOffsets[number &+ 1]) &- start)
    }

    /// The block that holds `key` if any does; the first one for keys before it.
    ///
    /// - Complexity: O(log blocks).
    func blockNumber(_ key: UnsafeRawBufferPointer) -> Int {
        var low = 0
        var high = blockCount
        while high &- low > 1 {
            let middle = (low &+ high) &>> 1
            if Bytes.isLess(key, separator(middle)) { high = middle } else { low = middle }
        }
        return low
    }

    /// The blocks that may hold keys starting with `prefix`.
    func blocks(startingWith prefix: UnsafeRawBufferPointer) -> Range<Int> {
        let first = blockNumber(prefix)
        var end = first + 1
        while end < blockCount, mayStart(end, with: prefix) { end += 1 }
        return first..<end
    }

    /// Whether block `number` may have keys starting with `prefix`, and is not behind all of them.
    func mayStart(_ number: Int, with prefix: UnsafeRawBufferPointer) -> Bool {
        let separator = separator(number)
        let shared = min(separator.count, prefix.count)
        let order = Bytes.compare(
            UnsafeRawBufferPointer(rebasing: separator[..<shared]),
            UnsafeRawBufferPointer(rebasing: prefix[..<shared]))
        return order <= 0
    }

    /// Asks the memory system for block `number`.
    func prefetch(_ number: Int) {
        let block = block(number)
        let start = block.baseAddress.unsafelyUnwrapped
        for offset in stride(from: 0, to: block.count, by: 64) { tally_prefetch(start + offset) }
    }

    /// Reads the record of `key` from block `number`.
    ///
    /// - Returns: whether it is there.
    func read(
        _ key: UnsafeRawBufferPointer, block number: Int, _ values: UnsafeMutablePointer<UInt64>
    ) -> Bool {
        let layout = layout(number)
        guard let rank = layout.rank(key) else { return false }
        layout.rows.read(rank, values)
        return true
    }

    /// How to read block `number`.
    func layout(_ number: Int) -> StringBlock.Layout { layout(of: block(number)) }

    /// How to read a block whose bytes are anywhere.
    func layout(of block: UnsafeRawBufferPointer) -> StringBlock.Layout {
        StringBlock.Layout(
            block.baseAddress.unsafelyUnwrapped, byteCount: block.count, columnCount: columnCount)
    }
}
