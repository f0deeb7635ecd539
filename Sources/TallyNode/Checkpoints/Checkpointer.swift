import TallyCore
public import TallyEngine
public import TallyStorage

/// Why a checkpoint is given up.
public enum CheckpointError: Error, Equatable, Sendable, CustomStringConvertible {
    /// The disk says no.
    case disk(DiskError)
    /// A cold segment that has changes cannot be read.
    case segment(SegmentFileError)

    /// One line for a log.
    public var description: String {
        switch self {
        case .disk(let error): "\(error)"
        case .segment(let error): "\(error)"
        }
    }
}

/// Brings the state of all partitions to the disk from time to time, so that the journal below can go.
///
/// A round takes a cut between two commit groups, merges what has changed partition by partition, writes
/// the segments that are new, waits until the journal holds the cut's last group, and replaces the
/// manifest. One thread drives it (`CheckpointThread`); a simulation drives it step by step.
public final class Checkpointer<D: Disk>: @unchecked Sendable {
    // Sendable because only the driving thread calls it.
    private let node: Node
    private let disk: D
    private let clock: any Clock
    private let identity: LogIdentity
    private let epoch: UInt32
    /// The manifest on disk.
    private var published: Manifest?
    private var nextNumber: UInt64
    /// Files that were written and that no manifest names yet.
    private var unpublished: Set<UInt64> = []
    private let hasher: KeyHasher
    private let filterBits: Int
    private var phase = Phase.idle {
        didSet { node.checkpoints.setRound(!isIdle) }
    }

    private enum Phase {
        case idle
        /// The committer has been asked for a cut.
        case requested
        case merging(Round)
        /// All is written; the journal may not hold the cut yet.
        case publishing(Round)
    }

    private struct Round {
        let sequence: UInt64
        let schema: Schema
        /// For each partition what is to be merged; empty once it has been, so that its memory goes.
        var merges: [[TableMerge]]
        var tables: [[Manifest.Table]] = []
        /// How many files were written in this round.
        var writtenCount = 0
    }

    /// What a step came to.
    public enum Step: Equatable, Sendable {
        /// Nothing is to be done.
        case idle
        /// The journal's thread must move first.
        case waiting
        /// Something was done, and there is more.
        case working
        /// A checkpoint of everything up to this group is on disk.
        case finished(sequence: UInt64, segmentsWritten: Int, bytesWritten: Int)
    }

    private var bytesWritten = 0
    /// Segments that the scrub under way has still to read.
    private var unscrubbed: [Scrubbed] = []

    private struct Scrubbed {
        let file: Manifest.Segment
        let partition: Int
        let family: UInt32
    }

    init(
        node: Node, disk: D, clock: any Clock, identity: LogIdentity, epoch: UInt32,
        published: Manifest?, nextNumber: UInt64, hasher: KeyHasher, filterBits: Int
    ) {
        self.node = node
        self.disk = disk
        self.clock = clock
        self.identity = identity
        self.epoch = epoch
        self.published = published
        self.nextNumber = nextNumber
        self.hasher = hasher
        self.filterBits = filterBits
        if let published { noteFinished(published) }
    }

    private func noteFinished(_ manifest: Manifest) {
        node.checkpoints.setFinished(
            manifest.position.sequence, milliseconds: manifest.createdMilliseconds)
    }

    /// Makes a backup of everything that the journal holds, on the same thread as checkpoints.
    ///
    /// - Parameter target: An empty directory.
    public func backUp(to target: D) throws(BackupFiles.Failure) {
        // Taken first: what is listed afterwards holds all of it.
        let end = node.checkpoints.journalEnd
        try BackupFiles.copy(disk, to: target, end: end, isRestored: false)
    }

    /// Takes over imports, on the same thread.
    var importer: Importer<D> { Importer(node: node, disk: disk, identity: identity) }

    /// The last group that a checkpoint holds, 0 for none.
    public var checkpointSequence: UInt64 { published?.position.sequence ?? 0 }

    /// Whether no round is under way.
    public var isIdle: Bool {
        if case .idle = phase { true } else { false }
    }

    /// Begins a round, unless one is under way. The committer must then be woken.
    public func begin() {
        guard isIdle else { return }
        node.checkpoints.resetJournalBytes()
        node.checkpoints.requestCut()
        phase = .requested
        bytesWritten = 0
    }

    /// Does the next part of a round: one partition, or the manifest.
    ///
    /// - Throws: `CheckpointError`; the round is then given up, and what is on disk is as good as before.
    public func step() throws(CheckpointError) -> Step {
        switch phase {
        case .idle: return .idle
        case .requested:
            guard let cut = node.checkpoints.takeCut() else { return .waiting }
            phase = .merging(
                Round(sequence: cut.sequence, schema: cut.schema, merges: cut.merges))
            return .working
        case .merging(var round):
            // The only copy, so that what has been merged is not kept.
            phase = .idle
            try mergePartition(&round)
            let isDone = round.tables.count == round.merges.count
            phase = isDone ? .publishing(round) : .merging(round)
            return .working
        case .publishing(let round):
            guard node.gate.durableSequence >= round.sequence else {
                node.checkpoints.requestSync(to: round.sequence)
                return .waiting
            }
            do throws(DiskError) {
                try publish(round)
            } catch {
                // Which manifest counts is not known, so no file goes.
                phase = .idle
                throw .disk(error)
            }
            phase = .idle
            return .finished(
                sequence: round.sequence, segmentsWritten: round.writtenCount,
                bytesWritten: bytesWritten)
        }
    }

    // MARK: One partition

    /// Merges what has changed in the next partition, writes what is new, and has the partition go on
    /// with that.
    ///
    /// If the disk fails, what was written for this partition is removed. Partitions before it go on
    /// with their new segments, whose files the next round will name.
    private func mergePartition(_ round: inout Round) throws(CheckpointError) {
        let partition = round.tables.count
        var tables: [Manifest.Table] = []
        var results: [(merge: TableMerge, segments: [Segment])] = []
        let merges = round.merges[partition]
        round.merges[partition] = []
        var written: [UInt64] = []
        do throws(CheckpointError) {
            for merge in merges {
                let segments = try run(merge, round, partition, &written)
                results.append((merge, segments))
                if segments.isEmpty { continue }
                tables.append(
                    Manifest.Table(
                        family: merge.family, segments: segments.compactMap(\.stored?.reference)))
            }
        } catch {
            // What cannot be removed now is a stray, and goes at the next start.
            try? CheckpointFiles.removeSegments(written, on: disk)
            unpublished.subtract(written)
            throw error
        }
        node.adopt(results.filter { $0.merge.layerCount > 0 }, partition: partition)
        round.tables.append(tables)
        round.writtenCount += written.count
    }

    /// Merges what one table has set aside.
    ///
    /// - Returns: its segments, all with files.
    private func run(
        _ merge: TableMerge, _ round: Round, _ partition: Int, _ written: inout [UInt64]
    ) throws(CheckpointError) -> [Segment] {
        let merged: [Segment]
        do throws(SegmentFileError) {
            merged =
                merge.layerCount == 0
                ? merge.segments
                : try merge.run(
                    place: PartitionPlace(number: partition, count: node.partitionCount),
                    sequence: round.sequence, identity: identity)
        } catch {
            throw .segment(error)
        }
        var segments: [Segment] = []
        for segment in merged {
            if let stored = segment.stored, !stored.isDamaged || segment.isCold {
                segments.append(segment)
                continue
            }
            // One whose file is damaged is written anew, as a twin.
            let fresh = segment.stored == nil ? segment : segment.copied()
            fresh.settle(in: SegmentOnDisk(try write(fresh, &written), disk))
            let isColdAtOnce = fresh.isOfColdOrigin && node.memoryBytesMax != nil
            let settled =
                isColdAtOnce ? fresh.cooled(filterBits: filterBits, hasher: hasher) : fresh
            if segment.stored != nil, merge.layerCount == 0 {
                node.replace(segment, with: settled, partition: partition)
            }
            segments.append(settled)
        }
        return segments
    }

    private func write(
        _ segment: Segment, _ written: inout [UInt64]
    ) throws(CheckpointError) -> Manifest.Segment {
        let number = nextNumber
        nextNumber += 1
        do throws(DiskError) {
            try CheckpointFiles.writeSegment(segment.bytes, number: number, on: disk)
        } catch {
            throw .disk(error)
        }
        written.append(number)
        unpublished.insert(number)
        bytesWritten += segment.bytes.count
        return Manifest.Segment(
            number: number, byteCount: UInt64(segment.bytes.count),
            headerChecksum: segment.headerChecksum)
    }

    // MARK: Scrubbing

    /// Begins to read all segment files again, to find damage before it is needed.
    public func beginScrub() {
        let partitions = published?.partitions ?? []
        unscrubbed = partitions.enumerated().flatMap { partition, tables in
            tables.flatMap { table in
                table.segments.map {
                    Scrubbed(file: $0, partition: partition, family: table.family)
                }
            }
        }
    }

    /// Reads the next segment file and compares all checksums.
    ///
    /// A damaged file is written anew by the next checkpoint, from memory.
    ///
    /// - Returns: nil if none is left; else what is wrong with the file, if anything.
    public func scrubNext() -> (file: String, damage: String?)? {
        guard let manifest = published, let next = unscrubbed.popLast() else { return nil }
        let name = CheckpointFiles.segmentName(next.file.number)
        do throws(StorageError) {
            let segment = try SegmentLoader(
                disk: disk, manifest: manifest, partition: next.partition, family: next.family
            ).open(next.file)
            do throws(SegmentError) {
                try segment.verifyBlocks()
            } catch {
                throw .damagedFile(name, reason: "\(error)")
            }
            return (name, nil)
        } catch {
            node.noteDamaged(next.file.number, partition: next.partition)
            return (name, "\(error)")
        }
    }

    // MARK: All of them

    private func publish(_ round: Round) throws(DiskError) {
        let manifest = Manifest(
            identity: identity,
            position: Position(epoch: epoch, sequence: round.sequence),
            logTimeMilliseconds: node.checkpoints.cutLogTimeMilliseconds,
            createdMilliseconds: clock.wallMilliseconds(), nextSegment: nextNumber,
            schema: round.schema, partitions: round.tables)
        try CheckpointFiles.replaceManifest(manifest, on: disk)
        let kept = Set(manifest.segments.map(\.number))
        let obsolete = unpublished.union(published?.segments.map(\.number) ?? [])
            .subtracting(kept)
        unpublished = []
        published = manifest
        node.checkpoints.setTrimFloor(round.sequence)
        defer { noteFinished(manifest) }
        try CheckpointFiles.removeSegments(obsolete, on: disk)
        for number in node.imports.takeObsolete(round.sequence) {
            try ImportFiles.remove(number, on: disk)
        }
    }
}
