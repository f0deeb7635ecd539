public import TallyCore
public import TallyEngine
public import TallyStorage

/// The state that a data directory holds, read without changing it.
public final class DataSnapshot {
    private let partitions: [PartitionBox]
    /// Its schema.
    public let schema: Schema

    /// Reads a data directory that no server has open.
    ///
    /// - Throws: `StorageError`; `ofCluster` for a node of a cluster that does not hold all of its logs.
    /// - Complexity: O(data). Takes as much memory as the server that would open the directory.
    public init<D: Disk>(on disk: D) throws(StorageError) {
        let hasher = KeyHasher(seed: 0)
        let checkpoint = try LoadedCheckpoint(disk: disk, hasher: hasher)
        if let manifest = checkpoint.manifest, manifest.logCount > 0 {
            guard manifest.logs.count == manifest.logCount else { throw .ofCluster }
            partitions = checkpoint.partitions
            schema = manifest.latestSchema
            return
        }
        let identity = checkpoint.manifest?.identity
        var replay = JournalReplay(
            hasher: hasher, partitions: checkpoint.partitions,
            imports: ImportSource(disk: disk, identity: { identity }))
        let scan = try JournalScanner.scan(
            disk, floor: checkpoint.manifest?.position.sequence ?? 0,
            visit: { replay.apply($0, $1) })
        try checkpoint.check(scan)
        partitions = (0..<scan.partitionCount).map {
            PartitionBox(
                replay.takePartition(PartitionPlace(number: $0, count: scan.partitionCount)))
        }
        schema = partitions.first?.partition.schema ?? Schema()
    }

    /// Calls `body` with every plain key and its counter, by partition.
    public func forEachPlainKey(
        _ body: (UnsafeRawBufferPointer, Int64, _ deadline: Int64?) -> Void
    ) {
        for box in partitions { box.partition.forEachPlainKey(body) }
    }

    /// Calls `body` with the key and the values of every record of a family, by partition.
    public func forEachRecord(
        family: UInt32, _ body: (RecordKey, UnsafeBufferPointer<Int64>) -> Void
    ) {
        for box in partitions { box.partition.forEachRecord(family: family, body) }
    }
}
