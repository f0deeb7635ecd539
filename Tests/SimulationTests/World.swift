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
            checkpointer: Checkpointer<SimulatedDisk>, residency: Residency
        )?

    private var model: [String: Int64] = [:]
    private var states: [UInt64: [String: Int64]] = [0: [:]]
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
        let bug = plantedBug
        disk.setFaults { faults in
            faults.writeFails = writeFails
            faults.syncFails = syncFails
            faults.readFails = 0
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
        case 93..<95: prepareSpace()
        case 95: disk.setCapacity(bytes: [200 << 10, .max].randomElement(using: &random) ?? .max)
        case 96: stop(isClean: true)
        case 97: crash(losesPower: false)
        default: if random.once(in: 2) { crash(losesPower: true) } else { readAll() }
        }
    }

    private mutating func execute() {
        guard let node = served?.node else { return }
        var batch = node.makeBatch()
        let count = Int.random(in: 1...20, using: &random)
        let isUnit = random.once(in: 5)
        let steps = (0..<count).map { _ in
            WorldStep(
                isUnit: isUnit, hasRecords: !isUnit || model[WorldStep.schemaKey] != nil, &random)
        }
        let keys = steps.map(\.keyBytes)
        defer { for key in keys { key.deallocate() } }
        if random.once(in: 60), model[WorldStep.schemaKey] == nil { return declare(node, &batch) }
        if random.once(in: 100) {
            batch.appendClear()
            guard node.execute(&batch) == .done else { return }
            if batch.outcomes[0].status != .journalFull {
                model = model.filter { $0.key == WorldStep.schemaKey }
            }
            finish(batch.latestSequence(0..<batch.count))
            return
        }
        for (step, key) in zip(steps, keys) { step.append(key, to: &batch) }
        if isUnit { batch.makeUnit(from: 0) }
        readBlocks(batch, node)
        guard node.execute(&batch) == .done else { return }
        for (index, step) in steps.enumerated() {
            check(batch.outcomes[index], of: step)
        }
        finish(batch.latestSequence(0..<batch.count))
    }

    /// Declares a family; its records are keys that begin with `WorldStep.recordPrefix`.
    private mutating func declare(_ node: Node, _ batch: inout OperationBatch) {
        for text in WorldStep.declaration {
            guard let change = text.withBytes({ SchemaChange(bytes: $0) }) else { continue }
            batch.appendChange(change)
        }
        guard node.execute(&batch) == .done else { return }
        if batch.outcomes[0].status == .applied { model[WorldStep.schemaKey] = 1 }
        finish(batch.latestSequence(0..<batch.count))
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
        guard let (node, _, _, residency) = served else { return }
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
        switch node.needs(of: batch, from: 0) {
        case .nothing: break
        case .unreadable(let error): violations.append("unreadable: \(error)")
        case .blocks(let blocks):
            node.read(blocks) {}
            while node.readNextBlock() { blocksRead += 1 }
            if case .nothing = node.needs(of: batch, from: 0) { return }
            violations.append("blocks that were read are missing")
        }
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
            if Self.counters(opening.node) != states[last] {
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

    private mutating func check(_ outcome: Outcome, of step: WorldStep) {
        if outcome.status == .journalFull { return }
        var expected = step.apply(to: &model)
        // A change reflects the open group, everything else at least the key's latest change.
        let isChange = outcome.status == .applied && step.kind != .get
        let reflected = isChange ? openSequence : changes[step.key, default: 0]
        expected.sequence = max(reflected, min(outcome.sequence, openSequence))
        if outcome != expected {
            violations.append("\(step): \(outcome) instead of \(expected)")
        }
        if isChange { changes[step.key] = openSequence }
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
        if Self.counters(node) != model { violations.append("counters differ from the model") }
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
                opening.node, opening.committer, opening.checkpointer, opening.residency
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
        let state = states[last]
        if counters != state {
            violations.append("group \(last) came back as \(counters), not \(state ?? [:])")
        }
        if case .always = durability, last < acknowledged {
            violations.append("group \(acknowledged) was acknowledged, \(last) came back")
        }
        model = counters
        states = states.filter { $0.key <= last }
        states[last] = model
        openSequence = last + 1
        changes = [:]
        states[openSequence] = model
        acknowledged = min(acknowledged, last)
    }

    private static func counters(_ node: Node) -> [String: Int64] {
        var counters: [String: Int64] = [:]
        node.forEachPlainKey { counters[String(decoding: $0, as: UTF8.self)] = $1 }
        guard node.schema.schema.families.first?.columns.isEmpty == false else { return counters }
        counters[WorldStep.schemaKey] = 1
        node.forEachRecord(family: 1) { key, values in
            guard case .integer(let number) = key else { return }
            counters["\(WorldStep.recordPrefix)\(number)"] = values[0]
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

/// One operation of the world, and what it does to the model.
struct WorldStep: CustomStringConvertible {
    let kind: Operation.Kind
    let key: String
    let operand: Int64

    init(isUnit: Bool, hasRecords: Bool, _ random: inout SeededGenerator) {
        let kinds: [Operation.Kind] =
            isUnit
            ? [.set]
            : [.add, .add, .add, .add, .get, .set, .setIfAbsent, .setIfPresent, .delete]
        kind = kinds.randomElement(using: &random) ?? .get
        let prefix = hasRecords && random.once(in: 2) ? Self.recordPrefix : "key:"
        key = "\(prefix)\(Int.random(in: 0..<40, using: &random))"
        operand = [1, 1, 1, -1, 5, 1000, .max, .min].randomElement(using: &random) ?? 1
    }

    var description: String { "\(kind) \(key) \(operand)" }

    /// A copy of the key that stays where it is until it is deallocated.
    var keyBytes: UnsafeRawBufferPointer {
        let bytes = UnsafeMutableRawBufferPointer.allocate(
            byteCount: key.utf8.count, alignment: 1)
        bytes.copyBytes(from: key.utf8)
        return UnsafeRawBufferPointer(bytes)
    }

    /// Stands in the model for the family's declaration.
    static let schemaKey = "schema"
    static let recordPrefix = "post:"
    static let declaration = [
        "ADD COUNTER post", "ADD COLUMN post id primarykey",
        "ADD COLUMN post likes min=-9223372036854775808",
    ]

    /// The record that the key names, nil for a plain key.
    private var record: OperationBatch.Record? {
        guard key.hasPrefix(Self.recordPrefix),
            let number = UInt64(key.dropFirst(Self.recordPrefix.count))
        else { return nil }
        return OperationBatch.Record(family: 1, key: number)
    }

    func append(_ bytes: UnsafeRawBufferPointer, to batch: inout OperationBatch) {
        if let record {
            batch.append(kind, record, operand: operand)
        } else {
            batch.append(kind, key: bytes, operand: operand)
        }
    }

    func apply(to model: inout [String: Int64]) -> Outcome {
        guard record == nil else { return applyToRecord(&model) }
        let old = model[key]
        let unchanged = Outcome(.unchanged, wasPresent: old != nil, value: old ?? 0)
        let applied = Outcome(.applied, wasPresent: old != nil, value: old ?? 0)
        switch kind {
        case .get: return applied
        case .add:
            let (sum, overflow) = (old ?? 0).addingReportingOverflow(operand)
            if overflow { return Outcome(.overflow, wasPresent: old != nil, value: old ?? 0) }
            model[key] = sum
            return Outcome(.applied, wasPresent: old != nil, value: sum, acceptedCount: 1)
        case .set: model[key] = operand
        case .setIfAbsent:
            if old != nil { return unchanged }
            model[key] = operand
        case .setIfPresent:
            if old == nil { return unchanged }
            model[key] = operand
        case .delete:
            if old == nil { return unchanged }
            model[key] = nil
        case .clear: model = [:]
        case .readRecord, .setColumns, .setRecord, .deleteRecord, .importRuns, .changeSchema:
            preconditionFailure("not a step of this world")
        }
        return applied
    }

    /// The same for a column that is at 0 by default.
    private func applyToRecord(_ model: inout [String: Int64]) -> Outcome {
        guard model[Self.schemaKey] != nil else { return Outcome(refused: .schemaChanged) }
        let old = model[key] ?? 0
        let unchanged = Outcome(.unchanged, wasPresent: old != 0, value: old)
        var outcome = Outcome(.applied, wasPresent: old != 0, value: old)
        var new = old
        switch kind {
        case .add:
            let (sum, overflow) = old.addingReportingOverflow(operand)
            if overflow { return Outcome(refused: .outOfBounds) }
            new = sum
            outcome.value = sum
            outcome.acceptedCount = 1
        case .set: new = operand
        case .setIfAbsent:
            if old != 0 { return unchanged }
            new = operand
        case .setIfPresent:
            if old == 0 { return unchanged }
            new = operand
        case .delete:
            if old == 0 { return unchanged }
            new = 0
        default: break
        }
        model[key] = new == 0 ? nil : new
        return outcome
    }
}
