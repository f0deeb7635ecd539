import TallyCore

/// How a kind of segment finds its way in its bytes. Valid while they are.
protocol SegmentView {
    static var kind: SegmentKind { get }

    /// Takes the parts from where the header says they are.
    init(_ header: SegmentHeader, _ base: UnsafeRawPointer)

    /// Gives back what `init` allocated.
    func deallocate()

    /// Whether index bytes, whose checksum is right, cannot lead a search out of the segment.
    static func isIndexSound(_ header: SegmentHeader, _ index: UnsafeRawBufferPointer) -> Bool

    var blockCount: Int { get }

    /// The bytes of block `number`.
    func block(_ number: Int) -> UnsafeRawBufferPointer

    /// Least size of a block, bytes.
    var blockBytesMin: Int { get }
}

/// An immutable, sorted, compressed run of a family's records, in memory.
///
///     header │ block │ block │ … │ zeros up to a multiple of 8 │ index
///
/// The bytes are those of the segment's file (`docs/segments.md`).
public class Segment: @unchecked Sendable {
    // Sendable because nothing ever changes.

    /// Whose records these are.
    public let header: SegmentHeader
    private let memory: UnsafeMutableRawBufferPointer

    /// The segment's bytes, as its file has them.
    public var bytes: UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(rebasing: memory[..<Int(header.byteCount)])
    }

    /// Memory taken, bytes.
    public var allocatedBytes: Int { memory.count }

    /// What the header says its checksum is.
    public var headerChecksum: UInt32 { SegmentHeader.storedChecksum(bytes) }

    /// Memory for a segment of `byteCount` bytes, to be filled and given to `open`.
    public static func allocate(byteCount: Int) -> UnsafeMutableRawBufferPointer {
        let memory = UnsafeMutableRawBufferPointer.allocate(
            byteCount: byteCount + Bits.paddingBytes, alignment: 64)
        (memory.baseAddress.unsafelyUnwrapped + byteCount).initializeMemory(
            as: UInt8.self, repeating: 0, count: Bits.paddingBytes)
        return memory
    }

    /// Takes over memory from `allocate` that holds a segment of any kind.
    ///
    /// - Throws: `SegmentError` when header or index are not what a writer wrote; the memory is then
    ///   given back. Blocks are checked by `verifyBlocks`.
    /// - Complexity: O(blocks).
    public static func open(
        adopting memory: UnsafeMutableRawBufferPointer
    ) throws(SegmentError) -> Segment {
        let bytes = UnsafeRawBufferPointer(rebasing: memory.dropLast(Bits.paddingBytes))
        do throws(SegmentError) {
            let header = try SegmentHeader(bytes)
            switch header.kind {
            case .integer:
                try checkIndex(IntegerSegmentView.self, header, bytes)
                return IntegerSegment(header, memory)
            case .string:
                try checkIndex(StringSegmentView.self, header, bytes)
                return StringSegment(header, memory)
            }
        } catch {
            memory.deallocate()
            throw error
        }
    }

    fileprivate init(_ header: SegmentHeader, memory: UnsafeMutableRawBufferPointer) {
        self.header = header
        self.memory = memory
    }

    deinit { memory.deallocate() }

    private static func checkIndex<View: SegmentView>(
        _ view: View.Type, _ header: SegmentHeader, _ bytes: UnsafeRawBufferPointer
    ) throws(SegmentError) {
        guard header.byteCount == UInt64(bytes.count), header.indexOffset & 7 == 0,
            header.firstKey <= header.lastKey
        else { throw .damagedHeader }
        let index = UnsafeRawBufferPointer(rebasing: bytes[Int(header.indexOffset)...])
        guard CRC32C.checksum(index) == header.indexChecksum, View.isIndexSound(header, index)
        else { throw .damagedIndex }
    }

    /// Whether `offsets`, in an index of this header from `start` on, lead from the first block to
    /// the last without leaving them.
    static func areOffsetsSound(
        _ header: SegmentHeader, _ index: UnsafeRawBufferPointer, _ start: Int
    ) -> Bool {
        let blocksBytes = Int(header.indexOffset) - header.headerBytes
        var reader = FieldReader(index, offset: start)
        var offset = reader.take(UInt32.self)
        guard offset == 0 else { return false }
        for _ in 0..<header.blockCount {
            let next = reader.take(UInt32.self)
            guard next > offset, Int(next) <= blocksBytes else { return false }
            offset = next
        }
        return blocksBytes - Int(offset) < 8
    }

    /// Compares every block with its checksum.
    ///
    /// - Throws: `damagedBlock` for the first that differs.
    /// - Complexity: O(bytes).
    public func verifyBlocks() throws(SegmentError) {
        preconditionFailure("a segment of no kind")
    }

    /// Everything that is wrong with the blocks, in words: checksums, and the order of the keys.
    ///
    /// - Parameter placed: Whether a key belongs to the segment's partition.
    /// - Complexity: O(records).
    public func findDamage(placed: (RecordKey) -> Bool) -> [String] {
        preconditionFailure("a segment of no kind")
    }

    /// What is wrong with each block by its checksum, or by `inspect` if that is right.
    fileprivate func findDamage<View: SegmentView>(
        _ view: View, inspect: (_ number: Int, _ records: inout Int) -> String?
    ) -> [String] {
        var damage: [String] = []
        var records = 0
        for number in 0..<view.blockCount {
            let block = view.block(number)
            let reason =
                block.count >= view.blockBytesMin && Segment.isIntact(block)
                ? inspect(number, &records) : "its checksum is wrong"
            guard let reason else { continue }
            let offset = (block.baseAddress ?? .init(bitPattern: 1)!) - bytes.baseAddress!
            damage.append("block \(number) at byte \(offset): \(reason)")
        }
        if damage.isEmpty, UInt64(records) != header.recordCount {
            damage.append("\(records) records instead of \(header.recordCount)")
        }
        return damage
    }

    fileprivate func verifyBlocks(_ view: some SegmentView) throws(SegmentError) {
        for number in 0..<view.blockCount {
            let block = view.block(number)
            guard block.count >= view.blockBytesMin, Segment.isIntact(block) else {
                let base = bytes.baseAddress.unsafelyUnwrapped
                let offset = block.baseAddress.map { $0 - base } ?? 0
                throw .damagedBlock(number: number, offset: offset)
            }
        }
    }

    /// Whether the segment holds nothing that a table of these columns has no use for. Columns that it
    /// lacks are at their defaults.
    func isCurrent(_ columns: [ColumnCoding]) -> Bool {
        header.columns.allSatisfy(columns.contains)
    }

    /// Whether a block's checksum is right.
    static func isIntact(_ block: UnsafeRawBufferPointer) -> Bool {
        let stored = UInt32(littleEndian: block.loadUnaligned(as: UInt32.self))
        return CRC32C.checksum(UnsafeRawBufferPointer(rebasing: block[4...])) == stored
    }
}

/// A segment of integer keys.
///
///     index: first key u64 of each block │ offset u32 of each block, and of their end
///
/// Offsets count from the first block.
public final class IntegerSegment: Segment, @unchecked Sendable {
    /// For searching without touching this object.
    let view: IntegerSegmentView

    /// Takes over memory whose content is known to be good.
    init(_ header: SegmentHeader, _ memory: UnsafeMutableRawBufferPointer) {
        view = IntegerSegmentView(header, memory.baseAddress.unsafelyUnwrapped)
        super.init(header, memory: memory)
    }

    deinit { view.deallocate() }

    /// As described for all segments.
    public override func verifyBlocks() throws(SegmentError) { try verifyBlocks(view) }

    /// As described for all segments.
    public override func findDamage(placed: (RecordKey) -> Bool) -> [String] {
        let keys = UnsafeMutablePointer<UInt64>.allocate(capacity: IntegerBlock.recordsMax)
        let values = UnsafeMutablePointer<UInt64>.allocate(
            capacity: IntegerBlock.recordsMax * view.columnCount)
        defer {
            keys.deallocate()
            values.deallocate()
        }
        return findDamage(view) { number, records in
            let layout = view.layout(number)
            layout.decode(firstKey: view.firstKeys[number], keys: keys, values: values)
            let end = number + 1 < view.blockCount ? view.firstKeys[number + 1] : UInt64.max
            for index in 0..<layout.recordCount {
                guard index == 0 || keys[index] > keys[index - 1],
                    keys[index] < end || end == .max, keys[index] <= header.lastKey
                else { return "key \(keys[index]) is out of order" }
                guard placed(.integer(keys[index])) else {
                    return "key \(keys[index]) belongs to another partition"
                }
            }
            records += layout.recordCount
            return nil
        }
    }
}

/// A segment of string keys.
///
///     index: offset u32 of each block, and of their end │ offset u32 of each separator, and of their
///     end │ separators
///
/// A block's separator is a prefix of its first key that is greater than the last key of the block
/// before.
public final class StringSegment: Segment, @unchecked Sendable {
    /// For searching without touching this object.
    let view: StringSegmentView

    /// Takes over memory whose content is known to be good.
    init(_ header: SegmentHeader, _ memory: UnsafeMutableRawBufferPointer) {
        view = StringSegmentView(header, memory.baseAddress.unsafelyUnwrapped)
        super.init(header, memory: memory)
    }

    deinit { view.deallocate() }

    /// As described for all segments.
    public override func verifyBlocks() throws(SegmentError) { try verifyBlocks(view) }

    /// As described for all segments.
    public override func findDamage(placed: (RecordKey) -> Bool) -> [String] {
        var last: [UInt8]?
        return findDamage(view) { number, records in
            var reason: String?
            let layout = view.layout(number)
            layout.forEachKey { key in
                guard reason == nil else { return }
                let isAbove = last.map { $0.withUnsafeBytes { Bytes.isLess($0, key) } } ?? true
                if !isAbove || number > 0 && Bytes.isLess(key, view.separator(number)) {
                    reason = "a key is out of order"
                } else if !placed(.string(key)) {
                    reason = "a key belongs to another partition"
                }
                last = Array(key)
            }
            records += layout.recordCount
            return reason
        }
    }
}
