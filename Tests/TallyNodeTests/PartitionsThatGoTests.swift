import TallyCore
import TallyTestSupport
import Testing

@testable import TallyEngine
@testable import TallyNode

/// Partitions that leave a node, or come to it, while a checkpoint of them is being made.
struct PartitionsThatGoTests {
    private let node: Node
    private let checkpointer: Checkpointer<SimulatedDisk>
    private let clock = SimulatedClock()

    init() throws {
        var configuration = NodeConfiguration()
        configuration.threads = 2
        let opening = try ReplicaOpening(
            disk: SimulatedDisk(seed: 1), clock: clock, configuration: configuration,
            data: ClusterData(
                identity: LogIdentity(high: 1, low: 2), partitionCount: 4, logCount: 1),
            newName: "one")
        (node, checkpointer) = (opening.node, opening.checkpointer)
        node.install(0..<4, nil)
    }

    private func increment(sequence: UInt64) {
        var batch = OperationBatch(hasher: node.hasher, partitionCount: node.partitionCount)
        for number in 0..<100 {
            Array("key:\(number)".utf8).withUnsafeBytes { key in
                batch.removeAll()
                batch.append(.add, key: key, operand: 1)
                #expect(node.apply(&batch, sequence: sequence, logTimeMilliseconds: 1_000))
            }
        }
        node.noteMessage(byteCount: 1_000)
    }

    private var values: [Int64] {
        var values: [Int64] = []
        node.forEachPlainKey { _, value, _ in values.append(value) }
        return values
    }

    private func finish() throws {
        while true {
            if case .finished = try checkpointer.step() { return }
            node.takeCut { [0: LogState(epoch: 1, streamNanoseconds: 1)] }
        }
    }

    @Test func whatHasLeftIsNotGivenItsCheckpoint() throws {
        increment(sequence: 1)
        checkpointer.begin()
        node.takeCut { [0: LogState(epoch: 1, streamNanoseconds: 1)] }
        _ = try checkpointer.step()
        _ = try checkpointer.step()
        node.remove(0..<4)
        try finish()
        #expect(values.isEmpty)
    }

    @Test func whatHasComeInItsPlaceKeepsWhatItHas() throws {
        increment(sequence: 1)
        checkpointer.begin()
        node.takeCut { [0: LogState(epoch: 1, streamNanoseconds: 1)] }
        node.remove(0..<4)
        node.install(0..<4, nil)
        increment(sequence: 2)
        increment(sequence: 3)
        try finish()
        #expect(values == Array(repeating: 2, count: 100))
        increment(sequence: 4)
        checkpointer.begin()
        try finish()
        #expect(values == Array(repeating: 3, count: 100))
    }
}
