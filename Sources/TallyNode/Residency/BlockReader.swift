import TallyCore
public import TallyEngine
internal import Synchronization

/// What operations wait for: blocks that are read from the disk, each once for all who want it.
public final class BlockReader: Sendable {
    /// Calls back when the last of its blocks is there.
    private final class Ticket: Sendable {
        let missing: Atomic<Int>
        let onDone: @Sendable () -> Void

        init(missing: Int, _ onDone: @escaping @Sendable () -> Void) {
            self.missing = Atomic(missing)
            self.onDone = onDone
        }

        func noteOne() {
            if missing.wrappingSubtract(1, ordering: .acquiringAndReleasing).newValue == 0 {
                onDone()
            }
        }
    }

    private let queue = WorkQueue<NeededBlock>()
    private struct State {
        var waiting: [BlockAddress: [Ticket]] = [:]
        /// Blocks that somebody waits for, each as often as somebody does.
        var awaitedCount = 0
        /// Requests that wait until there are fewer.
        var deferred: [(blocks: [NeededBlock], ticket: Ticket)] = []

        /// - Returns: what is to be read now.
        mutating func add(_ blocks: [NeededBlock], _ ticket: Ticket) -> [NeededBlock] {
            guard awaitedCount == 0 || awaitedCount + blocks.count <= Limits.blocksAwaitedMax else {
                deferred.append((blocks, ticket))
                return []
            }
            awaitedCount += blocks.count
            return blocks.filter { block in
                let isNew = waiting[block.block.address] == nil
                waiting[block.block.address, default: []].append(ticket)
                return isNew
            }
        }

        /// A block is there, or cannot be had.
        ///
        /// - Returns: who waited for it, and what is to be read now.
        mutating func remove(_ address: BlockAddress) -> ([Ticket], [NeededBlock]) {
            let tickets = waiting.removeValue(forKey: address) ?? []
            awaitedCount -= tickets.count
            var new: [NeededBlock] = []
            while let next = deferred.first,
                awaitedCount == 0 || awaitedCount + next.blocks.count <= Limits.blocksAwaitedMax
            {
                deferred.removeFirst()
                new += add(next.blocks, next.ticket)
            }
            return (tickets, new)
        }
    }

    private let state = Locked<State>(State())
    private let threads = Locked<[DedicatedThread]>([])
    private let reads = Atomic<Int>(0)
    private let readBytes = Atomic<Int>(0)

    /// Reads at a time.
    private static var threadCount: Int { 8 }

    /// How many blocks have been read so far, and how many bytes they had.
    public var statistics: (reads: Int, byteCount: Int) {
        (reads.load(ordering: .relaxed), readBytes.load(ordering: .relaxed))
    }

    /// Has blocks read, and calls `onDone` on some thread when all have been given to their partitions.
    ///
    /// - Precondition: There are blocks.
    func request(_ blocks: [NeededBlock], _ onDone: @escaping @Sendable () -> Void) {
        precondition(!blocks.isEmpty, "waiting for nothing")
        let ticket = Ticket(missing: blocks.count, onDone)
        queue.append(state.withLock { $0.add(blocks, ticket) })
    }

    /// Reads one block that is waited for, if there is any.
    ///
    /// - Parameter insert: Gives it to its partition.
    /// - Returns: whether there was one.
    func readNext(
        _ insert: (NeededBlock, Result<BlockBytes, SegmentFileError>) -> Void
    ) -> Bool {
        guard let needed = queue.takeFirst() else { return false }
        read(needed, insert)
        return true
    }

    private func read(
        _ needed: NeededBlock, _ insert: (NeededBlock, Result<BlockBytes, SegmentFileError>) -> Void
    ) {
        noteRead(needed)
        let result = Result { () throws(SegmentFileError) in try needed.block.read() }
        insert(needed, result)
        let (tickets, new) = state.withLock { $0.remove(needed.block.address) }
        queue.append(new)
        for ticket in tickets { ticket.noteOne() }
    }

    /// A block is read, here or by somebody for himself.
    func noteRead(_ needed: NeededBlock) {
        reads.wrappingAdd(1, ordering: .relaxed)
        readBytes.wrappingAdd(needed.block.byteCount, ordering: .relaxed)
    }

    /// Starts threads that read what is waited for.
    func start(
        _ insert: @escaping @Sendable (NeededBlock, Result<BlockBytes, SegmentFileError>) -> Void
    ) {
        threads.withLock { threads in
            precondition(threads.isEmpty, "started twice")
            threads = (0..<Self.threadCount).map { _ in
                DedicatedThread(named: "read") {
                    while let needed = self.queue.waitForFirst() { self.read(needed, insert) }
                }
            }
        }
    }

    /// Ends the threads, after what is waited for has been read.
    func stop() {
        queue.close()
        for thread in threads.withLock({ $0 }) { thread.join() }
    }
}

/// A block that an operation on a partition needs.
public struct NeededBlock: Sendable {
    /// The partition whose block it is.
    public let partition: Int
    /// The block.
    public let block: ColdBlock
}
