public import TallyCore
public import TallyStorage

/// Makes the data of a node that was alone those of a node of a cluster, which holds all of its logs.
public enum ClusterConversion {
    /// Why it is not done.
    public enum Refusal: Error, Equatable, Sendable, CustomStringConvertible {
        /// There is nothing.
        case empty
        /// So many logs cannot order so many partitions.
        case logCount(Int, partitions: Int)

        /// One line for an operator.
        public var description: String {
            switch self {
            case .empty: "there are no data in it"
            case .logCount(let logs, let partitions):
                "\(logs) logs cannot order \(partitions) partitions: a power of two, at most as many, and at "
                    + "most \(Limits.logsMax)"
            }
        }
    }

    /// Brings everything that the journal holds into a checkpoint, names the logs in it, and removes the journal.
    ///
    /// Can be interrupted, and done again. What was given with tokens stays known.
    ///
    /// - Returns: the manifest of the directory as it is now, also if it was a cluster's before.
    /// - Throws: `StorageError`, `CheckpointError`, `Refusal`.
    /// - Complexity: O(what the last checkpoint did not hold).
    public static func convert<D: Disk>(
        _ disk: D, clock: some Clock, configuration: NodeConfiguration, logCount: Int,
        nodeName: String
    ) throws -> Manifest {
        if let manifest = try CheckpointFiles.readManifest(on: disk), manifest.logCount > 0 {
            // Journals that an interrupted attempt has left.
            try removeJournal(disk)
            return manifest
        }
        guard try JournalScanner<D>.hasFiles(disk) else { throw Refusal.empty }
        let opening = try NodeOpening(disk: disk, clock: clock, configuration: configuration)
        let partitionCount = opening.node.partitionCount
        guard logCount > 0, logCount.nonzeroBitCount == 1,
            logCount <= min(Limits.logsMax, partitionCount)
        else {
            throw Refusal.logCount(logCount, partitions: partitionCount)
        }
        opening.checkpointer.begin()
        while true {
            _ = try opening.committer.commit()
            if case .finished = try opening.checkpointer.step() { break }
        }
        try opening.committer.close()
        guard var manifest = try CheckpointFiles.readManifest(on: disk) else {
            preconditionFailure("a checkpoint without a manifest")
        }
        // Of no stream that there ever was: the logs begin anew in another epoch.
        var state = LogState(epoch: manifest.position.epoch, streamNanoseconds: 1)
        state.sequence = manifest.position.sequence
        state.milliseconds = manifest.logTimeMilliseconds
        manifest.logCount = logCount
        manifest.nodeName = nodeName
        // As if made by one change, so that it is a later one than nothing.
        let schema = Schema(
            families: manifest.schema.families, nextFamily: manifest.schema.nextFamily,
            changeCount: 1)
        for number in 0..<logCount {
            manifest.logs[number] = Manifest.HeldLog(state: state, schema: schema)
        }
        try CheckpointFiles.replaceManifest(manifest, on: disk)
        try removeJournal(disk)
        return manifest
    }

    private static func removeJournal<D: Disk>(_ disk: D) throws(DiskError) {
        for name in try disk.list() where JournalScanner<D>.isFile(name) { try disk.remove(name) }
        try disk.syncDirectory()
    }
}
