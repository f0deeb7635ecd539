import TallyCore
import TallyTestSupport
import Testing

@testable import TallyEngine

struct PartitionTests {
    private let hasher = KeyHasher(seed: 1)

    private func apply(_ step: Step, to partition: inout Partition) -> Outcome {
        step.with(hasher) { partition.apply($0, noRows) }
    }

    @Test(
        arguments: [
            (0, 1, 5, 5), (0, 0, 9, 9), (.max, 1, 5, 0), (.max - 3, 1, 5, 3), (.min + 3, -1, 5, 3),
            (.max, 0, 5, 5), (.max - 10, 4, 5, 2), (0, .max, 2, 1), (0, .min, 2, 1),
            (-1, .min, 1, 0), (.min, .max, 4, 2), (.max, -1, .max, .max),
        ] as [(Int64, Int64, UInt32, UInt32)])
    func runsAreJudgedOneByOneInClosedForm(
        value: Int64, delta: Int64, count: UInt32, expected: UInt32
    ) {
        #expect(ColumnRules.addWithin64Bits(delta, to: value, count: count).accepted == expected)
        guard count < 100 else { return }
        var sum = value
        var accepted: UInt32 = 0
        for _ in 0..<count {
            let (next, overflow) = sum.addingReportingOverflow(delta)
            if overflow { break }
            sum = next
            accepted += 1
        }
        #expect(accepted == expected)
    }

    @Test(
        arguments: [
            (Step(kind: .add, key: "watched", operand: 1), true),
            (Step(kind: .add, key: "other", operand: 1), false),
            (Step(kind: .clear, key: ""), true),
            (Step(kind: .changeSchema, key: "ADD COUNTER post"), true),
            (Step(kind: .raiseFloor, key: "", operand: 1), false),
        ])
    func aWatchedKeyIsTouchedByWhatMayChangeIt(step: Step, isTouched: Bool) {
        var partition = Partition(hasher: hasher)
        #expect(apply(Step(kind: .set, key: "other"), to: &partition).status == .applied)
        let watch = Step(kind: .get, key: "watched").with(hasher) { partition.watch($0) }
        step.with(hasher) { operation in
            #expect(partition.apply(operation, noRows).status == .applied)
            _ = partition.record(operation, noRows, sequence: 1)
        }
        #expect(watch.isTouched(nowMilliseconds: nil) == isTouched)
    }

    @Test func outcomesAreRedisReplies() {
        var partition = Partition(hasher: hasher)
        let add = { Step(kind: .add, key: "k", operand: $0) }
        #expect(
            apply(add(5), to: &partition)
                == Outcome(.applied, wasPresent: false, value: 5, acceptedCount: 1))
        #expect(
            apply(add(.max), to: &partition) == Outcome(.overflow, wasPresent: true, value: 5))
        #expect(
            apply(Step(kind: .get, key: "k"), to: &partition)
                == Outcome(.applied, wasPresent: true, value: 5))
        #expect(
            apply(Step(kind: .setIfAbsent, key: "k", operand: 1), to: &partition)
                == Outcome(.unchanged, wasPresent: true, value: 5))
        #expect(
            apply(Step(kind: .setIfPresent, key: "k", operand: 0), to: &partition)
                == Outcome(.applied, wasPresent: true, value: 5))
        #expect(
            apply(Step(kind: .get, key: "k"), to: &partition)
                == Outcome(.applied, wasPresent: true, value: 0), "a key at 0 exists")
        #expect(
            apply(Step(kind: .delete, key: "k"), to: &partition)
                == Outcome(.applied, wasPresent: true, value: 0))
        #expect(
            apply(Step(kind: .delete, key: "k"), to: &partition)
                == Outcome(.unchanged, wasPresent: false, value: 0))
        #expect(
            apply(Step(kind: .setIfPresent, key: "k", operand: 3), to: &partition)
                == Outcome(.unchanged, wasPresent: false, value: 0))
    }

    /// What is recorded and replayed elsewhere gives the same counters.
    @Test(arguments: UInt64(1)...50)
    func replayReachesTheSameState(seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        let kinds: [Operation.Kind] = [.add, .add, .set, .setIfAbsent, .setIfPresent, .delete]
        var original = Partition(hasher: hasher)
        var replica = Partition(hasher: KeyHasher(seed: seed))
        for group in 1...5 {
            for _ in 0..<300 {
                var step = Step(
                    kind: kinds.randomElement(using: &random)!,
                    key: "\(Int.random(in: 0..<30, using: &random))",
                    operand: [1, -1, .max, .min, 77].randomElement(using: &random)!)
                if random.once(in: 200) { step = Step(kind: .clear, key: "") }
                step.with(hasher) { operation in
                    if original.apply(operation, noRows).status == .applied {
                        _ = original.record(operation, noRows, sequence: UInt64(group))
                    }
                }
            }
            let section = original.takePending(spare: .allocate(16))
            defer { section.buffer.deallocate() }
            let bytes = UnsafeRawBufferPointer(
                start: section.buffer.bytes, count: section.byteCount)
            let entries = try replica.replay(bytes, sequence: UInt64(group))
            #expect(entries == Int(section.entryCount))
            #expect(replica.lastSequence == UInt64(group))
        }
        #expect(Self.all(original) == Self.all(replica))
        replica.checkInvariants()
    }

    private static func all(_ partition: borrowing Partition) -> [String: Int64] {
        var all: [String: Int64] = [:]
        partition.forEachPlainKey { key, value, _ in
            all[String(decoding: key, as: UTF8.self)] = value
        }
        return all
    }

    @Test func replayRefusesWhatCannotHaveHappened() {
        var partition = Partition(hasher: hasher)
        // "delete A" without an A.
        #expect(throws: EntryError.diverged(offset: 0)) {
            try [UInt8]([8, 1, 65]).withUnsafeBytes {
                _ = try partition.replay($0, sequence: 1)
            }
        }
    }

    @Test func aFullMemoryRefusesOnlyWhatGrows() {
        let table = PartitionTable(count: 1) { _ in Partition(hasher: hasher) }
        let run = { (step: Step, isFull: Bool) -> Outcome in
            var outcome = Outcome(.unchanged, wasPresent: false, value: 0)
            var application = PartitionTable.Application(
                isMemoryFull: isFull, isJournalFull: false, nowMilliseconds: nil, rows: noRows)
            step.with(hasher) {
                table.apply($0, count: 1, outcomes: &outcome, &application)
            }
            return outcome
        }
        #expect(run(Step(kind: .add, key: "old", operand: 1), false).value == 1)
        #expect(run(Step(kind: .add, key: "old", operand: 1), true).value == 2)
        #expect(run(Step(kind: .add, key: "new", operand: 1), true).status == .memoryFull)
        #expect(run(Step(kind: .set, key: "new", operand: 1), true).status == .memoryFull)
        #expect(run(Step(kind: .setIfPresent, key: "new", operand: 1), true).status == .unchanged)
        #expect(run(Step(kind: .get, key: "new"), true).wasPresent == false)
        #expect(run(Step(kind: .delete, key: "old"), true).status == .applied)
    }
}
