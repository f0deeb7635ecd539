import TallyCore
import TallyTestSupport
import Testing

@testable import TallyEngine

/// A table and a plain dictionary that must always agree.
private struct Pair: ~Copyable {
    var table: IntegerTable
    var model: [UInt64: [UInt64]] = [:]
    private(set) var columnCount: Int
    /// Numbers of today's columns.
    private var numbers: [UInt32]
    private var nextNumber: UInt32
    private var sequence: UInt64 = 0

    init(columnCount: Int) {
        self.columnCount = columnCount
        numbers = Array(0..<UInt32(columnCount))
        nextNumber = UInt32(columnCount)
        table = IntegerTable(
            columns: (0..<columnCount).map { ColumnCoding(column: UInt32($0)) },
            hasher: KeyHasher(seed: 7))
    }

    mutating func write(_ key: UInt64, _ row: [UInt64]) {
        table.write(key, row)
        model[key] = row.allSatisfy { $0 == 0 } ? nil : row
    }

    mutating func add(_ key: UInt64, column: Int, _ delta: UInt64) {
        var row = model[key] ?? Array(repeating: 0, count: columnCount)
        row[column] &+= delta
        let isUpdated = table.update(key, column: column) { $0 &+ delta }
        #expect(isUpdated)
        model[key] = row.allSatisfy { $0 == 0 } ? nil : row
    }

    mutating func addColumn() {
        numbers.append(nextNumber)
        nextNumber += 1
        columnCount += 1
        table.setColumns(numbers.map { ColumnCoding(column: $0) })
        model = model.mapValues { $0 + [0] }
    }

    mutating func dropColumn(_ index: Int) {
        numbers.remove(at: index)
        columnCount -= 1
        table.setColumns(numbers.map { ColumnCoding(column: $0) })
        model = model.compactMapValues { row in
            let rest = Array(row[..<index] + row[(index + 1)...])
            return rest.allSatisfy { $0 == 0 } ? nil : rest
        }
    }

    mutating func merge() {
        sequence += 1
        let input = table.mergeInput
        do throws(SegmentFileError) {
            let segments = try input.run(
                place: PartitionPlace(number: 3, count: 4), family: 4, sequence: sequence,
                identity: LogIdentity(high: 1, low: 2))
            table.adopt(segments, merged: input.layerCount)
        } catch {
            Issue.record("\(error)")
        }
    }

    /// Has some segments on disk only.
    mutating func cool(_ random: inout SeededGenerator) {
        for segment in table.segments where random.once(in: 2) {
            let twin = segment.inMemoryFile(filterBits: Int.random(in: 0...8, using: &random))
            let isReplaced = table.replace(segment, with: twin)
            #expect(isReplaced)
        }
    }

    /// Compares single and batch reads of the keys given.
    func check(_ keys: [UInt64]) {
        var row = [UInt64](repeating: 0, count: columnCount)
        let zeros = row
        for key in keys {
            let isPresent = table.read(key, &row)
            if row != model[key] ?? zeros || isPresent != (model[key] != nil) {
                Issue.record("\(key): \(row), not \(model[key] ?? zeros)")
            }
        }
        for start in stride(from: 0, to: keys.count, by: 20) {
            let part = Array(keys[start..<min(start + 20, keys.count)])
            let hasher = KeyHasher(seed: 7)
            var places = part.map { IntegerTable.Lookup(key: $0, hash: hasher.hash($0)) }
            for index in places.indices { table.locate(&places[index]) }
            for (place, key) in zip(places, part) {
                let isPresent = table.read(place, &row)
                if row != model[key] ?? zeros || isPresent != (model[key] != nil) {
                    Issue.record("in a batch, \(key): \(row), not \(model[key] ?? zeros)")
                }
            }
        }
    }

    func checkAll() {
        #expect(table.recordCount == model.count)
        let keys = model.keys.sorted()
        check(keys)
        check(keys.flatMap { [$0 &+ 1, $0 &- 1] })
        for (segment, following) in zip(table.segments, table.segments.dropFirst()) {
            #expect(segment.header.lastKey < following.header.firstKey)
        }
        for segment in table.segments where !segment.isCold {
            #expect(throws: Never.self) { try segment.verifyBlocks() }
        }
    }
}

struct IntegerTableTests {
    @Test(arguments: 1...24 as ClosedRange<UInt64>)
    func tablesAgreeWithADictionary(seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        var pair = Pair(columnCount: [1, 2, 3, 8][Int(seed % 4)])
        let keyBits = [8, 14, 30, 64][Int(seed / 4 % 4)]
        let special: [UInt64] = [0, 1, .max, .max - 1, 1 << 63]
        func key(_ random: inout SeededGenerator) -> UInt64 {
            random.once(in: 50)
                ? special.randomElement(using: &random) ?? 0
                : UInt64.random(in: 0...Bits.mask(keyBits), using: &random)
        }
        var recent: [UInt64] = []
        for step in 0..<12 {
            if random.once(in: 4) { pair.addColumn() }
            if pair.columnCount > 1, random.once(in: 5) {
                pair.dropColumn(Int.random(in: 0..<pair.columnCount, using: &random))
            }
            let columnCount = pair.columnCount
            for _ in 0..<1500 {
                let key =
                    random.once(in: 3) && !recent.isEmpty
                    ? recent.randomElement(using: &random) ?? 0 : key(&random)
                recent.append(key)
                switch Int.random(in: 0..<10, using: &random) {
                case 0: pair.write(key, Array(repeating: 0, count: columnCount))
                case 1:
                    pair.write(
                        key,
                        (0..<columnCount).map { _ in
                            [0, 1, 255, UInt64(UInt32.max), UInt64(UInt32.max) + 1, .max]
                                .randomElement(using: &random) ?? 0
                        })
                default:
                    let column = Int.random(in: 0..<columnCount, using: &random)
                    let delta = UInt64.random(in: 0..<4, using: &random)
                    pair.add(key, column: column, delta == 0 ? .max : delta)
                }
            }
            pair.check(Array(recent.suffix(200)))
            if random.once(in: 2) { pair.table.freeze() }
            pair.check(Array(recent.suffix(200)))
            if step % 3 == 2 {
                pair.table.freeze()
                pair.merge()
                pair.checkAll()
                pair.cool(&random)
                pair.checkAll()
            }
        }
        pair.table.freeze()
        pair.merge()
        pair.checkAll()
    }

    @Test func deletedRecordsLeaveNothing() {
        var pair = Pair(columnCount: 2)
        for round in 0..<3 {
            for key in 0..<UInt64(5000) { pair.write(key, [key + 1, UInt64(round)]) }
            pair.table.freeze()
            pair.merge()
            #expect(pair.table.recordCount == 5000 && !pair.table.segments.isEmpty)
            for key in 0..<UInt64(5000) { pair.write(key, [0, 0]) }
            pair.table.freeze()
            pair.merge()
            #expect(pair.table.recordCount == 0 && pair.table.segments.isEmpty)
        }
        pair.checkAll()
    }

    /// Changes in one place leave other segments as they are.
    @Test func untouchedSegmentsAreKept() {
        var pair = Pair(columnCount: 2)
        for key in 1...UInt64(200_000) {
            pair.table.write(key * 1_000_003, [key << 8, key])
        }
        pair.table.freeze()
        pair.merge()
        let before = pair.table.segments
        #expect(before.count > 1)
        pair.table.write(7, [1, 1])
        pair.table.freeze()
        pair.merge()
        let after = pair.table.segments
        #expect(after.count == before.count)
        #expect(after[0] !== before[0])
        for (old, new) in zip(before, after).dropFirst() { #expect(old === new) }
        #expect(pair.table.recordCount == 200_001)
    }

    /// Values change in their blocks without the keys being coded anew.
    @Test(arguments: [1, 2, 5])
    func valuesAreRewritten(columnCount: Int) {
        var random = SeededGenerator(seed: UInt64(columnCount))
        var pair = Pair(columnCount: columnCount)
        let keys = (0..<4000).map { _ in random.next() >> 30 }
        for key in keys { pair.add(key, column: 0, 1) }
        pair.table.freeze()
        pair.merge()
        for round in 0..<12 {
            for _ in 0..<[1, 40, 400, 3000][round % 4] {
                let value: UInt64 =
                    [1, 7, 1 << 20, 1 << 40, .max].randomElement(using: &random) ?? 1
                let column = Int.random(in: 0..<columnCount, using: &random)
                pair.add(keys.randomElement(using: &random) ?? 0, column: column, value)
            }
            pair.table.freeze()
            pair.merge()
            pair.checkAll()
        }
    }
}
