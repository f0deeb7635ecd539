internal import Glibc
import TallyCore
import TallyEngine
import TallyStorage

/// Sorts records into partitions and writes them as segments: those of one partition that come in order
/// as one run, those that do not as several, of which later ones win.
struct ImportWriter: ~Copyable {
    private let plan: ImportPlan
    private var partitions: [PartitionRuns]
    private let columnCount: Int
    private let row: UnsafeMutablePointer<UInt64>
    private let familyName: [UInt8]

    private(set) var fileCount = 0
    private(set) var recordCount = 0
    private(set) var byteCount = 0
    private var names: [String] = []

    /// Records of one partition that are sorted at once.
    private static let bufferRecords = 32_768

    /// One partition's records that wait, and the run that is being written.
    private struct PartitionRuns {
        var integerKeys: [UInt64] = []
        var stringKeys: [[UInt8]] = []
        var rows: [UInt64] = []
        var integers: RunBuilder<UInt64>?
        var strings: RunBuilder<[UInt8]>?
        var run = 0
    }

    /// A builder that can be kept in an array, and the last key it was given.
    private final class RunBuilder<Key> {
        var integers: IntegerSegmentBuilder?
        var strings: StringSegmentBuilder?
        var last: Key?
    }

    init(_ plan: ImportPlan) {
        self.plan = plan
        columnCount = plan.family.codings.count
        row = .allocate(capacity: columnCount)
        partitions = Array(repeating: PartitionRuns(), count: plan.partitionCount)
        familyName = Array(plan.family.name.utf8)
    }

    deinit { row.deallocate() }

    /// Adds a record.
    mutating func append(
        _ key: SourceKey, _ values: UnsafePointer<Int64>
    ) throws(ImportFailure) {
        plan.family.encode(values, to: row)
        let partition: Int
        switch key {
        case .integer(let key):
            partition = PartitionPlace.partition(of: key, count: plan.partitionCount)
            partitions[partition].integerKeys.append(
                PartitionPlace.compact(key, count: plan.partitionCount))
        case .string(let key):
            let slot = familyName.withUnsafeBytes { Slot(of: key, ofFamily: $0) }
            partition = slot.partition(of: plan.partitionCount)
            partitions[partition].stringKeys.append(Array(key))
        }
        for column in 0..<columnCount { partitions[partition].rows.append(row[column]) }
        if partitions[partition].rows.count == Self.bufferRecords * columnCount {
            try flush(partition)
        }
    }

    /// Writes everything that waits.
    mutating func finish() throws(ImportFailure) {
        for partition in partitions.indices {
            try flush(partition)
            try closeRun(partition)
        }
    }

    // MARK: Runs

    private mutating func flush(_ partition: Int) throws(ImportFailure) {
        if plan.family.key?.kind == .integer {
            try flushIntegers(partition)
        } else {
            try flushStrings(partition)
        }
        partitions[partition].rows.removeAll(keepingCapacity: true)
    }

    private mutating func flushIntegers(_ partition: Int) throws(ImportFailure) {
        let keys = partitions[partition].integerKeys
        partitions[partition].integerKeys.removeAll(keepingCapacity: true)
        guard let first = keys.min() else { return }
        if let last = partitions[partition].integers?.last, first <= last {
            try closeRun(partition)
        }
        let builder = partitions[partition].integers ?? RunBuilder<UInt64>()
        partitions[partition].integers = builder
        for index in Self.order(keys, <) {
            if builder.integers == nil { builder.integers = integerBuilder(partition) }
            partitions[partition].rows.withUnsafeBufferPointer { rows in
                guard let base = rows.baseAddress else { return }
                builder.integers?.append(keys[index], base + index * columnCount)
            }
            recordCount += 1
            if builder.integers?.byteCount ?? 0 >= IntegerMerge.segmentBytes {
                try write(builder.integers?.finish(), partition)
            }
        }
        builder.last = keys.max()
    }

    private mutating func flushStrings(_ partition: Int) throws(ImportFailure) {
        let keys = partitions[partition].stringKeys
        partitions[partition].stringKeys.removeAll(keepingCapacity: true)
        guard !keys.isEmpty else { return }
        let order = Self.order(keys) { $0.lexicographicallyPrecedes($1) }
        if let last = partitions[partition].strings?.last,
            !last.lexicographicallyPrecedes(keys[order[0]])
        {
            try closeRun(partition)
        }
        let builder = partitions[partition].strings ?? RunBuilder<[UInt8]>()
        partitions[partition].strings = builder
        for index in order {
            if builder.strings == nil { builder.strings = stringBuilder(partition) }
            partitions[partition].rows.withUnsafeBufferPointer { rows in
                guard let base = rows.baseAddress else { return }
                keys[index].withUnsafeBytes {
                    builder.strings?.append($0, base + index * columnCount)
                }
            }
            recordCount += 1
            if builder.strings?.byteCount ?? 0 >= IntegerMerge.segmentBytes {
                try write(builder.strings?.finish(), partition)
            }
        }
        builder.last = order.last.map { keys[$0] }
    }

    /// The places of ascending keys, of equal ones the last only.
    private static func order<Key: Equatable>(
        _ keys: [Key], _ isBefore: (Key, Key) -> Bool
    ) -> [Int] {
        var isSorted = true
        for index in keys.indices.dropFirst() where !isBefore(keys[index - 1], keys[index]) {
            isSorted = false
            break
        }
        if isSorted { return Array(keys.indices) }
        let sorted = keys.indices.sorted { left, right in
            keys[left] == keys[right] ? left < right : isBefore(keys[left], keys[right])
        }
        return sorted.indices.compactMap { index in
            let isRepeated =
                index + 1 < sorted.count && keys[sorted[index]] == keys[sorted[index + 1]]
            return isRepeated ? nil : sorted[index]
        }
    }

    private mutating func closeRun(_ partition: Int) throws(ImportFailure) {
        try write(partitions[partition].integers?.integers?.finish(), partition)
        try write(partitions[partition].strings?.strings?.finish(), partition)
        partitions[partition].integers = nil
        partitions[partition].strings = nil
        partitions[partition].run += 1
    }

    private func integerBuilder(_ partition: Int) -> IntegerSegmentBuilder {
        IntegerSegmentBuilder(
            identity: plan.identity,
            place: PartitionPlace(number: partition, count: plan.partitionCount),
            family: plan.family.number,
            sequence: 0, columns: plan.family.codings)
    }

    private func stringBuilder(_ partition: Int) -> StringSegmentBuilder {
        StringSegmentBuilder(
            identity: plan.identity,
            place: PartitionPlace(number: partition, count: plan.partitionCount),
            family: plan.family.number,
            sequence: 0, columns: plan.family.codings)
    }

    // MARK: Files

    private mutating func write(
        _ segment: Segment?, _ partition: Int
    ) throws(ImportFailure) {
        guard let segment else { return }
        let name = ImportFiles.name(
            plan.number, run: partitions[partition].run, index: fileCount)
        let path = "\(plan.directory)/\(name)"
        let file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o640)
        guard file >= 0 else { throw Self.failure("create", path) }
        defer { close(file) }
        names.append(path)
        fileCount += 1
        byteCount += segment.bytes.count
        var done = 0
        while done < segment.bytes.count {
            let rest = UnsafeRawBufferPointer(rebasing: segment.bytes[done...])
            let count = Glibc.write(file, rest.baseAddress, rest.count)
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { throw Self.failure("write", path) }
            done += count
        }
        guard fdatasync(file) == 0 else { throw Self.failure("sync", path) }
    }

    private static func failure(_ what: String, _ path: String) -> ImportFailure {
        ImportFailure("cannot \(what) \(path): \(String(cString: strerror(errno)))")
    }

    /// Removes what was written, after a failure.
    func removeFiles() {
        for name in names { unlink(name) }
    }
}
