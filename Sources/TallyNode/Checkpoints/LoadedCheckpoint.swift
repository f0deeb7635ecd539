import TallyCore
import TallyEngine
import TallyStorage

/// The newest checkpoint, read from the disk, before the journal is.
struct LoadedCheckpoint {
    /// Nil if there is none.
    let manifest: Manifest?
    /// All of them, empty if there is no checkpoint.
    let partitions: [PartitionBox]
    /// The segments and their files.
    let files: [(segment: Segment, file: Manifest.Segment)]

    /// - Throws: `StorageError`; nothing has changed.
    init<D: Disk>(disk: D, hasher: KeyHasher) throws(StorageError) {
        let manifest = try CheckpointFiles.readManifest(on: disk)
        self.manifest = manifest
        guard let manifest else {
            partitions = []
            files = []
            return
        }
        var boxes: [PartitionBox] = []
        var files: [(segment: Segment, file: Manifest.Segment)] = []
        for (index, tables) in manifest.partitions.enumerated() {
            let box = PartitionBox(
                Partition(
                    place: PartitionPlace(number: index, count: manifest.partitions.count),
                    hasher: hasher, schema: manifest.schema,
                    sequence: manifest.position.sequence))
            for table in tables {
                var segments: [Segment] = []
                for file in table.segments {
                    let segment = try Self.open(
                        file, disk, manifest, partition: index, family: table.family)
                    do throws(SegmentError) {
                        try segment.verifyBlocks()
                    } catch {
                        throw Self.damage(file, error)
                    }
                    segments.append(segment)
                    files.append((segment, file))
                }
                guard box.partition.load(segments, family: table.family) else {
                    throw .damagedFile(
                        "manifest", reason: "no family has the number \(table.family)")
                }
            }
            boxes.append(box)
        }
        partitions = boxes
        self.files = files
    }

    /// Reads a segment whose blocks may still be damaged.
    static func open<D: Disk>(
        _ file: Manifest.Segment, _ disk: D, _ manifest: Manifest, partition: Int, family: UInt32
    ) throws(StorageError) -> Segment {
        let memory = try CheckpointFiles.readSegment(
            file, on: disk, allocate: Segment.allocate(byteCount:))
        do throws(SegmentError) {
            let segment = try Segment.open(adopting: memory)
            guard segment.header.identity == manifest.identity,
                segment.header.place
                    == PartitionPlace(number: partition, count: manifest.partitions.count),
                segment.header.family == family,
                segment.headerChecksum == file.headerChecksum
            else { throw .foreign }
            return segment
        } catch {
            throw damage(file, error)
        }
    }

    private static func damage(_ file: Manifest.Segment, _ error: SegmentError) -> StorageError {
        .damagedFile(CheckpointFiles.segmentName(file.number), reason: "\(error)")
    }

    /// Whether the journal that was found goes with this checkpoint.
    func check(_ scan: JournalScan) throws(StorageError) {
        guard let manifest else { return }
        guard scan.identity == manifest.identity, scan.partitionCount == partitions.count else {
            throw .foreign(file: "manifest")
        }
    }
}
