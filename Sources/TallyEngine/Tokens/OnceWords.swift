public import TallyCore

/// The outcomes of a request's operations as words, to be remembered and told again.
///
///     number of words << 16 | number of operations │ for each operation: status | present << 8, value,
///     and what it left in rows: a record's values, or the difference that it made
public enum OnceWords {
    /// How many words there are, as the first says.
    static func wordCount(_ first: Int64) -> Int { Int(truncatingIfNeeded: first >> 16) }

    /// How many words what an operation leaves in rows takes.
    @inlinable @inline(__always)
    static func extraCount(_ operation: Operation) -> Int {
        switch operation.kind {
        case .readRecord: Int(operation.count)
        case .extendedAdd: 1
        default: 0
        }
    }

    /// How many words the outcomes of these operations take.
    @inlinable @inline(__always)
    public static func wordCount(
        _ operations: UnsafePointer<Operation>, _ range: Range<Int>
    ) -> Int {
        var count = 1
        for index in range { count &+= 2 &+ extraCount(operations[index]) }
        return count
    }

    /// Writes the outcomes of operations to `words`.
    ///
    /// - Returns: how many words that were.
    public static func encode(
        _ operations: UnsafePointer<Operation>, _ outcomes: UnsafePointer<Outcome>,
        _ range: Range<Int>, rows: UnsafePointer<Int64>, to words: UnsafeMutablePointer<Int64>
    ) -> Int {
        var next = words + 1
        for index in range {
            next[0] = state(outcomes[index])
            next[1] = outcomes[index].value
            next += 2
            let extraCount = extraCount(operations[index])
            guard extraCount > 0 else { continue }
            next.update(from: rows + extraStart(operations[index]), count: extraCount)
            next += extraCount
        }
        let count = next - words
        words[0] = Int64(count &<< 16 | range.count)
        return count
    }

    /// The words of a single operation that leaves nothing in rows, and how many they are.
    typealias Single = (Int64, Int64, Int64)
    static var singleCount: Int { 3 }

    /// The words of such an operation's outcome.
    @inline(__always)
    static func encode(_ outcome: Outcome) -> Single {
        (Int64(singleCount &<< 16 | 1), state(outcome), outcome.value)
    }

    @inline(__always)
    private static func state(_ outcome: Outcome) -> Int64 {
        Int64(outcome.status.rawValue) | (outcome.wasPresent ? 1 << 8 : 0)
    }

    /// Gives operations the outcomes that `words` say they had.
    ///
    /// - Returns: false if they were not the outcomes of such operations.
    public static func decode(
        _ words: UnsafePointer<Int64>, count: Int, _ operations: UnsafePointer<Operation>,
        _ outcomes: UnsafeMutablePointer<Outcome>, _ range: Range<Int>,
        rows: UnsafeMutablePointer<Int64>
    ) -> Bool {
        guard count == wordCount(operations, range), words[0] == Int64(count << 16 | range.count)
        else { return false }
        var next = 1
        for index in range {
            guard let status = Outcome.Status(rawValue: UInt8(truncatingIfNeeded: words[next]))
            else { return false }
            outcomes[index] = Outcome(
                status, wasPresent: words[next] >> 8 & 1 == 1, value: words[next + 1])
            next += 2
            let extra = rows + extraStart(operations[index])
            for word in 0..<extraCount(operations[index]) {
                extra[word] = words[next]
                next += 1
            }
        }
        return true
    }

    @inline(__always)
    private static func extraStart(_ operation: Operation) -> Int {
        switch operation.kind {
        case .readRecord: Int(operation.operand)
        case .extendedAdd: Int(operation.operand) + ExtendedAdd.differenceWord
        default: 0
        }
    }
}
