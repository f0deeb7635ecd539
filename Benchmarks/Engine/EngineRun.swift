import Glibc
import TallyCore
import TallyEngine

/// One data set in tables, and what is measured on it.
struct EngineRun: ~Copyable {
    private let recordCount: Int
    private let partitionCount: Int
    private let tables: UnsafeMutablePointer<IntegerTable>
    private let row = UnsafeMutablePointer<UInt64>.allocate(capacity: 2)
    private let places = UnsafeMutablePointer<IntegerTable.Lookup>.allocate(capacity: 20)
    /// Keys of each partition, shuffled, as many as are read.
    private var samples: [[UInt64]]

    private static let columns = [ColumnCoding(column: 0), ColumnCoding(column: 1)]
    private static let identity = LogIdentity(high: 1, low: 2)
    private static let hasher = KeyHasher(seed: 1)
    private static let batchCount = 20
    /// One key in so many is in the sample.
    private static let sampled: UInt64 = 4

    init(recordCount: Int, partitionCount: Int) {
        self.recordCount = recordCount
        self.partitionCount = partitionCount
        tables = .allocate(capacity: partitionCount)
        for index in 0..<partitionCount {
            (tables + index).initialize(
                to: IntegerTable(columns: Self.columns, hasher: Self.hasher))
        }
        samples = Array(repeating: [], count: partitionCount)
    }

    deinit {
        tables.deinitialize(count: partitionCount)
        tables.deallocate()
        row.deallocate()
        places.deallocate()
    }

    @inline(__always)
    private func partition(_ id: UInt64) -> Int {
        PartitionPlace.partition(of: id, count: partitionCount)
    }

    // MARK: Building

    /// Builds all segments from generated records.
    mutating func build() {
        let builders = (0..<partitionCount).map {
            PartitionBuilder(
                PartitionPlace(number: $0, count: partitionCount), Self.columns, Self.identity)
        }
        var generator = PostGenerator(seed: 1)
        var posts: [PostGenerator.Post] = []
        var elapsed = 0.0
        var left = recordCount
        while left > 0 {
            posts.removeAll(keepingCapacity: true)
            for _ in 0..<min(left, 1_000_000) { posts.append(generator.next()) }
            left -= posts.count
            let start = seconds()
            for post in posts {
                row[0] = post.reposts
                row[1] = post.comments
                builders[partition(post.id)].append(
                    PartitionPlace.compact(post.id, count: partitionCount), row)
            }
            elapsed += seconds() - start
            for post in posts where scramble(post.id) % Self.sampled == 0 {
                samples[partition(post.id)].append(
                    PartitionPlace.compact(post.id, count: partitionCount))
            }
        }
        var random = SystemRandomNumberGenerator()
        for index in 0..<partitionCount {
            (tables + index).pointee.load(builders[index].finish())
            samples[index].shuffle(using: &random)
        }
        print("\(recordCount) records, \(partitionCount) partitions")
        report("build", Double(recordCount) / elapsed / 1e6, "million records a second")
        reportSize()
    }

    private func reportSize() {
        var bytes = 0
        for index in 0..<partitionCount { bytes += tables[index].segmentBytes }
        report("size", Double(bytes) / Double(recordCount), "bytes a record")
    }

    // MARK: Measuring

    func measureReads() {
        var sum: UInt64 = 0
        var count = 0
        var start = seconds()
        for index in 0..<partitionCount {
            for id in samples[index] {
                if !tables[index].read(id, row) { fatalError("\(id) is lost") }
                sum &+= row[0] &+ row[1]
            }
            count += samples[index].count
        }
        report("single get", (seconds() - start) / Double(count) * 1e9, "ns")
        start = seconds()
        for index in 0..<partitionCount {
            forEachBatch(samples[index], samples[index].count) { keys, count in
                locate(keys, count, tables + index)
                for key in 0..<count where tables[index].read(places[key], row) {
                    sum &+= row[0] &+ row[1]
                }
            }
        }
        report("batch get", Double(count) / (seconds() - start) / 1e6, "million keys a second")
        if sum == 0 { fatalError("nothing was read") }
    }

    func measureIncrements(share: Double) {
        for name in ["base in segment", "in memtable"] {
            var count = 0
            let start = seconds()
            for index in 0..<partitionCount {
                let part = min(
                    samples[index].count,
                    Int(Double(samples[index].count) * share * Double(Self.sampled)))
                forEachBatch(samples[index], part) { keys, count in
                    locate(keys, count, tables + index)
                    for key in 0..<count {
                        _ = tables[index].update(places[key], column: 0) { $0 &+ 1 }
                    }
                }
                count += part
            }
            report(
                "incr of \(share * 100) %, \(name)", Double(count) / (seconds() - start) / 1e6,
                "million a second")
        }
        var (changed, bytes) = (0, 0)
        for index in 0..<partitionCount {
            changed += tables[index].changedCount
            bytes += tables[index].memtableBytes
        }
        report("memtable", Double(bytes) / Double(changed), "bytes a changed record")
    }

    func measureMerge() {
        let start = seconds()
        for index in 0..<partitionCount {
            tables[index].freeze()
            let input = tables[index].mergeInput
            let merged: [IntegerSegment]
            do throws(SegmentFileError) {
                merged = try input.run(
                    place: PartitionPlace(number: index, count: partitionCount), family: 1,
                    sequence: 2, identity: Self.identity)
            } catch {
                fatalError("nothing here is on disk: \(error)")
            }
            tables[index].adopt(merged, merged: input.layerCount)
        }
        report("merge", Double(recordCount) / (seconds() - start) / 1e6, "million records a second")
        reportSize()
    }

    @inline(__always)
    private func locate(
        _ keys: UnsafePointer<UInt64>, _ count: Int, _ table: UnsafeMutablePointer<IntegerTable>
    ) {
        for index in 0..<count {
            let hash = Self.hasher.hash(keys[index])
            places[index] = IntegerTable.Lookup(key: keys[index], hash: hash)
            table.pointee.prefetch(hash: hash)
        }
        for index in 0..<count { table.pointee.locateSegment(&places[index]) }
        for index in 0..<count { table.pointee.locateIndex(&places[index]) }
        for index in 0..<count { table.pointee.locateBlock(&places[index]) }
    }

    private func forEachBatch(
        _ keys: [UInt64], _ end: Int, _ body: (UnsafePointer<UInt64>, Int) -> Void
    ) {
        keys.withUnsafeBufferPointer { keys in
            guard let base = keys.baseAddress else { return }
            for offset in stride(from: 0, to: end, by: Self.batchCount) {
                body(base + offset, min(Self.batchCount, end - offset))
            }
        }
    }
}

/// Makes one partition's segments.
private final class PartitionBuilder {
    private var builder: IntegerSegmentBuilder
    private var segments: [IntegerSegment] = []

    init(_ place: PartitionPlace, _ columns: [ColumnCoding], _ identity: LogIdentity) {
        builder = IntegerSegmentBuilder(
            identity: identity, place: place, family: 1, sequence: 1, columns: columns)
    }

    func append(_ id: UInt64, _ row: UnsafePointer<UInt64>) {
        builder.append(id, row)
        if builder.byteCount >= IntegerMerge.segmentBytes { close() }
    }

    private func close() {
        if let segment = builder.finish() { segments.append(segment) }
    }

    func finish() -> [IntegerSegment] {
        close()
        return segments
    }
}

private func seconds() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
}

private func report(_ name: String, _ value: Double, _ unit: String) {
    let text = value >= 100 ? String(Int(value)) : String(Double(Int(value * 1000)) / 1000)
    print("\(name): \(text) \(unit)")
}

/// A fixed bijection that leaves no pattern.
func scramble(_ value: UInt64) -> UInt64 {
    var mixed = (value ^ value >> 33) &* 0xff51_afd7_ed55_8ccd
    mixed = (mixed ^ mixed >> 33) &* 0xc4ce_b9fe_1a85_ec53
    return mixed ^ mixed >> 33
}
