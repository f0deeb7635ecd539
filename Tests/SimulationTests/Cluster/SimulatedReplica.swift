import TallyCluster
import TallyCore
import TallyNode
import TallyTestSupport

/// One replica of everything, in one of its lives; or a node that has nothing, and asks others.
struct SimulatedReplica {
    let number: Int
    let sender: BrokerModel.Sender
    let node: Node
    let replica: Replica
    let disk: SimulatedDisk
    let expiry: Expiry
    let desk: ForwardDesk
    private let checkpointer: Checkpointer<SimulatedDisk>
    private let residency: Residency
    /// Messages that were passed over, for a planted bug.
    var skipped = Array(repeating: 0, count: ClusterWorld.logCount)
    var sent: Set<String> = []
    var seen: [Set<String>] = Array(repeating: [], count: ClusterWorld.logCount)

    init(
        number: Int, life: Int, seed: UInt64, clock: SimulatedClock, disk: SimulatedDisk,
        _ plantedBug: ClusterWorld.PlantedBug?, isGuest: Bool = false
    ) {
        self.number = number
        self.disk = disk
        sender = BrokerModel.Sender(node: number, life: life)
        let generator = Locked(
            SeededGenerator(seed: seed &* 1000 &+ UInt64(number * 100 + life)))
        let random: @Sendable () -> UInt64 = { generator.withLock { $0.next() } }
        var configuration = NodeConfiguration()
        configuration.random = random
        configuration.threads = 2
        // Some keep their segments on disk.
        if random() % 2 == 0 { configuration.memoryBytesMax = 64 << 20 }
        let data = ClusterData(
            identity: LogIdentity(high: 1, low: 2), partitionCount: ClusterWorld.partitionCount,
            logCount: ClusterWorld.logCount)
        let opening: ReplicaOpening<SimulatedDisk>
        do {
            opening = try ReplicaOpening(
                disk: disk, clock: clock, configuration: configuration, data: data,
                newName: "node\(number)")
        } catch {
            preconditionFailure("a disk without faults refused: \(error)")
        }
        node = opening.node
        checkpointer = opening.checkpointer
        residency = opening.residency
        let node = opening.node
        let logs = (0..<ClusterWorld.logCount).map { log in
            var state = opening.state(ofLog: log)
            if plantedBug == .windowsNotKept { state?.windows = [:] }
            let made = ReplicatedLog(
                number: log, partitions: data.partitions(ofLog: log), cluster: data.identity,
                node: node, state: state,
                makeIdentity: {
                    ProducerIdentity(milliseconds: clock.wallMilliseconds(), random: random)
                })
            guard !isGuest else { return made }
            if state == nil { made.begin(LogState(epoch: 1, streamNanoseconds: 1)) }
            made.setStream(nanoseconds: 1)
            made.isCaughtUp = true
            return made
        }
        let life = ProducerIdentity(milliseconds: clock.wallMilliseconds(), random: random)
        let remotes = (0..<ClusterWorld.logCount).map { log in
            RemoteLog(
                number: log, partitions: data.partitions(ofLog: log), cluster: data.identity,
                node: node, identity: life)
        }
        replica = Replica(node: node, logs: logs, remotes: remotes)
        desk = ForwardDesk(replica, cluster: data.identity) { $0() }
        desk.now = { clock.monotonicNanoseconds() }
        expiry = Expiry(
            node: node, target: LogTarget(replica, clock: clock, isCovered: { _ in true }))
    }

    /// Does the next part of a checkpoint, or begins one.
    ///
    /// - Returns: 1 if one has been finished, else 0.
    func stepCheckpoint(_ random: inout SeededGenerator) -> Int {
        if random.once(in: 6) {
            disk.setFaults {
                $0.writeFails = 30
                $0.syncFails = 30
            }
        }
        defer { disk.setFaults { $0 = SimulatedDisk.Faults() } }
        if checkpointer.isIdle {
            guard checkpointer.hasChanges, random.once(in: 3) else { return 0 }
            checkpointer.begin()
        }
        for _ in 0..<Int.random(in: 1...8, using: &random) {
            // The logs' thread may be late.
            if random.once(in: 2) { replica.takeCutIfWanted() }
            if case .finished? = try? checkpointer.step() { return 1 }
        }
        return 0
    }

    /// Takes segments out of memory, or in.
    func stepResidency(_ random: inout SeededGenerator) {
        guard node.memoryBytesMax != nil else { return }
        node.memoryBytesMax = random.once(in: 2) ? 1 : 64 << 20
        for _ in 0..<4 { _ = residency.step() }
        node.memoryBytesMax = 64 << 20
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
