/// A made-up day of a social network, with the shape of real ones.
///
/// The figures were measured on public data: posts per hour of day and the layout of post ids on
/// 1.3 million Weibo posts of 2010 to 2017, the spread of counts on 1.2 million ordinary posts of
/// 2015, the share of the hottest keys and the length of attention on streams of repost and
/// hot-topic events. Deterministic for a seed.
struct TrafficDay {
    /// One update.
    struct Event {
        let key: String
        let delta: Int64
    }

    /// Posts by hour of day, relative.
    private static let hours: [Double] = [
        697, 463, 328, 335, 261, 200, 209, 342, 490, 578, 600, 602, 603, 556, 534, 520, 451, 512,
        458, 467, 483, 561, 654, 795,
    ]
    /// Upper ends of classes of counts and the share of posts below each: most posts are never
    /// reposted, one in ten thousand is a thousand times.
    private static let reposts: [(share: Double, count: Int)] = [
        (0.821, 0), (0.887, 1), (0.92, 2), (0.97, 15), (0.99, 55), (0.999, 381), (0.9999, 3000),
        (1, 20_000),
    ]
    private static let comments: [(share: Double, count: Int)] = [
        (0.793, 0), (0.865, 1), (0.91, 2), (0.98, 9), (0.99, 16), (0.999, 97), (0.9999, 900),
        (1, 7000),
    ]
    private static let likes: [(share: Double, count: Int)] = [
        (0.749, 0), (0.84, 1), (0.895, 3), (0.98, 17), (0.99, 26), (0.999, 218), (0.9999, 2500),
        (1, 12_000),
    ]
    private static let idEpochSeconds: UInt64 = 515_483_463
    private static let startSeconds: UInt64 = 1_370_016_000
    private static let secondsPerDay = 86_400

    private var random: SplitMix
    private var events: [(second: Int32, key: Key, delta: Int32)] = []

    /// A key before it is text.
    private enum Key {
        case post(UInt64, Kind)
        case topic(Int)
        case account(Int)

        enum Kind: String {
            case repost, comment, like
        }

        var text: String {
            switch self {
            case .post(let id, let kind): "\(kind.rawValue):\(id)"
            case .topic(let number): "topic:\(number):heat"
            case .account(let number): "followers:\(number)"
            }
        }
    }

    private init(seed: UInt64) {
        random = SplitMix(state: seed)
    }

    /// All updates of a day with so many posts, in order of time.
    static func events(posts: Int, seed: UInt64) -> [Event] {
        var day = TrafficDay(seed: seed)
        day.addPosts(posts)
        day.addTopics(updates: posts / 4)
        day.addFollowers(updates: posts / 8)
        day.events.sort { $0.second < $1.second }
        return day.events.map { Event(key: $0.key.text, delta: Int64($0.delta)) }
    }

    private mutating func addPosts(_ count: Int) {
        for number in 0..<count {
            let second = secondOfDay()
            let id =
                (Self.startSeconds + UInt64(second) - Self.idEpochSeconds) << 22
                | UInt64(6 + number % 4) << 18 | UInt64(number & 0x3ffff)
            for (kind, classes) in [
                (Key.Kind.repost, Self.reposts), (.comment, Self.comments), (.like, Self.likes),
            ] {
                addAttention(.post(id, kind), from: second, count: draw(classes))
            }
        }
    }

    /// Attention comes soon and fades: half within minutes, the rest over hours; some of it is
    /// taken back.
    private mutating func addAttention(_ key: Key, from second: Int, count: Int) {
        for _ in 0..<count {
            let minutes = 5 / max(0.003, random.unit()) - 5
            let at = second + Int(minutes * 60)
            guard at < Self.secondsPerDay else { continue }
            events.append((Int32(at), key, 1))
            if random.unit() < 0.02 { events.append((Int32(at), key, -1)) }
        }
    }

    /// Fifty topics lead at a time; their heat moves by uneven steps, downwards too.
    private mutating func addTopics(updates: Int) {
        for _ in 0..<updates {
            let second = secondOfDay()
            let rank = min(49, Int(50 * random.unit() * random.unit()))
            let topic = second / 1800 * 10 + rank
            let size = Int32(min(2_000_000, 20 / max(0.00001, random.unit())))
            events.append((Int32(second), .topic(topic), random.unit() < 0.41 ? size : -size / 3))
        }
    }

    /// Few accounts get most new followers: popularity falls with rank.
    private mutating func addFollowers(updates: Int) {
        for _ in 0..<updates {
            let rank = Int(1 / max(0.00002, random.unit()))
            events.append((Int32(secondOfDay()), .account(rank), 1))
        }
    }

    private mutating func secondOfDay() -> Int {
        var left = random.unit() * Self.hours.reduce(0, +)
        for (hour, weight) in Self.hours.enumerated() {
            if left < weight { return hour * 3600 + Int(left / weight * 3600) }
            left -= weight
        }
        return Self.secondsPerDay - 1
    }

    private mutating func draw(_ classes: [(share: Double, count: Int)]) -> Int {
        let share = random.unit()
        var low = 0
        for (upper, count) in classes {
            if share < upper {
                // Within a class small counts are likelier.
                let part = random.unit() * random.unit()
                return count == 0 ? 0 : low + 1 + Int(Double(count - low - 1) * part)
            }
            low = count
        }
        return low
    }
}

/// Steele, Lea and Flood's SplitMix64.
struct SplitMix {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var word = state
        word = (word ^ word >> 30) &* 0xbf58_476d_1ce4_e5b9
        word = (word ^ word >> 27) &* 0x94d0_49bb_1331_11eb
        return word ^ word >> 31
    }

    /// 0 ..< 1.
    mutating func unit() -> Double { Double(next() >> 11) / Double(1 << 53) }
}
