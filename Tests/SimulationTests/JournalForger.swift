import TallyCore
import TallyTestSupport

@testable import TallyStorage

/// Changes journal files so that they look like the work of a program with a certain mistake.
struct JournalForger {
    private let disk: SimulatedDisk

    init(_ disk: SimulatedDisk) {
        self.disk = disk
    }

    private struct Newest {
        let name: String
        var bytes: [UInt8]
        let header: JournalFileHeader
        /// Where its groups start.
        var offsets: [Int]
        var end: Int
    }

    /// Writes the newest group once more, as the one after it: a program that journals a batch
    /// twice.
    func repeatLastGroup() {
        guard var newest = newest(), let last = newest.offsets.last else { return }
        let extent = newest.end - last
        guard newest.end + extent <= newest.bytes.count else { return }
        let copy = Array(newest.bytes[last..<newest.end])
        newest.bytes.replaceSubrange(newest.end..<(newest.end + extent), with: copy)
        stamp(&newest, at: newest.end) { $0.sequence += 1 }
        disk.replace(newest.name, with: newest.bytes)
    }

    /// Gives every old group behind the end of the newest file the checksum that it would have if
    /// files had no identity: a program that takes what a reused block holds for its own.
    func blessStaleGroups() {
        guard var newest = newest() else { return }
        let sequence = sequence(newest)
        var offset = newest.end
        while offset + GroupHeader.byteCount <= newest.bytes.count {
            let magic = newest.bytes.withUnsafeBytes { $0.half(offset) }
            let extent = newest.bytes.withUnsafeBytes { buffer in
                JournalFormat.padded(GroupHeader.byteCount + Int(buffer.half(offset + 32)))
            }
            if magic == GroupHeader.magic, extent <= newest.bytes.count - offset {
                let stale = newest.bytes.withUnsafeBytes { $0.word(offset + 8) }
                if stale > sequence { stamp(&newest, at: offset) { _ in } }
            }
            offset += JournalFormat.sectorBytes
        }
        disk.replace(newest.name, with: newest.bytes)
    }

    private func sequence(_ newest: Newest) -> UInt64 {
        newest.offsets.last.map { offset in newest.bytes.withUnsafeBytes { $0.word(offset + 8) } }
            ?? 0
    }

    private func stamp(
        _ newest: inout Newest, at offset: Int, _ change: (inout GroupHeader) -> Void
    ) {
        let header = newest.header
        newest.bytes.withUnsafeMutableBytes { buffer in
            let bytes = UnsafeRawBufferPointer(buffer)
            var group = GroupHeader(
                sequence: bytes.word(offset + 8), durableSequence: bytes.word(offset + 16),
                logTimeMilliseconds: bytes.word(offset + 24), payloadBytes: bytes.half(offset + 32),
                sectionCount: bytes.half(offset + 36), entryCount: bytes.half(offset + 40),
                flags: bytes.half(offset + 44))
            change(&group)
            group.write(
                to: buffer.baseAddress! + offset, identity: header.identity, file: header.number)
        }
    }

    /// The newest file with a readable header.
    private func newest() -> Newest? {
        let names = ((try? disk.list()) ?? []).filter { JournalFormat.fileNumber($0) != nil }
        for name in names.sorted().reversed() {
            guard let bytes = disk.contents(of: name) else { continue }
            let header = bytes.withUnsafeBytes { buffer in
                try? JournalFileHeader(UnsafeRawBufferPointer(rebasing: buffer[...]))
            }
            guard let header else { continue }
            var newest = Newest(name: name, bytes: bytes, header: header, offsets: [], end: 512)
            while let extent = extent(newest) {
                newest.offsets.append(newest.end)
                newest.end += extent
            }
            if !newest.offsets.isEmpty { return newest }
        }
        return nil
    }

    private func extent(_ newest: Newest) -> Int? {
        newest.bytes.withUnsafeBytes { buffer in
            guard newest.end < buffer.count else { return nil }
            return GroupHeader(
                UnsafeRawBufferPointer(rebasing: buffer[newest.end...]),
                identity: newest.header.identity, file: newest.header.number)?.extentBytes
        }
    }
}
