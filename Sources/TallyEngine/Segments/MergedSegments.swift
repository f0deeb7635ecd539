/// The segments that a merge has made so far, and what is known of the one in the making.
struct MergedSegments<Kind: Segment> {
    private(set) var segments: [Kind] = []
    private let settle: (Segment) -> Segment
    /// Whether a damaged block is in the segment in the making.
    private var hasDamage = false
    /// Whether all that the segment in the making is made of was cold.
    private var isOfColdOrigin = false

    /// - Parameter settle: Called with each new segment; what it returns takes its place.
    init(settle: @escaping (Segment) -> Segment) { self.settle = settle }

    /// Takes over a segment as it is.
    mutating func take(_ segment: Kind) {
        // An imported one has no file of its own yet.
        segments.append(segment.file == nil ? settle(segment) as? Kind ?? segment : segment)
    }

    /// A damaged block follows.
    mutating func noteDamage() { hasDamage = true }

    /// Records of a segment follow.
    ///
    /// - Parameter isAtBoundary: Whether no segment is in the making.
    mutating func note(_ segment: Kind, isAtBoundary: Bool) {
        isOfColdOrigin = segment.isCold && (isAtBoundary || isOfColdOrigin)
    }

    /// The segment in the making is made.
    mutating func add(_ segment: Kind) {
        segment.isOfColdOrigin = isOfColdOrigin
        segment.hasDamage = hasDamage
        hasDamage = false
        if let settled = settle(segment) as? Kind { segments.append(settled) }
    }
}
