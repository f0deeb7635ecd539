import TallyCore
import TallyEngine
import TallyStorage

/// The newest checkpoint, read from the disk, before the journal is.
struct LoadedCheckpoint {
    /// How much of the segments is read.
    enum Mode {
        /// Everything, and damage is refused.
        case strict
        /// Everything; a segment with a damaged block stays cold, and its other blocks are served.
        case hot
        /// Headers and indexes.
        case cold
    }

    /// Nil if there is none.
    let manifest: Manifest?
    /// All of them, empty if there is no checkpoint.
    let partitions: [PartitionBox]
    /// What is damaged, in words.
    let damage: [String]

    /// - Throws: `StorageError`; nothing has changed.
    init<D: Disk>(disk: D, hasher: KeyHasher, mode: Mode = .strict) throws(StorageError) {
        let manifest = try CheckpointFiles.readManifest(on: disk)
        self.manifest = manifest
        guard let manifest else {
            partitions = []
            damage = []
            return
        }
        var boxes: [PartitionBox] = []
        var damage: [String] = []
        for index in manifest.partitions.indices {
            boxes.append(try Self.partition(index, of: manifest, disk, hasher, mode, &damage))
        }
        partitions = boxes
        self.damage = damage
    }

    /// Reads one partition.
    static func partition<D: Disk>(
        _ index: Int, of manifest: Manifest, _ disk: D, _ hasher: KeyHasher, _ mode: Mode,
        _ damage: inout [String]
    ) throws(StorageError) -> PartitionBox {
        let origin = manifest.origin(ofPartition: index)
        let box = PartitionBox(
            Partition(
                place: PartitionPlace(number: index, count: manifest.partitions.count),
                hasher: hasher, schema: origin.schema, sequence: origin.sequence))
        box.partition.isJournalled = manifest.logCount == 0
        box.partition.isPresent = origin.isHeld
        box.partition.load(
            floorMilliseconds: manifest.onceFloors[index],
            logTimeMilliseconds: manifest.logTimeMilliseconds)
        for table in manifest.partitions[index] {
            var segments: [Segment] = []
            for file in table.segments {
                let loader = SegmentLoader(
                    disk: disk, manifest: manifest, partition: index, family: table.family)
                segments.append(try loader.load(file, mode, &damage))
            }
            guard box.partition.load(segments, family: table.family) else {
                throw .damagedFile(
                    "manifest", reason: "no family has the number \(table.family)")
            }
        }
        return box
    }

    /// Whether the journal that was found goes with this checkpoint.
    func check(_ scan: JournalScan) throws(StorageError) {
        guard let manifest else { return }
        guard scan.identity == manifest.identity, scan.partitionCount == partitions.count else {
            throw .foreign(file: "manifest")
        }
    }
}

/// Reads one table's segments.
struct SegmentLoader<D: Disk> {
    let disk: D
    let manifest: Manifest
    let partition: Int
    let family: UInt32

    /// Reads a segment, or of a cold one header and index.
    func load(
        _ file: Manifest.Segment, _ mode: LoadedCheckpoint.Mode, _ damage: inout [String]
    ) throws(StorageError) -> Segment {
        if mode == .cold { return try openCold(file) }
        let segment = try open(file)
        do throws(SegmentError) {
            try segment.verifyBlocks()
            return segment
        } catch {
            let found = Self.damage(file, error)
            guard mode == .hot else { throw found }
            segment.stored?.isDamaged = true
            damage.append("\(found)")
            return segment.cooled(filterBits: 0, hasher: KeyHasher(seed: 0))
        }
    }

    /// Reads a segment whose blocks may still be damaged.
    func open(_ file: Manifest.Segment) throws(StorageError) -> Segment {
        let memory = try CheckpointFiles.readSegment(
            file, on: disk, allocate: Segment.allocate(byteCount:))
        return try known(file) { () throws(SegmentError) in
            let segment = try Segment.open(adopting: memory, file: SegmentOnDisk(file, disk))
            try check(segment.header, checksum: segment.headerChecksum, file)
            return segment
        }
    }

    /// Reads a segment's header and index.
    private func openCold(_ file: Manifest.Segment) throws(StorageError) -> Segment {
        let stored = SegmentOnDisk(file, disk)
        let start = UnsafeMutableRawBufferPointer.allocate(
            byteCount: min(SegmentHeader.bytesMax, Int(file.byteCount)), alignment: 16)
        defer { start.deallocate() }
        try read(stored, at: 0, start)
        let header = try known(file) { () throws(SegmentError) in
            let bytes = UnsafeRawBufferPointer(start)
            let header = try SegmentHeader(bytes)
            try check(header, checksum: SegmentHeader.storedChecksum(bytes), file)
            return header
        }
        let indexBytes = Segment.indexBytes(header)
        let index = Segment.allocate(byteCount: indexBytes)
        do throws(StorageError) {
            try read(
                stored, at: Int(header.indexOffset),
                UnsafeMutableRawBufferPointer(rebasing: index[..<indexBytes]))
        } catch {
            index.deallocate()
            throw error
        }
        return try known(file) { () throws(SegmentError) in
            try Segment.openCold(header, index: index, file: stored)
        }
    }

    private func read(
        _ stored: StoredSegment, at offset: Int, _ buffer: UnsafeMutableRawBufferPointer
    ) throws(StorageError) {
        do throws(SegmentFileError) {
            try stored.read(at: offset, into: buffer)
        } catch {
            switch error {
            case .missing: throw .missing(file: stored.name)
            case .unreadable(_, let reason), .damaged(_, let reason):
                throw .damagedFile(stored.name, reason: reason)
            }
        }
    }

    /// Whether a header is that of the segment that the manifest names.
    private func check(
        _ header: SegmentHeader, checksum: UInt32, _ file: Manifest.Segment
    ) throws(SegmentError) {
        guard header.identity == manifest.identity,
            header.place
                == PartitionPlace(number: partition, count: manifest.partitions.count),
            header.family == family, checksum == file.headerChecksum,
            header.byteCount == file.byteCount
        else { throw .foreign }
    }

    private func known<Value>(
        _ file: Manifest.Segment, _ body: () throws(SegmentError) -> Value
    ) throws(StorageError) -> Value {
        do throws(SegmentError) {
            return try body()
        } catch {
            throw Self.damage(file, error)
        }
    }

    private static func damage(_ file: Manifest.Segment, _ error: SegmentError) -> StorageError {
        .damagedFile(CheckpointFiles.segmentName(file.number), reason: "\(error)")
    }
}
