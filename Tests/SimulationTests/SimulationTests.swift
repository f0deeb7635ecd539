import Foundation
import Testing

/// Random life on a disk that fails, from many seeds.
///
/// `TALLY_SIMULATION_SEEDS` says how many (200 unless given), `TALLY_SIMULATION_SEED` runs a single
/// one again.
struct SimulationTests {
    private static let environment = ProcessInfo.processInfo.environment

    static let seeds: [UInt64] = {
        if let seed = environment["TALLY_SIMULATION_SEED"].flatMap(UInt64.init) { return [seed] }
        let count = environment["TALLY_SIMULATION_SEEDS"].flatMap(UInt64.init) ?? 200
        return Array(1...count)
    }()

    @Test(arguments: seeds)
    func nothingAcknowledgedIsLostAndNothingIsDoubled(seed: UInt64) {
        var world = World(seed: seed)
        world.run(steps: 600)
        #expect(
            world.violations.isEmpty,
            "run again with TALLY_SIMULATION_SEED=\(seed); \(world.trace.suffix(12))")
    }

    /// The lives that are lived are not dull ones.
    @Test func checkpointsAreMadeBetweenCrashes() {
        var world = World(seed: 1)
        world.run(steps: 3000)
        #expect(world.checkpoints > 20 && world.crashes > 20 && world.backups > 10)
        #expect(world.coldSegments > 3 && world.blocksRead > 5)
        #expect(world.expiries > 50 && world.repetitions > 50)
    }

    @Test(arguments: [1, 7, 12, 30] as [UInt64])
    func aSeedReplaysExactly(seed: UInt64) {
        var first = World(seed: seed)
        first.run(steps: 300)
        var second = World(seed: seed)
        second.run(steps: 300)
        #expect(first.trace == second.trace)
        #expect(first.trace.count > 20)
    }

    /// The checks find what they are there to find.
    @Test(
        arguments: [
            World.PlantedBug.skippedSync, .hiddenSyncFailure, .groupAppliedTwice,
            .staleBytesAccepted, .fileSyncedAgainAfterFailure,
        ])
    func plantedBugsAreFound(bug: World.PlantedBug) {
        var found = 0
        for seed in 1...UInt64(400) where found == 0 {
            var world = World(seed: seed, plantedBug: bug)
            world.run(steps: 600)
            if !world.violations.isEmpty { found += 1 }
        }
        #expect(found > 0)
    }
}
