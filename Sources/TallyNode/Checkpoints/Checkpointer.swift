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
    private var published: Manifest? {
        didSet {
            publishedNumbers = Set(published?.segments.map(\.number) ?? [])
            if let published { node.checkpoints.library.publish(published) }
        }
    }
    /// The files that it names.
    private var publishedNumbers: Set<UInt64> = []
    /// The node's progress that the manifest reflects.
    private var heldProgress: UInt64 = 0
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
        var logs: [Int: Manifest.HeldLog]
        let kept: Set<Int>
        var onceFloors: [UInt64]
        /// For each partition what is to be merged; empty once it has been, so that its memory goes.
        var merges: [[TableMerge]]
        let incarnations: [UInt64]
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
        publishedNumbers = Set(published?.segments.map(\.number) ?? [])
        node.checkpoints.library.setNextSegment(nextNumber)
        self.hasher = hasher
        self.filterBits = filterBits
        if let published {
            noteFinished(published)
            node.checkpoints.library.publish(published)
        }
        if node.logCount == 0 { heldProgress = published?.position.sequence ?? 0 }
    }

    private func noteFinished(_ manifest: Manifest) {
        node.checkpoints.setFinished(
            manifest.position.sequence, milliseconds: manifest.createdMilliseconds)
        node.checkpoints.setDurable(manifest.logs)
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

    /// Whether something has changed that no checkpoint holds.
    public var hasChanges: Bool { node.progress > heldProgress }

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
                Round(
                    sequence: cut.sequence, schema: cut.schema, logs: cut.logs, kept: cut.kept,
                    onceFloors: cut.onceFloors, merges: cut.merges,
                    incarnations: cut.incarnations))
            return .working
        case .merging(var round):
            // The only copy, so that what has been merged is not kept.
            phase = .idle
            try mergePartition(&round)
            let isDone = round.tables.count == round.merges.count
            phase = isDone ? .publishing(round) : .merging(round)
            return .working
        case .publishing(let round):
            // What logs have ordered is as durable as they are.
            guard node.logCount > 0 || node.gate.durableSequence >= round.sequence else {
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

    /// What has become of a partition's tables, before the partition knows.
    private struct Merged {
        var results: [(merge: TableMerge, segments: [Segment])] = []
        /// Segments of tables without changes that were written anew, because their files are damaged.
        var replacements: [(old: Segment, twin: Segment)] = []
        var written: [UInt64] = []
        var failure: CheckpointError?
    }

    /// Merges what has changed in the next partition, writes what is new, and has the partition go on
    /// with that.
    ///
    /// If the disk fails, what was written for this partition is removed. Partitions before it go on
    /// with their new segments, whose files the next round will name.
    private func mergePartition(_ round: inout Round) throws(CheckpointError) {
        let partition = round.tables.count
        var merged = Merged()
        let merges = round.merges[partition]
        round.merges[partition] = []
        for merge in merges where merged.failure == nil {
            run(merge, round, partition, &merged)
        }
        if let failure = merged.failure {
            // What cannot be removed now is a stray, and goes at the next start.
            remove(merged.written)
            throw failure
        }
        // From here on nothing fails.
        node.adopt(
            merged.results.filter { $0.merge.layerCount > 0 }, partition: partition,
            incarnation: round.incarnations[partition])
        var kept: [ObjectIdentifier: Segment] = [:]
        for (old, twin) in merged.replacements
        where !node.replace(old, with: twin, partition: partition) {
            // It has gone its way meanwhile, and reads from its old file.
            kept[ObjectIdentifier(twin)] = old
            if let number = twin.stored?.number { remove([number]) }
        }
        round.tables.append(
            merged.results.filter { !$0.segments.isEmpty }.map { result in
                Manifest.Table(
                    family: result.merge.family,
                    segments: result.segments.compactMap { segment in
                        (kept[ObjectIdentifier(segment)] ?? segment).stored?.reference
                    })
            })
        round.writtenCount += merged.written.count
    }

    private func remove(_ written: [UInt64]) {
        try? CheckpointFiles.removeSegments(written, on: disk)
        unpublished.subtract(written)
    }

    /// Merges what one table has set aside; all its segments then have files, unless something failed.
    private func run(
        _ merge: TableMerge, _ round: Round, _ partition: Int, _ merged: inout Merged
    ) {
        var segments = merge.segments
        if merge.layerCount > 0 {
            var written: [UInt64] = []
            var failure: CheckpointError?
            do throws(SegmentFileError) {
                segments = try merge.run(
                    place: PartitionPlace(number: partition, count: node.partitionCount),
                    sequence: sequence(round, partition), identity: identity,
                    settle: { self.settle($0, &written, &failure) })
            } catch {
                if case .damaged(let file, _) = error { node.noteDamaged(file, partition) }
                failure = failure ?? .segment(error)
            }
            merged.written += written
            merged.failure = failure
        }
        guard merged.failure == nil else { return }
        for (index, segment) in segments.enumerated() {
            guard segment.stored?.isDamaged == true, !segment.isCold else { continue }
            let twin = settle(segment.copied(), &merged.written, &merged.failure)
            if merge.layerCount == 0 { merged.replacements.append((segment, twin)) }
            segments[index] = twin
        }
        merged.results.append((merge, segments))
    }

    /// The last group, or the last message of the partition's log, that a round reflects.
    private func sequence(_ round: Round, _ partition: Int) -> UInt64 {
        guard node.logCount > 0 else { return round.sequence }
        return round.logs[node.shares.log(of: partition)]?.state.sequence ?? 0
    }

    /// Writes a segment to a file of its own; what need not be in memory stays there only.
    private func settle(
        _ segment: Segment, _ written: inout [UInt64], _ failure: inout CheckpointError?
    ) -> Segment {
        guard failure == nil else { return segment }
        let number = node.checkpoints.library.takeSegmentNumber()
        do throws(DiskError) {
            try CheckpointFiles.writeSegment(segment.bytes, number: number, on: disk)
        } catch {
            failure = .disk(error)
            return segment
        }
        written.append(number)
        unpublished.insert(number)
        bytesWritten += segment.bytes.count
        let stored = SegmentOnDisk(
            Manifest.Segment(
                number: number, byteCount: UInt64(segment.bytes.count),
                headerChecksum: segment.headerChecksum), disk)
        segment.settle(in: stored)
        if segment.hasDamage {
            stored.isDamaged = true
            return segment.cooled(filterBits: 0, hasher: hasher)
        }
        guard segment.isOfColdOrigin, node.memoryBytesMax != nil else { return segment }
        return segment.cooled(filterBits: filterBits, hasher: hasher)
    }

    // MARK: Arrivals

    /// Makes a log's partitions, copied from another node, part of the checkpoint. Between two rounds.
    func land(_ arrival: CheckpointArrival) {
        do throws(StorageError) {
            let (manifest, boxes) = try open(arrival)
            node.checkpoints.beginLanding()
            do throws(DiskError) {
                try CheckpointFiles.replaceManifest(manifest, on: disk)
            } catch {
                node.checkpoints.endLanding()
                throw .disk(error)
            }
            published = manifest
            noteFinished(manifest)
            guard let held = manifest.logs[arrival.log] else {
                preconditionFailure("an arrival without its log")
            }
            arrival.landed(
                .success(
                    LandedLog(
                        state: held.state, partitions: PartitionSetAside(boxes),
                        onInstalled: { [node] in node.checkpoints.endLanding() })))
        } catch {
            arrival.landed(.failure(error))
        }
    }

    private func open(
        _ arrival: CheckpointArrival
    ) throws(StorageError) -> (Manifest, [PartitionBox]) {
        guard var manifest = published, let held = arrival.manifest.logs[arrival.log],
            arrival.manifest.identity == identity,
            arrival.manifest.logCount == manifest.logCount,
            arrival.manifest.partitions.count == manifest.partitions.count
        else { throw .foreign(file: "manifest") }
        let width = manifest.partitions.count / manifest.logCount
        let range = (arrival.log * width)..<((arrival.log + 1) * width)
        manifest.logs[arrival.log] = held
        for index in range {
            manifest.partitions[index] = arrival.manifest.partitions[index]
            manifest.onceFloors[index] = arrival.manifest.onceFloors[index]
        }
        manifest.position.sequence = manifest.logs.values.reduce(0) { $0 + $1.state.sequence }
        manifest.logTimeMilliseconds = max(
            manifest.logTimeMilliseconds, arrival.manifest.logTimeMilliseconds)
        manifest.createdMilliseconds = clock.wallMilliseconds()
        manifest.nextSegment = node.checkpoints.library.nextSegment
        var damage: [String] = []
        var boxes: [PartitionBox] = []
        for index in range {
            boxes.append(
                try LoadedCheckpoint.partition(
                    index, of: manifest, disk, hasher,
                    node.memoryBytesMax == nil ? .hot : .cold, &damage))
        }
        if let first = damage.first { throw .damagedFile("a copied segment", reason: first) }
        return (manifest, boxes)
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
        // A checkpoint may have replaced it since the scrub began.
        guard publishedNumbers.contains(next.file.number) else { return (name, nil) }
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
            node.noteDamaged(next.file.number, next.partition)
            return (name, "\(error)")
        }
    }

    // MARK: All of them

    /// Takes over from the last checkpoint what of it is to stay.
    private func keep(_ round: inout Round) {
        guard let published else { return }
        for number in round.kept {
            round.logs[number] = published.logs[number]
            for index in published.shares.partitions(of: number) {
                round.tables[index] = published.partitions[index]
                round.onceFloors[index] = published.onceFloors[index]
            }
        }
    }

    private func publish(_ round: Round) throws(DiskError) {
        var round = round
        keep(&round)
        let states = round.logs.values.map(\.state)
        let isFollower = node.logCount > 0
        let manifest = Manifest(
            identity: identity,
            position: Position(
                epoch: epoch,
                sequence: isFollower ? states.reduce(0) { $0 + $1.sequence } : round.sequence),
            logTimeMilliseconds: isFollower
                ? states.map(\.milliseconds).max() ?? 0 : node.checkpoints.cutLogTimeMilliseconds,
            createdMilliseconds: clock.wallMilliseconds(),
            nextSegment: node.checkpoints.library.nextSegment,
            schema: round.schema, partitions: round.tables, onceFloors: round.onceFloors,
            logCount: node.logCount, logs: round.logs, nodeName: published?.nodeName ?? "")
        try CheckpointFiles.replaceManifest(manifest, on: disk)
        let kept = Set(manifest.segments.map(\.number))
        let lent = node.checkpoints.library.lent(now: clock.monotonicNanoseconds())
        let unnamed = unpublished.union(published?.segments.map(\.number) ?? [])
            .subtracting(kept)
        let obsolete = unnamed.subtracting(lent)
        // What others are copying goes with a later checkpoint.
        unpublished = unnamed.intersection(lent)
        published = manifest
        heldProgress = round.sequence
        if !isFollower { node.checkpoints.setTrimFloor(round.sequence) }
        defer { noteFinished(manifest) }
        try CheckpointFiles.removeSegments(obsolete, on: disk)
        guard !isFollower else { return }
        for number in node.imports.takeObsolete(round.sequence) {
            try ImportFiles.remove(number, on: disk)
        }
    }
}
