import TallyCore
import TallyTestSupport
import Testing

@testable import TallyStorage

/// A journal on a simulated disk whose groups carry plain texts.
final class TextJournal {
    let disk: SimulatedDisk
    private(set) var scan = JournalScan()
    private(set) var texts: [String] = []
    private var writer: JournalWriter<SimulatedDisk>?

    static var configuration: JournalConfiguration {
        var configuration = JournalConfiguration()
        configuration.fileBytes = 32 << 10
        configuration.groupBytesMax = 4 << 10
        return configuration
    }

    init(_ disk: SimulatedDisk = SimulatedDisk(seed: 1)) throws(StorageError) {
        self.disk = disk
        var texts: [String] = []
        let opening = try JournalRecovery.open(
            disk, configuration: Self.configuration,
            identity: LogIdentity(high: 1, low: 2), partitionCount: 4, nowMilliseconds: 1000,
            visit: { group, sections in
                if !group.isSeal {
                    texts.append(
                        sections.map { String(decoding: $0.bytes, as: UTF8.self) }.joined())
                }
                return nil
            })
        scan = opening.scan
        writer = Optional(opening.writer)
        self.texts = texts
    }

    func append(_ text: String, isSynced: Bool = true) throws(StorageError) {
        if writer?.wantsFile == true, let request = writer?.fileRequest(nowMilliseconds: 1000) {
            let file = try storage { () throws(DiskError) in try request.create(on: disk) }
            _ = writer?.adopt(file)
        }
        var group = CommitGroup()
        text.withBytes { group.append(partition: 1, entryCount: 1, entries: $0) }
        _ = try writer?.append(&group, nowMilliseconds: 1000)
        if isSynced { try writer?.sync() }
        texts.append(text)
    }

    func seal() throws(StorageError) {
        try writer.take()?.seal(nowMilliseconds: 1000)
    }

    var position: Position { writer?.position ?? Position(epoch: 0, sequence: 0) }

    /// The newest file's name.
    var lastFile: String { (try? disk.list().last { $0.hasPrefix("journal-") }) ?? "" }
}

struct JournalTests {
    @Test func whatWasWrittenIsReadBackAcrossFiles() throws {
        let journal = try TextJournal()
        #expect(journal.scan.lastSequence == 0)
        let texts = (0..<40).map { "\($0) " + String(repeating: "x", count: 1500) }
        for text in texts { try journal.append(text) }
        try journal.seal()
        #expect(try journal.disk.list().count > 2)
        let again = try TextJournal(journal.disk)
        #expect(again.texts == texts)
        #expect(again.scan.isSealed)
        #expect(!again.scan.isTorn)
        #expect(again.position == Position(epoch: 1, sequence: 40))
        try again.append("more")
        try again.seal()
        #expect(try TextJournal(journal.disk).texts == texts + ["more"])
    }

    @Test func anUncleanEndBeginsANewEpochInANewFile() throws {
        let journal = try TextJournal()
        try journal.append("one")
        let before = journal.lastFile
        let again = try TextJournal(journal.disk)
        #expect(again.texts == ["one"])
        #expect(!again.scan.isSealed)
        #expect(!again.scan.isTorn)
        #expect(again.position == Position(epoch: 2, sequence: 1))
        #expect(try !journal.disk.list().contains(before))
        // The copy is on disk before anything is served.
        journal.disk.losePower()
        #expect(try TextJournal(journal.disk).texts == ["one"])
    }

    @Test func aTornTailIsCutAndReported() throws {
        let journal = try TextJournal()
        try journal.append("one")
        try journal.append("two " + String(repeating: "y", count: 2000))
        var bytes = try #require(journal.disk.contents(of: journal.lastFile))
        bytes.replaceSubrange(2048..<2560, with: repeatElement(0, count: 512))
        journal.disk.replace(journal.lastFile, with: bytes)
        let again = try TextJournal(journal.disk)
        #expect(again.texts == ["one"])
        #expect(again.scan.isTorn)
        try again.append("three")
        try again.seal()
        #expect(try TextJournal(journal.disk).texts == ["one", "three"])
    }

    @Test func damageBeforeAnIntactGroupIsRefusedWithItsPlace() throws {
        let journal = try TextJournal()
        for text in ["one", "two", "three"] { try journal.append(text) }
        var bytes = try #require(journal.disk.contents(of: journal.lastFile))
        bytes[1024 + 70] ^= 1
        journal.disk.replace(journal.lastFile, with: bytes)
        let error = #expect(throws: StorageError.self) { try TextJournal(journal.disk) }
        guard case .damaged(let file, let offset, let sequence, _) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(file == "journal-0000000001")
        #expect(offset == 1024)
        #expect(sequence == 2)
    }

    @Test func aMissingFileIsDamage() throws {
        let journal = try TextJournal()
        for number in 0..<60 {
            try journal.append("\(number) " + String(repeating: "x", count: 1500))
        }
        try journal.seal()
        let names = try journal.disk.list().sorted()
        #expect(names.count >= 4)
        try journal.disk.remove(names[1])
        #expect(throws: StorageError.self) { try TextJournal(journal.disk) }
    }

    /// Nobody was promised what was never synced: intact groups behind a lost one are not damage.
    @Test func unsyncedGroupsBehindALostOneAreLostToo() throws {
        let journal = try TextJournal()
        try journal.append("synced")
        for text in ["one", "two", "three"] { try journal.append(text, isSynced: false) }
        var bytes = try #require(journal.disk.contents(of: journal.lastFile))
        bytes.replaceSubrange(1024..<1536, with: repeatElement(0, count: 512))
        journal.disk.replace(journal.lastFile, with: bytes)
        let again = try TextJournal(journal.disk)
        #expect(again.texts == ["synced"])
        #expect(again.scan.lostGroups == 2)
        #expect(again.position.epoch == 2)
    }

    /// Without syncs a file is known to be on disk some files later: then a lost group is damage.
    @Test func longAgoIsSyncedEvenIfNobodyAsked() throws {
        for (name, isDamage) in [("journal-0000000001", true), ("journal-0000000012", false)] {
            let journal = try TextJournal()
            // Nine or ten groups fill a file.
            for _ in 0..<130 {
                try journal.append(String(repeating: "x", count: 3000), isSynced: false)
            }
            var bytes = try #require(journal.disk.contents(of: name))
            bytes.replaceSubrange(1024..<1536, with: repeatElement(0, count: 512))
            journal.disk.replace(name, with: bytes)
            if isDamage {
                #expect(throws: StorageError.self) { try TextJournal(journal.disk) }
            } else {
                #expect(try TextJournal(journal.disk).scan.lostGroups > 0)
            }
        }
    }

    @Test(arguments: [0, 3, 2048] as [UInt32])
    func anImpossibleNumberOfPartitionsIsDamage(count: UInt32) throws {
        let journal = try TextJournal()
        try journal.append("text")
        try journal.seal()
        var bytes = try #require(journal.disk.contents(of: "journal-0000000001"))
        bytes.withUnsafeMutableBytes { buffer in
            store(count, buffer.baseAddress!, 44)
            let checked = UnsafeRawBufferPointer(rebasing: buffer[..<68])
            store(CRC32C.checksum(checked), buffer.baseAddress!, 68)
        }
        journal.disk.replace("journal-0000000001", with: bytes)
        #expect(throws: StorageError.self) { try TextJournal(journal.disk) }
    }

    @Test func bytesOfAnotherFileNeverPass() throws {
        let journal = try TextJournal()
        for text in ["one", "two"] { try journal.append(text) }
        try journal.seal()
        let old = try #require(journal.disk.contents(of: "journal-0000000001"))
        let second = try TextJournal(journal.disk)
        try second.append("three")
        // What the next group would be, had this place been another file's.
        var bytes = try #require(journal.disk.contents(of: second.lastFile))
        bytes.replaceSubrange(1024..<1536, with: old[512..<1024])
        journal.disk.replace(second.lastFile, with: bytes)
        let third = try TextJournal(journal.disk)
        #expect(third.texts == ["one", "two", "three"])
        #expect(third.scan.isTorn)
        // The file's number is what keeps them apart: under its own number the group is intact.
        old[512..<1024].withUnsafeBytes { bytes in
            let identity = LogIdentity(high: 1, low: 2)
            #expect(GroupHeader(bytes, identity: identity, file: 1) != nil)
            #expect(GroupHeader(bytes, identity: identity, file: 2) == nil)
            #expect(GroupHeader(bytes, identity: LogIdentity(high: 1, low: 3), file: 1) == nil)
        }
    }

    @Test func filesOfAnotherJournalAreRefused() throws {
        let journal = try TextJournal()
        try journal.append("one")
        try journal.seal()
        let other = SimulatedDisk(seed: 2)
        let header = JournalFileHeader(
            identity: LogIdentity(high: 9, low: 9), number: 2, epoch: 1, partitionCount: 4,
            replaces: 0, createdMilliseconds: 0)
        _ = try JournalFileRequest(
            name: "journal-0000000002", header: header, fileBytes: 4096, isZeroed: false
        ).create(on: other)
        journal.disk.replace(
            "journal-0000000002", with: try #require(other.contents(of: "journal-0000000002")))
        #expect(throws: StorageError.foreign(file: "journal-0000000002")) {
            try TextJournal(journal.disk)
        }
    }

    @Test func newerFormatsAreRefusedByName() throws {
        let cases: [(Int, String, UInt32)] = [(8, "version", 1), (12, "features", 3)]
        for (offset, file, supported) in cases {
            let journal = try TextJournal()
            try journal.append(file)
            try journal.seal()
            var bytes = try #require(journal.disk.contents(of: "journal-0000000001"))
            bytes[offset] = 200
            if offset == 12 {
                bytes.withUnsafeMutableBytes { buffer in
                    let checked = UnsafeRawBufferPointer(rebasing: buffer[..<68])
                    store(CRC32C.checksum(checked), buffer.baseAddress!, 68)
                }
            }
            journal.disk.replace("journal-0000000001", with: bytes)
            #expect(
                throws: StorageError.newerFormat(
                    file: "journal-0000000001", version: 200, supported: supported)
            ) { try TextJournal(journal.disk) }
        }
    }

    /// A file that a crash left half made counts for nothing; one with groups does.
    @Test func anUnreadableHeaderIsHarmlessOnlyWithoutGroups() throws {
        let journal = try TextJournal()
        try journal.append("one")
        try journal.seal()
        journal.disk.replace("journal-0000000002", with: Array(repeating: 0, count: 4096))
        let again = try TextJournal(journal.disk)
        #expect(again.texts == ["one"])
        #expect(try journal.disk.list() == ["journal-0000000001"])
        try again.append("two")
        var bytes = try #require(journal.disk.contents(of: again.lastFile))
        bytes[0] ^= 1
        journal.disk.replace(again.lastFile, with: bytes)
        #expect(throws: StorageError.self) { try TextJournal(journal.disk) }
    }

    /// Every single-bit flip in a small, sealed journal is refused, cut off as a torn seal, or
    /// changes nothing.
    @Test func everyBitFlipIsDetectedOrHarmless() throws {
        let journal = try TextJournal()
        for text in ["one", "two", "three"] { try journal.append(text) }
        try journal.seal()
        let name = "journal-0000000001"
        let bytes = try #require(journal.disk.contents(of: name))
        #expect(bytes.count == 512 * 5)
        for bit in 0..<(bytes.count * 8) {
            var flipped = bytes
            flipped[bit / 8] ^= 1 << UInt8(bit % 8)
            let disk = SimulatedDisk(seed: 1)
            disk.replace(name, with: flipped)
            if let again = try? TextJournal(disk) {
                #expect(again.texts == ["one", "two", "three"], "bit \(bit)")
            }
        }
    }

    @Test func aFullDiskLeavesNothingBehind() throws {
        let journal = try TextJournal()
        try journal.append("one")
        journal.disk.setCapacity(bytes: 40 << 10)
        let before = try journal.disk.list()
        let error = #expect(throws: StorageError.self) {
            for number in 0..<60 {
                try journal.append("\(number) " + String(repeating: "x", count: 1500))
            }
        }
        guard case .disk(let diskError) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(diskError.kind == .noSpace)
        #expect(try journal.disk.list() == before)
    }

    @Test(
        arguments: [
            ("journal-0000000001", 1), ("journal-9999999999", 9_999_999_999),
            ("journal-10000000000", 10_000_000_000), ("journal-1", nil), ("journal.tmp", nil),
            ("journal-000000000x", nil), ("LOCK", nil), ("", nil), ("journal-00000000001", nil),
        ] as [(String, UInt64?)])
    func fileNamesAreNumbers(name: String, number: UInt64?) {
        #expect(JournalFormat.fileNumber(name) == number)
        if let number { #expect(JournalFormat.fileName(number) == name) }
    }
}
