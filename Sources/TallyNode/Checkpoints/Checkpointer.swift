import TallyCore
import TallyEngine
public import TallyStorage

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
    /// The files of segments that are in memory. The segments are kept so that no other takes their
    /// place.
    private var files: [ObjectIdentifier: (segment: Segment, file: Manifest.Segment)] = [:]
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
        /// Files written in this round.
        var written: [UInt64] = []
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
        published: Manifest?, nextNumber: UInt64,
        files: [(segment: Segment, file: Manifest.Segment)]
    ) {
        self.node = node
        self.disk = disk
        self.clock = clock
        self.identity = identity
        self.epoch = epoch
        self.published = published
        self.nextNumber = nextNumber
        for entry in files { self.files[ObjectIdentifier(entry.segment)] = entry }
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
    /// - Throws: `DiskError`; the round is then given up, and what is on disk is as good as before.
    public func step() throws(DiskError) -> Step {
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
            do throws(DiskError) {
                try mergePartition(&round)
            } catch {
                giveUp(round)
                throw error
            }
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
                throw error
            }
            phase = .idle
            return .finished(
                sequence: round.sequence, segmentsWritten: round.written.count,
                bytesWritten: bytesWritten)
        }
    }

    // MARK: One partition

    private func mergePartition(_ round: inout Round) throws(DiskError) {
        let partition = round.tables.count
        var tables: [Manifest.Table] = []
        var results: [(merge: TableMerge, segments: [Segment])] = []
        let merges = round.merges[partition]
        round.merges[partition] = []
        for merge in merges {
            let segments =
                merge.layerCount == 0
                ? merge.segments
                : merge.run(
                    place: PartitionPlace(number: partition, count: node.partitionCount),
                    sequence: round.sequence, identity: identity)
            results.append((merge, segments))
            if !segments.isEmpty {
                var references: [Manifest.Segment] = []
                for segment in segments { references.append(try file(of: segment, &round)) }
                tables.append(Manifest.Table(family: merge.family, segments: references))
            }
        }
        node.adopt(results.filter { $0.merge.layerCount > 0 }, partition: partition)
        forget(results)
        round.tables.append(tables)
    }

    /// The file that holds a segment, written now if there is none.
    private func file(
        of segment: Segment, _ round: inout Round
    ) throws(DiskError) -> Manifest.Segment {
        if let known = files[ObjectIdentifier(segment)] { return known.file }
        let number = nextNumber
        nextNumber += 1
        try CheckpointFiles.writeSegment(segment.bytes, number: number, on: disk)
        round.written.append(number)
        bytesWritten += segment.bytes.count
        let file = Manifest.Segment(
            number: number, byteCount: UInt64(segment.bytes.count),
            headerChecksum: segment.headerChecksum)
        files[ObjectIdentifier(segment)] = (segment, file)
        return file
    }

    /// Lets go of segments that merges have replaced.
    private func forget(_ results: [(merge: TableMerge, segments: [Segment])]) {
        for (merge, segments) in results {
            let kept = Set(segments.map { ObjectIdentifier($0) })
            for old in merge.segments where !kept.contains(ObjectIdentifier(old)) {
                files[ObjectIdentifier(old)] = nil
            }
        }
    }

    private func giveUp(_ round: Round) {
        phase = .idle
        let written = Set(round.written)
        files = files.filter { !written.contains($0.value.file.number) }
        // What cannot be removed now is a stray, and goes at the next start.
        try? CheckpointFiles.removeSegments(round.written, on: disk)
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
        guard files.values.contains(where: { $0.file == next.file }) else { return (name, nil) }
        do throws(StorageError) {
            let segment = try LoadedCheckpoint.open(
                next.file, disk, manifest, partition: next.partition, family: next.family)
            do throws(SegmentError) {
                try segment.verifyBlocks()
            } catch {
                throw .damagedFile(name, reason: "\(error)")
            }
            return (name, nil)
        } catch {
            files = files.filter { $0.value.file != next.file }
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
        let obsolete = published?.segments.map(\.number).filter { !kept.contains($0) } ?? []
        published = manifest
        node.checkpoints.setTrimFloor(round.sequence)
        defer { noteFinished(manifest) }
        files = files.filter { kept.contains($0.value.file.number) }
        try CheckpointFiles.removeSegments(obsolete, on: disk)
        for number in node.imports.takeObsolete(round.sequence) {
            try ImportFiles.remove(number, on: disk)
        }
    }
}
