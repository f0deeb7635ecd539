public import TallyEngine
internal import Synchronization
import TallyCore

/// What is in memory: needs of operations, blocks that were read, segments that come and go.
extension Node {
    /// Whether records of any segment are on disk only.
    @inline(__always)
    public var hasColdSegments: Bool { coldSegments.load(ordering: .relaxed) > 0 }

    /// What operations of a batch need before they can be applied without waiting for the disk.
    public enum Needs {
        /// Nothing: it is all in memory.
        case nothing
        /// These blocks must be read first.
        case blocks([NeededBlock])
        /// What they need cannot be read.
        case unreadable(SegmentFileError)
    }

    /// What the operations of a batch need from `first` on, and the system has not in memory: some of what it has is
    /// read at once.
    ///
    /// - Complexity: O(1) for an operation whose record is in memory, but for its lock.
    public func needs(of batch: borrowing OperationBatch, from first: Int) -> Needs {
        var blocks: [NeededBlock] = []
        var cachedReadsLeft = Limits.cachedReadsMax
        for index in first..<batch.count {
            let operation = UnsafePointer(batch.operations + index)
            let partition = Int(operation.pointee.partition)
            let token =
                operation.pointee.kind == .transaction
                ? batch.request(operation)?.token : nil
            // A key may have a place in several segments.
            search: while true {
                let need = locks[lockIndex(partition)].withLock { _ in
                    token.map { partitions.partition(partition).pointee.need(of: $0) }
                        ?? partitions.partition(partition).pointee.need(of: operation)
                }
                switch need {
                case nil: break search
                case .unreadable(let error): return .unreadable(error)
                case .block(let block):
                    let needed = NeededBlock(partition: partition, block: block)
                    if readCached(needed, &cachedReadsLeft) { continue }
                    blocks.append(needed)
                    break search
                }
            }
        }
        return blocks.isEmpty ? .nothing : .blocks(blocks)
    }

    /// Reads a block if the system has it in memory, and it is among the first of its batch.
    private func readCached(_ needed: NeededBlock, _ readsLeft: inout Int) -> Bool {
        guard readsLeft > 0 else { return false }
        guard let bytes = needed.block.readCached() else {
            readsLeft -= Limits.cachedReadMissWeight
            return false
        }
        readsLeft -= 1
        reader.noteRead(needed)
        insert(needed, .success(bytes))
        return true
    }

    /// Has blocks read, and calls `onDone` on some thread when operations that need them may be tried
    /// again.
    public func read(_ blocks: [NeededBlock], _ onDone: @escaping @Sendable () -> Void) {
        reader.request(blocks, onDone)
    }

    /// Reads one block that somebody waits for, if there is any, as `ResidencyThread`'s threads do.
    ///
    /// - Returns: whether there was one.
    public func readNextBlock() -> Bool {
        reader.readNext { insert($0, $1) }
    }

    /// Gives a partition a block that was read, or word of why it could not be.
    func insert(_ needed: NeededBlock, _ result: Result<BlockBytes, SegmentFileError>) {
        locks[lockIndex(needed.partition)].withLock { _ in
            if case .failure(.damaged) = result { noteLoss(needed.partition) }
            partitions.partition(needed.partition).pointee.insert(needed.block, result)
        }
    }

    /// Looks at all segments of a partition, and lets time pass for its cache.
    ///
    /// - Parameters:
    ///   - seconds: A clock's.
    ///   - decay: What remains of the demand of before.
    func survey(_ partition: Int, seconds: UInt32, decay: Double) -> [Partition.Resident] {
        locks[lockIndex(partition)].withLock { _ in
            settleAccount(partition)
            let pointer = partitions.partition(partition)
            pointer.pointee.setCacheBytesMax(cacheBytesMax / partitionCount)
            return pointer.pointee.survey(seconds: seconds, decay: decay)
        }
    }

    /// Puts a segment's twin in its place, if it is still there. One whose file is damaged stays in
    /// memory until it has been written anew.
    ///
    /// - Returns: whether it was there, and has been replaced.
    func replace(_ segment: Segment, with twin: Segment, partition: Int) -> Bool {
        locks[lockIndex(partition)].withLock { _ in
            if !segment.isCold, twin.isCold, twin.stored?.isDamaged == true { return false }
            return changeSegments(partition) { $0.replace(segment, with: twin) }
        }
    }

    /// Whether a segment is still part of its partition.
    func contains(_ segment: Segment, partition: Int) -> Bool {
        locks[lockIndex(partition)].withLock { _ in
            partitions.partition(partition).pointee.segments.contains { $0 === segment }
        }
    }

    /// Takes note that a segment's file is damaged: a hot one is written anew, a cold one stays.
    func noteDamaged(_ file: UInt64, _ partition: Int) {
        locks[lockIndex(partition)].withLock { _ in
            for segment in partitions.partition(partition).pointee.segments
            where segment.file?.number == file {
                segment.stored?.isDamaged = true
                if segment.isCold { noteLoss(partition) }
            }
        }
    }

    /// Takes note of the damage that was found when the partitions were read from the disk.
    func noteDamageFound() {
        for index in 0..<partitionCount {
            locks[lockIndex(index)].withLock { _ in
                let segments = partitions.partition(index).pointee.segments
                if segments.contains(where: { $0.stored?.isDamaged == true }) { noteLoss(index) }
            }
        }
    }

    /// Some of what a partition holds is on disk only, and damaged there. Under its lock.
    private func noteLoss(_ partition: Int) {
        let incarnation = partitions.partition(partition).pointee.incarnation
        losses.withLock { $0[partition] = incarnation }
    }

    /// Whether something that some of these partitions held is lost: nothing but another replica has it.
    public func hasLosses(_ range: Range<Int>) -> Bool {
        let losses = losses.withLock { losses in losses.filter { range.contains($0.key) } }
        return losses.contains { partition, incarnation in
            locks[lockIndex(partition)].withLock { _ in
                partitions.partition(partition).pointee.incarnation == incarnation
            }
        }
    }

    /// Memory that blocks of cold segments may take, bytes.
    var cacheBytesMax: Int {
        memoryBytesMax.map { $0 / Limits.cacheShare } ?? Limits.cacheBytesUnlimited
    }

    /// Memory that hot segments may take, bytes: what changes and cached blocks leave of the limit, at
    /// least half of it.
    var hotBytesMax: Int {
        guard let limit = memoryBytesMax else { return .max / 2 }
        return max(limit / 2, limit - cacheBytesMax - changedBytes)
    }

    /// What is in memory, and what on disk only.
    ///
    /// - Complexity: O(segments).
    public var residency: ResidencyStatistics {
        var statistics = ResidencyStatistics()
        for index in 0..<partitionCount {
            let segments = locks[lockIndex(index)].withLock { _ in
                partitions.partition(index).pointee.segments
            }
            for segment in segments { statistics.add(segment) }
        }
        return statistics
    }

    /// Blocks of cold segments in memory, the memory that they take, and how many were read while
    /// clients waited on the loop, which should not happen.
    public var blockCache: (blocks: Int, byteCount: Int, lateReads: UInt64) {
        var sum = (blocks: 0, byteCount: 0, lateReads: UInt64(0))
        for index in 0..<partitionCount {
            let found = locks[lockIndex(index)].withLock { _ in
                partitions.partition(index).pointee.cacheStatistics
            }
            sum.blocks += found.blocks
            sum.byteCount += found.byteCount
            sum.lateReads += found.lateReads
        }
        return sum
    }

    /// Blocks of cold segments that have been read so far, and how many bytes they had.
    public var blockReads: (reads: Int, byteCount: Int) { reader.statistics }
}
