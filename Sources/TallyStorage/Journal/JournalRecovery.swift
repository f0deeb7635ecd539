public import TallyCore

/// A journal that is ready for its next group.
@frozen
public struct JournalOpening<D: Disk>: ~Copyable {
    /// Writes what comes next.
    public let writer: JournalWriter<D>
    /// What was there.
    public let scan: JournalScan
}

/// Brings a journal back after the process ended, cleanly or not.
public enum JournalRecovery {
    /// Reads everything, lets `visit` apply it, and returns a writer for what comes next.
    ///
    /// After an unclean end the surviving groups of the newest file are copied into a new file,
    /// which is synced before this returns: the system may show bytes that are not on disk, and a
    /// reply must never reflect those. History then goes on in a new epoch.
    ///
    /// - Parameters:
    ///   - identity: Given to a new journal.
    ///   - partitionCount: Given to a new journal.
    ///   - floor: The last group that a checkpoint holds.
    ///   - accept: Called after everything has been read and before anything is changed; may refuse.
    ///   - visit: Applies one group; returns a reason to refuse it.
    /// - Throws: `StorageError`; the journal is then as it was.
    public static func open<D: Disk>(
        _ disk: D, configuration: JournalConfiguration, identity: LogIdentity,
        partitionCount: Int, floor: UInt64 = 0, nowMilliseconds: UInt64,
        accept: (JournalScan) throws(StorageError) -> Void = { _ in },
        visit: (JournalGroup, [GroupSection]) -> String?
    ) throws(StorageError) -> JournalOpening<D> {
        let scan = try JournalScanner.scan(disk, floor: floor, visit: visit)
        try accept(scan)
        let names = try storage { () throws(DiskError) in try disk.list() }
        let isRestored = names.contains(BackupFiles.restoredName)
        let isClean = scan.endedCleanly && !isRestored
        var highest = scan.highestNumber
        let log = (
            identity: scan.identity ?? identity,
            partitionCount: scan.identity == nil ? partitionCount : scan.partitionCount,
            epoch: isClean ? max(1, scan.epoch) : scan.epoch + 1
        )
        var obsolete = scan.superseded
        let lastWithGroups = scan.files.lastIndex { $0.groupCount > 0 } ?? -1
        obsolete += scan.files[(lastWithGroups + 1)...].map(\.name)
        if names.contains(JournalFormat.temporaryName) {
            obsolete.append(JournalFormat.temporaryName)
        }
        if scan.lostGroups > 0 {
            try setAside(disk, scan.unreadable + obsolete)
        } else {
            // Before anything is written: the disk may be full.
            try setAside(disk, scan.unreadable)
            try remove(disk, obsolete)
        }

        let kept = isClean ? lastWithGroups + 1 : max(0, lastWithGroups)
        var finished = scan.files[..<kept].compactMap { file in
            file.sequences.map {
                FinishedJournalFile(name: file.name, lastSequence: $0.upperBound)
            }
        }
        if !isClean, lastWithGroups >= 0 {
            try rewriteUnsynced(disk, scan.files[..<lastWithGroups], scan.durableSequence)
            let last = scan.files[lastWithGroups]
            finished.append(
                FinishedJournalFile(
                    name: JournalFormat.fileName(highest + 1), lastSequence: scan.lastSequence))
            highest += 1
            try copyTail(
                disk, last,
                header: JournalFileHeader(
                    identity: log.identity, number: highest, epoch: log.epoch,
                    partitionCount: UInt32(log.partitionCount), replaces: last.number,
                    createdMilliseconds: nowMilliseconds))
            if scan.lostGroups > 0 {
                try setAside(disk, [last.name])
            } else {
                try remove(disk, [last.name])
            }
        }
        try storage { () throws(DiskError) in try BackupFiles.removeMark(on: disk) }
        let writer = JournalWriter(
            disk: disk, configuration: configuration, identity: log.identity, epoch: log.epoch,
            partitionCount: log.partitionCount, isSealed: isClean, nextNumber: highest + 1,
            sequence: scan.lastSequence, logTimeMilliseconds: scan.logTimeMilliseconds,
            finished: finished)
        return JournalOpening(writer: writer, scan: scan)
    }

    /// Brings files to the disk whose last groups nobody ever knew to be there.
    ///
    /// Each is written anew with its own bytes before it is synced: had its sync failed before, the
    /// system could take it for clean and report success.
    private static func rewriteUnsynced<D: Disk>(
        _ disk: D, _ files: ArraySlice<JournalScan.File>, _ durableSequence: UInt64
    ) throws(StorageError) {
        for file in files where (file.sequences?.upperBound ?? 0) > durableSequence {
            try storage { () throws(DiskError) in
                let open = try disk.open(file.name)
                let buffer = UnsafeMutableRawBufferPointer.allocate(
                    byteCount: 1 << 20, alignment: JournalFormat.memoryAlignment)
                defer { buffer.deallocate() }
                var offset = 0
                while offset < file.endOffset {
                    let count = try open.read(
                        at: offset,
                        into: UnsafeMutableRawBufferPointer(
                            rebasing: buffer[..<min(buffer.count, file.endOffset - offset)]))
                    guard count > 0 else { break }
                    try open.write(UnsafeRawBufferPointer(rebasing: buffer[..<count]), at: offset)
                    offset += count
                }
                try open.sync()
            }
        }
    }

    /// Writes the intact groups of `source` into a new file of the number in `header`.
    private static func copyTail<D: Disk>(
        _ disk: D, _ source: JournalScan.File, header: JournalFileHeader
    ) throws(StorageError) {
        try storage { () throws(DiskError) in
            let bytes = UnsafeMutableRawBufferPointer.allocate(
                byteCount: source.endOffset, alignment: JournalFormat.memoryAlignment)
            defer { bytes.deallocate() }
            let sourceFile = try disk.open(source.name)
            let count = try sourceFile.read(at: 0, into: bytes)
            var offset = JournalFormat.sectorBytes
            while offset < count, let base = bytes.baseAddress {
                let rest = UnsafeRawBufferPointer(rebasing: bytes[offset..<count])
                guard
                    let group = GroupHeader(
                        rest, identity: header.identity, file: source.number)
                else { break }
                group.write(to: base + offset, identity: header.identity, file: header.number)
                offset += group.extentBytes
            }
            if try disk.list().contains(JournalFormat.temporaryName) {
                try disk.remove(JournalFormat.temporaryName)
            }
            let file = try JournalFileRequest(
                name: JournalFormat.temporaryName, header: header, fileBytes: offset,
                isZeroed: false
            ).create(on: disk)
            try file.write(
                UnsafeRawBufferPointer(rebasing: bytes[JournalFormat.sectorBytes..<offset]),
                at: JournalFormat.sectorBytes)
            try file.sync()
            try disk.rename(
                JournalFormat.temporaryName, to: JournalFormat.fileName(header.number))
            try disk.syncDirectory()
        }
    }

    /// Gives files whose content may be wanted for an inquiry a name under which nothing counts.
    private static func setAside<D: Disk>(
        _ disk: D, _ names: [String]
    ) throws(StorageError) {
        guard !names.isEmpty else { return }
        try storage { () throws(DiskError) in
            for name in names { try disk.rename(name, to: name + ".set-aside") }
            try disk.syncDirectory()
        }
    }

    private static func remove<D: Disk>(_ disk: D, _ names: [String]) throws(StorageError) {
        guard !names.isEmpty else { return }
        try storage { () throws(DiskError) in
            for name in names { try disk.remove(name) }
            try disk.syncDirectory()
        }
    }
}
