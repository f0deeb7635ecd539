public import TallyCore

/// What one table has set aside to be merged, of whatever kind its keys are.
///
/// Nothing here changes, so it may run on any thread while the table goes on serving.
public struct TableMerge: Sendable {
    private enum Input: Sendable {
        case integer(IntegerMerge)
        case string(StringMerge)
    }

    /// The family's number, 0 for plain keys.
    public let family: UInt32
    /// Of the table when it was frozen.
    fileprivate let generation: UInt64
    private let input: Input

    fileprivate init(_ merge: IntegerMerge, family: UInt32, generation: UInt64) {
        self.family = family
        self.generation = generation
        input = .integer(merge)
    }

    fileprivate init(_ merge: StringMerge, family: UInt32, generation: UInt64) {
        self.family = family
        self.generation = generation
        input = .string(merge)
    }

    /// The segments that there are, in order of their keys.
    public var segments: [Segment] {
        switch input {
        case .integer(let merge): merge.segments
        case .string(let merge): merge.segments
        }
    }

    /// How many memtables are to be merged; with none, `segments` are all there is.
    public var layerCount: Int {
        switch input {
        case .integer(let merge): merge.layerCount
        case .string(let merge): merge.layerCount
        }
    }

    /// Makes the segments that hold everything; some of them may be those that there are.
    ///
    /// - Parameters:
    ///   - place: Whose segments they become.
    ///   - sequence: The commit group up to which they are.
    ///   - settle: Called with each new segment, in order; what it returns takes its place.
    /// - Throws: If a cold segment cannot be read.
    /// - Complexity: O(changes × log changes + records of the segments that have any).
    public func run(
        place: PartitionPlace, sequence: UInt64, identity: LogIdentity,
        settle: @escaping (Segment) -> Segment = { $0 }
    ) throws(SegmentFileError) -> [Segment] {
        switch input {
        case .integer(let merge):
            try merge.run(
                place: place, family: family, sequence: sequence, identity: identity,
                settle: settle)
        case .string(let merge):
            try merge.run(
                place: place, family: family, sequence: sequence, identity: identity,
                settle: settle)
        }
    }
}

extension IntegerTable {
    mutating func freeze(family: UInt32) -> TableMerge {
        freeze()
        return TableMerge(mergeInput, family: family, generation: generation)
    }

    mutating func adopt(_ segments: [Segment], of merge: TableMerge) {
        guard merge.generation == generation else { return }
        adopt(segments.compactMap { $0 as? IntegerSegment }, merged: merge.layerCount)
    }
}

extension StringTable {
    mutating func freeze(family: UInt32) -> TableMerge {
        freeze()
        return TableMerge(mergeInput, family: family, generation: generation)
    }

    mutating func adopt(_ segments: [Segment], of merge: TableMerge) {
        guard merge.generation == generation else { return }
        adopt(segments.compactMap { $0 as? StringSegment }, merged: merge.layerCount)
    }
}
