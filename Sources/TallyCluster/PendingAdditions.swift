import TallyCore

/// What additions that are not in the log yet will add, by number.
struct PendingAdditions {
    /// A plain key's number, or one column of a record's.
    private struct Number: Hashable {
        let family: UInt32
        let column: UInt32
        /// Two keys of one hash are taken for one: that shows in an early answer, and nowhere else.
        let hash: UInt64

        init(_ operation: UnsafePointer<Operation>) {
            family = operation.pointee.family
            column = operation.pointee.column
            hash = operation.pointee.hash
        }
    }

    private var sums: [Number: Int64] = [:]

    /// Notes an addition; a sum beyond the 64-bit range stays at its end.
    mutating func add(_ operation: UnsafePointer<Operation>) {
        let (product, isTooLarge) = operation.pointee.operand.multipliedReportingOverflow(
            by: Int64(operation.pointee.count))
        let end = operation.pointee.operand < 0 ? Int64.min : .max
        let delta = isTooLarge ? end : product
        let sum = sums[Number(operation), default: 0]
        let (total, overflow) = sum.addingReportingOverflow(delta)
        sums[Number(operation)] = overflow ? end : total
    }

    /// What is on its way to an operation's number; 0 if nothing is.
    func sum(_ operation: UnsafePointer<Operation>) -> Int64 {
        sums.isEmpty ? 0 : sums[Number(operation)] ?? 0
    }

    mutating func removeAll() { sums.removeAll(keepingCapacity: true) }
}

/// An addition that may be answered before it is in the log.
public struct EarlyCandidate: Sendable {
    /// Which of the batch's operations it is.
    public let index: Int
    /// Between which numbers its sum stays.
    public let range: ClosedRange<Int64>

    /// A candidate in all its parts.
    public init(index: Int, range: ClosedRange<Int64>) {
        self.index = index
        self.range = range
    }
}
