/// Blocks of one partition's cold segments that were dug up lately.
///
/// Which block goes is decided by CLOCK (Corbató, 1969): a hand passes over the blocks and takes away
/// the mark of those that were used since it last came by, and the first without a mark. A block that
/// was read for somebody who has not come for it yet stays for a while.
///
/// Not thread-safe: its partition's lock guards it.
public final class BlockCache {
    private struct Entry {
        let address: BlockAddress
        let content: BlockBytes
        var isUsed: Bool
        /// Whether it was used at least once.
        var isFound: Bool
        /// When it was read for somebody, seconds; nil once it has been used.
        var awaitedSince: UInt32?
    }

    private var places: [BlockAddress: Int] = [:]
    private var entries: [Entry] = []
    private var hand = 0
    /// Seconds of some clock.
    private var now: UInt32 = 0

    /// Memory that blocks may take, bytes. What is awaited may exceed it.
    public var byteCountMax = 1 << 20
    /// Memory that blocks take, bytes.
    public private(set) var byteCount = 0
    /// Blocks that were read while an operation was being applied, because nobody had asked for them
    /// before.
    public private(set) var lateReads: UInt64 = 0
    /// Whether a key could not be read since `takeFailure` was last called.
    private(set) var hasFailed = false
    /// Why.
    private var failure: SegmentFileError?
    /// Blocks that were asked for and could not be had, and when that was, seconds.
    private var unreadable: [BlockAddress: (error: SegmentFileError, time: UInt32)] = [:]

    /// How long a block waits for whoever wanted it, seconds.
    private static var awaitedSecondsMax: UInt32 { 60 }
    /// How long a block that could not be read is not tried again, seconds.
    private static var unreadableSeconds: UInt32 { 2 }
    /// How many blocks the hand passes for a new one, at most.
    private static var stepsMax: Int { 64 }
    /// What an entry takes beside its block, about.
    private static var entryBytes: Int { 96 }

    /// An empty cache.
    public init() {}

    /// How many blocks there are.
    var count: Int { entries.count }

    /// Whether a block is there.
    func contains(_ address: BlockAddress) -> Bool { places[address] != nil }

    /// Whether a block is there; if so it stays for a while, for whoever asks.
    func keep(_ address: BlockAddress) -> Bool {
        guard let place = places[address] else { return false }
        entries[place].awaitedSince = now
        return true
    }

    /// A block's bytes, read from the disk if they are not there; good until the next call.
    ///
    /// - Returns: nil if they cannot be had; `failure` then says why.
    func bytes(of block: ColdBlock) -> UnsafeRawBufferPointer? { content(of: block)?.bytes }

    /// The same, good for as long as it is held.
    func content(of block: ColdBlock) -> BlockBytes? {
        if let place = places[block.address] {
            // The use that it was read for is no sign that there will be others.
            entries[place].isUsed = entries[place].isFound
            entries[place].isFound = true
            entries[place].awaitedSince = nil
            return entries[place].content
        }
        lateReads += 1
        do throws(SegmentFileError) {
            let content = try block.read()
            insert(content, block.address, isAwaited: false)
            return content
        } catch {
            failure = error
            hasFailed = true
            return nil
        }
    }

    /// Why a key could not be read, once.
    func takeFailure() -> SegmentFileError? {
        defer {
            failure = nil
            hasFailed = false
        }
        return failure
    }

    /// Notes that a block that somebody waits for cannot be had.
    func insert(failure: SegmentFileError, _ address: BlockAddress) {
        unreadable[address] = (failure, now)
    }

    /// Why a block could not be had lately, nil if nobody has tried.
    func failure(of address: BlockAddress) -> SegmentFileError? { unreadable[address]?.error }

    /// Adds a block, and lets go of others if there is no room.
    ///
    /// - Parameter isAwaited: Whether somebody will come for it.
    /// - Complexity: O(1) amortised.
    func insert(_ content: BlockBytes, _ address: BlockAddress, isAwaited: Bool) {
        guard places[address] == nil else { return }
        makeRoom(content.allocatedBytes + Self.entryBytes)
        places[address] = entries.count
        entries.append(
            Entry(
                address: address, content: content, isUsed: false, isFound: !isAwaited,
                awaitedSince: isAwaited ? now : nil))
        byteCount += content.allocatedBytes + Self.entryBytes
    }

    /// - Parameter steps: How many blocks the hand passes at most: many may be awaited.
    private func makeRoom(_ wanted: Int, steps: Int = stepsMax) {
        var steps = steps
        while byteCount + wanted > byteCountMax, steps > 0, !entries.isEmpty {
            steps -= 1
            if hand >= entries.count { hand = 0 }
            if let since = entries[hand].awaitedSince, now &- since < Self.awaitedSecondsMax {
                hand += 1
            } else if entries[hand].isUsed {
                entries[hand].isUsed = false
                hand += 1
            } else {
                // The newest one takes its place, and is passed over.
                remove(hand)
                hand += 1
            }
        }
    }

    private func remove(_ place: Int) {
        let entry = entries[place]
        byteCount -= entry.content.allocatedBytes + Self.entryBytes
        places[entry.address] = nil
        let last = entries.removeLast()
        if place < entries.count {
            entries[place] = last
            places[last.address] = place
        }
    }

    /// Time passes: what nobody has come for may go, and what could not be read is tried again.
    ///
    /// - Parameter seconds: A clock's.
    func advance(to seconds: UInt32) {
        now = seconds
        unreadable = unreadable.filter { now &- $0.value.time < Self.unreadableSeconds }
        makeRoom(0, steps: 2 * entries.count)
    }

    /// Forgets everything.
    func removeAll() {
        places.removeAll()
        entries.removeAll()
        byteCount = 0
        hand = 0
    }
}
