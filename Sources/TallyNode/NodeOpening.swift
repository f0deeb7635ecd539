public import TallyCore
internal import TallyEngine
public import TallyStorage

/// What a node is made with.
public struct NodeConfiguration: Sendable {
    /// When replies may leave.
    public var durability: Durability = .always
    /// Partitions of a new data set; a power of two, at most `Limits.partitionsMax`.
    public var partitionCount = Limits.partitionsDefault
    /// How many threads will execute operations.
    public var threads = 1
    /// Memory for records, bytes, beyond which they stay on disk; nil for no limit.
    public var memoryBytesMax: Int?
    /// Bits of the fingerprints of cold segments' filters; 0 for none.
    public var filterBits = Limits.filterBits
    /// How long what became of a request with a token is remembered at least, seconds.
    public var onceWindowSeconds = Limits.onceWindowSeconds
    /// Memory that this may take, bytes; the oldest go before.
    public var onceMemoryBytes = Limits.onceMemoryBytes
    /// Whether commands are answered without an engine, to measure everything else.
    public var isNull = false
    /// The journal's sizes.
    public var journal = JournalConfiguration()
    /// Where identities and hash seeds come from; a simulation gives its own.
    public var random: @Sendable () -> UInt64 = { .random(in: .min ... .max) }

    /// The defaults.
    public init() {}
}

/// A node that is ready to serve, and what drives its journal.
public struct NodeOpening<D: Disk> {
    /// Executes operations.
    public let node: Node
    /// Takes them to the disk.
    public let committer: Committer<D>
    /// What was found on the disk.
    public let scan: JournalScan

    /// Decides what is in memory.
    public let residency: Residency
    /// Removes keys whose deadline has come.
    public let expiry: Expiry
    /// What of the checkpoint's files is damaged; everything else is served.
    public let damage: [String]

    /// Brings the state to the disk from time to time.
    public let checkpointer: Checkpointer<D>
    /// The checkpoint that was found, nil if there was none.
    public let manifest: Manifest?

    /// Recovers the node whose files are on `disk`, or begins a new one on an empty disk.
    ///
    /// - Throws: `StorageError`; the files are then as they were.
    /// - Complexity: O(segments + journal behind the last checkpoint).
    public init(
        disk: D, clock: some Clock, configuration: NodeConfiguration
    ) throws(StorageError) {
        let hasher = KeyHasher(seed: configuration.random())
        let checkpoint = try LoadedCheckpoint(
            disk: disk, hasher: hasher, mode: configuration.memoryBytesMax == nil ? .hot : .cold)
        damage = checkpoint.damage
        if let manifest = checkpoint.manifest, manifest.logCount > 0 { throw .ofCluster }
        let imports = ImportSource(
            disk: disk, identity: { checkpoint.manifest?.identity })
        var replay = JournalReplay(
            hasher: hasher, partitions: checkpoint.partitions, imports: imports)
        var journal = configuration.journal
        journal.isZeroed = journal.isZeroed && configuration.durability != .none
        let manifest = checkpoint.manifest
        let opening = try JournalRecovery.open(
            disk, configuration: journal,
            identity: LogIdentity(high: configuration.random(), low: configuration.random()),
            partitionCount: configuration.partitionCount,
            floor: manifest?.position.sequence ?? 0,
            nowMilliseconds: clock.wallMilliseconds(),
            accept: { (scan) throws(StorageError) in try checkpoint.check(scan) },
            visit: { replay.apply($0, $1) })
        let scan = opening.scan
        let highest = try CheckpointFiles.removeStrays(manifest, on: disk)
        try storage { () throws(DiskError) in
            try ImportFiles.remove(except: imports.numbers, on: disk)
        }
        let partitionCount =
            scan.identity == nil ? configuration.partitionCount : scan.partitionCount
        let writer = opening.writer
        let budget = JournalBudget(
            floorBytes: writer.floorBytes, pendingMax: configuration.journal.groupBytesMax)
        node = Node(
            identity: writer.logIdentity, partitionCount: partitionCount,
            threads: configuration.threads, hasher: hasher,
            sequence: writer.sequence, epoch: writer.position.epoch, clock: clock,
            logTimeMilliseconds: writer.logTimeMilliseconds,
            memoryBytesMax: configuration.memoryBytesMax,
            once: (configuration.onceWindowSeconds, configuration.onceMemoryBytes),
            isNull: configuration.isNull,
            budget: budget,
            gate: AcknowledgementGate(
                durability: configuration.durability, clock: clock,
                durableSequence: writer.sequence),
            wakeUp: WakeUp(),
            partition: {
                replay.takePartition(PartitionPlace(number: $0, count: partitionCount))
            })
        checkpointer = Checkpointer(
            node: node, disk: disk, clock: clock, identity: writer.logIdentity,
            epoch: writer.position.epoch, published: manifest,
            nextNumber: max(highest + 1, manifest?.nextSegment ?? 1), hasher: hasher,
            filterBits: configuration.filterBits)
        residency = Residency(
            node: node, clock: clock, hasher: hasher, filterBits: configuration.filterBits)
        expiry = Expiry(node: node)
        committer = Committer(
            node: node, disk: disk, clock: clock, durability: configuration.durability,
            writer: writer)
        for number in imports.numbers {
            node.imports.note(number, sequence: scan.lastSequence)
        }
        self.scan = scan
        self.manifest = manifest
        _ = try committer.prepareSpace()
    }
}
