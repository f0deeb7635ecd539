public import TallyCore

/// What of a partition is in memory, and what on disk only.
extension Partition {
    /// What an operation needs before it can be applied without waiting for the disk.
    public enum Need {
        /// A block must be read, and given to `insert`.
        case block(ColdBlock)
        /// The block that it needs could not be read lately.
        case unreadable(SegmentFileError)
    }

    /// What `operation` needs; nil if that is all there.
    ///
    /// - Complexity: O(log segments) expected where segments are cold, else O(1).
    @inline(__always)
    public func need(of operation: UnsafePointer<Operation>) -> Need? {
        coldCount > 0 ? needWhereCold(operation) : nil
    }

    /// Takes a block that was read for somebody, or word of why it could not be.
    public func insert(
        _ block: ColdBlock, _ result: Result<BlockBytes, SegmentFileError>
    ) {
        switch result {
        case .success(let bytes): cache.insert(bytes, block.address, isAwaited: true)
        case .failure(.missing) where !segments.contains { $0.file?.number == block.file.number }:
            // A merge has replaced it: whoever waits looks again where its key is now.
            break
        case .failure(let error): cache.insert(failure: error, block.address)
        }
    }

    /// A segment as whoever decides what is in memory sees it.
    public struct Resident: Sendable {
        /// The segment.
        public let segment: Segment
        /// How often it is asked for a key: a count that fades with time.
        public let demand: Double
    }

    /// All segments.
    public var segments: [Segment] {
        plain.segments + families.segments + tokens.table.segments
    }

    /// Lets time pass, and looks at all segments.
    ///
    /// - Complexity: O(segments).
    ///
    /// - Parameters:
    ///   - seconds: A clock's, for what waits in the cache.
    ///   - decay: What remains of the demand of before.
    public mutating func survey(seconds: UInt32, decay: Double) -> [Resident] {
        cache.advance(to: seconds)
        var residents: [Resident] = []
        plain.survey(decay: decay) { residents.append(Resident(segment: $0, demand: $1)) }
        families.survey(decay: decay) { residents.append(Resident(segment: $0, demand: $1)) }
        tokens.survey(decay: decay) { residents.append(Resident(segment: $0, demand: $1)) }
        return residents
    }

    /// Puts a segment's twin, hot for cold or cold for hot, in its place.
    ///
    /// - Returns: false if the segment is not there any more; nothing has then changed.
    /// - Complexity: O(the table's segments).
    public mutating func replace(_ segment: Segment, with twin: Segment) -> Bool {
        if segment.header.family == Schema.tokens {
            return tokens.replace(segment, with: twin)
        }
        return Schema.isPlain(segment.header.family)
            ? plain.replace(segment, with: twin) : families.replace(segment, with: twin)
    }

    /// Memory that blocks of cold segments may take, bytes.
    public func setCacheBytesMax(_ byteCount: Int) {
        cache.byteCountMax = byteCount
    }

    /// Blocks of cold segments in memory, the memory they take, and how many were read while an
    /// operation was being applied.
    public var cacheStatistics: (blocks: Int, byteCount: Int, lateReads: UInt64) {
        (cache.count, cache.byteCount, cache.lateReads)
    }
}
