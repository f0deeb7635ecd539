public import TallyCore

/// How a kind of segment finds its way in its bytes. Valid while they are.
protocol SegmentView {
    static var kind: SegmentKind { get }

    /// Takes the parts from where they are.
    ///
    /// - Parameter blocks: The first block, nil if they are not in memory.
    init(_ header: SegmentHeader, blocks: UnsafeRawPointer?, index: UnsafeRawPointer)

    /// Gives back what `init` allocated.
    func deallocate()

    /// Whether index bytes, whose checksum is right, cannot lead a search out of the segment.
    static func isIndexSound(_ header: SegmentHeader, _ index: UnsafeRawBufferPointer) -> Bool

    var blockCount: Int { get }

    /// The bytes of block `number`, which must be in memory.
    func block(_ number: Int) -> UnsafeRawBufferPointer

    /// Where block `number` is, counted from the first, and where it ends.
    func blockRange(_ number: Int) -> Range<Int>

    /// Memory that `deallocate` gives back, bytes.
    var allocatedBytes: Int { get }

    /// Least size of a block, bytes.
    var blockBytesMin: Int { get }
}

extension SegmentView {
    /// Takes the parts of a segment from its memory: everything, or of a cold one the index.
    init(_ header: SegmentHeader, _ memory: UnsafeMutableRawBufferPointer, isCold: Bool) {
        let base = UnsafeRawPointer(memory.baseAddress.unsafelyUnwrapped)
        self.init(
            header, blocks: isCold ? nil : base + header.headerBytes,
            index: isCold ? base : base + Int(header.indexOffset))
    }
}

/// An immutable, sorted, compressed run of a family's records.
///
///     header │ block │ block │ … │ zeros up to a multiple of 8 │ index
///
/// The bytes are those of the segment's file (`docs/segments.md`). A hot segment has all of them in
/// memory; a cold one has the index, and blocks are read from the file one by one. A segment that
/// becomes the other is replaced by a twin, so whoever holds one may go on reading it.
public class Segment: @unchecked Sendable {
    // Sendable because nothing ever changes, but for what is set before others see it.

    /// Whose records these are.
    public let header: SegmentHeader
    /// Of a hot segment everything, of a cold one the index.
    private let memory: UnsafeMutableRawBufferPointer
    /// Whether the blocks are on disk only.
    public let isCold: Bool
    /// Rules out most keys that a cold segment does not have; nil if it was not worth it, or is not
    /// made yet.
    let filter: KeyFilter?
    /// Where the same bytes are on disk; nil as long as they are in memory only.
    public private(set) var file: (any SegmentFile)?
    /// Whether a merge made it of cold segments alone, so that nobody will miss it in memory.
    public internal(set) var isOfColdOrigin = false
    /// Whether a merge has carried a damaged block along, so that it must never be in memory, where
    /// nobody would look at its checksum.
    public internal(set) var hasDamage = false

    /// A hot segment's bytes, as its file has them.
    public var bytes: UnsafeRawBufferPointer {
        precondition(!isCold, "a cold segment's bytes are on disk")
        return UnsafeRawBufferPointer(rebasing: memory[..<Int(header.byteCount)])
    }

    /// Memory taken, bytes.
    public var allocatedBytes: Int { memory.count + (filter?.allocatedBytes ?? 0) }

    /// Memory that the filter takes, bytes.
    public var filterBytes: Int { filter?.allocatedBytes ?? 0 }

    /// What a hot segment's header says its checksum is.
    public var headerChecksum: UInt32 { SegmentHeader.storedChecksum(bytes) }

    /// Notes where the same bytes are on disk. Call before others see the segment.
    public func settle(in file: any SegmentFile) {
        precondition(self.file == nil, "a segment written twice")
        self.file = file
    }

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
    /// - Parameter file: Where the same bytes are on disk.
    /// - Throws: `SegmentError` when header or index are not what a writer wrote; the memory is then
    ///   given back. Blocks are checked by `verifyBlocks`.
    /// - Complexity: O(blocks).
    public static func open(
        adopting memory: UnsafeMutableRawBufferPointer, file: (any SegmentFile)? = nil
    ) throws(SegmentError) -> Segment {
        let bytes = UnsafeRawBufferPointer(rebasing: memory.dropLast(Bits.paddingBytes))
        do throws(SegmentError) {
            let header = try SegmentHeader(bytes)
            guard header.byteCount == UInt64(bytes.count) else { throw .damagedHeader }
            try check(
                header, index: UnsafeRawBufferPointer(rebasing: bytes[Int(header.indexOffset)...]))
            let segment = make(header, memory)
            segment.file = file
            return segment
        } catch {
            memory.deallocate()
            throw error
        }
    }

    /// Takes over memory from `allocate` that holds the index of a segment whose blocks stay on disk.
    ///
    /// - Throws: As `open(adopting:file:)`.
    /// - Complexity: O(blocks).
    public static func openCold(
        _ header: SegmentHeader, index: UnsafeMutableRawBufferPointer, file: any SegmentFile
    ) throws(SegmentError) -> Segment {
        do throws(SegmentError) {
            try check(
                header, index: UnsafeRawBufferPointer(rebasing: index.dropLast(Bits.paddingBytes)))
        } catch {
            index.deallocate()
            throw error
        }
        let segment = make(header, index, isCold: true)
        segment.file = file
        return segment
    }

    private static func make(
        _ header: SegmentHeader, _ memory: UnsafeMutableRawBufferPointer, isCold: Bool = false,
        filter: KeyFilter? = nil
    ) -> Segment {
        switch header.kind {
        case .integer: IntegerSegment(header, memory, isCold: isCold, filter: filter)
        case .string: StringSegment(header, memory, isCold: isCold, filter: filter)
        }
    }

    init(
        _ header: SegmentHeader, memory: UnsafeMutableRawBufferPointer, isCold: Bool,
        filter: KeyFilter?
    ) {
        self.header = header
        self.memory = memory
        self.isCold = isCold
        self.filter = filter
    }

    deinit { memory.deallocate() }

    // MARK: Residency

    /// How many bytes the index has.
    public static func indexBytes(_ header: SegmentHeader) -> Int {
        Int(header.byteCount - header.indexOffset)
    }

    /// A twin whose blocks are on disk only.
    ///
    /// - Parameter filterBits: Bits of the filter's fingerprints; 0 for none.
    /// - Precondition: The segment has a file.
    /// - Complexity: O(records) with a filter, O(blocks) without.
    public func cooled(filterBits: Int, hasher: KeyHasher) -> Segment {
        precondition(file != nil, "a segment that is in memory only cannot be cold")
        let source = UnsafeRawBufferPointer(rebasing: bytes[Int(header.indexOffset)...])
        let index = Segment.allocate(byteCount: source.count)
        index.copyMemory(from: source)
        let filter = filterBits > 0 ? makeFilter(bits: filterBits, hasher) : nil
        let twin = Segment.make(header, index, isCold: true, filter: filter)
        twin.file = file
        return twin
    }

    /// A twin that has everything in memory; blocks are as the file has them, damaged or not.
    ///
    /// - Complexity: O(bytes), and reads of the disk.
    public func warmed() throws(SegmentFileError) -> Segment {
        guard isCold, let file else { return self }
        let memory = Segment.allocate(byteCount: Int(header.byteCount))
        do throws(SegmentFileError) {
            try file.read(
                at: 0,
                into: UnsafeMutableRawBufferPointer(
                    rebasing: memory[..<Int(header.byteCount)]))
        } catch {
            memory.deallocate()
            throw error
        }
        do throws(SegmentError) {
            let twin = try Segment.open(adopting: memory, file: file)
            guard twin.header == header else { throw .foreign }
            return twin
        } catch {
            throw .damaged(file: file.number, reason: "\(error)")
        }
    }

    /// A hot twin in memory of its own, without a file.
    ///
    /// - Complexity: O(bytes).
    public func copied() -> Segment {
        let copy = Segment.allocate(byteCount: bytes.count)
        copy.copyMemory(from: bytes)
        return Segment.make(header, copy)
    }

    /// Whether this is a cold segment that would be better with a filter.
    public var lacksFilter: Bool { isCold && filter == nil && hasGaps }

    /// Whether a cold segment may have a key of this hash.
    ///
    /// Where there is damage every block is looked at: a key that is not there must not come to be in
    /// the range of a damaged block, which no merge could take apart.
    func mayContain(_ hash: UInt64) -> Bool {
        guard let filter, file?.isDamaged == false else { return true }
        return filter.mayContain(hash)
    }

    /// Block `number`, to be read from the disk.
    func coldBlock(_ number: Int, _ range: Range<Int>) -> ColdBlock {
        guard let file else { preconditionFailure("a cold segment without a file") }
        return ColdBlock(
            file: file, number: number, offset: header.headerBytes + range.lowerBound,
            byteCount: range.count)
    }

    private func makeFilter(bits: Int, _ hasher: KeyHasher) -> KeyFilter? {
        guard hasGaps else { return nil }
        var hashes: [UInt64] = []
        hashes.reserveCapacity(Int(header.recordCount))
        forEachKey {
            switch $0 {
            case .integer(let key): hashes.append(hasher.hash(key))
            case .string(let key): hashes.append(hasher.hash(key))
            }
        }
        return hashes.withUnsafeBufferPointer { KeyFilter($0, bits: bits) }
    }

    /// Whether there are keys between the first and the last that the segment does not have.
    private var hasGaps: Bool {
        header.kind == .string || header.lastKey - header.firstKey >= header.recordCount
    }

    /// Calls `body` with each key of a hot segment.
    func forEachKey(_ body: (RecordKey) -> Void) {
        preconditionFailure("a segment of no kind")
    }

    /// Whether this one's keys begin before those of another one of the same table.
    func begins(before other: Segment) -> Bool {
        preconditionFailure("a segment of no kind")
    }

    private static func check(
        _ header: SegmentHeader, index: UnsafeRawBufferPointer
    ) throws(SegmentError) {
        guard header.indexOffset & 7 == 0, header.firstKey <= header.lastKey,
            index.count == indexBytes(header)
        else { throw .damagedHeader }
        guard CRC32C.checksum(index) == header.indexChecksum else { throw .damagedIndex }
        let isSound =
            switch header.kind {
            case .integer: IntegerSegmentView.isIndexSound(header, index)
            case .string: StringSegmentView.isIndexSound(header, index)
            }
        guard isSound else { throw .damagedIndex }
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
    func findDamage<View: SegmentView>(
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

    func verifyBlocks(_ view: some SegmentView) throws(SegmentError) {
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
