import TallyCore
import TallyEngine
import TallyStorage
import TallyTestSupport
import Testing

@testable import TallyNode

/// A node on a simulated disk, driven by hand.
struct HandDrivenNode: Sendable {
    let disk: SimulatedDisk
    let clock = SimulatedClock()
    let node: Node
    let committer: Committer<SimulatedDisk>

    init(
        _ disk: SimulatedDisk = SimulatedDisk(seed: 1),
        _ change: (inout NodeConfiguration) -> Void = { _ in }
    ) throws {
        self.disk = disk
        var configuration = NodeConfiguration()
        configuration.partitionCount = 8
        configuration.random = { 42 }
        configuration.journal.fileBytes = 64 << 10
        configuration.journal.groupBytesMax = 16 << 10
        change(&configuration)
        let opening = try NodeOpening(disk: disk, clock: clock, configuration: configuration)
        node = opening.node
        committer = opening.committer
    }

    /// Executes operations as one batch, on request as one unit.
    @discardableResult
    func execute(
        _ operations: [(Operation.Kind, String, Int64)],
        unit: Operation.UnitCondition? = nil
    ) -> (outcomes: [Outcome], sequence: UInt64)? {
        var batch = node.makeBatch()
        // The keys stay in place until the batch has been executed.
        let keys = operations.map { operation in
            let bytes = UnsafeMutableRawBufferPointer.allocate(
                byteCount: max(1, operation.1.utf8.count), alignment: 1)
            bytes.copyBytes(from: operation.1.utf8)
            return UnsafeRawBufferPointer(rebasing: bytes[..<operation.1.utf8.count])
        }
        defer { for key in keys { key.deallocate() } }
        for (operation, key) in zip(operations, keys) {
            batch.append(operation.0, key: key, operand: operation.2)
        }
        if let unit { batch.makeUnit(from: 0, condition: unit) }
        guard node.execute(&batch) == .done else { return nil }
        let all = 0..<batch.count
        return (all.map { batch.outcomes[$0] }, batch.results.latestSequence(all))
    }

    func add(_ key: String, _ delta: Int64 = 1) -> (value: Int64, sequence: UInt64)? {
        execute([(.add, key, delta)]).map { ($0.outcomes[0].value, $0.sequence) }
    }

    func get(_ key: String) -> Int64? {
        execute([(.get, key, 0)]).flatMap { $0.outcomes[0].wasPresent ? $0.outcomes[0].value : nil }
    }
}

struct NodeTests {
    @Test(arguments: [1, 4])
    func repliesWaitForTheGroupTheyReflect(threads: Int) throws {
        let served = try HandDrivenNode { $0.threads = threads }
        let first = try #require(served.add("a"))
        #expect(first == (1, 1))
        #expect(!served.node.gate.admits(1))
        #expect(served.execute([(.get, "a", 0)])?.sequence == 1, "a read reflects it too")
        _ = try served.committer.commit()
        #expect(served.node.gate.admits(1))
        #expect(try #require(served.add("a")) == (2, 2))
        #expect(!served.node.gate.admits(2))
        #expect(served.execute([(.get, "unrelated", 0)])?.sequence != nil)
    }

    @Test func withoutDurabilityRepliesLeaveAtOnce() throws {
        let served = try HandDrivenNode { $0.durability = .none }
        let first = try #require(served.add("a"))
        #expect(served.node.gate.admits(first.sequence))
    }

    /// A slow disk stops acknowledging; it does not widen what can be lost.
    @Test func anIntervalStopsAcknowledgingWhenItHasPassed() throws {
        let served = try HandDrivenNode { $0.durability = .interval(milliseconds: 100) }
        let first = try #require(served.add("a"))
        #expect(served.node.gate.admits(first.sequence))
        served.clock.advance(nanoseconds: 99_000_000)
        let second = try #require(served.add("b"))
        #expect(served.node.gate.admits(second.sequence))
        served.clock.advance(nanoseconds: 1_000_000)
        #expect(!served.node.gate.admits(second.sequence), "the oldest update is 100 ms old")
        _ = try served.committer.commit()
        #expect(served.node.gate.admits(second.sequence))
        let third = try #require(served.add("c"))
        #expect(served.node.gate.admits(third.sequence))
    }

    @Test func unitsApplyAsOneOrNotAtAll() throws {
        let served = try HandDrivenNode { $0.threads = 4 }
        let pairs: [(Operation.Kind, String, Int64)] = (0..<20).map { (.set, "k\($0)", $0) }
        let first = try #require(served.execute(pairs, unit: .allAbsent))
        #expect(first.outcomes.allSatisfy { $0.status == .applied })
        let again = try #require(
            served.execute([(.set, "new", 1), (.set, "k7", 9)], unit: .allAbsent))
        #expect(again.outcomes.allSatisfy { $0.status == .unchanged })
        #expect(served.get("new") == nil)
        #expect(served.get("k7") == 7)
    }

    @Test func aFullMemoryRefusesWholeUnits() throws {
        let served = try HandDrivenNode()
        served.execute([(.set, "old", 1)])
        served.node.memoryBytesMax = 1
        let pairs: [(Operation.Kind, String, Int64)] = [(.set, "old", 2), (.set, "new", 2)]
        let unit = try #require(served.execute(pairs, unit: Operation.UnitCondition.none))
        #expect(unit.outcomes.allSatisfy { $0.status == .memoryFull })
        #expect(served.get("old") == 1)
        #expect(served.add("old")?.value == 2)
        #expect(served.execute([(.add, "new", 1)])?.outcomes[0].status == .memoryFull)
        served.node.memoryBytesMax = nil
        #expect(served.add("new")?.value == 1)
    }

    @Test func aFullDiskRefusesWritesServesReadsAndRecovers() throws {
        let disk = SimulatedDisk(seed: 1)
        disk.setCapacity(bytes: 100 << 10)
        let served = try HandDrivenNode(disk)
        var written = 0
        var refused: Outcome.Status?
        while refused == nil, written < 100_000 {
            guard let done = served.execute([(.add, "key:\(written)", 1)]) else { break }
            if done.outcomes[0].status == .applied {
                written += 1
            } else {
                refused = done.outcomes[0].status
            }
            _ = try served.committer.commit()
            _ = try served.committer.prepareSpace()
        }
        #expect(refused == .journalFull)
        #expect(served.node.isJournalFull)
        #expect(served.get("key:0") == 1)
        #expect(try served.committer.prepareSpace() == .stillExhausted)
        disk.setCapacity(bytes: .max)
        #expect(try served.committer.prepareSpace() == .regained)
        #expect(served.add("after")?.value == 1)
        try served.committer.close()
        let again = try HandDrivenNode(disk)
        #expect(again.node.countAll().count == written + 1)
    }

    @Test func tooMuchPendingIsBusyUntilTheNextGroup() throws {
        let served = try HandDrivenNode()
        var batches = 0
        while served.execute((0..<100).map { (.add, "key:\(batches):\($0)", 1) }) != nil {
            batches += 1
            #expect(batches < 1000)
        }
        #expect(batches > 1)
        _ = try served.committer.commit()
        #expect(served.add("x")?.value == 1)
    }

    @Test func clearingRemovesEverythingAndSurvives() throws {
        let disk = SimulatedDisk(seed: 1)
        let served = try HandDrivenNode(disk)
        for number in 0..<200 { _ = served.add("key:\(number)") }
        var batch = served.node.makeBatch()
        batch.appendClear()
        guard case .done = served.node.execute(&batch) else {
            Issue.record("busy")
            return
        }
        #expect(served.node.countAll().count == 0)
        _ = served.add("one")
        try served.committer.close()
        let again = try HandDrivenNode(disk)
        #expect(again.node.countAll().count == 1)
        #expect(again.get("one") == 1)
    }

    @Test func partitionCountIsThatOfTheData() throws {
        let disk = SimulatedDisk(seed: 1)
        let served = try HandDrivenNode(disk) { $0.partitionCount = 2 }
        _ = served.add("a")
        try served.committer.close()
        let again = try HandDrivenNode(disk) { $0.partitionCount = 16 }
        #expect(again.node.partitionCount == 2)
        #expect(again.get("a") == 1)
    }

    @Test func aFailedSyncAcknowledgesNothingMore() throws {
        let disk = SimulatedDisk(seed: 1)
        let served = try HandDrivenNode(disk)
        let first = try #require(served.add("a"))
        disk.setFaults { $0.syncFails = 1 }
        #expect(throws: StorageError.self) { try served.committer.commit() }
        #expect(!served.node.gate.admits(first.sequence))
    }
}

struct JournalBudgetTests {
    @Test func whatIsReservedIsThere() {
        let budget = JournalBudget(floorBytes: 100, pendingMax: 1000)
        #expect(budget.reserve(1) == .busy, "the first file is not there yet")
        budget.noteFullDisk()
        #expect(budget.isFull)
        #expect(budget.reserve(1) == .full)
        #expect(budget.pendingBytes == 0)
        budget.add(600)
        #expect(!budget.isFull)
        #expect(budget.reserve(500) == .granted)
        #expect(budget.reserve(1) == .busy)
        budget.refund(200)
        #expect(budget.pendingBytes == 300)
        #expect(budget.reserve(200) == .granted)
        budget.take(500)
        #expect(budget.pendingBytes == 0)
        budget.settle(reserved: 500, written: 400)
        #expect(budget.reserve(100) == .granted)
        budget.noteFullDisk()
        #expect(budget.reserve(1) == .full)
    }

    @Test func pendingIsBounded() {
        let budget = JournalBudget(floorBytes: 0, pendingMax: 100)
        budget.add(10_000)
        #expect(budget.reserve(100) == .granted)
        #expect(budget.reserve(1) == .busy)
        budget.take(100)
        #expect(budget.reserve(1) == .granted)
    }
}
