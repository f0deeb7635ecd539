import TallyCore
import TallyEngine
import TallyNode
import TallyStorage
import TallyTestSupport

/// A node on a simulated disk, its clients, and the model that says what they may see.
///
/// One seed decides everything. The model is a plain dictionary; a copy of it is kept for every
/// commit group, because after a crash the node must be exactly in the state of one of them: not
/// before the last group that a reply reflected.
struct World {
    /// A mistake that the checks must find.
    enum PlantedBug: Equatable {
        case skippedSync
        case hiddenSyncFailure
        case groupAppliedTwice
        case staleBytesAccepted
        case fileSyncedAgainAfterFailure
    }

    let seed: UInt64
    private var random: SeededGenerator
    private let disk: SimulatedDisk
    private let clock = SimulatedClock()
    private let durability: Durability
    private let plantedBug: PlantedBug?
    private var served:
        (
            node: Node, committer: Committer<SimulatedDisk>,
            checkpointer: Checkpointer<SimulatedDisk>, residency: Residency, expiry: Expiry
        )?

    private var model: Model = [:]
    private var states: [UInt64: Model] = [0: [:]]
    private var openSequence: UInt64 = 1
    /// The group that holds the latest change of each key, since the last start.
    private var changes: [String: UInt64] = [:]
    /// The latest group that a reply has reflected.
    private var acknowledged: UInt64 = 0
    /// Replies that wait, by the group that they reflect.
    private var waiting: [UInt64] = []

    /// What went wrong, in words; empty if nothing did.
    private(set) var violations: [String] = []
    /// What happened, for comparing two runs of one seed.
    private(set) var trace: [String] = []
    private(set) var crashes = 0
    private(set) var checkpoints = 0
    private(set) var backups = 0
    private(set) var coldSegments = 0
    private(set) var blocksRead = 0
    private(set) var expiries = 0
    /// Requests with a token; what became of each is in the model.
    private var requests: [(token: RequestToken, step: WorldStep)] = []
    private(set) var repetitions = 0

    init(seed: UInt64, plantedBug: PlantedBug? = nil) {
        self.seed = seed
        self.plantedBug = plantedBug
        random = SeededGenerator(seed: seed)
        disk = SimulatedDisk(seed: seed ^ 0x5eed)
        durability =
            plantedBug == .fileSyncedAgainAfterFailure
            ? .none
            : [.always, .always, .interval(milliseconds: 20), .none][Int(seed % 4)]
    }

    mutating func run(steps: Int) {
        setFaults()
        open()
        for _ in 0..<steps where violations.isEmpty { step() }
        // The end: all faults gone, the data comes back once more.
        disk.setFaults { $0 = SimulatedDisk.Faults() }
        disk.setCapacity(bytes: .max)
        stop(isClean: random.once(in: 2))
        if violations.isEmpty { open() }
    }

    private mutating func setFaults() {
        let (writeFails, syncFails) = (
            [0, 0, 400][Int(seed / 4 % 3)], [0, 60][Int(seed / 12 % 2)]
        )
        let readIsCached = [0, 3][Int(seed / 24 % 2)]
        let bug = plantedBug
        disk.setFaults { faults in
            faults.writeFails = writeFails
            faults.syncFails = syncFails
            faults.readFails = 0
            faults.readIsCached = readIsCached
            faults.showsStaleBytes = true
            if bug == .skippedSync { faults.syncIsSkipped = 3 }
            if bug == .hiddenSyncFailure { faults.failedSyncIsHidden = 10 }
            if bug == .fileSyncedAgainAfterFailure {
                // Only stops sync here; many must fail for one to matter.
                faults.ignoresEqualWrites = true
                faults.syncFails = 4
            }
        }
    }

    // MARK: Steps

    private mutating func step() {
        clock.advance(nanoseconds: UInt64.random(in: 0..<5_000_000, using: &random))
        guard served != nil else { return open() }
        switch Int.random(in: 0..<100, using: &random) {
        case 0..<50: execute()
        case 50..<75: commit()
        case 75..<83: acknowledge()
        case 83..<91: checkpoint()
        case 91..<93: changeResidency()
        case 93: prepareSpace()
        case 94: if random.once(in: 2) { sweep() } else { jump() }
        case 95: disk.setCapacity(bytes: [200 << 10, .max].randomElement(using: &random) ?? .max)
        case 96: stop(isClean: true)
        case 97: crash(losesPower: false)
        default: if random.once(in: 2) { crash(losesPower: true) } else { readAll() }
        }
    }

    private mutating func execute() {
        guard let node = served?.node else { return }
        var batch = node.makeBatch()
        if random.once(in: 8) { return executeOnce(node, &batch) }
        let count = Int.random(in: 1...20, using: &random)
        let isUnit = random.once(in: 5)
        let now = node.nowMilliseconds()
        let steps = (0..<count).map { _ in
            WorldStep(
                isUnit: isUnit, hasRecords: !isUnit || model[WorldStep.schemaKey] != nil, now: now,
                &random)
        }
        let keys = steps.map(\.keyBytes)
        defer { for key in keys { key.deallocate() } }
        if random.once(in: 60), model[WorldStep.schemaKey] == nil { return declare(node, &batch) }
        if random.once(in: 100) {
            batch.appendClear()
            guard node.execute(&batch) == .done else { return }
            if batch.outcomes[0].status != .journalFull {
                model = model.filter {
                    $0.key == WorldStep.schemaKey || $0.key.hasPrefix(Self.requestPrefix)
                }
            }
            finish(batch.results.latestSequence(0..<batch.count))
            return
        }
        for (step, key) in zip(steps, keys) { step.append(key, to: &batch) }
        if isUnit { batch.makeUnit(from: 0) }
        readBlocks(batch, node)
        guard node.execute(&batch) == .done else { return }
        let outcomes = (0..<count).map { batch.outcomes[$0] }
        let removesDue = removesDue(steps, outcomes, now, node)
        if isUnit, removesDue { for step in steps { removeIfDue(step.key, now) } }
        for (step, outcome) in zip(steps, outcomes) {
            check(outcome, of: step, now, removesDue: removesDue)
        }
        finish(batch.results.latestSequence(0..<batch.count))
    }

    // MARK: Requests that are counted once

    /// Stands in the model before the number of a request that has been executed.
    private static let requestPrefix = "request:"

    /// Executes a request that is new, or one that was sent before: perhaps in vain.
    private mutating func executeOnce(_ node: Node, _ batch: inout OperationBatch) {
        let now = node.nowMilliseconds()
        if requests.isEmpty || random.once(in: 2) {
            let step = WorldStep(adding: 7, hasRecords: model[WorldStep.schemaKey] != nil, &random)
            requests.append((RequestToken(high: UInt64(now) << 16, low: random.next()), step))
        }
        let number =
            random.once(in: 2)
            ? requests.count - 1 : Int.random(in: 0..<requests.count, using: &random)
        let (token, step) = requests[number]
        let key = step.keyBytes
        defer { key.deallocate() }
        let first = batch.beginTransaction()
        step.append(key, to: &batch)
        guard batch.endTransaction(from: first, once: token, fingerprint: UInt64(number)) else {
            return violations.append("nothing to do")
        }
        readBlocks(batch, node)
        guard node.execute(&batch) == .done else { return }
        let (header, outcome) = (batch.outcomes[first], batch.outcomes[first + 1])
        if header.status == .journalFull { return }
        // A crash may have taken the family, and what was remembered with it.
        if header.status == .schemaChanged, model[WorldStep.schemaKey] == nil { return }
        let name = "\(Self.requestPrefix)\(number)"
        if header.status != .applied {
            violations.append("request \(number) was refused: \(header.status)")
        } else if let told = model[name] {
            repetitions += 1
            if outcome.value != told.value {
                violations.append("request \(number): \(outcome.value), first \(told.value)")
            }
        } else {
            check(outcome, of: step, now, removesDue: true)
            model[name] = Counter(value: outcome.value)
        }
        finish(batch.results.latestSequence(0..<batch.count))
    }

    /// What of the model a look at all counters shows.
    private static func visible(_ model: Model) -> Model {
        model.filter { !$0.key.hasPrefix(requestPrefix) }
    }

    /// Declares a family; its records are keys that begin with `WorldStep.recordPrefix`.
    private mutating func declare(_ node: Node, _ batch: inout OperationBatch) {
        for text in WorldStep.declaration {
            guard let change = text.withBytes({ SchemaChange(bytes: $0) }) else { continue }
            batch.appendChange(change)
        }
        guard node.execute(&batch) == .done else { return }
        if batch.outcomes[0].status == .applied {
            model[WorldStep.schemaKey] = Counter(value: 1)
        }
        finish(batch.results.latestSequence(0..<batch.count))
    }

    /// Goes on with a checkpoint, or begins one.
    private mutating func checkpoint() {
        guard let checkpointer = served?.checkpointer else { return }
        // That one needs journal files to stay.
        if plantedBug == .fileSyncedAgainAfterFailure { return }
        if random.once(in: 10) { return backUp(checkpointer) }
        if checkpointer.isIdle, random.once(in: 3) { checkpointer.begin() }
        do throws(CheckpointError) {
            for _ in 0..<Int.random(in: 1...8, using: &random) {
                if case .finished(let sequence, _, _) = try checkpointer.step() {
                    trace.append("checkpoint \(sequence)")
                    checkpoints += 1
                }
            }
        } catch {
            trace.append("no checkpoint: \(error)")
        }
    }

    /// Takes some segments out of memory, or brings some back.
    private mutating func changeResidency() {
        guard let (node, _, _, residency, _) = served else { return }
        let limit = node.memoryBytesMax
        // Next to no memory makes all cold, plenty makes all hot.
        node.memoryBytesMax = random.once(in: 2) ? 1 : nil
        for _ in 0..<Int.random(in: 1...8, using: &random) {
            switch residency.step() {
            case .idle, .working: break
            case .damaged(let damage): violations.append("damage where there is none: \(damage)")
            }
        }
        node.memoryBytesMax = limit
        coldSegments = max(coldSegments, node.residency.cold.count)
    }

    /// Reads what the operations of a batch need, as a server does before it executes them.
    private mutating func readBlocks(_ batch: borrowing OperationBatch, _ node: Node) {
        // A server may be late: the blocks are then read while the batch is executed.
        guard random.once(in: 2) else { return }
        // A key may have a place in two tables.
        for _ in 0...2 {
            switch node.needs(of: batch, from: 0) {
            case .nothing: return
            case .unreadable(let error): return violations.append("unreadable: \(error)")
            case .blocks(let blocks):
                node.read(blocks) {}
                while node.readNextBlock() { blocksRead += 1 }
            }
        }
        violations.append("blocks that were read are missing")
    }

    /// Makes a backup and looks at what a server finds there.
    private mutating func backUp(_ checkpointer: Checkpointer<SimulatedDisk>) {
        let target = SimulatedDisk(seed: random.next())
        let known = acknowledged
        do throws(BackupFiles.Failure) {
            try checkpointer.backUp(to: target)
        } catch {
            trace.append("no backup: \(error)")
            return
        }
        let names = (try? target.list()) ?? []
        guard names.contains(where: { $0.hasPrefix("journal-") }) else {
            if case .always = durability, known > 0 {
                violations.append("a backup without a journal")
            }
            return
        }
        backups += 1
        do throws(StorageError) {
            let opening = try NodeOpening(
                disk: target, clock: clock, configuration: configuration)
            let last = opening.scan.lastSequence
            trace.append("backup \(last)")
            if Self.counters(opening.node) != states[last].map(Self.visible) {
                violations.append("group \(last) is in a backup as something else")
            }
            if case .always = durability, last < known {
                violations.append("group \(known) was acknowledged, a backup ends at \(last)")
            }
        } catch {
            violations.append("a backup cannot be opened: \(error)")
        }
    }

    private mutating func finish(_ sequence: UInt64) {
        states[openSequence] = model
        waiting.append(sequence)
        if random.once(in: 2) { acknowledge() }
    }

    private mutating func check(
        _ outcome: Outcome, of step: WorldStep, _ now: Int64, removesDue: Bool
    ) {
        if outcome.status == .journalFull { return }
        if removesDue { removeIfDue(step.key, now) }
        var expected = step.apply(to: &model, now)
        // A change reflects the open group, everything else at least the key's latest change.
        let isChange = outcome.status == .applied && step.isWrite
        let reflected = isChange ? openSequence : changes[step.key, default: 0]
        expected.sequence = max(reflected, min(outcome.sequence, openSequence))
        if outcome != expected {
            violations.append("\(step): \(outcome) instead of \(expected)")
        }
        if isChange { changes[step.key] = openSequence }
        if removesDue, step.kind.setsDeadline { removeIfDue(step.key, now) }
    }

    // MARK: Deadlines

    /// Whether keys that were due have been removed, which a full journal forbids.
    private func removesDue(
        _ steps: [WorldStep], _ outcomes: [Outcome], _ now: Int64, _ node: Node
    ) -> Bool {
        for (step, outcome) in zip(steps, outcomes) where step.isWrite {
            return outcome.status != .journalFull
        }
        let counters = Self.counters(node)
        return !steps.contains { counters[$0.key]?.isDue(now) == true }
    }

    private mutating func removeIfDue(_ key: String, _ now: Int64) {
        guard model[key]?.isDue(now) == true else { return }
        model[key] = nil
        changes[key] = openSequence
        expiries += 1
    }

    /// Lets the node look for keys that are due.
    private mutating func sweep() {
        guard let (node, _, _, _, expiry) = served else { return }
        let now = node.nowMilliseconds()
        for _ in 0..<6 where expiry.step() != .busy {}
        let counters = Self.counters(node)
        for key in Self.visible(model).keys where counters[key] == nil {
            guard model[key]?.isDue(now) == true else {
                violations.append("\(key) was removed and was not due")
                continue
            }
            removeIfDue(key, now)
        }
        states[openSequence] = model
    }

    /// The machine's clock is set, forwards or backwards.
    private mutating func jump() {
        clock.jump(milliseconds: [-50_000, -500, 500, 5000].randomElement(using: &random) ?? 0)
    }

    /// Sends the replies that may leave.
    private mutating func acknowledge() {
        guard let node = served?.node else { return }
        while let first = waiting.first, node.gate.admits(first) {
            acknowledged = max(acknowledged, first)
            waiting.removeFirst()
        }
    }

    private mutating func commit() {
        guard let committer = served?.committer else { return }
        do throws(StorageError) {
            if try committer.commit() {
                openSequence += 1
                states[openSequence] = model
                trace.append("committed \(openSequence - 1)")
            }
        } catch {
            // The process ends; whether the machine does too is another matter.
            trace.append("failed: \(error)")
            crash(losesPower: random.once(in: 2))
        }
    }

    private mutating func prepareSpace() {
        guard let committer = served?.committer else { return }
        do throws(StorageError) {
            _ = try committer.prepareSpace()
        } catch {
            crash(losesPower: random.once(in: 2))
        }
    }

    private mutating func readAll() {
        guard let node = served?.node else { return }
        if Self.counters(node) != Self.visible(model) {
            violations.append("counters differ from the model")
        }
        node.checkInvariants()
    }

    // MARK: Stopping and starting

    private mutating func crash(losesPower: Bool) {
        acknowledge()
        served = nil
        waiting = []
        crashes += 1
        if losesPower { disk.losePower() }
        plant()
        trace.append("crash, power \(losesPower ? "lost" : "kept")")
    }

    private mutating func stop(isClean: Bool) {
        guard isClean, let committer = served?.committer else {
            return crash(losesPower: random.once(in: 2))
        }
        do throws(StorageError) {
            try committer.close()
            acknowledge()
            trace.append("stopped")
            served = nil
            waiting = []
        } catch {
            crash(losesPower: random.once(in: 2))
        }
    }

    /// What a server is started with; draws its hash seed.
    private var configuration: NodeConfiguration {
        mutating get {
            var configuration = NodeConfiguration()
            configuration.durability = durability
            configuration.partitionCount = 4
            configuration.threads = seed % 2 == 0 ? 1 : 2
            configuration.memoryBytesMax = seed % 3 == 0 ? 1 << 20 : nil
            configuration.journal.fileBytes =
                plantedBug == .fileSyncedAgainAfterFailure ? 8 << 10 : 64 << 10
            configuration.journal.groupBytesMax =
                plantedBug == .fileSyncedAgainAfterFailure ? 2 << 10 : 16 << 10
            let hashSeed = random.next()
            configuration.random = { hashSeed }
            return configuration
        }
    }

    private mutating func open() {
        let configuration = configuration
        do throws(StorageError) {
            let opening = try NodeOpening(
                disk: disk, clock: clock, configuration: configuration)
            served = (
                opening.node, opening.committer, opening.checkpointer, opening.residency,
                opening.expiry
            )
            recovered(opening)
        } catch {
            guard case .disk = error else {
                violations.append("cannot recover: \(error)")
                return
            }
            // A full or failing disk; the operator tries again.
            trace.append("cannot open: \(error)")
            disk.setCapacity(bytes: .max)
            if random.once(in: 2) { disk.losePower() }
        }
    }

    private mutating func recovered(_ opening: NodeOpening<SimulatedDisk>) {
        let last = opening.scan.lastSequence
        trace.append("recovered \(last)")
        let counters = Self.counters(opening.node)
        opening.node.checkInvariants()
        let state = states[last] ?? [:]
        if counters != Self.visible(state) {
            violations.append("group \(last) came back as \(counters), not \(state)")
        }
        if case .always = durability, last < acknowledged {
            violations.append("group \(acknowledged) was acknowledged, \(last) came back")
        }
        model = state
        states = states.filter { $0.key <= last }
        states[last] = model
        openSequence = last + 1
        changes = [:]
        states[openSequence] = model
        acknowledged = min(acknowledged, last)
    }

    private static func counters(_ node: Node) -> Model {
        var counters: Model = [:]
        node.forEachPlainKey { key, value, deadline in
            counters[String(decoding: key, as: UTF8.self)] = Counter(
                value: value, deadline: deadline)
        }
        guard node.schema.schema.families.first?.columns.isEmpty == false else { return counters }
        counters[WorldStep.schemaKey] = Counter(value: 1)
        node.forEachRecord(family: 1) { key, values in
            guard case .integer(let number) = key else { return }
            counters["\(WorldStep.recordPrefix)\(number)"] = Counter(value: values[0])
        }
        return counters
    }

    // MARK: Planted bugs

    /// Does to the files what a mistaken writer or reader would have done.
    private mutating func plant() {
        switch plantedBug {
        case .groupAppliedTwice:
            if random.once(in: 2) { JournalForger(disk).repeatLastGroup() }
        case .staleBytesAccepted:
            JournalForger(disk).blessStaleGroups()
        case .skippedSync, .hiddenSyncFailure, .fileSyncedAgainAfterFailure, nil: break
        }
    }
}
