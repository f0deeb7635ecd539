public import TallyCore
internal import TallyEngine
public import TallyStorage

/// Which cluster's data a node holds a part of.
public struct ClusterData: Sendable {
    /// The data's identity.
    public var identity: LogIdentity
    /// How many partitions there are; a power of two.
    public var partitionCount: Int
    /// How many logs order them; a power of two.
    public var logCount: Int

    /// A cluster's data in all its numbers.
    public init(identity: LogIdentity, partitionCount: Int, logCount: Int) {
        self.identity = identity
        self.partitionCount = partitionCount
        self.logCount = logCount
    }

    /// The partitions that a log orders.
    public func partitions(ofLog number: Int) -> Range<Int> {
        LogShares(partitionCount: partitionCount, logCount: logCount).partitions(of: number)
    }
}

/// A node of a cluster as its last checkpoint has left it, and what drives its files.
public struct ReplicaOpening<D: Disk> {
    /// Holds the partitions.
    public let node: Node
    /// Decides what is in memory.
    public let residency: Residency
    /// Brings the state to the disk from time to time.
    public let checkpointer: Checkpointer<D>
    /// Lends its files to other nodes, and takes theirs in.
    public let copies: CheckpointCopies<D>
    /// The checkpoint that was found, or an empty one.
    public let manifest: Manifest
    /// What of its files is damaged; everything else is served.
    public let damage: [String]

    /// Opens the node whose files are on `disk`, or begins a new one on an empty disk.
    ///
    /// - Parameter newName: What a new node is to be called.
    /// - Throws: `StorageError`; the files are then as they were.
    /// - Complexity: O(segments).
    public init(
        disk: D, clock: some Clock, configuration: NodeConfiguration, data: ClusterData,
        newName: String
    ) throws(StorageError) {
        let hasher = KeyHasher(seed: configuration.random())
        if try storage({ () throws(DiskError) in try JournalScanner<D>.hasFiles(disk) }) {
            throw .notOfCluster
        }
        if try CheckpointFiles.readManifest(on: disk) == nil {
            // So that segments without a manifest are never taken for those of a new node.
            let empty = Self.emptyManifest(data, newName, clock)
            try storage { () throws(DiskError) in
                try CheckpointFiles.replaceManifest(empty, on: disk)
            }
        }
        let checkpoint = try LoadedCheckpoint(
            disk: disk, hasher: hasher, mode: configuration.memoryBytesMax == nil ? .hot : .cold)
        guard let manifest = checkpoint.manifest, manifest.logCount > 0 else {
            throw .notOfCluster
        }
        guard manifest.identity == data.identity, manifest.logCount == data.logCount,
            manifest.partitions.count == data.partitionCount
        else { throw .foreign(file: "manifest") }
        let highest = try CheckpointFiles.removeStrays(manifest, on: disk)
        node = Node(
            identity: data.identity, partitionCount: data.partitionCount,
            threads: configuration.threads, hasher: hasher, sequence: 0, epoch: 1, clock: clock,
            logTimeMilliseconds: manifest.logTimeMilliseconds,
            memoryBytesMax: configuration.memoryBytesMax,
            once: (configuration.onceWindowSeconds, configuration.onceMemoryBytes),
            isNull: configuration.isNull,
            budget: JournalBudget(floorBytes: 0, pendingMax: configuration.journal.groupBytesMax),
            // What has been applied is in the log.
            gate: AcknowledgementGate(durability: .none, clock: clock, durableSequence: 0),
            wakeUp: WakeUp(), logCount: data.logCount,
            partition: { checkpoint.partitions[$0].take() })
        node.noteDamageFound()
        checkpointer = Checkpointer(
            node: node, disk: disk, clock: clock, identity: data.identity, epoch: 1,
            published: manifest, nextNumber: max(highest + 1, manifest.nextSegment),
            hasher: hasher, filterBits: configuration.filterBits)
        residency = Residency(
            node: node, clock: clock, hasher: hasher, filterBits: configuration.filterBits)
        copies = CheckpointCopies(node: node, disk: disk, clock: clock)
        self.manifest = manifest
        damage = checkpoint.damage
    }

    private static func emptyManifest(
        _ data: ClusterData, _ name: String, _ clock: some Clock
    ) -> Manifest {
        Manifest(
            identity: data.identity, position: Position(epoch: 1, sequence: 0),
            logTimeMilliseconds: 0, createdMilliseconds: clock.wallMilliseconds(), nextSegment: 1,
            schema: Schema(), partitions: Array(repeating: [], count: data.partitionCount),
            logCount: data.logCount, nodeName: name)
    }

    /// How far the partitions of a log have come; nil if they are not held here.
    public func state(ofLog number: Int) -> LogState? { manifest.logs[number]?.state }
}
