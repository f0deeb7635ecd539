import Glibc
import TallyCore
import TallyEngine

// The engine alone, on one thread: how small records are, and how fast they are read, changed and
// merged.
//
//     EngineBenchmark [records] [partitions]
//     EngineBenchmark write FILE [records]
//
// The second writes generated posts as binary records, little-endian: id u64, reposts u32, comments u32.

if CommandLine.arguments.count > 2, CommandLine.arguments[1] == "write" {
    let count = CommandLine.arguments.count > 3 ? Int(CommandLine.arguments[3]) : 5_000_000
    writePosts(count ?? 0, to: CommandLine.arguments[2])
    exit(0)
}
let numbers = CommandLine.arguments.dropFirst().compactMap { Int($0) }
guard numbers.count == CommandLine.arguments.count - 1 else {
    fatalError("arguments are numbers: records, partitions")
}
var run = EngineRun(
    recordCount: numbers.first ?? 5_000_000,
    partitionCount: numbers.count > 1 ? numbers[1] : 64)
run.build()
for share in [0.01, 0.03] {
    run.measureReads()
    run.measureIncrements(share: share)
    run.measureMerge()
}
