import TallyCluster
import TallyCore
import TallyStorage
@testable import TallyNode
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
    let checkpointer: Checkpointer<SimulatedDisk>
    private let residency: Residency
    let copies: CheckpointCopies<SimulatedDisk>
    /// Messages that were passed over, for a planted bug.
    var skipped = Array(repeating: 0, count: ClusterWorld.logCount)
    var sent: Set<String> = []
    var seen: [Set<String>] = Array(repeating: [], count: ClusterWorld.logCount)

    init(
        number: Int, life: Int, seed: UInt64, clock: SimulatedClock, disk: SimulatedDisk,
        _ plantedBug: ClusterWorld.PlantedBug?, _ histories: [LogHistory], isGuest: Bool = false
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
        copies = opening.copies
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
            let history = histories[log]
            if state == nil, history.origin == nil {
                made.begin(LogState(epoch: 1, streamNanoseconds: history.streamNanoseconds))
            }
            guard made.isHeld else { return made }
            made.setStream(nanoseconds: history.streamNanoseconds)
            made.isCaughtUp = true
            if made.state.epoch < history.epoch { made.stop(.newerEpoch(history.epoch)) }
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

    /// A disk that does what it should; some of what is on it is in the system's memory, too.
    static let noFaults = {
        var faults = SimulatedDisk.Faults()
        faults.readIsCached = 3
        return faults
    }()

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
        defer { disk.setFaults { $0 = SimulatedReplica.noFaults } }
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

    // MARK: Copies

    /// Whether others can copy a log in this epoch.
    func lends(_ log: Int, of epoch: UInt32) -> Bool {
        guard replica.logs[log].isHeld, replica.logs[log].halt == nil,
            let (loan, manifest) = copies.lend(log: log)
        else { return false }
        copies.giveBack(loan: loan)
        return manifest.logs[log]?.state.epoch == epoch
    }

    var isBetweenCheckpoints: Bool { checkpointer.isIdle }

    /// Takes over another replica's checkpoint of a log.
    ///
    /// - Returns: false if a disk failed.
    func copy(_ log: Int, from other: SimulatedReplica) -> Bool {
        guard let (loan, manifest) = other.copies.lend(log: log) else { return false }
        defer { other.copies.giveBack(loan: loan) }
        var here = manifest
        for (partition, tables) in manifest.partitions.enumerated() {
            var named: [Manifest.Table] = []
            for table in tables {
                var segments: [Manifest.Segment] = []
                for segment in table.segments {
                    guard
                        let taken = take(
                            segment, of: manifest, partition, table.family, loan, from: other)
                    else { return false }
                    segments.append(taken)
                }
                named.append(Manifest.Table(family: table.family, segments: segments))
            }
            here.partitions[partition] = named
        }
        let landed = Locked<LandedLog?>(nil)
        copies.add(log: log, here) { result in landed.withLock { $0 = try? result.get() } }
        while let arrival = node.checkpoints.takeArrival() { checkpointer.land(arrival) }
        guard let landed = landed.withLock({ $0 }) else { return false }
        replica.logs[log].begin(landed.state, landed.partitions)
        landed.end()
        replica.logs[log].isCaughtUp = true
        return true
    }

    private func take(
        _ segment: Manifest.Segment, of manifest: Manifest, _ partition: Int, _ family: UInt32,
        _ loan: UInt64, from other: SimulatedReplica
    ) -> Manifest.Segment? {
        do {
            let incoming = try copies.makeFile()
            var offset = 0
            while offset < Int(segment.byteCount) {
                let piece = try other.copies.read(
                    loan: loan, file: segment.number, offset: offset,
                    byteCount: Int(segment.byteCount) - offset)
                guard let piece, !piece.isEmpty else { return nil }
                try piece.withUnsafeBytes { try incoming.write($0, at: offset) }
                offset += piece.count
            }
            return try copies.finish(
                incoming, segment, of: manifest, partition: partition, family: family)
        } catch {
            return nil
        }
    }

    /// Tells those who have waited for too long.
    func checkDeadlines(now: UInt64) {
        for log in replica.logs {
            if log.isHeld, log.halt == nil {
                log.checkDeadlines(now: now)
            } else {
                log.refuseDrafts()
            }
        }
        for remote in replica.remotes { remote.checkDeadlines(now: now) }
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
