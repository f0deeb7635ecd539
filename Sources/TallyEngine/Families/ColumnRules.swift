import TallyCore

/// What applying an operation needs to know of a column.
struct ColumnRules {
    let number: UInt32
    let coding: ColumnCoding
    let min: Int64
    let max: Int64
    let isSaturating: Bool

    init(_ column: Column) {
        number = column.number
        coding = ColumnCoding(column)
        min = column.min
        max = column.max
        isSaturating = column.bound == .saturate
    }

    /// Whether a client may set the column to `value`.
    @inline(__always)
    func accepts(_ value: Int64) -> Bool { value >= min && value <= max }

    /// Adds `delta` to `value`, `count` times over, each judged by itself.
    ///
    /// - Returns: the sum, and how many additions took effect; those that a bound cut short did.
    /// - Complexity: O(1).
    @inline(__always)
    func add(_ delta: Int64, to value: Int64, count: UInt32) -> (sum: Int64, accepted: UInt32) {
        if count == 1 {
            let (sum, overflow) = value.addingReportingOverflow(delta)
            if !overflow, accepts(sum) { return (sum, 1) }
        }
        return addRun(delta, value, count)
    }

    /// What becomes of the additions of `operation` to a coded value.
    @inline(__always)
    func outcome(
        ofAdding operation: UnsafePointer<Operation>, toCoded coded: UInt64
    ) -> Outcome {
        let (sum, accepted) = add(
            operation.pointee.operand, to: coding.decode(coded), count: operation.pointee.count)
        guard accepted > 0 else { return Outcome(refused: .outOfBounds) }
        return Outcome(.applied, wasPresent: coded != 0, value: sum, acceptedCount: accepted)
    }

    @inline(never)
    private func addRun(
        _ delta: Int64, _ value: Int64, _ count: UInt32
    ) -> (sum: Int64, accepted: UInt32) {
        guard delta != 0 else { return (value, count) }
        // Bounds only ever widen, so the value lies between them.
        let limit = delta > 0 ? max : min
        let room = UInt64(bitPattern: delta > 0 ? limit &- value : value &- limit)
        let accepted = UInt32(Swift.min(UInt64(count), room / delta.magnitude))
        if isSaturating, accepted < count { return (limit, count) }
        return (value &+ delta &* Int64(accepted), accepted)
    }

    /// Adds `delta` to `value`, `count` times over, each judged by itself: sums beyond 64 bits do not
    /// take effect.
    ///
    /// - Complexity: O(1).
    @inline(__always)
    static func addWithin64Bits(
        _ delta: Int64, to value: Int64, count: UInt32
    ) -> (sum: Int64, accepted: UInt32) {
        if count == 1 {
            let (sum, overflow) = value.addingReportingOverflow(delta)
            return overflow ? (value, 0) : (sum, 1)
        }
        return plain.addRun(delta, value, count)
    }

    private static let plain = ColumnRules(Column(number: 0, name: "", min: .min))
}
