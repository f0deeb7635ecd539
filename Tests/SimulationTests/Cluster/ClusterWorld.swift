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
        /// A checkpoint does not hold what producers have sent.
        case windowsNotKept
    }

    static let logCount = 2
    static let partitionCount = 4

    let seed: UInt64
    private let plantedBug: PlantedBug?
    var random: SeededGenerator
    let clock = SimulatedClock()
    var broker = BrokerModel(logCount: logCount)
    var nodes: [SimulatedReplica] = []
    private var guest: SimulatedReplica
    private var forwards = ForwardModel()
    var clients = ClusterClients()
    private(set) var violations: [String] = []
    private(set) var crashes = 0
    var checkpoints = 0
    /// Logs that were copied from another node, and that began a new epoch.
    var copies = 0
    var recoveries = 0
    var histories: [LogHistory]
    /// Starts that went on from a checkpoint.
    private(set) var resumptions = 0
    /// Messages behind which some message waited for the disk.
    private(set) var waits = 0
    var forwarded: Int { forwards.answered }
    var duplicates: Int { broker.duplicates }
    var acknowledged: Int { clients.acknowledgedCount }
    var unknown: Int { clients.unknownCount }
    var refused: Int { clients.refusedCount }
    var earlyAnswers: (count: Int64, lost: Int64) { clients.earlyAnswers(nodes) }
    var digest: [String] { nodes.map { $0.dump().joined() } }

    init(seed: UInt64, plantedBug: PlantedBug? = nil) {
        self.seed = seed
        self.plantedBug = plantedBug
        random = SeededGenerator(seed: seed)
        let histories = (0..<Self.logCount).map { _ in
            LogHistory(epoch: 1, streamNanoseconds: 1, startSequence: 0, origin: nil)
        }
        self.histories = histories
        clock.advance(nanoseconds: 1_000_000_000)
        guest = SimulatedReplica(
            number: 3, life: 0, seed: seed, clock: clock, disk: SimulatedDisk(seed: seed &+ 3),
            nil, histories, isGuest: true)
        nodes = (0..<3).map { index in
            SimulatedReplica(
                number: index, life: 0, seed: seed, clock: clock,
                disk: SimulatedDisk(seed: seed &+ UInt64(index)), plantedBug, histories)
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
        forwards.isFaulty = false
        for node in nodes { node.disk.setFaults { $0 = SimulatedReplica.noFaults } }
        settle()
        check()
    }

    // MARK: Steps

    private mutating func step() {
        clock.advance(nanoseconds: UInt64.random(in: 0..<20_000_000, using: &random))
        let index = Int.random(in: 0..<nodes.count, using: &random)
        switch Int.random(in: 0..<100, using: &random) {
        case 0..<18:
            clients.submit(to: nodes[index], clock: clock, &random)
        case 18..<22: clients.submit(to: guest, clock: clock, &random)
        case 22..<26: forwards.send(from: guest, now: clock.monotonicNanoseconds())
        case 26..<32:
            forwards.arrive(guest, nodes, now: clock.monotonicNanoseconds(), &random)
        case 32..<40: send(index)
        case 40..<55: broker.arrive(now: clock.wallMilliseconds(), &random)
        case 55..<64: answer()
        case 64..<84: deliver(index, countMax: 4)
        case 84..<90: checkpoints += nodes[index].stepCheckpoint(&random)
        case 90..<92: nodes[index].stepResidency(&random)
        case 92: resume(index, blocksMax: 3)
        case 93: _ = nodes[index].expiry.step()
        case 94: broker.changeLeader(&random)
        case 95:
            clock.advance(nanoseconds: UInt64.random(in: 0..<12_000_000_000, using: &random))
        case 96:
            switch Int.random(in: 0..<12, using: &random) {
            case 0..<3: crash(index)
            case 3: leave(index)
            case 4: recover()
            default: place(index)
            }
        case 97:
            nodes[index].checkDeadlines(now: clock.monotonicNanoseconds())
            for remote in guest.replica.remotes {
                remote.checkDeadlines(now: clock.monotonicNanoseconds())
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
                let next =
                    log.state.sequence + UInt64(log.waitingCount + node.skipped[log.number]) + 1
                guard log.isHeld, log.halt == nil,
                    let message = broker.streams[log.number].message(next)
                else { break }
                receive(index, log, message)
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
                    sequence: log.state.sequence + UInt64(log.waitingCount) + 1,
                    milliseconds: message.milliseconds, $0)
            }
        } catch {
            violations.append("node \(index) stopped: \(error)")
        }
        if log.waitingCount > 0 { waits += 1 }
        nodes[index].node.checkInvariants()
    }

    /// Some blocks that messages wait for are read.
    private mutating func resume(_ index: Int, blocksMax: Int) {
        var count = 0
        while count < blocksMax, nodes[index].node.readNextBlock() { count += 1 }
        for log in nodes[index].replica.logs where log.waitingCount > 0 {
            do {
                try log.resume()
            } catch {
                violations.append("node \(index) stopped: \(error)")
            }
        }
    }

    /// A message that was delivered before comes once more.
    private mutating func redeliver(_ index: Int) {
        for log in nodes[index].replica.logs
        where log.isHeld && log.state.sequence > 0 && log.waitingCount == 0 {
            let sequence = UInt64.random(in: 1...log.state.sequence, using: &random)
            guard let message = broker.streams[log.number].message(sequence) else { continue }
            let receipt = message.bytes.withUnsafeBytes {
                try? log.receive(
                    sequence: sequence, milliseconds: message.milliseconds, $0)
            }
            if receipt != .passedOver, plantedBug == nil {
                violations.append("message \(sequence) applied again")
            }
        }
    }

    /// A node loses what is not in its checkpoint, and its clients their connections.
    private mutating func crash(_ index: Int) {
        crashes += 1
        clients.lose(nodes[index])
        let life = nodes[index].sender.life + 1
        var disk = nodes[index].disk
        disk.setFaults { $0 = SimulatedReplica.noFaults }
        disk.setCapacity(bytes: .max)
        if random.once(in: 2) { disk.losePower() }
        // Now and then it comes back on another machine, if what it has is elsewhere.
        let isElsewhere = histories.indices.allSatisfy { isLent($0, but: index) }
        if random.once(in: 8) && isElsewhere || plantedBug != nil && plantedBug != .windowsNotKept {
            disk = SimulatedDisk(seed: seed &+ UInt64(100 * life + index))
        }
        nodes[index] = SimulatedReplica(
            number: index, life: life, seed: seed, clock: clock, disk: disk, plantedBug, histories)
        if nodes[index].replica.logs.contains(where: { $0.state.sequence > 0 }) { resumptions += 1 }
    }

    /// Everything that is on its way arrives.
    private mutating func settle() {
        for _ in 0..<10_000 {
            clock.advance(nanoseconds: 400_000_000)
            for index in nodes.indices {
                place(index)
                send(index)
                deliver(index, countMax: 1000)
                resume(index, blocksMax: 1000)
            }
            forwards.send(from: guest, now: clock.monotonicNanoseconds())
            for _ in 0..<100 where !forwards.isQuiet {
                forwards.arrive(guest, nodes, now: clock.monotonicNanoseconds(), &random)
            }
            while !broker.isQuiet {
                broker.arrive(now: clock.wallMilliseconds(), &random)
                answer()
            }
            clients.collect()
            let isCaughtUp = nodes.allSatisfy { node in
                node.replica.logs.allSatisfy {
                    $0.isHeld && $0.halt == nil
                        && $0.state.sequence + UInt64(node.skipped[$0.number])
                            >= broker.streams[$0.number].last
                }
            }
            let isEven = nodes.allSatisfy { $0.replica.logs.allSatisfy { $0.earlyOwed == 0 } }
            if isCaughtUp, isEven && clients.isIdle || !violations.isEmpty { return }
            for node in nodes { node.checkDeadlines(now: clock.monotonicNanoseconds()) }
            for remote in guest.replica.remotes {
                remote.checkDeadlines(now: clock.monotonicNanoseconds())
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
        violations += clients.check(nodes)
    }
}
