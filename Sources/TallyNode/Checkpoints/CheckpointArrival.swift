public import TallyCore
internal import TallyEngine
public import TallyStorage

/// A log's partitions, copied from another node's checkpoint, on their way into this one.
struct CheckpointArrival: Sendable {
    let log: Int
    /// The other node's manifest, as far as it is about the log, with the numbers that the files have here.
    let manifest: Manifest
    let landed: @Sendable (Result<LandedLog, StorageError>) -> Void
}

/// A log's partitions that are on disk here, and can be put into the node.
public struct LandedLog: Sendable {
    /// How far they have come.
    public let state: LogState
    /// What is in them.
    public let partitions: PartitionSetAside
    private let onInstalled: @Sendable () -> Void

    init(
        state: LogState, partitions: PartitionSetAside, onInstalled: @escaping @Sendable () -> Void
    ) {
        self.state = state
        self.partitions = partitions
        self.onInstalled = onInstalled
    }

    /// They are in the node, or will never be. Call once: no checkpoint is made before.
    public func end() { onInstalled() }
}

/// Copies of one node's checkpoint: lends files to others, and takes theirs in.
///
/// Any thread that may wait for the disk.
public final class CheckpointCopies<D: Disk>: Sendable {
    let node: Node
    let disk: D
    let clock: any Clock

    init(node: Node, disk: D, clock: any Clock) {
        self.node = node
        self.disk = disk
        self.clock = clock
    }

    var library: CheckpointLibrary { node.checkpoints.library }

    // MARK: Lending

    /// Lends the files of a log's partitions for as long as pieces are asked for.
    ///
    /// - Returns: the loan's number, and the manifest as far as it is about the log; nil if no checkpoint holds
    ///   it.
    public func lend(log number: Int) -> (loan: UInt64, manifest: Manifest)? {
        library.lend(log: number, now: clock.monotonicNanoseconds())
    }

    /// A piece of a lent file.
    ///
    /// - Returns: nil if the loan has ended or the file is not part of it.
    /// - Throws: `DiskError`.
    public func read(
        loan: UInt64, file number: UInt64, offset: Int, byteCount: Int
    ) throws(DiskError) -> [UInt8]? {
        guard library.renew(loan, file: number, now: clock.monotonicNanoseconds()) else {
            return nil
        }
        let file = try disk.open(CheckpointFiles.segmentName(number))
        let wanted = min(byteCount, Limits.copyPieceBytes)
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: wanted, alignment: 16)
        defer { memory.deallocate() }
        let count = try file.read(at: offset, into: memory)
        return Array(memory[..<count])
    }

    /// The loan is not needed any more.
    public func giveBack(loan: UInt64) { library.giveBack(loan) }

    // MARK: Taking in

    /// A segment file that is being copied.
    public final class Incoming: @unchecked Sendable {
        // Sendable because pieces are written one after the other, by whoever has it.
        /// The number that it has here.
        public let number: UInt64
        fileprivate let file: D.File

        fileprivate init(number: UInt64, file: D.File) {
            self.number = number
            self.file = file
        }

        /// Writes a piece.
        public func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws(DiskError) {
            try file.write(bytes, at: offset)
        }
    }

    /// Begins to take in a file.
    public func makeFile() throws(DiskError) -> Incoming {
        let number = library.takeSegmentNumber()
        return Incoming(number: number, file: try disk.create(CheckpointFiles.segmentName(number)))
    }

    /// All pieces of a file are there: syncs it and checks everything in it.
    ///
    /// - Parameters:
    ///   - segment: What the other node's manifest says of it.
    ///   - manifest: The other node's.
    /// - Returns: how this node's manifest names it.
    /// - Throws: `StorageError`; the file is then gone.
    public func finish(
        _ incoming: Incoming, _ segment: Manifest.Segment, of manifest: Manifest, partition: Int,
        family: UInt32
    ) throws(StorageError) -> Manifest.Segment {
        let named = Manifest.Segment(
            number: incoming.number, byteCount: segment.byteCount,
            headerChecksum: segment.headerChecksum)
        do throws(StorageError) {
            try storage { () throws(DiskError) in try incoming.file.sync() }
            let opened = try SegmentLoader(
                disk: disk, manifest: manifest, partition: partition, family: family
            ).open(named)
            do throws(SegmentError) {
                try opened.verifyBlocks()
            } catch {
                throw .damagedFile(
                    CheckpointFiles.segmentName(named.number), reason: "\(error)")
            }
        } catch {
            discard([incoming.number])
            throw error
        }
        return named
    }

    /// Removes files that were taken in for nothing.
    public func discard(_ numbers: [UInt64]) {
        // What cannot be removed now is a stray, and goes at the next start.
        try? CheckpointFiles.removeSegments(numbers, on: disk)
    }

    /// Makes files that were taken in part of this node's checkpoint.
    ///
    /// - Parameters:
    ///   - manifest: The other node's, as far as it is about the log, with the numbers that the files have here.
    ///   - landed: Called on the checkpoint's thread.
    public func add(
        log number: Int, _ manifest: Manifest,
        landed: @escaping @Sendable (Result<LandedLog, StorageError>) -> Void
    ) {
        node.checkpoints.add(
            CheckpointArrival(log: number, manifest: manifest, landed: landed))
    }
}
