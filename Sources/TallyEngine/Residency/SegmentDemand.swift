/// How much each segment of a table is asked for: a count of uses that fades with time.
struct SegmentDemand {
    private var scores: [Double] = []

    /// Adds the uses of segment `index` since the last survey.
    ///
    /// - Parameter decay: What remains of those before.
    mutating func advance(_ index: Int, _ uses: UInt32, decay: Double) -> Double {
        scores[index] = scores[index] * decay + Double(uses)
        return scores[index]
    }

    /// Goes on with other segments, each as much in demand as the one whose keys it begins among.
    ///
    /// - Returns: `segments`, with twins of today in the places of those that have become hot or cold
    ///   since whoever made the list looked.
    mutating func follow<Kind: Segment>(
        _ before: [Kind], _ uses: [UInt32], _ segments: [Kind]
    ) -> [Kind] {
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
        return twins
    }
}
