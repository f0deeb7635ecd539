import TallyCore
import TallyTestSupport
import Testing

@testable import TallyEngine

/// A table of string keys and a plain dictionary that must always agree.
private struct StringPair: ~Copyable {
    var table: StringTable
    var model: [String: [UInt64]] = [:]
    private let hasher = KeyHasher(seed: 7)
    private var numbers: [UInt32] = [0, 1]
    private var sequence: UInt64 = 0

    init(keepsZeroRows: Bool) {
        table = StringTable(
            columns: [ColumnCoding(column: 0), ColumnCoding(column: 1)],
            keepsZeroRows: keepsZeroRows, hasher: hasher)
    }

    var columnCount: Int { numbers.count }

    private func isRecord(_ row: [UInt64]) -> Bool {
        table.keepsZeroRows || row.contains { $0 != 0 }
    }

    mutating func write(_ key: String, _ row: [UInt64]) {
        key.withBytes {
            let place = StringTable.Lookup(
                $0.baseAddress!, count: $0.count, hash: hasher.hash($0))
            table.write(place, row)
        }
        model[key] = isRecord(row) ? row : nil
    }

    mutating func remove(_ key: String) {
        let isRemoved = key.withBytes {
            table.remove(
                StringTable.Lookup($0.baseAddress!, count: $0.count, hash: hasher.hash($0)))
        }
        #expect(isRemoved == (model.removeValue(forKey: key) != nil), "\(key)")
    }

    mutating func setColumns(_ numbers: [UInt32]) {
        model = model.mapValues { row in
            numbers.map { number in self.numbers.firstIndex(of: number).map { row[$0] } ?? 0 }
        }
        if !table.keepsZeroRows { model = model.filter { isRecord($0.value) } }
        self.numbers = numbers
        table.setColumns(numbers.map { ColumnCoding(column: $0) })
    }

    mutating func merge() {
        sequence += 1
        let input = table.mergeInput
        do throws(SegmentFileError) {
            let segments = try input.run(
                place: PartitionPlace(number: 3, count: 4), family: 4, sequence: sequence,
                identity: LogIdentity(high: 1, low: 2))
            for segment in segments where !segment.isCold {
                #expect(throws: Never.self) { try segment.verifyBlocks() }
            }
            table.adopt(segments, merged: input.layerCount)
        } catch {
            Issue.record("\(error)")
        }
        #expect(table.recordCount == model.count)
    }

    /// Has some segments on disk only.
    mutating func cool(_ random: inout SeededGenerator) {
        for segment in table.segments where random.once(in: 2) {
            let twin = segment.inMemoryFile(
                filterBits: Int.random(in: 0...8, using: &random), hasher: hasher)
            let isReplaced = table.replace(segment, with: twin)
            #expect(isReplaced)
        }
    }

    /// Begins anew with copies of the segments' bytes, as from files.
    mutating func reopen() throws {
        table.freeze()
        merge()
        let copies = try table.segments.map { segment in
            let segment = try segment.warmed()
            let memory = Segment.allocate(byteCount: segment.bytes.count)
            memory.copyMemory(from: segment.bytes)
            return try #require(try Segment.open(adopting: memory) as? StringSegment)
        }
        var fresh = StringTable(
            columns: numbers.map { ColumnCoding(column: $0) },
            keepsZeroRows: table.keepsZeroRows, hasher: hasher)
        fresh.load(copies)
        table = fresh
    }

    mutating func checkAll(_ keys: [String]) {
        var row = [UInt64](repeating: 0, count: columnCount)
        for key in keys {
            let isPresent = key.withBytes {
                table.read(
                    StringTable.Lookup($0.baseAddress!, count: $0.count, hash: hasher.hash($0)),
                    &row)
            }
            let expected = model[key]
            if isPresent != (expected != nil)
                || row != expected ?? row.map({ _ in 0 })
            {
                Issue.record("\(key): \(row), not \(expected ?? [])")
            }
        }
        var all: [String: [UInt64]] = [:]
        let count = columnCount
        table.forEach { key, row in
            let key = String(decoding: key, as: UTF8.self)
            #expect(all[key] == nil, "\(key) twice")
            all[key] = (0..<count).map { row[$0] }
        }
        #expect(all == model)
        #expect(
            table.containsPrefix(Array("key:1".utf8))
                == model.keys.contains { $0.hasPrefix("key:1") })
    }
}

struct StringTableTests {
    @Test(arguments: 1...24 as ClosedRange<UInt64>)
    func tablesAgreeWithADictionary(seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        var pair = StringPair(keepsZeroRows: seed % 2 == 0)
        let keyCount = [20, 300, 4000][Int(seed % 3)]
        let keys =
            (0..<keyCount).map { "key:\($0)" } + (0..<20).map { String(repeating: "k", count: $0) }
            + [String(repeating: "z", count: Limits.keyBytesMax), "ключ"]
        var nextColumn: UInt32 = 2
        for _ in 0..<10 {
            for _ in 0..<keyCount {
                let key = keys.randomElement(using: &random)!
                if random.once(in: 4) {
                    pair.remove(key)
                } else {
                    pair.write(
                        key,
                        (0..<pair.columnCount).map { _ in
                            random.once(in: 3)
                                ? 0 : random.next() >> UInt64.random(in: 0..<64, using: &random)
                        })
                }
            }
            switch Int.random(in: 0..<6, using: &random) {
            case 0: pair.table.freeze()
            case 1:
                pair.setColumns([nextColumn] + (nextColumn > 3 ? [nextColumn - 1] : [0, 1]))
                nextColumn += 1
            case 2: try pair.reopen()
            default:
                pair.table.freeze()
                pair.merge()
            }
            pair.checkAll(keys)
            pair.cool(&random)
            pair.checkAll(keys)
        }
    }

    @Test func sequentialKeysAreSmall() {
        var pair = StringPair(keepsZeroRows: true)
        pair.setColumns([0])
        for number in 0..<100_000 {
            let digits = String(number * 64)
            pair.write(
                "key:" + String(repeating: "0", count: 12 - digits.count) + digits,
                [UInt64(number % 7)])
        }
        pair.table.freeze()
        pair.merge()
        #expect(pair.table.segmentBytes / 100_000 <= 6)
        pair.checkAll(["key:000000000000", "key:000000000001", "key:000000000064", "", "zzz"])
    }

    /// A change in one place leaves segments elsewhere as they are.
    @Test func untouchedSegmentsAreKept() {
        var pair = StringPair(keepsZeroRows: true)
        for number in 0..<60_000 {
            pair.write(
                "\(1_000_000 + number * 7)" + String(repeating: "-", count: number % 90),
                [1, 1 << 40])
        }
        pair.table.freeze()
        pair.merge()
        let before = pair.table.segments
        #expect(before.count > 2)
        pair.write("1", [2, 2])
        pair.table.freeze()
        pair.merge()
        let after = pair.table.segments
        #expect(after.count == before.count)
        #expect(zip(before, after).count { $0 !== $1 } == 1)
    }
}
