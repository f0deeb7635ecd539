import Synchronization
import TallyCore
import TallyEngine
import TallyStorage
import TallyTestSupport
import Testing

@testable import TallyNode

/// A node whose records are in a checkpoint, with everything that moves them about driven by hand.
private struct ResidentNode {
    let disk = SimulatedDisk(seed: 1)
    let opening: NodeOpening<SimulatedDisk>
    private let keyCount: Int

    init(keyCount: Int = 4000, partitionCount: Int = 2) throws {
        self.keyCount = keyCount
        var configuration = NodeConfiguration()
        configuration.partitionCount = partitionCount
        configuration.journal.fileBytes = 1 << 20
        configuration.journal.groupBytesMax = 256 << 10
        opening = try NodeOpening(
            disk: disk, clock: SimulatedClock(), configuration: configuration)
        var batch = node.makeBatch()
        for text in ["ADD COUNTER post", "ADD COLUMN post id primarykey", "ADD COLUMN post likes"] {
            batch.appendChange(try #require(text.withBytes { SchemaChange(bytes: $0) }))
        }
        #expect(node.execute(&batch) == .done)
        batch.removeAll()
        for key in 0..<keyCount {
            append(.add, key, 7, &batch)
            if batch.count == 100 {
                #expect(node.execute(&batch) == .done)
                batch.removeAll()
                _ = try opening.committer.commit()
            }
        }
        try checkpoint()
    }

    var node: Node { opening.node }

    func append(_ kind: Operation.Kind, _ key: Int, _ operand: Int64, _ batch: inout OperationBatch)
    {
        batch.append(
            kind, OperationBatch.Record(family: 1, key: UInt64(key)), operand: operand)
    }

    func checkpoint() throws {
        opening.checkpointer.begin()
        while !opening.checkpointer.isIdle {
            _ = try opening.committer.commit()
            _ = try opening.checkpointer.step()
        }
    }

    /// Has everything on disk only.
    func coolAll() {
        node.memoryBytesMax = 1
        while opening.residency.step() != .idle {}
        node.memoryBytesMax = nil
        #expect(node.residency.hot.count == 0 && node.residency.cold.count > 0)
    }

    func value(_ key: Int) -> Int64? {
        var batch = node.makeBatch()
        append(.get, key, 0, &batch)
        #expect(node.execute(&batch) == .done)
        return batch.outcomes[0].status == .applied ? batch.outcomes[0].value : nil
    }

    /// Damages the first block of every segment file that there is.
    func damageFiles() throws {
        for name in try disk.list() where name.hasPrefix("segment-") {
            var bytes = try #require(disk.contents(of: name))
            bytes[Int(bytes[20]) + 30] ^= 1
            disk.replace(name, with: bytes)
        }
    }
}

struct NodeResidencyTests {
    @Test func aBlockIsReadOnceForAllWhoWantIt() throws {
        let resident = try ResidentNode()
        resident.coolAll()
        var batch = resident.node.makeBatch()
        for key in 0..<40 { resident.append(.get, key, 0, &batch) }
        guard case .blocks(let blocks) = resident.node.needs(of: batch, from: 0) else {
            Issue.record("nothing is needed")
            return
        }
        #expect(Set(blocks.map(\.block.address)).count < blocks.count)
        let count = Counter()
        for _ in 0..<3 {
            resident.node.read(blocks) { count.add() }
        }
        #expect(count.value == 0)
        while resident.node.readNextBlock() {}
        #expect(count.value == 3)
        #expect(resident.node.blockReads.reads == Set(blocks.map(\.block.address)).count)
        if case .nothing = resident.node.needs(of: batch, from: 0) {
        } else {
            Issue.record("something is still needed")
        }
        #expect(resident.node.execute(&batch) == .done)
        #expect(resident.node.blockCache.lateReads == 0)
    }

    @Test func whatTheSystemHasInMemoryIsReadAtOnce() throws {
        let resident = try ResidentNode(keyCount: 60_000)
        resident.coolAll()
        resident.disk.setFaults { $0.readIsCached = 1 }
        var batch = resident.node.makeBatch()
        for key in 0..<10 { resident.append(.add, key, 1, &batch) }
        guard case .nothing = resident.node.needs(of: batch, from: 0) else {
            Issue.record("something is waited for")
            return
        }
        let reads = resident.node.blockReads.reads
        #expect(reads > 0 && !resident.node.readNextBlock())
        #expect(resident.node.execute(&batch) == .done)
        #expect(resident.node.blockReads.reads == reads && resident.node.blockCache.lateReads == 0)
        #expect(batch.outcomes[9].value == 8)
        // Not so much that others would wait for it.
        for key in 0..<600 { resident.append(.get, 100 * key, 0, &batch) }
        guard case .blocks = resident.node.needs(of: batch, from: 0) else {
            Issue.record("nothing is waited for")
            return
        }
        #expect(resident.node.blockReads.reads - reads == Limits.cachedReadsMax)
    }

    /// Whoever waits is told why there is nothing to have.
    @Test func whatIsDamagedIsNotTakenFromTheSystemsMemory() throws {
        let resident = try ResidentNode()
        resident.coolAll()
        try resident.damageFiles()
        resident.disk.setFaults { $0.readIsCached = 1 }
        var batch = resident.node.makeBatch()
        for key in 0..<4000 { resident.append(.get, key, 0, &batch) }
        while case .blocks(let blocks) = resident.node.needs(of: batch, from: 0) {
            resident.node.read(blocks) {}
            while resident.node.readNextBlock() {}
        }
        guard case .unreadable(.damaged) = resident.node.needs(of: batch, from: 0) else {
            Issue.record("damage went unseen")
            return
        }
    }

    @Test func segmentsComeBackWhenThereIsRoom() throws {
        let resident = try ResidentNode()
        resident.coolAll()
        #expect(resident.value(17) == 7 && resident.node.blockCache.lateReads == 1)
        while resident.opening.residency.step() != .idle {}
        #expect(resident.node.residency.cold.count == 0 && resident.node.residency.hot.count > 0)
        #expect(!resident.node.hasColdSegments)
        #expect(resident.value(18) == 7 && resident.node.blockCache.lateReads == 1)
    }

    /// Of a segment whose file is damaged the memory is the only good copy.
    @Test func whatIsDamagedOnDiskStaysInMemoryAndIsWrittenAnew() throws {
        let resident = try ResidentNode()
        let before = try resident.disk.list().filter { $0.hasPrefix("segment-") }.sorted()
        try resident.damageFiles()
        resident.opening.checkpointer.beginScrub()
        var damaged = 0
        while let (_, damage) = resident.opening.checkpointer.scrubNext() {
            if damage != nil { damaged += 1 }
        }
        #expect(damaged == before.count)
        resident.node.memoryBytesMax = 1
        while resident.opening.residency.step() != .idle {}
        #expect(resident.node.residency.cold.count == 0)
        // A disk that fails in the middle of it changes nothing.
        resident.disk.setFaults { $0.writeFails = 1 }
        #expect(throws: CheckpointError.self) { try resident.checkpoint() }
        resident.disk.setFaults { $0.writeFails = 0 }
        #expect(resident.value(5) == 7)
        try resident.checkpoint()
        let after = try resident.disk.list().filter { $0.hasPrefix("segment-") }.sorted()
        #expect(after.count == before.count && Set(after).isDisjoint(with: before))
        while resident.opening.residency.step() != .idle {}
        #expect(resident.node.residency.hot.count == 0)
        #expect((0..<4000).allSatisfy { resident.value($0) == 7 })
        try resident.opening.committer.close()
        #expect(try DataCheck.run(on: resident.disk).damage == [])
    }

    /// A damaged cold block is carried along by merges, is never trusted, and keeps nothing else from
    /// being counted.
    @Test func damageOfAColdBlockIsCarriedAlong() throws {
        let resident = try ResidentNode()
        resident.coolAll()
        try resident.damageFiles()
        let good = (0..<4000).filter { resident.value($0) == 7 }
        let bad = (0..<4000).filter { resident.value($0) == nil }
        #expect(good.count + bad.count == 4000 && !bad.isEmpty && good.count > 2000)
        for round in 1...3 {
            var batch = resident.node.makeBatch()
            let changed = good.suffix(100)
            for key in changed { resident.append(.add, key, 1, &batch) }
            for key in bad.prefix(50) { resident.append(.add, key, 1, &batch) }
            #expect(resident.node.execute(&batch) == .done)
            #expect((0..<100).allSatisfy { batch.outcomes[$0].status == .applied })
            #expect((100..<150).allSatisfy { batch.outcomes[$0].status == .unreadable })
            try resident.checkpoint()
            while resident.opening.residency.step() != .idle {}
            #expect(changed.allSatisfy { resident.value($0) == 7 + Int64(round) })
            #expect(bad.allSatisfy { resident.value($0) == nil })
            #expect(good.dropLast(100).allSatisfy { resident.value($0) == 7 })
        }
    }

    /// Clearing everything leaves no trace in what is known of memory.
    @Test func accountsAreRightAfterClearing() throws {
        let resident = try ResidentNode()
        #expect(resident.node.changedBytes >= 0)
        resident.coolAll()
        var batch = resident.node.makeBatch()
        batch.appendClear()
        #expect(resident.node.execute(&batch) == .done)
        while resident.opening.residency.step() != .idle {}
        #expect(!resident.node.hasColdSegments && resident.node.residency.cold.count == 0)
        let changed = resident.node.changedBytes
        #expect(changed >= 0 && changed < 10_000)
        for _ in 0..<20 { try resident.checkpoint() }
        #expect(resident.node.changedBytes == changed)
    }
}

/// Counts calls from any thread.
private final class Counter: Sendable {
    private let calls = Atomic<Int>(0)

    var value: Int { calls.load(ordering: .relaxed) }

    func add() { calls.wrappingAdd(1, ordering: .relaxed) }
}
