import TallyCore
import TallyEngine

// The engine alone, on one thread: how small records are, and how fast they are read, changed and
// merged.
//
//     EngineBenchmark [records] [partitions] [bits that placement ignores]

let numbers = CommandLine.arguments.dropFirst().compactMap { Int($0) }
guard numbers.count == CommandLine.arguments.count - 1 else {
    fatalError("arguments are numbers: records, partitions, bits that placement ignores")
}
var run = EngineRun(
    recordCount: numbers.first ?? 5_000_000,
    partitionCount: numbers.count > 1 ? numbers[1] : 64,
    placementShift: numbers.count > 2 ? numbers[2] : 12)
run.build()
for share in [0.01, 0.03] {
    run.measureReads()
    run.measureIncrements(share: share)
    run.measureMerge()
}
