/// Every bound of the server that is not a user's setting, in one place.
///
/// Whatever a client, a file or a peer announces is compared with one of these before memory is
/// spent on it. `docs/limits.md` says what happens at each.
public enum Limits {
    // MARK: Keys and commands

    /// Longest key, bytes.
    public static let keyBytesMax = 4096
    /// Most arguments in one command, its name included.
    public static let argumentsMax = 1 << 20
    /// Longest single argument, bytes.
    public static let bulkBytesMax = 1 << 20
    /// Longest command, its framing included, bytes.
    public static let commandBytesMax = 8 << 20
    /// Longest command of a connection that has not logged in and must, its framing included, bytes.
    public static let strangerCommandBytesMax = 16 << 10
    /// Longest inline (plain text) command, bytes.
    public static let inlineBytesMax = 64 << 10

    /// Scans that clients may be in the middle of; a new one ends the one that was left alone longest.
    public static let scanCursorsMax = 16_384
    /// Most keys that one SCAN looks at.
    public static let scanCountMax = 65_536
    /// Most keys that there may be for KEYS to look at them.
    public static let keysCommandMax = 1_000_000

    /// Most commands between MULTI and EXEC; their bytes are at most `commandBytesMax`.
    public static let transactionCommandsMax = 65_536
    /// Most keys that one connection may watch.
    public static let watchedKeysMax = 4096

    /// Most names that one COMMAND INFO or COMMAND DOCS may ask for.
    public static let commandNamesMax = 1024

    /// Least memory for counters that a user may set, bytes.
    public static let memoryLimitBytesMin = 1 << 20

    // MARK: Connections

    /// Replies that one connection may have waiting for the disk or for its reader before its
    /// further commands are left unread.
    public static let pipelineDepthMax = 1 << 16
    /// Reply bytes that one connection may have waiting before its further commands are left
    /// unread. One command's own reply may exceed it.
    public static let outputBytesMax = 256 << 10
    /// Unfinished command bytes and unsent reply bytes that all connections together may hold; the
    /// connection that asks for more is closed with an error.
    public static let connectionBytesMax = 512 << 20
    /// Longest body of a request of HTTP, bytes.
    public static let requestBodyBytesMax = 1 << 20
    /// Most keys of one request of HTTP.
    public static let requestKeysMax = 10_000
    /// Most increments of one request of HTTP: what became of them can still be remembered for its token.
    public static let requestIncrementsMax = 2_000
    /// Longest time that a connection gets for its TLS handshake, milliseconds.
    public static let handshakeMillisecondsMax: Int64 = 10_000
    /// Reply bytes that a connection may hold back without being counted.
    public static let connectionBytesUncounted = 64 << 10
    /// Longest time that CLIENT PAUSE may ask for, milliseconds.
    public static let pauseMillisecondsMax: UInt64 = 600_000
    /// Bytes that a connection that monitors may leave unread before it is closed.
    public static let monitorBytesMax = 16 << 20
    /// Longest client name, and longest library name or version, bytes.
    public static let clientNameBytesMax = 1024

    // MARK: Journal

    /// Bytes reserved for one journal file when it is created.
    public static let journalFileBytes = 64 << 20
    /// Most payload bytes in one commit group; a command's entries are never longer than the
    /// command, and half of this is more than `commandBytesMax`, so a command always fits. Commands
    /// beyond it wait for the next group.
    public static let groupBytesMax = 24 << 20
    /// Bytes of a commit group that `none` and `interval` write without waiting for their delay.
    public static let groupBytesEager = 1 << 20
    /// Longest time an update under `durability = none` stays in the process, milliseconds.
    public static let writeDelayMilliseconds = 10
    /// Wait between two attempts to reserve journal space on a full disk, milliseconds.
    public static let spaceRetryMilliseconds = 500

    // MARK: Checkpoints

    /// Journal bytes from which on a checkpoint is made, unless the user says otherwise.
    public static let checkpointJournalBytes = 256 << 20
    /// Longest time between a change and a checkpoint that holds it, seconds, unless the user says
    /// otherwise.
    public static let checkpointSeconds = 300
    /// Time from the beginning of one scrub to that of the next, seconds, unless the user says otherwise.
    public static let scrubSeconds = 86_400
    /// Memory for changes from which on a checkpoint is made where segments take little, bytes.
    public static let checkpointChangedBytes = 64 << 20

    // MARK: Tokens

    /// How long at least what became of a request with a token is remembered, seconds, unless the user
    /// says otherwise.
    public static let onceWindowSeconds = 86_400
    /// Memory that all of that may take, bytes, unless the user says otherwise.
    public static let onceMemoryBytes = 256 << 20
    /// How far in the future a token may have been made, milliseconds: clocks differ.
    public static let tokenFutureMillisecondsMax: UInt64 = 300_000
    /// Most words that the outcomes of one request with a token may take; a number takes two.
    public static let onceWordsMax = 4096

    // MARK: Residency

    /// The part of `memory-limit` that blocks of cold segments may take: one in so many.
    public static let cacheShare = 8
    /// Memory that blocks of cold segments may take without a `memory-limit`, bytes: segments are then
    /// cold only until they have been read after a start.
    public static let cacheBytesUnlimited = 64 << 20
    /// Pieces of memory from this size on, bytes, go back to the system one by one: most segments do.
    public static let largeMemoryBytes = 256 << 10
    /// Most blocks of cold segments that one command may need.
    public static let commandBlocksMax = 16_384
    /// Most blocks that are being read or waited for; commands beyond wait until there are fewer.
    public static let blocksAwaitedMax = 262_144
    /// Most blocks that are read for a batch by whoever is about to execute it, because the system has them in
    /// memory; others, and what would follow, are read by threads that may wait.
    public static let cachedReadsMax = 128
    /// For how many of these an attempt counts that found a block to be on the disk only.
    public static let cachedReadMissWeight = 16
    /// Bits of the fingerprints of cold segments' filters, unless the user says otherwise.
    public static let filterBits = 3

    // MARK: Families

    /// Most counter families of a data set.
    public static let familiesMax = 1024
    /// Most columns of a family.
    public static let columnsMax = 64
    /// Longest name of a family, a column or a suffix, bytes.
    public static let schemaNameBytesMax = 64

    // MARK: Partitions

    /// Most partitions of one data set; a power of two.
    public static let partitionsMax = 1024
    /// Partitions of a new data set unless the user says otherwise; a power of two.
    public static let partitionsDefault = 64

    // MARK: Hot keys

    /// Keys that each event loop counts: one that is asked for more often than one time in so many is found.
    public static let hotKeysCounted = 64

    // MARK: Replicated logs

    /// Logs of a new cluster, unless the user says otherwise; a power of two.
    public static let logsDefault = 16
    /// Most logs of a cluster; a power of two.
    public static let logsMax = 64
    /// Most bytes of one message of a log, below what a broker takes, 1 MiB.
    public static let logMessageBytesMax = 1000 << 10
    /// Messages of a log that may wait at a node; what comes beyond waits with its clients.
    public static let draftsMax = 4
    /// How long a producer that is silent is remembered, in log time, milliseconds: a message that is
    /// older is void.
    public static let producerHorizonMilliseconds: UInt64 = 600_000
    /// How far a producer's clock may be ahead of the log's time, milliseconds.
    public static let producerFutureMilliseconds: UInt64 = 300_000
    /// Producers beyond which those that have been silent for too long are forgotten.
    public static let producersKept = 64
    /// How long a message may be on its way before its outcome counts as unknown, and how long others may
    /// wait behind it before they are given up, milliseconds, unless the user says otherwise.
    public static let writeMillisecondsMax: UInt64 = 10_000
    /// How long an addition that was answered early may stay out of the log, milliseconds, unless the user says
    /// otherwise.
    public static let earlyMillisecondsMax = 1_000
    /// The same, the most that a user may say.
    public static let earlyMillisecondsLimit = 60_000
    /// Messages with additions that were answered early that may wait to be sent.
    public static let earlyDraftsMax = 2
    /// Time after which a message that nobody has confirmed is sent again, milliseconds.
    public static let publishRetryMilliseconds: UInt64 = 2_000
    /// Bytes of operations that are passed on to another node in one request, about.
    public static let forwardBytesMax = 64 << 10
    /// Requests of one log that may be on their way to another node.
    public static let forwardsInFlight = 4
    /// Time after which a request that nobody has taken is sent again, milliseconds.
    public static let forwardRetryMilliseconds: UInt64 = 50
    /// Bytes a second at which a node copies other nodes' checkpoints, unless the user says otherwise.
    public static let copyBytesPerSecond = 64 << 20
    /// How long a copy of a checkpoint may pause, seconds.
    public static let copySilenceSeconds: UInt64 = 60
    /// Bytes of one piece of a file that is copied.
    public static let copyPieceBytes = 512 << 10
    /// How long a command waits for a position that its node has not reached, milliseconds.
    public static let positionMillisecondsMax: UInt64 = 2_000
    /// How often logs are trimmed, seconds.
    public static let trimSeconds = 10
    /// Keys that are looked at to find those of one slot.
    public static let slotKeysLookedAt = 1_000_000
    /// How long a node may be silent before others send nobody to it, milliseconds.
    public static let nodeSilenceMilliseconds: UInt64 = 1_000
    /// How long a silent node keeps its logs, seconds, unless the user says otherwise.
    public static let absenceSeconds = 300
}
