import Glibc
import TallyCore
import TallyEngine

// The engine alone, on one thread: how small records are, and how fast they are read, changed and
// merged. Records come from a file of 16 bytes each: id u64, two counters u32, in order of the id.

func seconds() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
}

func report(_ name: String, _ value: Double, _ unit: String) {
    let text = value >= 100 ? String(Int(value)) : String(Double(Int(value * 1000)) / 1000)
    print("\(name): \(text) \(unit)")
}

func scramble(_ value: UInt64) -> UInt64 {
    var mixed = (value ^ value >> 33) &* 0xff51_afd7_ed55_8ccd
    mixed = (mixed ^ mixed >> 33) &* 0xc4ce_b9fe_1a85_ec53
    return mixed ^ mixed >> 33
}

let arguments = CommandLine.arguments
let partitionCount = Int(arguments[2])!
let shift = UInt64(arguments[3])!
let columns = [ColumnCoding(column: 0), ColumnCoding(column: 1)]
var tables: [UnsafeMutablePointer<IntegerTable>] = []
for _ in 0..<partitionCount {
    let table = UnsafeMutablePointer<IntegerTable>.allocate(capacity: 1)
    table.initialize(to: IntegerTable(columns: columns, hasher: KeyHasher(seed: 1)))
    tables.append(table)
}

@inline(__always)
func partition(_ id: UInt64) -> Int { Int(scramble(id >> shift) & UInt64(partitionCount - 1)) }

var builders = (0..<partitionCount).map { partition in
    Builder(partition: partition)
}

final class Builder {
    var builder: IntegerSegmentBuilder
    var segments: [IntegerSegment] = []
    init(partition: Int) {
        builder = IntegerSegmentBuilder(
            identity: LogIdentity(high: 1, low: 2), partition: partition, family: 1, sequence: 1,
            columns: columns)
    }
    func append(_ id: UInt64, _ row: UnsafePointer<UInt64>) {
        builder.append(id, row)
        if builder.byteCount >= IntegerMerge.segmentBytes { close() }
    }
    func close() { if let segment = builder.finish() { segments.append(segment) } }
}

let file = open(arguments[1], O_RDONLY)
let chunk = UnsafeMutableRawPointer.allocate(byteCount: 16 << 20, alignment: 16)
let row = UnsafeMutablePointer<UInt64>.allocate(capacity: 2)
var stored = 0
var posts = 0
var sample: [UInt64] = []
var building = 0.0
while true {
    let count = read(file, chunk, 16 << 20)
    guard count > 0 else { break }
    let start = seconds()
    for offset in stride(from: 0, to: count, by: 16) {
        let id = chunk.load(fromByteOffset: offset, as: UInt64.self)
        row[0] = UInt64(chunk.load(fromByteOffset: offset + 8, as: UInt32.self))
        row[1] = UInt64(chunk.load(fromByteOffset: offset + 12, as: UInt32.self))
        posts += 1
        guard row[0] | row[1] != 0 else { continue }
        stored += 1
        builders[partition(id)].append(id, row)
        if scramble(id) & 3 == 0 { sample.append(id) }
    }
    building += seconds() - start
}
var bytes = 0
var segmentCount = 0
for (index, builder) in builders.enumerated() {
    builder.close()
    tables[index].pointee.load(builder.segments)
    bytes += tables[index].pointee.segmentBytes
    segmentCount += builder.segments.count
    builder.segments = []
}
print("\(posts) posts, \(stored) stored, \(segmentCount) segments, \(partitionCount) partitions")
report("size", Double(bytes) / Double(stored), "bytes a record")
report("build", Double(stored) / building / 1e6, "million records a second")

// A shuffled sample of present keys.
for index in stride(from: sample.count - 1, to: 0, by: -1) {
    sample.swapAt(index, Int(scramble(UInt64(index)) % UInt64(index + 1)))
}
if sample.count > 4_000_000 { sample.removeLast(sample.count - 4_000_000) }

for round in 0..<2 {
    var start = seconds()
    var sum: UInt64 = 0
    for id in sample {
        guard tables[partition(id)].pointee.read(id, row) else { fatalError("lost \(id)") }
        sum &+= row[0] &+ row[1]
    }
    report("single get", (seconds() - start) / Double(sample.count) * 1e9, "ns")

    // Batches of 20 keys of one partition, as a batch of a partition's lock would be.
    var byPartition = Array(repeating: [UInt64](), count: partitionCount)
    for id in sample { byPartition[partition(id)].append(id) }
    var keys = 0
    start = seconds()
    for _ in 0..<4 {
        for (index, part) in byPartition.enumerated() {
            part.withUnsafeBufferPointer { part in
                var offset = 0
                while offset + 20 <= part.count {
                    tables[index].pointee.prepare(part.baseAddress! + offset, count: 20)
                    for key in 0..<20 {
                        guard tables[index].pointee.read(prepared: key, row) else {
                            fatalError("lost")
                        }
                        sum &+= row[1]
                    }
                    offset += 20
                }
                keys += offset
            }
        }
    }
    report("batch get", Double(keys) / (seconds() - start) / 1e6, "million keys a second")

    let part = sample.count * 3 / 100 * (round + 1)
    // In batches of 20 of one partition, first all new to the memtable, then all there.
    var changes = Array(repeating: [UInt64](), count: partitionCount)
    for id in sample.prefix(part) { changes[partition(id)].append(id) }
    for name in ["base in segment", "in memtable"] {
        start = seconds()
        for (index, part) in changes.enumerated() {
            part.withUnsafeBufferPointer { part in
                var offset = 0
                while offset < part.count {
                    let count = min(20, part.count - offset)
                    let keys = part.baseAddress! + offset
                    tables[index].pointee.prepare(keys, count: count)
                    for key in 0..<count {
                        _ = tables[index].pointee.update(prepared: key, column: 0) { $0 &+ 1 }
                    }
                    offset += count
                }
            }
        }
        report("incr, \(name)", Double(part) / (seconds() - start) / 1e6, "million a second")
    }
    let changed = tables.reduce(0) { $0 + $1.pointee.changedCount }
    let memtable = tables.reduce(0) { $0 + $1.pointee.memtableBytes }
    report("memtable", Double(memtable) / Double(changed), "bytes a changed record")
    start = seconds()
    for (index, table) in tables.enumerated() {
        table.pointee.freeze()
        let input = table.pointee.mergeInput
        let merged = input.run(
            partition: index, family: 1, sequence: 2, identity: LogIdentity(high: 1, low: 2))
        table.pointee.adopt(merged, merged: input.memtableCount)
    }
    report("merge", Double(stored) / (seconds() - start) / 1e6, "million records a second")
    let after = tables.reduce(0) { $0 + $1.pointee.segmentBytes }
    report("size after the merge", Double(after) / Double(stored), "bytes a record")
}
