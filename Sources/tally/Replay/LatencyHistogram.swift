/// Durations counted in classes of 1/16 of their power of two: percentiles within 6 %, in 8 KiB.
struct LatencyHistogram: Sendable {
    private var counts = [UInt64](repeating: 0, count: 64 * 16)
    private(set) var total: UInt64 = 0
    private(set) var longestNanoseconds: UInt64 = 0

    mutating func record(nanoseconds: UInt64, times: UInt64) {
        counts[Self.index(nanoseconds)] += times
        total += times
        longestNanoseconds = max(longestNanoseconds, nanoseconds)
    }

    mutating func add(_ other: LatencyHistogram) {
        for index in counts.indices { counts[index] += other.counts[index] }
        total += other.total
        longestNanoseconds = max(longestNanoseconds, other.longestNanoseconds)
    }

    /// The duration that the share `share` of all does not exceed, nanoseconds.
    func percentile(_ share: Double) -> UInt64 {
        var left = UInt64((Double(total) * share).rounded(.up))
        for (index, count) in counts.enumerated() {
            if count >= left { return min(Self.upperEnd(index), longestNanoseconds) }
            left -= count
        }
        return longestNanoseconds
    }

    private static func index(_ value: UInt64) -> Int {
        guard value >= 16 else { return Int(value) }
        let exponent = 63 - value.leadingZeroBitCount
        return (exponent - 3) * 16 + Int(value >> UInt64(exponent - 4) & 15)
    }

    private static func upperEnd(_ index: Int) -> UInt64 {
        guard index >= 16 else { return UInt64(index) }
        let exponent = index / 16 + 3
        return UInt64(16 + index % 16 + 1) << UInt64(exponent - 4) - 1
    }
}
