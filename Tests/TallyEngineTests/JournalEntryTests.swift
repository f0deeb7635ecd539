import TallyCore
import TallyTestSupport
import Testing

@testable import TallyEngine

/// For operations that have no rows.
nonisolated(unsafe) let noRows = UnsafeMutablePointer<Int64>.allocate(
    capacity: EntryReader.rowsCapacity)

/// One operation with a key that can be kept.
struct Step: Equatable, CustomStringConvertible {
    var kind: Operation.Kind
    var key: String
    var operand: Int64 = 0
    var count: UInt32 = 1

    var description: String { "\(kind) \(key) \(operand) ×\(count)" }

    func with<Value>(_ hasher: KeyHasher, _ body: (UnsafePointer<Operation>) -> Value) -> Value {
        key.withBytes { bytes in
            var operation = Operation(
                kind, key: bytes.baseAddress!, keyByteCount: bytes.count,
                hash: hasher.hash(bytes), partition: 0, operand: operand, count: count)
            return body(&operation)
        }
    }
}

struct JournalEntryTests {
    private let hasher = KeyHasher(seed: 1)

    /// The bytes that `steps` leave for the journal.
    private func encode(_ steps: [Step]) -> (bytes: [UInt8], entries: Int, reserved: Int) {
        var pending = PendingEntries()
        var reserved = 0
        for step in steps { reserved += step.with(hasher) { pending.append($0, noRows) } }
        pending.writeOpenRuns()
        let (count, entries) = (pending.byteCount, Int(pending.entryCount))
        #expect(pending.reservedBytes == reserved)
        let taken = pending.take(spare: .allocate(byteCount: 8, alignment: 16), spareBytes: 8)
        defer { taken.bytes.deallocate() }
        return (
            Array(UnsafeRawBufferPointer(start: taken.bytes, count: count)), entries, reserved
        )
    }

    private func decode(_ bytes: [UInt8]) throws -> [Step] {
        try bytes.withUnsafeBytes { buffer in
            var reader = EntryReader(
                buffer, place: .only, hasher: hasher, rows: noRows)
            var steps: [Step] = []
            while let operation = try reader.next() {
                let key = UnsafeRawBufferPointer(
                    start: operation.key, count: Int(operation.keyByteCount))
                #expect(operation.hash == hasher.hash(key) || operation.kind == .clear)
                steps.append(
                    Step(
                        kind: operation.kind, key: String(decoding: key, as: UTF8.self),
                        operand: operation.operand, count: operation.count))
            }
            return steps
        }
    }

    @Test func aHotKeyCostsOneSmallEntry() throws {
        let steps = Array(repeating: Step(kind: .add, key: "hot", operand: 1), count: 10_000)
        let encoded = encode(steps)
        #expect(encoded.entries == 2)
        #expect(encoded.bytes.count <= 12)
        #expect(
            try decode(encoded.bytes) == [
                Step(kind: .add, key: "hot", operand: 1),
                Step(kind: .add, key: "hot", operand: 1, count: 9999),
            ])
    }

    @Test func anotherDeltaOrAnotherOperationEndsARun() throws {
        let steps: [Step] = [
            Step(kind: .add, key: "a", operand: 1), Step(kind: .add, key: "a", operand: 1),
            Step(kind: .add, key: "a", operand: 5), Step(kind: .add, key: "a", operand: 5),
            Step(kind: .set, key: "a", operand: 7), Step(kind: .add, key: "a", operand: 1),
            Step(kind: .delete, key: "a"), Step(kind: .add, key: "a", operand: -3),
            Step(kind: .clear, key: ""), Step(kind: .add, key: "a", operand: -3),
        ]
        #expect(
            try decode(encode(steps).bytes) == [
                Step(kind: .add, key: "a", operand: 1), Step(kind: .add, key: "a", operand: 1),
                Step(kind: .add, key: "a", operand: 5, count: 2),
                Step(kind: .set, key: "a", operand: 7), Step(kind: .add, key: "a", operand: 1),
                Step(kind: .delete, key: "a"), Step(kind: .add, key: "a", operand: -3),
                Step(kind: .clear, key: ""), Step(kind: .add, key: "a", operand: -3),
            ])
    }

    /// Whatever is combined: each key's operations come back in order, with the same deltas in the
    /// same order, within the space that was reserved.
    @Test(arguments: UInt64(1)...200)
    func everyKeysOperationsComeBackInOrder(seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        let keyCount = [1, 2, 40, 500][Int(seed % 4)]
        let kinds: [Operation.Kind] = [
            .add, .add, .add, .add, .add, .set, .setIfAbsent, .setIfPresent, .delete,
        ]
        let steps = (0..<400).map { _ -> Step in
            let kind = kinds.randomElement(using: &random)!
            let long = random.once(in: 50) ? String(repeating: "l", count: 200) : ""
            return Step(
                kind: kind, key: "\(Int.random(in: 0..<keyCount, using: &random))\(long)",
                operand: kind == .delete
                    ? 0
                    : [1, 1, 1, -1, 1000, .min, .max].randomElement(using: &random)!,
                count: kind == .add && random.once(in: 20) ? 3 : 1)
        }
        let encoded = encode(steps)
        #expect(encoded.bytes.count <= encoded.reserved)
        let decoded = try decode(encoded.bytes)
        #expect(decoded.count == encoded.entries)
        for key in Set(steps.map(\.key)) {
            #expect(
                Self.expand(decoded.filter { $0.key == key })
                    == Self.expand(steps.filter { $0.key == key }), "seed \(seed), key \(key)")
        }
    }

    private static func expand(_ steps: [Step]) -> [Step] {
        steps.flatMap { step in
            Array(
                repeating: Step(kind: step.kind, key: step.key, operand: step.operand),
                count: Int(step.count))
        }
    }

    @Test(
        arguments: [
            [0], [19], [255], [1], [1, 5, 65], [2, 1, 65], [3, 1, 65, 2], [3, 1, 65, 2, 0],
            [4, 0, 2, 1], [1, 1, 65, 4, 9, 2, 1], [8, 1, 65, 4, 0, 2, 1], [1, 1, 65, 4, 0, 2, 0],
            [5, 1, 65], [1, 0x81, 0x00, 65], [1, 0xff, 0xff, 0x03],
        ] as [[UInt8]])
    func brokenEntriesAreRefused(bytes: [UInt8]) {
        #expect(throws: EntryError.self) { try decode(bytes) }
    }

    @Test func anUnknownKindNamesItselfAndItsPlace() {
        #expect(throws: EntryError.unknownKind(99, offset: 3)) { try decode([1, 1, 65, 99]) }
    }
}
