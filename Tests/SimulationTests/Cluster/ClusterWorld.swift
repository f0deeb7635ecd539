import TallyCluster
import TallyCore
import TallyEngine
import TallyNode
import TallyTestSupport

/// Three replicas of everything, a broker that does its worst, and clients who remember what they were
/// told. One seed decides all.
struct ClusterWorld {
    /// A mistake that the checks must find.
    enum PlantedBug: Equatable {
        /// A replica forgets what a producer has sent.
        case droppedWindow
        /// A replica does not see that a message is missing.
        case missedGap
        /// Clients are told as soon as a message has been sent.
        case earlyAcknowledgement
        /// A message that may have been stored is made anew under another number.
        case newNumberForRetry
    }

    static let logCount = 2
    static let partitionCount = 4

    let seed: UInt64
    private let plantedBug: PlantedBug?
    var random: SeededGenerator
    let clock = SimulatedClock()
    private var broker = BrokerModel(logCount: logCount)
    private var nodes: [SimulatedReplica] = []
    private var clients = ClusterClients()
    private(set) var violations: [String] = []
    private(set) var crashes = 0
    var duplicates: Int { broker.duplicates }
    var acknowledged: Int { clients.acknowledgedCount }
    var unknown: Int { clients.unknownCount }
    var refused: Int { clients.refusedCount }
    var digest: [String] { nodes.map { $0.dump().joined() } }

    init(seed: UInt64, plantedBug: PlantedBug? = nil) {
        self.seed = seed
        self.plantedBug = plantedBug
        random = SeededGenerator(seed: seed)
        clock.advance(nanoseconds: 1_000_000_000)
        nodes = (0..<3).map { index in
            SimulatedReplica(number: index, life: 0, seed: seed, clock: clock)
        }
        declare()
    }

    /// The first thing in each log is the family that records need.
    private mutating func declare() {
        let node = nodes[0]
        clients.declare(on: node, now: clock.monotonicNanoseconds())
        broker.isFaulty = false
        settle()
        broker.isFaulty = true
    }

    mutating func run(steps: Int) {
        for _ in 0..<steps where violations.isEmpty { step() }
        broker.isFaulty = false
        settle()
        check()
    }

    // MARK: Steps

    private mutating func step() {
        clock.advance(nanoseconds: UInt64.random(in: 0..<20_000_000, using: &random))
        let index = Int.random(in: 0..<nodes.count, using: &random)
        switch Int.random(in: 0..<100, using: &random) {
        case 0..<25:
            clients.submit(to: nodes[index], clock: clock, &random)
        case 25..<45: send(index)
        case 45..<62: broker.arrive(now: clock.wallMilliseconds(), &random)
        case 62..<72: answer()
        case 72..<94: deliver(index, countMax: 4)
        case 94: broker.changeLeader(&random)
        case 95:
            clock.advance(nanoseconds: UInt64.random(in: 0..<12_000_000_000, using: &random))
        case 96: if random.once(in: 4) { crash(index) }
        case 97:
            for log in nodes[index].replica.logs {
                log.checkDeadlines(now: clock.monotonicNanoseconds())
            }
        default: redeliver(index)
        }
        clients.collect()
    }

    private mutating func send(_ index: Int) {
        let node = nodes[index]
        for log in node.replica.logs {
            guard var publication = log.poll(now: clock.monotonicNanoseconds()) else { continue }
            if plantedBug == .earlyAcknowledgement { clients.believe(node.number) }
            if plantedBug == .newNumberForRetry, node.sent.contains(publication.messageID) {
                publication = Forger.underNewName(publication, random: &random)
            }
            nodes[index].sent.insert(publication.messageID)
            broker.publish(publication, to: log.number, from: node.sender, &random)
        }
    }

    private mutating func answer() {
        guard let answer = broker.takeAnswer(&random) else { return }
        let node = nodes[answer.sender.node]
        guard node.sender == answer.sender else { return }
        node.replica.logs[answer.log].answered(answer.sequence, answer.answer)
    }

    private mutating func deliver(_ index: Int, countMax: Int) {
        let node = nodes[index]
        for log in node.replica.logs {
            for _ in 0..<countMax {
                let next = Int(log.state.sequence) + node.skipped[log.number]
                let stream = broker.streams[log.number]
                guard next < stream.count else { break }
                receive(index, log, stream[next])
            }
        }
    }

    private mutating func receive(
        _ index: Int, _ log: ReplicatedLog, _ message: BrokerModel.Message
    ) {
        var bytes = message.bytes
        if plantedBug == .missedGap, index == 1, random.once(in: 40) {
            // The next one is taken in its place.
            nodes[index].skipped[log.number] += 1
            return
        }
        if plantedBug == .droppedWindow, index == 2 {
            bytes = Forger.asFromANewProducer(bytes, seen: &nodes[index].seen[log.number])
        }
        do {
            _ = try bytes.withUnsafeBytes {
                try log.receive(
                    sequence: log.state.sequence + 1, milliseconds: message.milliseconds, $0)
            }
        } catch {
            violations.append("node \(index) stopped: \(error)")
        }
        nodes[index].node.checkInvariants()
    }

    /// A message that was delivered before comes once more.
    private mutating func redeliver(_ index: Int) {
        for log in nodes[index].replica.logs where log.state.sequence > 0 {
            let sequence = UInt64.random(in: 1...log.state.sequence, using: &random)
            let message = broker.streams[log.number][Int(sequence) - 1]
            let isApplied = message.bytes.withUnsafeBytes {
                (try? log.receive(
                    sequence: sequence, milliseconds: message.milliseconds, $0)) ?? true
            }
            if isApplied { violations.append("message \(sequence) applied again") }
        }
    }

    /// A node loses its state, and its clients their connections.
    private mutating func crash(_ index: Int) {
        crashes += 1
        clients.lose(nodes[index].number)
        nodes[index] = SimulatedReplica(
            number: index, life: nodes[index].sender.life + 1, seed: seed, clock: clock)
    }

    /// Everything that is on its way arrives.
    private mutating func settle() {
        for _ in 0..<10_000 {
            clock.advance(nanoseconds: 400_000_000)
            for index in nodes.indices {
                send(index)
                deliver(index, countMax: 1000)
            }
            while !broker.isQuiet {
                broker.arrive(now: clock.wallMilliseconds(), &random)
                answer()
            }
            clients.collect()
            let isCaughtUp = nodes.allSatisfy { node in
                node.replica.logs.allSatisfy {
                    Int($0.state.sequence) + node.skipped[$0.number]
                        >= broker.streams[$0.number].count
                }
            }
            if isCaughtUp, clients.isIdle || !violations.isEmpty { return }
            for node in nodes {
                for log in node.replica.logs {
                    log.checkDeadlines(now: clock.monotonicNanoseconds())
                }
            }
        }
        violations.append("nothing settles")
    }

    // MARK: Checks

    private mutating func check() {
        let dumps = nodes.map { $0.dump() }
        for index in 1..<nodes.count where dumps[index] != dumps[0] {
            let differing = zip(dumps[0], dumps[index]).filter { $0 != $1 }.prefix(3)
            violations.append("node \(index) is not as node 0: \(Array(differing))")
        }
        for (first, second) in zip(nodes[0].replica.logs, nodes[1].replica.logs)
        where first.state != second.state && plantedBug == nil {
            violations.append("log \(first.number) is not at the same place everywhere")
        }
        violations += clients.check(nodes[0].node)
    }
}

/// One replica of everything.
struct SimulatedReplica {
    let number: Int
    let sender: BrokerModel.Sender
    let node: Node
    let replica: Replica
    /// Messages that were passed over, for a planted bug.
    var skipped = Array(repeating: 0, count: ClusterWorld.logCount)
    var sent: Set<String> = []
    var seen: [Set<String>] = Array(repeating: [], count: ClusterWorld.logCount)

    init(number: Int, life: Int, seed: UInt64, clock: SimulatedClock) {
        self.number = number
        sender = BrokerModel.Sender(node: number, life: life)
        let generator = Locked(
            SeededGenerator(seed: seed &* 1000 &+ UInt64(number * 100 + life)))
        let random: @Sendable () -> UInt64 = { generator.withLock { $0.next() } }
        var configuration = NodeConfiguration()
        configuration.random = random
        let cluster = LogIdentity(high: 1, low: 2)
        let node = Node(
            following: cluster, partitionCount: ClusterWorld.partitionCount, clock: clock,
            configuration: configuration)
        self.node = node
        let logs = (0..<ClusterWorld.logCount).map { log in
            let made = ReplicatedLog(
                number: log,
                partitions: Replica.partitions(
                    ofLog: log, logCount: ClusterWorld.logCount,
                    partitionCount: ClusterWorld.partitionCount),
                cluster: cluster, node: node, state: LogState(epoch: 1, streamNanoseconds: 1),
                makeIdentity: {
                    ProducerIdentity(milliseconds: clock.wallMilliseconds(), random: random)
                })
            made.isCaughtUp = true
            return made
        }
        replica = Replica(node: node, logs: logs)
    }

    /// All counters, in order.
    func dump() -> [String] {
        var lines: [String] = []
        node.forEachPlainKey { key, value, deadline in
            lines.append("\(String(decoding: key, as: UTF8.self)) \(value) \(deadline ?? -1)")
        }
        node.forEachRecord(family: 1) { key, values in
            lines.append("\(key) \(Array(values))")
        }
        return lines.sorted()
    }
}

/// Messages that a node with a bug would see, or send.
enum Forger {
    /// A repetition as a first message of somebody new.
    static func asFromANewProducer(_ bytes: [UInt8], seen: inout Set<String>) -> [UInt8] {
        bytes.withUnsafeBytes { buffer in
            guard let message = try? LogMessage(buffer) else { return bytes }
            guard !seen.insert(message.header.messageID).inserted else { return bytes }
            var header = message.header
            header.producer = ProducerIdentity(
                high: header.producer.high, low: header.producer.low ^ UInt64(seen.count))
            header.producerSequence = 1
            return rewrite(message, header)
        }
    }

    /// The same message as that of somebody new.
    static func underNewName(
        _ publication: ReplicatedLog.Publication, random: inout SeededGenerator
    ) -> ReplicatedLog.Publication {
        publication.bytes.withUnsafeBytes { buffer in
            guard let message = try? LogMessage(buffer) else { return publication }
            var header = message.header
            header.producer = ProducerIdentity(high: header.producer.high, low: random.next())
            header.producerSequence = 1
            return ReplicatedLog.Publication(
                sequence: publication.sequence, messageID: header.messageID,
                bytes: rewrite(message, header))
        }
    }

    private static func rewrite(_ message: LogMessage, _ header: LogMessage.Header) -> [UInt8] {
        var writer = LogMessage.Writer(header, capacity: 0)
        for section in message.sections {
            writer.append(
                partition: section.partition, operationCount: UInt32(section.operationCount),
                section.entries)
        }
        return writer.finish()
    }
}
