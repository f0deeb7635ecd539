import Synchronization
import TallyCore
import TallyEngine
import TallyNode
import TallyTestSupport

@testable import TallyCluster

/// The clients of a simulated cluster: what they have asked for, and what they were told.
struct ClusterClients {
    /// What one operation was, by the place of its outcome.
    private enum Asked {
        /// One more of a counter that only ever grows by one.
        case increment(String, Int)
        /// A read right behind such an increment, at the place before.
        case readBehind(Int)
        /// One less of an item of which there were only `stock`.
        case sale(UInt64, Int)
        /// Two counters that always grow together.
        case pair(header: Int)
        /// One more, but once for this token.
        case once(RequestToken, header: Int)
        /// One more of a counter that may be answered before it is in the log.
        case early(Int, Int)
        /// Nothing that is checked but by comparing replicas.
        case other
    }

    private final class Pending: @unchecked Sendable {
        // Sendable because the simulation has one thread.
        let node: Int
        let asked: [Asked]
        var ended = 0
        var submission: Submission?

        init(node: Int, asked: [Asked]) {
            self.node = node
            self.asked = asked
        }

        var isDone: Bool { submission.map { ended == $0.logs.nonzeroBitCount } ?? false }
    }

    static let stock: Int64 = 30
    private static let items: [UInt64] = [7, 70_000_000, 9]

    private var pending: [Pending] = []
    /// What the increments of a counter were told.
    private var told: [String: [Int64]] = [:]
    private var unknownIncrements: [String: Int] = [:]
    /// For each counter that is answered early: how many were asked for, answered, told after all, and unknown.
    private var early:
        [(asked: Int64, answered: Int64, told: Int64, unknown: Int64, refused: Int64)] =
            Array(
                repeating: (0, 0, 0, 0, 0), count: 3)
    /// The last early answer of a node's about a counter, in one of its lives.
    private var earlyAnswers: [String: Int64] = [:]
    /// How many additions that were answered may have been lost.
    private var earlyLost: Int64 = 0
    private var sold: [UInt64: Int] = [:]
    private var unknownSales: [UInt64: Int] = [:]
    private var tokens: [RequestToken: Int64?] = [:]
    private var violations: [String] = []
    private(set) var acknowledgedCount = 0
    private(set) var unknownCount = 0
    private(set) var refusedCount = 0

    var isIdle: Bool { pending.isEmpty }

    // MARK: Asking

    /// Makes the family of the items and puts the stock in place.
    mutating func declare(on node: SimulatedReplica, now: UInt64) {
        for text in [
            "ADD COUNTER item", "ADD COLUMN item id hint=64 max=64 default=0 primarykey",
            "ADD COLUMN item stock hint=16 max=32 default=0",
        ] {
            guard let change = text.withBytes({ SchemaChange(bytes: $0) }) else {
                preconditionFailure("no such change: \(text)")
            }
            var batch = node.node.makeBatch()
            batch.appendChange(change)
            submit(batch, [.other], to: node, now: now)
        }
        var batch = node.node.makeBatch()
        for item in Self.items {
            batch.append(
                .set, OperationBatch.Record(family: 1, key: item), column: 0, operand: Self.stock)
        }
        submit(batch, Self.items.map { _ in .other }, to: node, now: now)
    }

    /// Has some client ask for something.
    mutating func submit(
        to node: SimulatedReplica, clock: SimulatedClock, _ random: inout SeededGenerator
    ) {
        var batch = node.node.makeBatch()
        var asked: [Asked] = []
        var candidates: [EarlyCandidate] = []
        var keys: [UnsafeMutableRawBufferPointer] = []
        defer { for key in keys { key.deallocate() } }
        func key(_ text: String) -> UnsafeRawBufferPointer {
            let copy = UnsafeMutableRawBufferPointer.allocate(
                byteCount: text.utf8.count, alignment: 1)
            copy.copyBytes(from: text.utf8)
            keys.append(copy)
            return UnsafeRawBufferPointer(copy)
        }
        for _ in 0..<Int.random(in: 1...6, using: &random) {
            let number = Int.random(in: 0..<4, using: &random)
            switch Int.random(in: 0..<11, using: &random) {
            case 0..<3:
                asked.append(.increment("i\(number)", batch.count))
                batch.append(.add, key: key("i\(number)"), operand: 1)
                if random.once(in: 3) {
                    asked.append(.readBehind(batch.count))
                    batch.append(.get, key: key("i\(number)"))
                }
            case 3:
                for _ in 0..<20 {
                    asked.append(.increment("hot", batch.count))
                    batch.append(.add, key: key("hot"), operand: 1)
                }
            case 4:
                let item = Self.items[number % Self.items.count]
                asked.append(.sale(item, batch.count))
                batch.append(
                    .add, OperationBatch.Record(family: 1, key: item), column: 0, operand: -1)
            case 5:
                let first = batch.beginTransaction()
                asked.append(.pair(header: first))
                batch.append(.add, key: key("{p\(number)}a"), operand: 1)
                batch.append(.add, key: key("{p\(number)}b"), operand: 1)
                batch.endTransaction(from: first)
            case 6, 7:
                let token = token(clock, &random)
                let first = batch.beginTransaction()
                asked.append(.once(token, header: first))
                batch.append(.add, key: key("once"), operand: 1)
                _ = batch.endTransaction(from: first, once: token, fingerprint: 99)
            case 8:
                asked.append(.early(number % 3, batch.count))
                candidates.append(
                    EarlyCandidate(index: batch.count, range: Int64.min...Int64.max))
                batch.append(.add, key: key("e\(number % 3)"), operand: 1)
            default:
                asked.append(.other)
                appendOther(&batch, key("s\(number)"), clock, &random)
            }
        }
        submit(batch, asked, candidates, to: node, now: clock.monotonicNanoseconds())
    }

    private func appendOther(
        _ batch: inout OperationBatch, _ key: UnsafeRawBufferPointer, _ clock: SimulatedClock,
        _ random: inout SeededGenerator
    ) {
        let value = Int64.random(in: -5...5, using: &random)
        switch Int.random(in: 0..<6, using: &random) {
        case 0: batch.append(.set, key: key, operand: value)
        case 1: batch.append(.setIfAbsent, key: key, operand: value)
        case 2: batch.append(.delete, key: key)
        case 3:
            let deadline =
                Int64(clock.wallMilliseconds()) + Int64.random(in: -100...3000, using: &random)
            batch.appendExpire(key, deadline: deadline, .always)
        case 4:
            batch.append(.extendedAdd, key: key, wordCount: ExtendedAdd.wordCount + 1) {
                ExtendedAdd(
                    delta: value, lowerBound: -8, upperBound: 8, isSaturating: true,
                    expiry: .keep, deadline: 0
                ).write($0)
                $0[ExtendedAdd.differenceWord] = 0
            }
        default: batch.append(.add, key: key, operand: value)
        }
    }

    private func token(
        _ clock: SimulatedClock, _ random: inout SeededGenerator
    ) -> RequestToken {
        if random.once(in: 2), let known = tokens.keys.sorted().randomElement(using: &random) {
            return known
        }
        return RequestToken(high: clock.wallMilliseconds() << 16 | 0x7000, low: random.next())
    }

    private mutating func submit(
        _ batch: consuming OperationBatch, _ asked: [Asked], _ candidates: [EarlyCandidate] = [],
        to node: SimulatedReplica, now: UInt64
    ) {
        for case .once(let token, _) in asked where tokens[token] == nil {
            tokens[token] = .some(nil)
        }
        let waiting = Pending(node: node.number, asked: asked)
        // Weak, as it keeps the submission.
        let submission = Submission(batch) { [weak waiting] _ in waiting?.ended += 1 }
        waiting.submission = submission
        submission.candidates = candidates
        submission.earlyNanosecondsMax = 1_000_000_000
        guard node.replica.submit(submission, now: now) else { return }
        for case .early(let counter, _) in asked { early[counter].asked += 1 }
        for case .early(let counter, let place) in asked {
            // Before it is told, an outcome is what was in its memory before.
            guard submission.isLocal[place] else { continue }
            noteEarly(counter, submission.batch.outcomes[place], node)
        }
        if submission.logs == 0 { return collect(waiting) }
        pending.append(waiting)
    }

    private mutating func noteEarly(_ counter: Int, _ outcome: Outcome, _ node: SimulatedReplica) {
        early[counter].answered += 1
        if outcome.value > early[counter].asked {
            violations.append("e\(counter) was told \(outcome.value) of \(early[counter].asked)")
        }
        let lost = node.replica.logs.reduce(0) { $0 + $1.counts.earlyLost.load(ordering: .relaxed) }
        // What was counted with and then refused is counted with no more.
        let given = early[counter].refused + early[counter].unknown
        let life = "\(node.sender) \(lost) \(given) \(counter)"
        if let last = earlyAnswers[life], outcome.value <= last {
            violations.append("e\(counter) was told \(outcome.value) behind \(last)")
        }
        earlyAnswers[life] = outcome.value
    }

    // MARK: Being told

    /// Some node goes on with a state that may lack what it has told.
    mutating func forgetEarlyAnswers() { earlyAnswers.removeAll() }

    /// Takes note of all that has ended.
    mutating func collect() {
        for waiting in pending where waiting.isDone {
            collect(waiting)
        }
        pending.removeAll { $0.isDone }
    }

    private mutating func collect(_ waiting: Pending) {
        guard let submission = waiting.submission else { return }
        for asked in waiting.asked { note(asked, submission.batch) }
    }

    private mutating func note(_ asked: Asked, _ batch: borrowing OperationBatch) {
        switch asked {
        case .other: break
        case .early(let counter, let place):
            if batch.outcomes[place].sequence == Outcome.noSequence { return }
            switch sort(batch.outcomes[place]) {
            case .certain: early[counter].told += 1
            case .unknown: early[counter].unknown += 1
            case .refused: early[counter].refused += 1
            }
        case .increment(let key, let place):
            let outcome = batch.outcomes[place]
            switch sort(outcome) {
            case .certain: told[key, default: []].append(outcome.value)
            case .unknown: unknownIncrements[key, default: 0] += 1
            case .refused:
                if outcome.status != .logUnavailable {
                    violations.append("an increment of \(key) was refused as \(outcome.status)")
                }
            }
        case .readBehind(let place):
            let (before, read) = (batch.outcomes[place - 1], batch.outcomes[place])
            if before.status == .applied, read.value != before.value {
                violations.append("read \(read.value) behind an increment to \(before.value)")
            }
        case .sale(let item, let place):
            switch sort(batch.outcomes[place]) {
            case .certain: sold[item, default: 0] += 1
            case .unknown: unknownSales[item, default: 0] += 1
            case .refused: break
            }
        case .pair(let header):
            let (one, other) = (batch.outcomes[header + 1], batch.outcomes[header + 2])
            if one.status != other.status || one.value != other.value {
                violations.append("a transaction was told \(one.value) and \(other.value)")
            }
        case .once(let token, let header):
            note(token, batch.outcomes[header], batch.outcomes[header + 1])
        }
    }

    private mutating func note(_ token: RequestToken, _ header: Outcome, _ outcome: Outcome) {
        switch sort(header) {
        case .certain:
            if let first = tokens[token] ?? nil, first != outcome.value {
                violations.append("a repetition was told \(outcome.value) instead of \(first)")
            }
            tokens[token] = outcome.value
        case .unknown: break
        case .refused:
            if header.status != .logUnavailable, header.status != .tokenTooNew,
                header.status != .tokenTooOld
            {
                violations.append("a request was refused as \(header.status)")
            }
        }
    }

    private enum Kind {
        case certain, unknown, refused
    }

    private mutating func sort(_ outcome: Outcome) -> Kind {
        switch outcome.status {
        case .applied:
            acknowledgedCount += 1
            return .certain
        case .outcomeUnknown:
            unknownCount += 1
            return .unknown
        default:
            refusedCount += 1
            return .refused
        }
    }

    /// A node is gone; nobody will tell what became of what it was asked.
    mutating func lose(_ node: SimulatedReplica) {
        for waiting in pending where waiting.node == node.number { loseOne(waiting) }
        pending.removeAll { $0.node == node.number }
        earlyLost += Self.lost(node)
        earlyLost += node.replica.logs.reduce(0) { $0 + Int64($1.earlyOwed) }
    }

    /// How many additions a node has answered and then given up.
    private static func lost(_ node: SimulatedReplica) -> Int64 {
        node.replica.logs.reduce(0) { $0 + Int64($1.counts.earlyLost.load(ordering: .relaxed)) }
    }

    private mutating func loseOne(_ waiting: Pending) {
        for asked in waiting.asked {
            switch asked {
            case .increment(let key, _): unknownIncrements[key, default: 0] += 1
            case .sale(let item, _): unknownSales[item, default: 0] += 1
            case .early(let counter, let place):
                if waiting.submission?.isLocal[place] != true {
                    early[counter].unknown += 1
                }
            default: break
            }
        }
    }

    /// Clients of a node take what they have asked for as done. For a planted bug.
    mutating func believe(_ node: Int) {
        for waiting in pending where waiting.node == node {
            for case .increment(let key, _) in waiting.asked {
                // No two are told the same.
                told[key, default: []].append(-Int64(told[key]?.count ?? 0) - 1)
            }
        }
        pending.removeAll { $0.node == node }
    }

    // MARK: Checking

    /// What is wrong with the counters in the end.
    func check(_ nodes: [SimulatedReplica]) -> [String] {
        let node = nodes[0].node
        var found = violations
        var values: [String: Int64] = [:]
        node.forEachPlainKey { key, value, _ in
            values[String(decoding: key, as: UTF8.self)] = value
        }
        for (key, told) in told {
            let value = values[key] ?? 0
            let certain = Int64(told.count)
            if Set(told).count != told.count { found.append("\(key): a value told twice") }
            if value < certain || value > certain + Int64(unknownIncrements[key] ?? 0) {
                found.append(
                    "\(key) is \(value) after \(certain) certain increments and "
                        + "\(unknownIncrements[key] ?? 0) unknown ones")
            }
            if let most = told.max(), most > value {
                found.append("\(key) is \(value) and \(most) was told")
            }
        }
        for number in 0..<4 where values["{p\(number)}a"] != values["{p\(number)}b"] {
            found.append("the counters of pair \(number) differ")
        }
        let once = Int(values["once"] ?? 0)
        let certainTokens = tokens.values.count { $0 != nil }
        if once < certainTokens || once > tokens.count {
            found.append(
                "once is \(once) after \(certainTokens) certain requests of \(tokens.count)")
        }
        let lost = nodes.reduce(earlyLost) { $0 + Self.lost($1) }
        for (counter, early) in early.enumerated() {
            let value = values["e\(counter)"] ?? 0
            let certain = early.answered + early.told
            if value < certain - lost || value > certain + early.unknown {
                found.append("e\(counter) is \(value) after \(early), \(lost) lost")
            }
        }
        return found + checkStock(node)
    }

    /// How many additions were answered before they were in the log, and how many of them may be lost.
    func earlyAnswers(_ nodes: [SimulatedReplica]) -> (count: Int64, lost: Int64) {
        (
            early.reduce(0) { $0 + $1.answered }, nodes.reduce(earlyLost) { $0 + Self.lost($1) }
        )
    }

    private func checkStock(_ node: Node) -> [String] {
        var left: [UInt64: Int64] = [:]
        node.forEachRecord(family: 1) { key, values in
            if case .integer(let key) = key { left[key] = values[0] }
        }
        return Self.items.compactMap { item in
            let left = left[item] ?? 0
            let certain = Self.stock - Int64(sold[item] ?? 0)
            let least = certain - Int64(unknownSales[item] ?? 0)
            return left >= 0 && left <= certain && left >= least
                ? nil : "item \(item): \(left) left, of \(certain) at most and \(least) at least"
        }
    }
}
