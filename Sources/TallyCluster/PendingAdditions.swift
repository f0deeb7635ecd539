import TallyCore

/// What additions that are not in the log yet will add, by number, and what else is about to change.
struct PendingAdditions {
    /// A plain key, or a record.
    private struct Key: Hashable {
        let partition: UInt16
        let family: UInt32
        /// Two keys of a partition with one hash are taken for one: that shows in an early answer, and nowhere else.
        let hash: UInt64

        init(_ operation: UnsafePointer<Operation>) {
            partition = operation.pointee.partition
            family = operation.pointee.family
            hash = operation.pointee.hash
        }
    }

    /// A plain key's number, or one column of a record's.
    private struct Number: Hashable {
        let key: Key
        let column: UInt32

        init(_ operation: UnsafePointer<Operation>) {
            key = Key(operation)
            column = operation.pointee.column
        }
    }

    private var sums: [Number: Int64] = [:]
    /// Keys that are not only added to, so that nobody can tell what comes of them.
    private var others: Set<Key> = []
    /// Whether that may be all.
    private(set) var isUnclear = false

    /// Notes a change that is no addition that might be answered early.
    mutating func noteOther(_ operation: UnsafePointer<Operation>) {
        if operation.pointee.namesKey {
            others.insert(Key(operation))
        } else if operation.pointee.changesAllKeys {
            isUnclear = true
        }
    }

    /// Notes that it is not known what there is.
    mutating func noteUnclear() { isUnclear = true }

    /// Whether what comes of an operation's number follows from the sums.
    func isClear(_ operation: UnsafePointer<Operation>) -> Bool {
        !isUnclear && (others.isEmpty || !others.contains(Key(operation)))
    }

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

    mutating func removeAll() {
        if !sums.isEmpty { sums.removeAll() }
        if !others.isEmpty { others.removeAll() }
        isUnclear = false
    }
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
