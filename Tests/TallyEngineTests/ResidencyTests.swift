import Synchronization
import TallyCore
import TallyTestSupport
import Testing

@testable import TallyEngine

/// A segment's file in memory, which counts its reads and may be damaged.
final class MemoryFile: SegmentFile, @unchecked Sendable {
    // Sendable because tests here have one thread.
    let number: UInt64
    var bytes: [UInt8]
    private(set) var reads = 0
    var isMissing = false
    var isDamaged = false

    private static let numbers = Atomic<UInt64>(0)

    init(_ bytes: UnsafeRawBufferPointer) {
        number = Self.numbers.wrappingAdd(1, ordering: .relaxed).newValue
        self.bytes = Array(bytes)
    }

    func read(
        at offset: Int, into buffer: UnsafeMutableRawBufferPointer
    ) throws(SegmentFileError) {
        if isMissing { throw .missing(file: number) }
        reads += 1
        buffer.copyBytes(from: bytes[offset..<(offset + buffer.count)])
    }

    func readCached(at offset: Int, into buffer: UnsafeMutableRawBufferPointer) -> Bool { false }
}

extension Segment {
    /// A twin whose blocks are in a `MemoryFile`.
    func inMemoryFile(filterBits: Int = 0, hasher: KeyHasher = KeyHasher(seed: 7)) -> Segment {
        if isCold { return self }
        if file == nil { settle(in: MemoryFile(bytes)) }
        return cooled(filterBits: filterBits, hasher: hasher)
    }
}

struct KeyFilterTests {
    @Test(arguments: [1, 2, 3, 7, 50, 1000, 100_000], [1, 3, 8, 16])
    func allKeysAreFoundAndOthersSeldom(count: Int, bits: Int) {
        var random = SeededGenerator(seed: UInt64(count * 31 + bits))
        let hashes = (0..<count).map { _ in random.next() }
        let filter = hashes.withUnsafeBufferPointer { KeyFilter($0, bits: bits) }
        #expect(hashes.allSatisfy(filter.mayContain))
        let others = 100_000
        let found = (0..<others).count { _ in filter.mayContain(random.next()) }
        // The standard deviation is below 160.
        let expected = Double(others) / Double(1 << bits)
        #expect(abs(Double(found) - expected) < 1000)
        if count == 100_000 {
            let perKey = Double(filter.allocatedBytes * 8) / Double(count)
            #expect(perKey < 1.2 * Double(bits) && perKey >= Double(bits))
        }
    }

    @Test func equalHashesDoNoHarm() {
        let hashes: [UInt64] = [5, 5, 9, 5, 11, 9]
        let filter = hashes.withUnsafeBufferPointer { KeyFilter($0, bits: 4) }
        #expect(hashes.allSatisfy(filter.mayContain))
    }
}

struct BlockCacheTests {
    private func block(_ number: Int) -> ColdBlock {
        var bytes = [UInt8](repeating: UInt8(number), count: 100)
        let checksum = bytes.withUnsafeBytes {
            CRC32C.checksum(UnsafeRawBufferPointer(rebasing: $0[4...]))
        }
        withUnsafeBytes(of: checksum.littleEndian) { bytes.replaceSubrange(0..<4, with: $0) }
        let file = bytes.withUnsafeBytes { MemoryFile($0) }
        return ColdBlock(file: file, number: number, offset: 0, byteCount: 100)
    }

    @Test func unusedBlocksGoFirstAndMemoryIsBounded() {
        let cache = BlockCache()
        cache.byteCountMax = 4096
        let blocks = (0..<40).map { block($0) }
        for block in blocks {
            // The first one is in use all the time.
            #expect(cache.bytes(of: blocks[0]) != nil)
            #expect(cache.bytes(of: block)?.last == UInt8(block.number))
            #expect(cache.byteCount <= 4096 + 300)
        }
        #expect((blocks[0].file as? MemoryFile)?.reads == 1)
        #expect(cache.contains(blocks[39].address) && !cache.contains(blocks[5].address))
        #expect(cache.count > 10 && cache.lateReads == 40)
    }

    /// What somebody waits for is there when he comes, and does not stay for ever if he does not.
    @Test func awaitedBlocksStayForAWhile() throws {
        let cache = BlockCache()
        cache.byteCountMax = 0
        let blocks = (0..<10).map { block($0) }
        for block in blocks { cache.insert(try block.read(), block.address, isAwaited: true) }
        #expect(blocks.allSatisfy { cache.contains($0.address) })
        cache.advance(to: 59)
        #expect(blocks.allSatisfy { cache.contains($0.address) })
        #expect(cache.bytes(of: blocks[3]) != nil)
        cache.advance(to: 60)
        #expect(cache.count == 0 && cache.byteCount == 0)
    }

    @Test func damageIsReportedOnceAndTriedAgainLater() {
        let cache = BlockCache()
        let bad = block(1)
        (bad.file as? MemoryFile)?.bytes[50] ^= 4
        #expect(cache.bytes(of: bad) == nil)
        #expect(cache.hasFailed)
        guard case .damaged(_, let reason)? = cache.takeFailure() else {
            Issue.record("no damage")
            return
        }
        #expect(reason.contains("block 1"))
        #expect(!cache.hasFailed && cache.takeFailure() == nil)
        cache.insert(failure: .unreadable(file: 1, reason: "no"), bad.address)
        #expect(cache.failure(of: bad.address) == .unreadable(file: 1, reason: "no"))
        cache.advance(to: 2)
        #expect(cache.failure(of: bad.address) == nil)
    }
}

/// A table whose 20,000 even keys, of two columns, are in one cold segment.
private struct ColdTable: ~Copyable {
    var table: IntegerTable
    let file: MemoryFile
    let cache: BlockCache
    private let hasher = KeyHasher(seed: 7)

    init(filterBits: Int, cacheBytesMax: Int) throws {
        cache = BlockCache()
        cache.byteCountMax = cacheBytesMax
        table = IntegerTable(
            columns: [ColumnCoding(column: 0), ColumnCoding(column: 1)], hasher: hasher,
            cache: cache)
        for key in 1...UInt64(20_000) { table.write(2 * key, [key, 1]) }
        table.freeze()
        let input = table.mergeInput
        let segments = try input.run(
            place: .only, family: 1, sequence: 1, identity: LogIdentity(high: 1, low: 2))
        table.adopt(segments, merged: input.layerCount)
        let segment = try #require(segments.first)
        let twin = segment.inMemoryFile(filterBits: filterBits, hasher: hasher)
        let isReplaced = table.replace(segment, with: twin)
        #expect(isReplaced && segments.count == 1)
        file = try #require(twin.file as? MemoryFile)
    }

    mutating func merge() throws {
        table.freeze()
        let input = table.mergeInput
        let segments = try input.run(
            place: .only, family: 1, sequence: 2, identity: LogIdentity(high: 1, low: 2))
        table.adopt(segments, merged: input.layerCount)
    }

    /// The row of a key, nil if it has no record.
    func row(_ key: UInt64) -> [UInt64]? {
        var row: [UInt64] = [0, 0]
        return table.read(key, &row) ? row : nil
    }

    func missing(_ key: UInt64) -> ColdBlock? { table.missingBlock(key, hash: hasher.hash(key)) }
}

private func unwrap(_ block: ColdBlock?) throws -> ColdBlock { try #require(block) }

private func expect(
    _ row: [UInt64]?, _ expected: [UInt64]?, sourceLocation: SourceLocation = #_sourceLocation
) {
    #expect(row == expected, sourceLocation: sourceLocation)
}

struct ColdSegmentTests {
    @Test func aColdKeyCostsOneReadAndAnAbsentOneSeldomAny() throws {
        let cold = try ColdTable(filterBits: 6, cacheBytesMax: 0)
        for key in stride(from: UInt64(1), through: 20_000, by: 400) {
            let before = cold.file.reads
            expect(cold.row(2 * key), [key, 1])
            let reads = cold.file.reads
            #expect(reads == before + 1)
        }
        let before = cold.file.reads
        for key in 1...UInt64(5000) {
            let row = cold.row(2 * key + 1)
            #expect(row == nil)
        }
        // One in 64 of them.
        let reads = cold.file.reads
        #expect(reads - before < 5000 / 32)
        expect(cold.row(1), nil)
        expect(cold.row(50_000), nil)
        let readsAfter = cold.file.reads
        #expect(readsAfter == reads)
    }

    @Test func missingBlocksAreNamedUntilTheyAreThere() throws {
        let cold = try ColdTable(filterBits: 8, cacheBytesMax: 1 << 20)
        let block = try unwrap(cold.missing(300))
        cold.cache.insert(try block.read(), block.address, isAwaited: true)
        let (same, neighbour, other) = (cold.missing(300), cold.missing(302), cold.missing(30_000))
        #expect(same == nil && neighbour == nil && other != nil)
        let (reads, lateReads) = (cold.file.reads, cold.cache.lateReads)
        #expect(reads == 1 && lateReads == 0)
    }

    /// A damaged block is refused, nothing is written over it, and everything else is served; a merge
    /// leaves it as it is.
    @Test func damageStaysWhereItIs() throws {
        var cold = try ColdTable(filterBits: 0, cacheBytesMax: 0)
        let cache = cold.cache
        let block = try unwrap(cold.missing(20_000))
        cold.file.bytes[block.offset + 20] ^= 1
        expect(cold.row(20_000), nil)
        #expect(cache.hasFailed)
        _ = cache.takeFailure()
        cold.table.write(20_000, [9, 9])
        #expect(cache.takeFailure() != nil)
        let isUpdated = cold.table.update(20_000, column: 0) { $0 + 1 }
        let changedCount = cold.table.changedCount
        #expect(!isUpdated && cache.takeFailure() != nil && changedCount == 0)
        expect(cold.row(2), [1, 1])
        #expect(!cache.hasFailed)
        cold.table.write(2, [5, 5])
        try cold.merge()
        expect(cold.row(2), [5, 5])
        let segments = cold.table.segments
        #expect(segments.allSatisfy { !$0.isCold && $0.isOfColdOrigin && $0.hasDamage })
        #expect(segments.flatMap { $0.findDamage { _ in true } }.count == 1)
        #expect(throws: SegmentError.self) { try segments[0].verifyBlocks() }
    }

    /// A change of a damaged block's keys that is made all the same cannot be merged.
    @Test func damageThatIsInTheWayIsRefused() throws {
        var cold = try ColdTable(filterBits: 0, cacheBytesMax: 0)
        let block = try unwrap(cold.missing(20_000))
        cold.table.write(20_000, [9, 9])
        cold.file.bytes[block.offset + 20] ^= 1
        var failures: [String] = []
        for isMissing in [false, true] {
            cold.file.isMissing = isMissing
            do { try cold.merge() } catch { failures.append("\(error)") }
        }
        #expect(failures.count == 2)
        #expect(failures[0].contains("damaged") && failures[1].contains("gone"))
    }

    /// What has changed comes from memory, whatever is on disk.
    @Test func changesNeedNoDisk() throws {
        var cold = try ColdTable(filterBits: 0, cacheBytesMax: 0)
        cold.table.write(100, [7, 7])
        let reads = cold.file.reads
        expect(cold.row(100), [7, 7])
        let missing = cold.missing(100)
        cold.table.freeze()
        expect(cold.row(100), [7, 7])
        let missingBelow = cold.missing(100)
        let readsAfter = cold.file.reads
        #expect(missing == nil && missingBelow == nil && readsAfter == reads)
    }

    @Test func demandFollowsKeysThroughMerges() throws {
        var cold = try ColdTable(filterBits: 0, cacheBytesMax: 1 << 20)
        for _ in 0..<100 { _ = cold.row(2) }
        cold.table.write(2, [5, 5])
        try cold.merge()
        var demands: [Double] = []
        cold.table.survey(decay: 1) { demands.append($1) }
        #expect(demands.count == 1 && demands[0] >= 100)
        cold.table.survey(decay: 0.5) { demands.append($1) }
        #expect(demands[1] == demands[0] / 2)
    }
}
