/// Which server is tried next: all that are known, in random order, in rounds.
struct ServerPool {
    private let given: [NATSServerAddress]
    private var discovered: [NATSServerAddress] = []
    /// What is left of this round, the next one last.
    private var round: [NATSServerAddress] = []

    init(_ given: [NATSServerAddress]) {
        self.given = given.uniqued
    }

    /// All servers that are known.
    var all: [NATSServerAddress] { (given + discovered).uniqued }

    /// Replaces the servers that are known from others.
    ///
    /// - Parameter addresses: What a server tells; those that cannot be read are left out.
    /// - Parameter requiresTLS: Whether TLS is demanded of them.
    mutating func discover(_ addresses: [String], requiresTLS: Bool) {
        discovered =
            addresses.compactMap { text in
                guard var address = NATSServerAddress(text) else { return nil }
                address.requiresTLS = requiresTLS
                return address
            }.uniqued
    }

    /// Starts a new round, in which `last` comes last.
    mutating func startRound(
        last: NATSServerAddress? = nil, using random: inout some RandomNumberGenerator
    ) {
        round = all.shuffled(using: &random)
        guard let last else { return }
        // The same server may be known by several addresses; only this one is known to be it.
        round.removeAll { $0.isSamePlace(as: last) }
        round.insert(last, at: 0)
    }

    /// The next server of the round, or nil when all have been tried.
    mutating func next() -> NATSServerAddress? { round.popLast() }
}

extension NATSServerAddress {
    fileprivate func isSamePlace(as other: NATSServerAddress) -> Bool {
        host == other.host && port == other.port
    }
}

extension [NATSServerAddress] {
    /// The same without repetitions of a place.
    fileprivate var uniqued: [NATSServerAddress] {
        var places: Set<String> = []
        return filter { places.insert($0.description).inserted }
    }
}

/// Growing waits, shortened at random so that clients do not come all at once.
struct Backoff {
    private let shortest: Duration
    private let longest: Duration
    private var doublings = 0

    init(min: Duration, max: Duration) {
        shortest = min
        longest = max
    }

    /// The next wait: twice as long as the one before, up to the longest, less up to a half.
    mutating func next(using random: inout some RandomNumberGenerator) -> Duration {
        let full = min(longest, shortest * (1 << min(doublings, 20)))
        doublings += 1
        return full * Double.random(in: 0.5...1, using: &random)
    }

    /// Starts again with the shortest wait.
    mutating func reset() { doublings = 0 }
}
