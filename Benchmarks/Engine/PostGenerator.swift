import Glibc

/// Posts of a social network as they were measured: ids in bursts, counts mostly zero.
///
/// An id is a second, one of four data centres, and a number that each centre counts on and on:
/// second << 22 | centre << 18 | number. Half of the numbers are posts, and 26 % of those have any
/// repost or comment; only they are generated. How many reposts and comments those have follows
/// the measured quantiles.
struct PostGenerator {
    /// A post with its counts.
    struct Post {
        let id: UInt64
        let reposts: UInt64
        let comments: UInt64
    }

    private var state: UInt64
    private var second: UInt64 = 841_486_137
    private var numbers: [UInt64] = [0, 70_000, 140_000, 210_000]
    private var waiting: [UInt64] = []

    /// Numbers a second of each centre, on average over the day.
    private static let rates = [400.0, 402, 901, 922]
    /// The day's course from midnight on, by hour.
    private static let hours = [
        697.0, 463, 328, 335, 261, 200, 209, 342, 490, 578, 600, 602, 603, 556, 534, 520, 451, 512,
        458, 467, 483, 561, 654, 795,
    ]
    private static let storedShare = 0.5 * 0.263
    /// Of posts that have any: those with reposts only, with comments only.
    private static let (repostsOnly, commentsOnly) = (0.214, 0.320)
    /// Which share of counts that are not zero is at least so large.
    private static let reposts = [
        (1.0, 1.0), (3, 0.56), (56, 0.056), (382, 0.0056), (41_850, 5e-6),
    ]
    private static let comments = [(1.0, 1.0), (3, 0.48), (17, 0.048), (98, 0.0048), (7467, 4e-6)]

    init(seed: UInt64) { state = seed }

    mutating func next() -> Post {
        while waiting.isEmpty { generateSecond() }
        let id = waiting.removeLast()
        let kind = uniform()
        let size = uniform()
        let hasReposts = kind < Self.repostsOnly || kind >= Self.repostsOnly + Self.commentsOnly
        let hasComments = kind >= Self.repostsOnly
        // Posts with many of the one tend to have many of the other.
        let otherSize = uniform() < 0.6 ? size : uniform()
        return Post(
            id: id, reposts: hasReposts ? Self.quantile(size, Self.reposts) : 0,
            comments: hasComments ? Self.quantile(otherSize, Self.comments) : 0)
    }

    /// The ids of one second, in descending order.
    private mutating func generateSecond() {
        let hour = Int(second / 3600 % 24)
        let mean = Self.hours.reduce(0, +) / 24
        var ids: [UInt64] = []
        for centre in 0..<4 {
            let expected = Self.rates[centre] * Self.hours[hour] / mean
            // A sum of uniform numbers is near enough to the Poisson distribution.
            var deviation = -6.0
            for _ in 0..<12 { deviation += uniform() }
            let count = max(0, Int(expected + deviation * expected.squareRoot()))
            for _ in 0..<count {
                numbers[centre] = (numbers[centre] + 1) & 0x3ffff
                if uniform() < Self.storedShare {
                    ids.append(second << 22 | UInt64(centre + 6) << 18 | numbers[centre])
                }
            }
        }
        second += 1
        waiting = ids.sorted(by: >)
    }

    /// The count that a share of `share` of all counts is at least.
    private static func quantile(_ share: Double, _ points: [(Double, Double)]) -> UInt64 {
        var index = 1
        while index < points.count - 1, points[index].1 > share { index += 1 }
        let (low, lowShare) = points[index - 1]
        let (high, highShare) = points[index]
        // Straight between two points on logarithmic scales, both.
        let place = logarithm(lowShare / share) / logarithm(lowShare / highShare)
        return UInt64(power(low, high, min(place, 1.5)))
    }

    private mutating func uniform() -> Double {
        state &+= 0x9e37_79b9_7f4a_7c15
        return Double(scramble(state) >> 11 + 1) / Double(1 << 53)
    }
}

private func logarithm(_ value: Double) -> Double { log(value) }

/// The point between `low` and `high` that is `place` of the way from the one to the other on a
/// logarithmic scale.
private func power(_ low: Double, _ high: Double, _ place: Double) -> Double {
    low * pow(high / low, place)
}

/// Writes generated posts to a file of binary records.
func writePosts(_ count: Int, to path: String) {
    guard let file = fopen(path, "w") else { fatalError("cannot open \(path)") }
    var generator = PostGenerator(seed: 1)
    var bytes: [UInt8] = []
    for index in 0..<count {
        let post = generator.next()
        withUnsafeBytes(of: post.id.littleEndian) { bytes += $0 }
        withUnsafeBytes(of: UInt32(clamping: post.reposts).littleEndian) { bytes += $0 }
        withUnsafeBytes(of: UInt32(clamping: post.comments).littleEndian) { bytes += $0 }
        guard bytes.count >= 1 << 20 || index == count - 1 else { continue }
        guard fwrite(bytes, 1, bytes.count, file) == bytes.count else {
            fatalError("cannot write \(path)")
        }
        bytes.removeAll(keepingCapacity: true)
    }
    guard fclose(file) == 0 else { fatalError("cannot write \(path)") }
}
