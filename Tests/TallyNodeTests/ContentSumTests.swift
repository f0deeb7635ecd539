import TallyCore
import Testing

@testable import TallyEngine
@testable import TallyNode

/// What is done to a partition.
private enum Step {
    case set(String, Int64)
    case delete(String)
    case expire(String, Int64)
    case raiseFloor(UInt64)
    case change(SchemaChange)

    func add(to batch: inout OperationBatch, _ key: UnsafeRawBufferPointer) {
        switch self {
        case .set(_, let value): batch.append(.set, key: key, operand: value)
        case .delete: batch.append(.delete, key: key)
        case .expire(_, let deadline): batch.appendExpire(key, deadline: deadline, .always)
        case .raiseFloor(let milliseconds): batch.appendRaiseFloor(0, to: milliseconds)
        case .change(let change): batch.appendChange(change)
        }
    }

    var key: String {
        switch self {
        case .set(let key, _), .delete(let key), .expire(let key, _): key
        case .raiseFloor, .change: "-"
        }
    }
}

struct ContentSumTests {
    private func sum(_ steps: [Step]) -> ContentSum {
        let hasher = KeyHasher(seed: 3)
        let box = PartitionBox(Partition(hasher: hasher))
        var batch = OperationBatch(hasher: hasher, partitionCount: 1)
        for step in steps {
            Array(step.key.utf8).withUnsafeBytes { key in
                batch.removeAll()
                step.add(to: &batch, key)
                let outcome = box.partition.apply(batch.operations, batch.rows)
                #expect(outcome.status == .applied)
            }
        }
        var sum = ContentSum()
        sum.add(box)
        return sum
    }

    private let steps: [Step] = [
        .set("a", 1), .set("b", 2), .set("c", 3), .expire("c", 5_000_000_000_000),
    ]

    @Test func howItCameToBeDoesNotMatter() {
        #expect(sum(steps) == sum([steps[2], steps[3], steps[1], steps[0]]))
        #expect(sum(steps) == sum(steps + [.set("d", 4), .delete("d")]))
        #expect(sum(steps).records == 3)
        #expect(sum(steps).description.count == 32)
    }

    @Test(arguments: 0..<6)
    func anyDifferenceIsSeen(number: Int) throws {
        let more: [Step] = [
            .set("b", 3), .set("d", 2), .delete("b"), .raiseFloor(1),
            .expire("c", 5_000_000_000_001), .change(try SchemaChange(["ADD", "COUNTER", "post"])),
        ]
        #expect(sum(steps + [more[number]]) != sum(steps))
    }

    /// What is swapped between keys is a difference.
    @Test func valuesBelongToTheirKeys() {
        #expect(sum([.set("a", 1), .set("b", 2)]) != sum([.set("a", 2), .set("b", 1)]))
    }
}
