import Foundation
import Testing

/// Three replicas behind a broker that doubles, delays, refuses, forgets, and changes its clocks.
///
/// `TALLY_SIMULATION_SEEDS` and `TALLY_SIMULATION_SEED` as in `SimulationTests`.
struct ClusterSimulationTests {
    @Test(arguments: SimulationTests.seeds)
    func everythingAcknowledgedCountsOnceOnEveryReplica(seed: UInt64) {
        var world = ClusterWorld(seed: seed)
        world.run(steps: 1200)
        #expect(
            world.violations.isEmpty,
            "run again with TALLY_SIMULATION_SEED=\(seed); \(world.violations.prefix(5))")
    }

    /// The lives that are lived are not dull ones.
    @Test func muchHappensInASimulation() {
        var world = ClusterWorld(seed: 1)
        world.run(steps: 12_000)
        #expect(world.violations.isEmpty, "\(world.violations.prefix(5))")
        #expect(world.acknowledged > 1000 && world.unknown > 100 && world.refused > 100)
        #expect(world.duplicates > 20 && world.crashes > 5)
        #expect(world.forwarded > 100)
        #expect(world.checkpoints > 20 && world.resumptions > 3 && world.waits > 20)
        #expect(world.earlyAnswers.count > 100 && world.earlyAnswers.lost > 0)
        #expect(world.copies > 5 && world.recoveries > 0)
    }

    @Test(arguments: [3, 8] as [UInt64])
    func aSeedReplaysExactly(seed: UInt64) {
        var first = ClusterWorld(seed: seed)
        first.run(steps: 500)
        var second = ClusterWorld(seed: seed)
        second.run(steps: 500)
        #expect(first.digest == second.digest)
        #expect(first.acknowledged == second.acknowledged && first.acknowledged > 20)
    }

    /// The checks find what they are there to find.
    @Test(
        arguments: [
            ClusterWorld.PlantedBug.droppedWindow, .missedGap, .earlyAcknowledgement,
            .newNumberForRetry, .windowsNotKept,
        ])
    func plantedBugsAreFound(bug: ClusterWorld.PlantedBug) {
        var found = 0
        for seed in 1...UInt64(100) where found == 0 {
            var world = ClusterWorld(seed: seed, plantedBug: bug)
            world.run(steps: 1200)
            if !world.violations.isEmpty { found += 1 }
        }
        #expect(found > 0)
    }
}
