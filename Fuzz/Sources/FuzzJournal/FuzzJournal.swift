import FuzzDriver
import TallyCore
import TallyEngine
import TallyTestSupport

@testable import TallyStorage

/// One input, read in one of three ways that its first byte chooses: as a journal file, as a group
/// whose checksum is right, or as one partition's entries.
///
/// Whatever the bytes are, the readers must not trap, read beyond them, or take much memory.
private func fuzz(_ start: UnsafePointer<UInt8>, _ count: Int) -> CInt {
    guard count > 1 else { return 0 }
    let bytes = UnsafeRawBufferPointer(start: start + 1, count: count - 1)
    switch start[0] % 3 {
    case 0: readFile(bytes)
    case 1: readGroup(bytes)
    default: readEntries(bytes)
    }
    return 0
}

private let identity = LogIdentity(high: 1, low: 2)
private let hasher = KeyHasher(seed: 1)

private func readFile(_ bytes: UnsafeRawBufferPointer) {
    let disk = SimulatedDisk(seed: 1)
    disk.replace("journal-0000000001", with: Array(bytes))
    read(disk)
}

/// Puts the bytes behind a file header, as a group of one section with a checksum that fits, so
/// that what is behind checksums is reached.
private func readGroup(_ bytes: UnsafeRawBufferPointer) {
    let disk = SimulatedDisk(seed: 1)
    let payloadBytes = min(bytes.count, 4096)
    var file = [UInt8](
        repeating: 0, count: 512 + JournalFormat.padded(GroupHeader.byteCount + payloadBytes))
    file.withUnsafeMutableBytes { buffer in
        guard let base = buffer.baseAddress else { return }
        JournalFileHeader(
            identity: identity, number: 1, epoch: 1, partitionCount: 4, replaces: 0,
            createdMilliseconds: 0
        ).write(to: base)
        (base + 512 + GroupHeader.byteCount).copyMemory(
            from: bytes.baseAddress!, byteCount: payloadBytes)
        GroupHeader(
            sequence: 1, durableSequence: 0, logTimeMilliseconds: 0,
            payloadBytes: UInt32(payloadBytes), sectionCount: UInt32(bytes[0] % 4), entryCount: 1,
            flags: 0
        ).write(to: base + 512, identity: identity, file: 1)
    }
    disk.replace("journal-0000000001", with: file)
    read(disk)
}

private func read(_ disk: SimulatedDisk) {
    _ = try? JournalScanner.scan(disk) { _, sections in
        for section in sections { readEntries(section.bytes) }
        return nil
    }
}

private func readEntries(_ bytes: UnsafeRawBufferPointer) {
    var partition = Partition(hasher: hasher)
    guard (try? partition.replay(bytes, sequence: 1)) != nil else { return }
    partition.checkInvariants()
}

@main
private struct FuzzJournal {
    static func main() {
        runFuzzer { fuzz($0, $1) }
    }
}
