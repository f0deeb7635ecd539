import TallyCore
import TallyEngine
import TallyStorage

/// Takes over imports whose files have been written.
struct Importer<D: Disk> {
    let node: Node
    let disk: D
    let identity: LogIdentity

    /// Reads and checks the files of an import and has its records taken over at one moment.
    ///
    /// - Returns: how it ended; its files are gone if it failed.
    func run(_ request: ImportDesk.Request) -> ImportStatus {
        do throws(StorageError) {
            let loader = ImportLoader(disk: disk, identity: identity)
            let names = try storage { () throws(DiskError) in
                try ImportFiles.names(of: request.number, on: disk)
            }
            guard names.count == request.fileCount else {
                throw .damagedFile(
                    "the import", reason: "\(names.count) files instead of \(request.fileCount)")
            }
            let runs = try loader.load(request.number)
            try check(runs, request)
            // Their names must be there before the journal names them.
            try storage { () throws(DiskError) in try disk.syncDirectory() }
            return execute(runs, request)
        } catch {
            return fail(request, "\(error)")
        }
    }

    private func fail(_ request: ImportDesk.Request, _ reason: String) -> ImportStatus {
        // What cannot be removed now goes at the next start.
        try? ImportFiles.remove(request.number, on: disk)
        return .failed(reason)
    }

    /// Whether all records belong where the files say.
    private func check(
        _ runs: [ImportedRuns?], _ request: ImportDesk.Request
    ) throws(StorageError) {
        let family = node.schema.schema.families.first { $0.number == request.family }
        guard let family, runs.count <= node.partitionCount else {
            throw .damagedFile("the import", reason: "the counter or the partitions are others")
        }
        for (partition, runs) in runs.enumerated() {
            for segment in runs?.runs.flatMap({ $0 }) ?? [] {
                let place = PartitionPlace(number: partition, count: node.partitionCount)
                let damage = segment.findDamage { $0.belongs(to: place, family) }
                guard segment.header.family == family.number, segment.header.place == place,
                    damage.isEmpty
                else {
                    throw .damagedFile("the import", reason: damage.first ?? "another counter's")
                }
            }
        }
    }

    private func execute(
        _ runs: [ImportedRuns?], _ request: ImportDesk.Request
    ) -> ImportStatus {
        let records = runs.reduce(0) { $0 + ($1?.recordCount ?? 0) }
        guard records > 0 else { return .done(records: 0) }
        var batch = node.makeBatch()
        batch.appendImport(request.number, family: request.family, runs)
        while node.execute(&batch) == .busy { node.rest() }
        switch batch.outcomes[0].status {
        case .applied:
            let sequence = batch.results.latestSequence(0..<batch.count)
            node.imports.note(request.number, sequence: sequence)
            node.wakeJournal()
            while node.gate.durableSequence < sequence {
                node.checkpoints.requestSync(to: sequence)
                node.wakeUp.signal()
                node.rest()
            }
            return .done(records: records)
        case .deletedKey:
            return fail(request, "deletions are final in this counter, and it is not empty")
        case .journalFull:
            return fail(request, "the journal's disk is full")
        default:
            return fail(request, "the counter was changed meanwhile")
        }
    }
}

extension RecordKey {
    /// Whether a key as a segment has it belongs to the segment's partition.
    func belongs(to place: PartitionPlace, _ family: Family?) -> Bool {
        switch self {
        // Every place is that of one of the partition's keys.
        case .integer: return true
        case .string(let key):
            guard let family else {
                return Slot(of: key).partition(of: place.count) == place.number
            }
            let slot = Array(family.name.utf8).withUnsafeBytes { Slot(of: key, ofFamily: $0) }
            return slot.partition(of: place.count) == place.number
        }
    }
}
