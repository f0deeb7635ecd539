internal import Glibc
public import TallyCore

/// Reads a journal from its first group to its last and judges how it ends. Changes nothing.
///
/// The rule for a group that is not intact: if a later group is, and was written when this one was
/// already known to be on disk, then this is damage and the journal is refused. Otherwise nobody
/// was ever promised that the group is there: it is the tail that a crash tore, and history ends
/// before it.
public struct JournalScanner<D: Disk> {
    private let disk: D
    /// The last group that nobody needs.
    private let floor: UInt64
    private var result = JournalScan()
    private var expected: UInt64 = 1
    /// Where history ends as far as files have been read.
    private var end: HistoryEnd?

    private struct HistoryEnd {
        let file: String
        let offset: Int
        /// Whether bytes follow that are not zero.
        var isTorn: Bool
    }

    private init(disk: D, floor: UInt64) {
        self.disk = disk
        self.floor = floor
    }

    /// Whether there are any of a journal's files.
    public static func hasFiles(_ disk: D) throws(DiskError) -> Bool {
        try disk.list().contains { isFile($0) }
    }

    /// Whether a file's name is that of a journal file.
    public static func isFile(_ name: String) -> Bool { JournalFormat.fileNumber(name) != nil }

    /// Reads all groups in order.
    ///
    /// - Parameters:
    ///   - floor: The last group that a checkpoint holds: files may be missing whose groups are not
    ///     later.
    ///   - visit: Called with each intact group and its sections; may refuse it with a reason.
    /// - Throws: `StorageError`.
    /// - Complexity: O(bytes). Holds one file in memory.
    public static func scan(
        _ disk: D, floor: UInt64 = 0, visit: (JournalGroup, [GroupSection]) -> String?
    ) throws(StorageError) -> JournalScan {
        var scanner = JournalScanner(disk: disk, floor: floor)
        for file in try scanner.openFiles() {
            try scanner.scan(file, visit)
        }
        return try scanner.finish()
    }

    // MARK: Files

    private struct OpenFile {
        let name: String
        let file: D.File
        let header: JournalFileHeader
    }

    /// All files that count, in order: without those that a later one replaces and without those
    /// whose creation a crash interrupted.
    private mutating func openFiles() throws(StorageError) -> [OpenFile] {
        let numbers = try storage { () throws(DiskError) in try disk.list() }
            .compactMap(JournalFormat.fileNumber).sorted()
        var files: [OpenFile] = []
        var unreadable: [(name: String, number: UInt64)] = []
        for number in numbers {
            let name = JournalFormat.fileName(number)
            let file = try storage { () throws(DiskError) in try disk.open(name) }
            // Under another number it is what an older file left in this place.
            if let header = try header(of: file, name: name), header.number == number {
                files.append(OpenFile(name: name, file: file, header: header))
            } else {
                unreadable.append((name, number))
            }
        }
        let replaced = files.filter { $0.header.replaces > 0 }
            .map { $0.header.replaces..<$0.header.number }
        let isReplaced = { (number: UInt64) in
            replaced.contains { (range: Range<UInt64>) in range.contains(number) }
        }
        result.superseded = files.filter { isReplaced($0.header.number) }.map(\.name)
        files.removeAll { isReplaced($0.header.number) }

        if let first = files.first?.header {
            result.identity = first.identity
            result.partitionCount = Int(first.partitionCount)
            if let stranger = files.first(where: {
                $0.header.identity != first.identity
                    || $0.header.partitionCount != first.partitionCount
            }) {
                throw .foreign(file: stranger.name)
            }
        }
        result.highestNumber = numbers.last ?? 0
        result.epoch = files.map(\.header.epoch).max() ?? 0
        result.superseded += unreadable.filter { isReplaced($0.number) }.map(\.name)
        try judgeUnreadable(unreadable.filter { !isReplaced($0.number) }, lastNumber: numbers.last)
        return files
    }

    /// A file without a readable header is harmless only as the newest, before its first group.
    /// Empty, it can go; otherwise it is kept under another name, for somebody to look at.
    private mutating func judgeUnreadable(
        _ files: [(name: String, number: UInt64)], lastNumber: UInt64?
    ) throws(StorageError) {
        for (name, number) in files {
            let file = try storage { () throws(DiskError) in try disk.open(name) }
            let bytes = try load(file)
            defer { bytes.deallocate() }
            let rest = UnsafeRawBufferPointer(rebasing: bytes[min(512, bytes.count)...])
            let isEmpty = rest.allSatisfy { $0 == 0 }
            let holdsGroups =
                result.identity.map { !laterGroups(rest, from: 0, $0, number).isEmpty } ?? !isEmpty
            if number != lastNumber || holdsGroups {
                throw .damaged(
                    file: name, offset: 0, sequence: expected, reason: "unreadable file header")
            }
            if isEmpty { result.superseded.append(name) } else { result.unreadable.append(name) }
        }
    }

    private func header(of file: D.File, name: String) throws(StorageError) -> JournalFileHeader? {
        let bytes = UnsafeMutableRawBufferPointer.allocate(
            byteCount: JournalFileHeader.byteCount, alignment: 16)
        defer { bytes.deallocate() }
        let count = try storage { () throws(DiskError) in try file.read(at: 0, into: bytes) }
        do throws(JournalFileHeader.ReadError) {
            return try JournalFileHeader(UnsafeRawBufferPointer(rebasing: bytes[..<count]))
        } catch {
            switch error {
            case .damaged: return nil
            case .newerVersion(let version):
                throw .newerFormat(file: name, version: version, supported: JournalFormat.version)
            case .newerFeatures(let level):
                throw .newerFormat(
                    file: name, version: level, supported: JournalFormat.featureLevel)
            }
        }
    }

    private func load(_ file: D.File) throws(StorageError) -> UnsafeMutableRawBufferPointer {
        try storage { () throws(DiskError) in
            let bytes = UnsafeMutableRawBufferPointer.allocate(
                byteCount: try file.size(), alignment: 16)
            do throws(DiskError) {
                let count = try file.read(at: 0, into: bytes)
                return UnsafeMutableRawBufferPointer(rebasing: bytes[..<count])
            } catch {
                bytes.deallocate()
                throw error
            }
        }
    }

    // MARK: Groups

    private mutating func scan(
        _ file: OpenFile, _ visit: (JournalGroup, [GroupSection]) -> String?
    ) throws(StorageError) {
        let buffer = try load(file.file)
        defer { buffer.deallocate() }
        let bytes = UnsafeRawBufferPointer(buffer)
        var summary = JournalScan.File(
            name: file.name, number: file.header.number, epoch: file.header.epoch,
            byteCount: bytes.count)
        var offset = JournalFormat.sectorBytes
        if let first = group(bytes, offset, file.header), first.sequence > expected,
            first.sequence <= floor + 1
        {
            // Files before this one have been trimmed.
            expected = first.sequence
        }
        while result.lostGroups == 0, let header = group(bytes, offset, file.header),
            header.sequence == expected || header.isSeal && header.sequence + 1 == expected
        {
            try visitGroup(header, bytes, offset, file, visit)
            summary.add(header, at: offset)
            offset += header.extentBytes
        }
        let later = laterGroups(bytes, from: offset, file.header.identity, file.header.number)
        let isTorn =
            offset < bytes.count
            && !UnsafeRawBufferPointer(rebasing: bytes[offset...]).isAllZero
        if summary.groupCount > 0 || end == nil {
            end = HistoryEnd(file: file.name, offset: offset, isTorn: isTorn)
        } else if isTorn {
            end?.isTorn = true
        }
        try judge(later)
        summary.endOffset = min(offset, bytes.count)
        result.files.append(summary)
    }

    /// Decides what intact groups behind the end of history mean.
    private mutating func judge(_ later: [GroupHeader]) throws(StorageError) {
        guard let end else { return }
        if let proof = later.first(where: { $0.durableSequence >= expected }) {
            throw .damaged(
                file: end.file, offset: end.offset, sequence: expected,
                reason: "group \(expected) is not intact, but group \(proof.sequence) behind it is")
        }
        result.lostGroups += later.count { !$0.isSeal }
    }

    private mutating func visitGroup(
        _ header: GroupHeader, _ bytes: UnsafeRawBufferPointer, _ offset: Int, _ file: OpenFile,
        _ visit: (JournalGroup, [GroupSection]) -> String?
    ) throws(StorageError) {
        let start = offset + GroupHeader.byteCount
        let payload = UnsafeRawBufferPointer(
            rebasing: bytes[start..<(start + Int(header.payloadBytes))])
        guard
            let sections = GroupSection.split(
                payload, count: Int(header.sectionCount),
                partitionCount: Int(file.header.partitionCount))
        else {
            throw .rejected(
                file: file.name, offset: offset, sequence: header.sequence,
                reason: "its sections do not add up")
        }
        let group = JournalGroup(
            position: Position(epoch: file.header.epoch, sequence: header.sequence),
            file: file.name, offset: offset, byteCount: header.extentBytes,
            logTimeMilliseconds: header.logTimeMilliseconds,
            entryCount: Int(header.entryCount), isSeal: header.isSeal,
            partitionCount: Int(file.header.partitionCount))
        if let reason = visit(group, sections) {
            throw .rejected(
                file: file.name, offset: offset, sequence: header.sequence, reason: reason)
        }
        expected = header.sequence + 1
        result.lastSequence = header.sequence
        result.durableSequence = max(result.durableSequence, header.durableSequence)
        result.logTimeMilliseconds = header.logTimeMilliseconds
        result.entryCount += Int(header.entryCount)
        result.isSealed = header.isSeal
    }

    private func group(
        _ bytes: UnsafeRawBufferPointer, _ offset: Int, _ header: JournalFileHeader
    ) -> GroupHeader? {
        guard offset < bytes.count else { return nil }
        return GroupHeader(
            UnsafeRawBufferPointer(rebasing: bytes[offset...]), identity: header.identity,
            file: header.number)
    }

    /// Every intact group from `start` on, looking at each place where one can begin.
    private func laterGroups(
        _ bytes: UnsafeRawBufferPointer, from start: Int, _ identity: LogIdentity, _ file: UInt64
    ) -> [GroupHeader] {
        var groups: [GroupHeader] = []
        var offset = start
        while offset + GroupHeader.byteCount <= bytes.count {
            let rest = UnsafeRawBufferPointer(rebasing: bytes[offset...])
            if let group = GroupHeader(rest, identity: identity, file: file) {
                groups.append(group)
                offset += group.extentBytes
            } else {
                offset += JournalFormat.sectorBytes
            }
        }
        return groups
    }

    private mutating func finish() throws(StorageError) -> JournalScan {
        guard result.lastSequence >= floor else {
            throw .incompleteJournal(
                reason: "it ends at group \(result.lastSequence), and the manifest reflects "
                    + "group \(floor)")
        }
        result.isTorn = end?.isTorn ?? false
        if result.lostGroups > 0 { result.isSealed = false }
        return result
    }
}

/// One intact commit group.
public struct JournalGroup: Sendable {
    /// Where it stands in history.
    public let position: Position
    /// Its file.
    public let file: String
    /// Where in the file it starts, bytes.
    public let offset: Int
    /// Its size in the file, bytes.
    public let byteCount: Int
    /// When it was written, milliseconds since 1970.
    public let logTimeMilliseconds: UInt64
    /// How many entries it holds.
    public let entryCount: Int
    /// Whether a clean shutdown wrote it as the last.
    public let isSeal: Bool
    /// How many partitions its file's data has.
    public let partitionCount: Int
}

/// What a scan found.
public struct JournalScan: Sendable {
    /// One file and what of it is intact history.
    public struct File: Sendable {
        /// Its name.
        public let name: String
        let number: UInt64
        /// Its epoch.
        public let epoch: UInt32
        /// Its size, bytes.
        public let byteCount: Int
        /// Where its history ends, bytes.
        public fileprivate(set) var endOffset = 0
        /// How many groups it holds.
        public private(set) var groupCount = 0
        /// Its first and last group; nil if it has none.
        public private(set) var sequences: ClosedRange<UInt64>?

        fileprivate init(name: String, number: UInt64, epoch: UInt32, byteCount: Int) {
            self.name = name
            self.number = number
            self.epoch = epoch
            self.byteCount = byteCount
        }

        fileprivate mutating func add(_ group: GroupHeader, at offset: Int) {
            groupCount += 1
            sequences = (sequences?.lowerBound ?? group.sequence)...group.sequence
        }
    }

    /// The files, in order.
    public fileprivate(set) var files: [File] = []
    /// Files that a crash left behind and that no longer count.
    public fileprivate(set) var superseded: [String] = []
    /// Files of unknown content, of which nothing counts.
    public fileprivate(set) var unreadable: [String] = []
    /// Which history this is; nil for a new directory.
    public fileprivate(set) var identity: LogIdentity?
    /// How many partitions it has; 0 for a new directory.
    public fileprivate(set) var partitionCount = 0
    /// The latest epoch.
    public fileprivate(set) var epoch: UInt32 = 0
    /// The last group of history, 0 for none.
    public fileprivate(set) var lastSequence: UInt64 = 0
    /// The last group that a later one knew to be on disk.
    public fileprivate(set) var durableSequence: UInt64 = 0
    /// The log time of the last group.
    public fileprivate(set) var logTimeMilliseconds: UInt64 = 0
    /// How many entries all groups hold.
    public fileprivate(set) var entryCount = 0
    /// Whether history ends with the seal of a clean shutdown.
    public fileprivate(set) var isSealed = false
    /// Whether there are bytes behind the last group that are not a group.
    public fileprivate(set) var isTorn = false
    /// Intact groups behind the end of history, which nobody was promised to find.
    public fileprivate(set) var lostGroups = 0
    var highestNumber: UInt64 = 0

    /// Whether nothing hints at a crash: the journal is new or sealed, and nothing follows.
    public var endedCleanly: Bool {
        (isSealed || lastSequence == 0) && lostGroups == 0 && !isTorn
    }

    init() {}
}

extension UnsafeRawBufferPointer {
    /// Whether there is nothing but zeros: a zero, and every byte like the one before it.
    ///
    /// - Complexity: O(bytes), as fast as the system compares memory.
    fileprivate var isAllZero: Bool {
        guard let base = baseAddress, count > 0 else { return true }
        return self[0] == 0 && memcmp(base, base + 1, count - 1) == 0
    }
}
