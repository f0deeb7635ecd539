import TallyCore
import TallyEngine
public import TallyStorage

/// Looks at everything in a data directory that no server has open, and changes nothing.
public struct DataCheck: Sendable {
    /// Everything that is wrong, each with its file and place.
    public private(set) var damage: [String] = []
    /// The checkpoint, nil if there is none that can be read.
    public private(set) var manifest: Manifest?
    /// The journal, nil if it cannot be read to its end.
    public private(set) var scan: JournalScan?
    /// How many segments were looked at, and how large they are, bytes.
    public private(set) var segments = (count: 0, byteCount: 0)

    /// Checks all checksums, the order and place of all keys, and that the manifest, the segments and the
    /// journal belong together; applies the journal if nothing was found wrong before it.
    ///
    /// - Throws: `DiskError` if the disk cannot be read.
    /// - Complexity: O(data). Takes as much memory as the server that would open the directory.
    public static func run<D: Disk>(on disk: D) throws(DiskError) -> DataCheck {
        var check = DataCheck()
        try check.checkSegments(disk)
        try check.checkJournal(disk)
        return check
    }

    private mutating func checkSegments<D: Disk>(_ disk: D) throws(DiskError) {
        do throws(StorageError) {
            manifest = try CheckpointFiles.readManifest(on: disk)
        } catch {
            try note(error)
        }
        guard let manifest else { return }
        for (partition, tables) in manifest.partitions.enumerated() {
            for table in tables {
                var last: UInt64?
                for file in table.segments {
                    do throws(StorageError) {
                        let segment = try SegmentLoader(
                            disk: disk, manifest: manifest, partition: partition,
                            family: table.family
                        ).open(file)
                        check(segment, file, partition, &last)
                    } catch {
                        try note(error)
                    }
                }
            }
        }
    }

    private mutating func check(
        _ segment: Segment, _ file: Manifest.Segment, _ partition: Int, _ last: inout UInt64?
    ) {
        guard let manifest else { return }
        segments.count += 1
        segments.byteCount += segment.bytes.count
        let name = CheckpointFiles.segmentName(file.number)
        let count = manifest.partitions.count
        let schema = manifest.origin(ofPartition: partition).schema
        let family = schema.families.first { $0.number == segment.header.family }
        let place = PartitionPlace(number: partition, count: count)
        // A request is remembered where its first key is, whatever its token.
        let isPlaced = segment.header.family != Schema.tokens
        let found = segment.findDamage { !isPlaced || $0.belongs(to: place, family) }
        damage += found.map { "\(name): \($0)" }
        guard segment is IntegerSegment else { return }
        if let last, segment.header.firstKey <= last {
            damage.append("\(name): its keys begin before those of the segment before it end")
        }
        last = segment.header.lastKey
    }

    private mutating func checkJournal<D: Disk>(_ disk: D) throws(DiskError) {
        // A part of a cluster's data has no journal beside it.
        if let manifest, manifest.logCount > 0 { return }
        let floor = manifest?.position.sequence ?? 0
        do throws(StorageError) {
            if damage.isEmpty {
                let hasher = KeyHasher(seed: 0)
                let checkpoint = try LoadedCheckpoint(disk: disk, hasher: hasher)
                let identity = manifest?.identity
                let imports = ImportSource(disk: disk, identity: { identity })
                var replay = JournalReplay(
                    hasher: hasher, partitions: checkpoint.partitions, imports: imports)
                let scan = try JournalScanner.scan(disk, floor: floor) { replay.apply($0, $1) }
                try checkpoint.check(scan)
                self.scan = scan
            } else {
                scan = try JournalScanner.scan(disk, floor: floor) { _, _ in nil }
            }
        } catch {
            try note(error)
        }
    }

    private mutating func note(_ error: StorageError) throws(DiskError) {
        if case .disk(let error) = error { throw error }
        damage.append("\(error)")
    }
}
