import Synchronization
import TallyCore
import TallyStorage
import TallyTestSupport
import Testing

@testable import TallyNode

/// What threads report to a test.
private final class Observed: Sendable {
    let events = Atomic<Int>(0)
    let values = Locked<[Int64]>([])
}

struct CommitterThreadTests {
    /// Several threads count on shared keys while the journal's thread writes: every value is
    /// handed out once, everything becomes durable, and a restart finds it.
    @Test(arguments: [Durability.always, .interval(milliseconds: 5), .none], [1, 4])
    func concurrentAddsAreExactAndDurable(durability: Durability, threads: Int) async throws {
        let disk = SimulatedDisk(seed: 1)
        let served = try HandDrivenNode(disk) {
            $0.durability = durability
            $0.threads = threads
        }
        let observed = Observed()
        let thread = CommitterThread(served.committer, node: served.node) { event in
            if case .committed = event { observed.events.wrappingAdd(1, ordering: .relaxed) }
        }
        thread.start()
        await withTaskGroup(of: Void.self) { group in
            for worker in 0..<threads {
                group.addTask {
                    for step in 0..<500 {
                        let adds: [(Operation.Kind, String, Int64)] = [
                            (.add, "shared", 1), (.add, "own:\(worker)", 1),
                            (.add, "once:\(worker):\(step)", 1),
                        ]
                        var done = served.execute(adds)
                        while done == nil {
                            await Task.yield()
                            done = served.execute(adds)
                        }
                        let value = done?.outcomes[0].value ?? 0
                        observed.values.withLock { $0.append(value) }
                        served.node.wakeJournal()
                    }
                }
            }
        }
        thread.stop()
        #expect(observed.values.withLock { $0.sorted() } == Array(1...Int64(threads * 500)))
        #expect(observed.events.load(ordering: .relaxed) > 0)
        let again = try HandDrivenNode(disk)
        #expect(again.get("shared") == Int64(threads * 500))
        for worker in 0..<threads { #expect(again.get("own:\(worker)") == 500) }
        #expect(again.node.countAll().count == 1 + threads + threads * 500)
    }

    @Test func aFailingDiskIsReportedOnce() async throws {
        let disk = SimulatedDisk(seed: 1)
        let served = try HandDrivenNode(disk)
        let observed = Observed()
        let thread = CommitterThread(served.committer, node: served.node) { event in
            if case .failed = event { observed.events.wrappingAdd(1, ordering: .relaxed) }
        }
        disk.setFaults { $0.syncFails = 1 }
        _ = served.add("a")
        thread.start()
        thread.stop()
        #expect(observed.events.load(ordering: .relaxed) == 1)
        #expect(!served.node.gate.admits(1))
    }
}
