/// How much each segment of a table is asked for: a count of uses that fades with time.
struct SegmentDemand: ~Copyable {
    /// Uses since the last survey.
    private var uses = UnsafeMutablePointer<UInt32>.allocate(capacity: 1)
    private var scores: [Double] = []

    deinit { uses.deallocate() }

    /// Segment `index` was asked for a key.
    @inline(__always)
    borrowing func note(_ index: Int) { uses[index] &+= 1 }

    /// Calls `body` with every segment and how much it is asked for, of late and before.
    ///
    /// - Parameters:
    ///   - segments: Those that were given to `follow`, or their twins.
    ///   - decay: What remains of the demand of before.
    mutating func survey(
        _ segments: [Segment], decay: Double, _ body: (Segment, _ demand: Double) -> Void
    ) {
        for (index, segment) in segments.enumerated() {
            scores[index] = scores[index] * decay + Double(uses[index])
            uses[index] = 0
            body(segment, scores[index])
        }
    }

    /// Goes on with other segments, each as much in demand as the one whose keys it begins among.
    ///
    /// - Returns: `segments`, with twins of today in the places of those that have become hot or cold
    ///   since whoever made the list looked.
    mutating func follow<Kind: Segment>(_ before: [Kind], _ segments: [Kind]) -> [Kind] {
        var current: [UInt64: Int] = [:]
        for (index, segment) in before.enumerated() {
            if let file = segment.file { current[file.number] = index }
        }
        var inherited: [Double] = []
        var twins: [Kind] = []
        var next = 0
        for segment in segments {
            while next + 1 < before.count, !segment.begins(before: before[next + 1]) { next += 1 }
            let twin = segment.file.flatMap { current[$0.number] }
            twins.append(twin.map { before[$0] } ?? segment)
            let source = twin ?? next
            inherited.append(
                source < before.count ? scores[source] + Double(uses[source]) : 0)
        }
        scores = inherited
        uses.deallocate()
        uses = .allocate(capacity: max(1, segments.count))
        uses.initialize(repeating: 0, count: segments.count)
        return twins
    }
}
