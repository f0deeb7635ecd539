/// Which nodes are to hold which logs: the one map that nodes publish, and that clients' maps follow.
///
/// It is a wish and never a fence: whoever believes in another one only follows the logs.
public struct Assignment: Codable, Equatable, Sendable {
    /// The nodes of each log, the preferred primary first.
    public var holders: [[NodeIdentity]]
    /// What fails together, by the nodes' digits: known, too, of nodes that are silent.
    public var zones: [String: String]

    /// An assignment in both its parts.
    public init(holders: [[NodeIdentity]], zones: [String: String]) {
        self.holders = holders
        self.zones = zones
    }

    /// The nodes of a log; none if it has no such log.
    public func holders(ofLog number: Int) -> [NodeIdentity] {
        holders.indices.contains(number) ? holders[number] : []
    }

    /// A node that may hold logs.
    public struct Candidate: Equatable, Sendable {
        /// Who it is.
        public var node: NodeIdentity
        /// What fails together with it; empty if nobody has said.
        public var zone: String

        /// A candidate in both its parts.
        public init(node: NodeIdentity, zone: String) {
            self.node = node
            self.zone = zone
        }
    }

    /// Gives every log so many holders, all nodes about as many logs, and moves few.
    ///
    /// Every log ranks the nodes by a hash of its own (rendezvous hashing, Thaler and Ravishankar 1998); a
    /// node takes no more than its share, rounded up (bounded loads, Mirrokni et al. 2018). Holders stay
    /// while they are within their share; copies are in different zones where there are enough of them.
    ///
    /// - Parameters:
    ///   - previous: The assignment so far, nil for none.
    ///   - candidates: Nodes that may hold logs.
    /// - Complexity: O(logs × candidates²).
    public static func balanced(
        logCount: Int, copies: Int, candidates: [Candidate], previous: Assignment?
    ) -> Assignment {
        var plan = Plan(logCount: logCount, copies: copies, candidates: candidates)
        plan.keep(previous)
        plan.limitLoads()
        plan.spreadZones()
        plan.fill()
        plan.even()
        return Assignment(
            holders: plan.ordered(previous),
            zones: Dictionary(
                uniqueKeysWithValues: candidates.map { ($0.node.description, $0.zone) }))
    }
}

/// An assignment in the making.
private struct Plan {
    let logCount: Int
    let copies: Int
    let candidates: [Assignment.Candidate]
    let zones: [NodeIdentity: String]
    let share: Int
    var holders: [[NodeIdentity]]
    var loads: [NodeIdentity: Int] = [:]

    init(logCount: Int, copies: Int, candidates: [Assignment.Candidate]) {
        self.logCount = logCount
        self.candidates = candidates.sorted { $0.node < $1.node }
        self.copies = min(copies, candidates.count)
        zones = Dictionary(uniqueKeysWithValues: candidates.map { ($0.node, $0.zone) })
        share =
            candidates.isEmpty
            ? 0 : (logCount * self.copies + candidates.count - 1) / candidates.count
        holders = Array(repeating: [], count: logCount)
    }

    /// Keeps holders that are still candidates.
    mutating func keep(_ previous: Assignment?) {
        guard let previous, previous.holders.count == logCount else { return }
        for log in 0..<logCount {
            for node in previous.holders[log].prefix(copies) where zones[node] != nil {
                holders[log].append(node)
                loads[node, default: 0] += 1
            }
        }
    }

    private mutating func remove(_ node: NodeIdentity, from log: Int) {
        holders[log].removeAll { $0 == node }
        loads[node, default: 0] -= 1
    }

    /// Takes from nodes what is more than their share: what ranks them lowest.
    mutating func limitLoads() {
        for candidate in candidates {
            let node = candidate.node
            let held = (0..<logCount).filter { holders[$0].contains(node) }
                .sorted { rank($0, node) < rank($1, node) }
            for log in held.prefix(max(0, held.count - share)) { remove(node, from: log) }
        }
    }

    /// Takes copies away that share a zone while another zone has none.
    mutating func spreadZones() {
        let all = Set(zones.values)
        guard all.count > 1 else { return }
        for log in 0..<logCount {
            let used = holders[log].map { zones[$0] ?? "" }
            let distinct = Set(used)
            guard distinct.count < min(all.count, copies), used.count > distinct.count else {
                continue
            }
            let doubled = holders[log].filter { node in
                used.filter { $0 == zones[node] }.count > 1
            }
            if let node = doubled.min(by: { rank(log, $0) < rank(log, $1) }) {
                remove(node, from: log)
            }
        }
    }

    /// Gives logs the holders that they lack.
    mutating func fill() {
        for log in 0..<logCount {
            while holders[log].count < copies, let node = next(log) {
                holders[log].append(node)
                loads[node, default: 0] += 1
            }
        }
    }

    private func next(_ log: Int) -> NodeIdentity? {
        let used = Set(holders[log].map { zones[$0] ?? "" })
        let free = candidates.filter { !holders[log].contains($0.node) }
        let light = free.filter { loads[$0.node, default: 0] < share }
        func best(_ nodes: [Assignment.Candidate]) -> NodeIdentity? {
            nodes.max { rank(log, $0.node) < rank(log, $1.node) }?.node
        }
        return best(light.filter { !used.contains($0.zone) })
            // A zone of its own is worth more than an even load.
            ?? best(free.filter { !used.contains($0.zone) && used.first != "" })
            ?? best(light) ?? free.min { load($0) < load($1) }?.node
    }

    /// Moves copies from nodes that have two more than others, or more, to those.
    mutating func even() {
        while let move = move() {
            remove(move.from, from: move.log)
            holders[move.log].append(move.to)
            loads[move.to, default: 0] += 1
        }
    }

    private func move() -> (log: Int, from: NodeIdentity, to: NodeIdentity)? {
        for from in candidates {
            for to in candidates where load(from) > load(to) + 1 {
                for log in 0..<logCount where canMove(log, from.node, to.node) {
                    return (log, from.node, to.node)
                }
            }
        }
        return nil
    }

    private func canMove(_ log: Int, _ from: NodeIdentity, _ to: NodeIdentity) -> Bool {
        guard holders[log].contains(from), !holders[log].contains(to) else { return false }
        let others = holders[log].filter { $0 != from }.map { zones[$0] }
        return zones[from] == zones[to] || !others.contains(zones[to])
            || others.contains(zones[from])
    }

    private func load(_ candidate: Assignment.Candidate) -> Int {
        loads[candidate.node, default: 0]
    }

    /// Every log's holders, its primary first: each node is the primary of about as many.
    func ordered(_ previous: Assignment?) -> [[NodeIdentity]] {
        var primaries: [NodeIdentity: Int] = [:]
        let most = candidates.isEmpty ? 0 : (logCount + candidates.count - 1) / candidates.count
        var chosen: [NodeIdentity?] = Array(repeating: nil, count: logCount)
        for log in 0..<logCount {
            guard let previous, previous.holders.count == logCount,
                let primary = previous.holders[log].first, holders[log].contains(primary),
                primaries[primary, default: 0] < most
            else { continue }
            chosen[log] = primary
            primaries[primary, default: 0] += 1
        }
        for log in 0..<logCount where chosen[log] == nil {
            let primary = holders[log].min {
                (primaries[$0, default: 0], rank(log, $1)) < (
                    primaries[$1, default: 0], rank(log, $0)
                )
            }
            guard let primary else { continue }
            chosen[log] = primary
            primaries[primary, default: 0] += 1
        }
        while evenPrimaries(&chosen, &primaries) {}
        return (0..<logCount).map { log in
            let others = holders[log].filter { $0 != chosen[log] }
                .sorted { rank(log, $0) > rank(log, $1) }
            return (chosen[log].map { [$0] } ?? []) + others
        }
    }

    /// Takes one log from a node that is the primary of two more than another: each on the way from the one to
    /// the other hands one to the next.
    ///
    /// - Returns: whether there was such a way.
    private func evenPrimaries(
        _ chosen: inout [NodeIdentity?], _ primaries: inout [NodeIdentity: Int]
    ) -> Bool {
        for heavy in candidates.map(\.node) {
            var arrivals: [NodeIdentity: Int] = [:]
            var queue = [heavy]
            var index = 0
            while index < queue.count {
                let node = queue[index]
                index += 1
                if primaries[node, default: 0] + 2 <= primaries[heavy, default: 0] {
                    var end = node
                    while end != heavy, let log = arrivals[end], let from = chosen[log] {
                        chosen[log] = end
                        end = from
                    }
                    primaries[heavy, default: 0] -= 1
                    primaries[node, default: 0] += 1
                    return true
                }
                for log in 0..<logCount where chosen[log] == node {
                    for next in holders[log] where next != heavy && arrivals[next] == nil {
                        arrivals[next] = log
                        queue.append(next)
                    }
                }
            }
        }
        return false
    }

    /// How much a log wants a node.
    private func rank(_ log: Int, _ node: NodeIdentity) -> UInt64 {
        // FNV-1a and the finalizer of MurmurHash3: the same on every machine.
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in node.description.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
        hash ^= UInt64(log) &* 0x9e37_79b9_7f4a_7c15
        hash = (hash ^ hash &>> 33) &* 0xff51_afd7_ed55_8ccd
        hash = (hash ^ hash &>> 33) &* 0xc4ce_b9fe_1a85_ec53
        return hash ^ hash &>> 33
    }
}
