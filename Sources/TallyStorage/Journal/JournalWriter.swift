public import TallyCore

/// Sizes of a journal's files and groups.
public struct JournalConfiguration: Sendable {
    /// Bytes reserved for one file when it is created; at least twice `groupBytesMax`.
    public var fileBytes = Limits.journalFileBytes
    /// Most payload bytes of one group.
    public var groupBytesMax = Limits.groupBytesMax
    /// Whether a new file is filled with zeros: costs writing it twice, and spares every sync the
    /// file system's own journal.
    public var isZeroed = false

    /// The sizes that `Limits` names.
    public init() {}

    /// Most bytes of one group in its file, with `partitionCount` sections.
    func groupExtentMax(partitionCount: Int) -> Int {
        JournalFormat.padded(groupBytesMax + Self.groupOverheadMax(partitionCount: partitionCount))
    }

    /// Most bytes of one group that are not entries.
    static func groupOverheadMax(partitionCount: Int) -> Int {
        GroupHeader.byteCount + partitionCount * GroupSection.headerBytes
            + JournalFormat.sectorBytes
    }
}

/// A journal file that gets no further groups.
struct FinishedJournalFile {
    let name: String
    let lastSequence: UInt64
}

/// Where a journal ends: files of later numbers hold nothing yet.
public struct JournalEnd: Equatable, Sendable {
    /// The number of the file that is being written.
    public let number: UInt64
    /// Where in it the last group ends, bytes; 0 if it holds none.
    public let offset: Int
}

/// Appends commit groups to a journal's newest file.
///
/// Only one group may be unsynced under `always`: the caller writes, syncs, and only then writes the
/// next. After anything has failed the writer refuses everything: what reached the disk is unknown.
public struct JournalWriter<D: Disk>: ~Copyable {
    private let disk: D
    private let configuration: JournalConfiguration
    private let identity: LogIdentity
    private let epoch: UInt32
    private let partitionCount: Int

    private var current: D.File?
    private var currentNumber: UInt64
    private var offset = 0
    /// The next file, created and reserved, but without a group.
    private var prepared: D.File?
    private var nextNumber: UInt64
    /// Files before the current one with groups that are not synced.
    private var unsyncedFiles: [(file: D.File, lastSequence: UInt64)] = []
    /// Files before the current one, oldest first.
    private var finished: [FinishedJournalFile]
    /// The first group of the current file.
    private var firstSequence: UInt64 = 0
    private var hasFailed = false
    /// Whether the journal's last group is a seal, or it has none.
    private var isSealed: Bool

    /// Most files that may wait for a sync before the oldest is synced.
    private static var unsyncedFilesMax: Int { 8 }

    /// The last group written.
    public private(set) var sequence: UInt64
    /// The last group synced, with all before it.
    public private(set) var durableSequence: UInt64
    /// The log time of the last group.
    public private(set) var logTimeMilliseconds: UInt64

    init(
        disk: D, configuration: JournalConfiguration, identity: LogIdentity, epoch: UInt32,
        partitionCount: Int, isSealed: Bool, nextNumber: UInt64, sequence: UInt64,
        logTimeMilliseconds: UInt64, finished: [FinishedJournalFile]
    ) {
        precondition(
            configuration.fileBytes
                >= 2 * configuration.groupExtentMax(partitionCount: partitionCount),
            "journal files too small for their groups")
        self.disk = disk
        self.configuration = configuration
        self.identity = identity
        self.epoch = epoch
        self.partitionCount = partitionCount
        self.isSealed = isSealed
        self.nextNumber = nextNumber
        currentNumber = 0
        self.sequence = sequence
        durableSequence = sequence
        self.logTimeMilliseconds = logTimeMilliseconds
        self.finished = finished
    }

    /// The data's identity.
    public var logIdentity: LogIdentity { identity }

    /// Where the last group written ends.
    public var end: JournalEnd {
        current == nil
            ? JournalEnd(number: nextNumber, offset: 0)
            : JournalEnd(number: currentNumber, offset: offset)
    }

    /// The position of the last group written.
    public var position: Position { Position(epoch: epoch, sequence: sequence) }

    /// Space that must stay free of reservations: what one change of files may waste, and the
    /// frames of the groups under way.
    public var floorBytes: Int {
        configuration.groupExtentMax(partitionCount: partitionCount)
            + 4 * JournalConfiguration.groupOverheadMax(partitionCount: partitionCount)
    }

    /// Whether it is time to create the next file.
    public var wantsFile: Bool {
        prepared == nil
            && (current == nil || offset > configuration.fileBytes / 4)
    }

    /// The file to create next.
    public func fileRequest(nowMilliseconds: UInt64) -> JournalFileRequest {
        JournalFileRequest(
            name: JournalFormat.fileName(nextNumber),
            header: JournalFileHeader(
                identity: identity, number: nextNumber, epoch: epoch,
                partitionCount: UInt32(partitionCount), replaces: 0,
                createdMilliseconds: nowMilliseconds),
            fileBytes: configuration.fileBytes, isZeroed: configuration.isZeroed)
    }

    /// Takes over the file that the latest `fileRequest` created.
    ///
    /// - Returns: bytes that can now be written in addition.
    public mutating func adopt(_ file: D.File) -> Int {
        precondition(prepared == nil, "a file is prepared already")
        prepared = file
        return configuration.fileBytes - JournalFormat.sectorBytes
    }

    /// Writes `group` as the next one, without syncing it.
    ///
    /// - Returns: bytes of reserved space that this took, what a change of files wasted included.
    /// - Throws: `disk`; the writer is then dead.
    public mutating func append(
        _ group: inout CommitGroup, nowMilliseconds: UInt64, isSeal: Bool = false
    ) throws(StorageError) -> Int {
        precondition(!hasFailed, "journal written after a failure")
        logTimeMilliseconds = max(logTimeMilliseconds, nowMilliseconds)
        let header = GroupHeader(
            sequence: isSeal ? sequence : sequence + 1, durableSequence: durableSequence,
            logTimeMilliseconds: logTimeMilliseconds, payloadBytes: UInt32(group.payloadBytes),
            sectionCount: group.sectionCount, entryCount: group.entryCount,
            flags: isSeal ? GroupHeader.sealFlag : 0)
        let extent = header.extentBytes
        do throws(StorageError) {
            let wasted = try makeRoom(extent)
            let bytes = group.finish(header, identity: identity, file: currentNumber)
            let (file, start) = (current, offset)
            try storage { () throws(DiskError) in try file?.write(bytes, at: start) }
            offset += extent
            if !isSeal { sequence += 1 }
            isSealed = isSeal
            return extent + wasted
        } catch {
            hasFailed = true
            throw error
        }
    }

    /// Moves on to the prepared file if `extent` bytes do not fit into the current one.
    ///
    /// - Returns: bytes left unused in the file that is finished.
    private mutating func makeRoom(_ extent: Int) throws(StorageError) -> Int {
        guard current == nil || configuration.fileBytes - offset < extent else { return 0 }
        guard let next = prepared else {
            let name = JournalFormat.fileName(nextNumber)
            throw .disk(DiskError(.noSpace, operation: "write", file: name))
        }
        var wasted = 0
        if let finished = current {
            wasted = configuration.fileBytes - offset
            self.finished.append(
                FinishedJournalFile(
                    name: JournalFormat.fileName(currentNumber), lastSequence: sequence))
            if durableSequence < sequence { unsyncedFiles.append((finished, sequence)) }
            if unsyncedFiles.count > Self.unsyncedFilesMax {
                let oldest = unsyncedFiles.removeFirst()
                try storage { () throws(DiskError) in try oldest.file.sync() }
                durableSequence = oldest.lastSequence
            }
        }
        current = next
        currentNumber = nextNumber
        firstSequence = sequence + 1
        nextNumber += 1
        offset = JournalFormat.sectorBytes
        prepared = nil
        return wasted
    }

    /// Makes every group written so far survive a power loss.
    ///
    /// - Throws: `disk`; the writer is then dead, and no file is ever synced again.
    public mutating func sync() throws(StorageError) {
        precondition(!hasFailed, "journal synced after a failure")
        guard durableSequence < sequence else { return }
        try syncFiles()
    }

    private mutating func syncFiles() throws(StorageError) {
        let files = unsyncedFiles.map(\.file) + (current.map { [$0] } ?? [])
        do throws(StorageError) {
            for file in files {
                try storage { () throws(DiskError) in try file.sync() }
            }
        } catch {
            hasFailed = true
            throw error
        }
        unsyncedFiles = []
        durableSequence = sequence
    }

    /// Removes files whose groups are all in a checkpoint that holds everything up to group `floor`.
    ///
    /// The file with the last group stays: it says where history ends.
    ///
    /// - Throws: `disk`; the journal is complete all the same.
    public mutating func trim(to floor: UInt64) throws(StorageError) {
        let keepsLast = current == nil || durableSequence < firstSequence
        let removable = finished.prefix { $0.lastSequence <= floor }.count
        let count = keepsLast ? min(removable, finished.count - 1) : removable
        guard count > 0 else { return }
        let names = finished.prefix(count).map(\.name)
        finished.removeFirst(count)
        try storage { () throws(DiskError) in
            for name in names { try disk.remove(name) }
            try disk.syncDirectory()
        }
    }

    /// Ends the journal after its last group, if it has no seal yet: writes the seal, cuts off what
    /// is unused and syncs.
    ///
    /// - Throws: `disk`. What was synced before stays so.
    public consuming func seal(nowMilliseconds: UInt64) throws(StorageError) {
        if !hasFailed, !isSealed {
            try sync()
            if prepared == nil, current == nil {
                let request = fileRequest(nowMilliseconds: nowMilliseconds)
                _ = adopt(try storage { () throws(DiskError) in try request.create(on: disk) })
            }
            var group = CommitGroup()
            _ = try append(&group, nowMilliseconds: nowMilliseconds, isSeal: true)
            if let current {
                let end = offset
                try storage { () throws(DiskError) in try current.truncate(end) }
            }
            try syncFiles()
        }
        if prepared != nil {
            let name = JournalFormat.fileName(nextNumber)
            try storage { () throws(DiskError) in
                try disk.remove(name)
                try disk.syncDirectory()
            }
        }
    }
}
