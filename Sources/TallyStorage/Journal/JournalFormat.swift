import TallyCore

/// The layout of journal files, stated once. `docs/journal.md` is its page.
///
///     file:    header, 512 bytes │ group │ group │ … │ zeros
///     group:   header, 64 bytes │ section │ section │ … │ zeros up to a multiple of 512
///     section: header, 12 bytes │ entries
///
/// All integers are little-endian.
enum JournalFormat {
    static let version: UInt32 = 1
    /// Names the kinds of entries that files of this version may hold.
    static let featureLevel: UInt32 = 3
    /// Groups start at multiples of this, so that no sector that holds a durable group is ever
    /// written again.
    static let sectorBytes = 512
    /// Alignment of memory that is written, so that the disk can take it as it is.
    static let memoryAlignment = 4096

    static func fileName(_ number: UInt64) -> String {
        let digits = String(number)
        return "journal-" + String(repeating: "0", count: max(0, 10 - digits.count)) + digits
    }

    static let temporaryName = "journal.tmp"

    /// The number in a file's name, nil for the name of another file.
    static func fileNumber(_ name: String) -> UInt64? {
        guard name.hasPrefix("journal-"), let number = UInt64(name.dropFirst(8)),
            fileName(number) == name
        else { return nil }
        return number
    }

    static func padded(_ byteCount: Int) -> Int {
        (byteCount + sectorBytes - 1) & ~(sectorBytes - 1)
    }
}

/// The first sector of a journal file.
struct JournalFileHeader: Equatable {
    static let magic: UInt64 = 0x4c4e_524a_594c_4154  // "TALYJRNL" in file order
    static let byteCount = 72

    var identity: LogIdentity
    var number: UInt64
    var epoch: UInt32
    var partitionCount: UInt32
    /// The file that this one replaces, 0 for none.
    var replaces: UInt64
    var createdMilliseconds: UInt64

    enum ReadError: Error, Equatable {
        case damaged
        case newerVersion(UInt32)
        case newerFeatures(UInt32)
    }

    /// magic u64 · version u32 · feature level u32 · identity 2 × u64 · number u64 · epoch u32 ·
    /// partitions u32 · replaces u64 · created u64 · crc32c u32 of all before it.
    func write(to bytes: UnsafeMutableRawPointer) {
        bytes.storeBytes(of: Self.magic.littleEndian, as: UInt64.self)
        store(JournalFormat.version, bytes, 8)
        store(JournalFormat.featureLevel, bytes, 12)
        store(identity.high, bytes, 16)
        store(identity.low, bytes, 24)
        store(number, bytes, 32)
        store(epoch, bytes, 40)
        store(partitionCount, bytes, 44)
        store(replaces, bytes, 48)
        store(createdMilliseconds, bytes, 56)
        store(0 as UInt32, bytes, 64)
        let checked = UnsafeRawBufferPointer(start: bytes, count: 68)
        store(CRC32C.checksum(checked), bytes, 68)
    }

    init(
        identity: LogIdentity, number: UInt64, epoch: UInt32, partitionCount: UInt32,
        replaces: UInt64, createdMilliseconds: UInt64
    ) {
        self.identity = identity
        self.number = number
        self.epoch = epoch
        self.partitionCount = partitionCount
        self.replaces = replaces
        self.createdMilliseconds = createdMilliseconds
    }

    init(_ bytes: UnsafeRawBufferPointer) throws(ReadError) {
        guard bytes.count >= Self.byteCount, bytes.word(0) == Self.magic else { throw .damaged }
        // A newer version may checksum differently, so it is named first; the magic word makes
        // sure that it is a version.
        guard bytes.half(8) <= JournalFormat.version else { throw .newerVersion(bytes.half(8)) }
        guard CRC32C.checksum(UnsafeRawBufferPointer(rebasing: bytes[..<68])) == bytes.half(68)
        else { throw .damaged }
        guard bytes.half(12) <= JournalFormat.featureLevel else {
            throw .newerFeatures(bytes.half(12))
        }
        self.init(
            identity: LogIdentity(high: bytes.word(16), low: bytes.word(24)),
            number: bytes.word(32), epoch: bytes.half(40), partitionCount: bytes.half(44),
            replaces: bytes.word(48), createdMilliseconds: bytes.word(56))
        guard (1...UInt32(Limits.partitionsMax)).contains(partitionCount),
            partitionCount.nonzeroBitCount == 1
        else { throw .damaged }
    }
}

/// What starts a commit group.
struct GroupHeader: Equatable {
    static let magic: UInt32 = 0x5052_4754  // "TGRP" in file order
    static let byteCount = 64
    static let sealFlag: UInt32 = 1

    /// One more than in the group before; in a seal the same, so that nothing is missing where a
    /// seal is: it may be seen before it is on disk.
    var sequence: UInt64
    /// The last group that was known to be on disk when this one was written.
    var durableSequence: UInt64
    /// When it was written, never less than in the group before.
    var logTimeMilliseconds: UInt64
    var payloadBytes: UInt32
    var sectionCount: UInt32
    var entryCount: UInt32
    var flags: UInt32

    var isSeal: Bool { flags & Self.sealFlag != 0 }

    /// Bytes from this group's start to the next one's.
    var extentBytes: Int { JournalFormat.padded(Self.byteCount + Int(payloadBytes)) }

    /// magic u32 · crc32c u32 · sequence u64 · durable sequence u64 · log time u64 ·
    /// payload bytes u32 · sections u32 · entries u32 · flags u32 · 16 zero bytes.
    ///
    /// The checksum starts from the log's identity and the file's number, covers the header behind
    /// it and the payload, and so never fits bytes that another file left behind.
    func write(to bytes: UnsafeMutableRawPointer, identity: LogIdentity, file: UInt64) {
        store(Self.magic, bytes, 0)
        store(sequence, bytes, 8)
        store(durableSequence, bytes, 16)
        store(logTimeMilliseconds, bytes, 24)
        store(payloadBytes, bytes, 32)
        store(sectionCount, bytes, 36)
        store(entryCount, bytes, 40)
        store(flags, bytes, 44)
        store(0 as UInt64, bytes, 48)
        store(0 as UInt64, bytes, 56)
        let checked = UnsafeRawBufferPointer(
            start: bytes + 8, count: Self.byteCount - 8 + Int(payloadBytes))
        store(Self.checksum(checked, identity: identity, file: file), bytes, 4)
    }

    init(
        sequence: UInt64, durableSequence: UInt64, logTimeMilliseconds: UInt64,
        payloadBytes: UInt32, sectionCount: UInt32, entryCount: UInt32, flags: UInt32
    ) {
        self.sequence = sequence
        self.durableSequence = durableSequence
        self.logTimeMilliseconds = logTimeMilliseconds
        self.payloadBytes = payloadBytes
        self.sectionCount = sectionCount
        self.entryCount = entryCount
        self.flags = flags
    }

    /// The header of the group that starts `bytes`, nil unless header and payload are all there
    /// and intact.
    init?(_ bytes: UnsafeRawBufferPointer, identity: LogIdentity, file: UInt64) {
        guard bytes.count >= Self.byteCount, bytes.half(0) == Self.magic else { return nil }
        self.init(
            sequence: bytes.word(8), durableSequence: bytes.word(16),
            logTimeMilliseconds: bytes.word(24), payloadBytes: bytes.half(32),
            sectionCount: bytes.half(36), entryCount: bytes.half(40), flags: bytes.half(44))
        let end = Self.byteCount + Int(payloadBytes)
        guard end <= bytes.count else { return nil }
        let checked = UnsafeRawBufferPointer(rebasing: bytes[8..<end])
        guard Self.checksum(checked, identity: identity, file: file) == bytes.half(4) else {
            return nil
        }
    }

    private static func checksum(
        _ bytes: UnsafeRawBufferPointer, identity: LogIdentity, file: UInt64
    ) -> UInt32 {
        var crc = CRC32C()
        crc.update(identity.high)
        crc.update(identity.low)
        crc.update(file)
        crc.update(bytes)
        return crc.value
    }
}

/// One partition's part of a group's payload: its header is
/// partition u32 · entries u32 · bytes u32.
public struct GroupSection {
    static let headerBytes = 12

    /// Whose entries they are.
    public let partition: Int
    /// How many they are.
    public let entryCount: Int
    /// The entries.
    public let bytes: UnsafeRawBufferPointer

    /// Splits a group's payload, nil if it does not add up.
    static func split(
        _ payload: UnsafeRawBufferPointer, count: Int, partitionCount: Int
    ) -> [GroupSection]? {
        var sections: [GroupSection] = []
        var offset = 0
        for _ in 0..<count {
            guard payload.count - offset >= headerBytes else { return nil }
            let partition = Int(payload.half(offset))
            let entryCount = Int(payload.half(offset + 4))
            let end = offset + headerBytes + Int(payload.half(offset + 8))
            guard partition < partitionCount, end <= payload.count else { return nil }
            let bytes = UnsafeRawBufferPointer(rebasing: payload[(offset + headerBytes)..<end])
            sections.append(
                GroupSection(partition: partition, entryCount: entryCount, bytes: bytes))
            offset = end
        }
        return offset == payload.count ? sections : nil
    }
}

func store<Value: FixedWidthInteger>(
    _ value: Value, _ bytes: UnsafeMutableRawPointer, _ offset: Int
) {
    bytes.storeBytes(of: value.littleEndian, toByteOffset: offset, as: Value.self)
}

extension UnsafeRawBufferPointer {
    func half(_ offset: Int) -> UInt32 {
        UInt32(littleEndian: loadUnaligned(fromByteOffset: offset, as: UInt32.self))
    }

    func word(_ offset: Int) -> UInt64 {
        UInt64(littleEndian: loadUnaligned(fromByteOffset: offset, as: UInt64.self))
    }
}
