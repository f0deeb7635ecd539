/// Where a segment's bytes are, whether they are in memory as well or not.
///
/// A port: the node implements it with files. What is read has been checked by nobody yet.
public protocol SegmentFile: AnyObject, Sendable {
    /// A number that no other segment of the data set ever has.
    var number: UInt64 { get }

    /// Whether something in it is known to be damaged.
    var isDamaged: Bool { get }

    /// Fills `buffer` with the segment's bytes from `offset` on. Any thread may call it.
    func read(
        at offset: Int, into buffer: UnsafeMutableRawBufferPointer
    ) throws(SegmentFileError)

    /// Does the same if the system has those bytes in memory, so that nobody waits for the device.
    ///
    /// - Returns: whether they have been read; else nothing is known of what is in the buffer.
    func readCached(at offset: Int, into buffer: UnsafeMutableRawBufferPointer) -> Bool
}

/// Why a segment's bytes cannot be had.
public enum SegmentFileError: Error, Equatable, Sendable, CustomStringConvertible {
    /// There is no such file any more: a merge has replaced it.
    case missing(file: UInt64)
    /// The disk says no.
    case unreadable(file: UInt64, reason: String)
    /// What was read is not what was written.
    case damaged(file: UInt64, reason: String)

    /// One line for a log, and for the client whose key it is.
    public var description: String {
        switch self {
        case .missing(let file): "segment \(file) is gone"
        case .unreadable(let file, let reason): "segment \(file) cannot be read: \(reason)"
        case .damaged(let file, let reason): "segment \(file) is damaged: \(reason)"
        }
    }
}

/// A block of a cold segment, as the disk is asked for it.
public struct ColdBlock: Sendable {
    /// The segment's file.
    public let file: any SegmentFile
    /// The block's number in its segment.
    public let number: Int
    /// Where in the file it is.
    let offset: Int
    /// How long it is.
    public let byteCount: Int

    /// What tells it from all other blocks of the data set.
    public var address: BlockAddress { BlockAddress(file: file.number, block: number) }

    /// Reads and checks it.
    ///
    /// - Complexity: O(bytes), and a read of the disk.
    public func read() throws(SegmentFileError) -> BlockBytes {
        let bytes = BlockBytes(byteCount: byteCount)
        try file.read(at: offset, into: bytes.writable)
        guard Segment.isIntact(bytes.bytes) else {
            throw .damaged(
                file: file.number,
                reason: "block \(number) at byte \(offset): its checksum is wrong")
        }
        return bytes
    }

    /// Reads it if the system has it in memory, so that nobody waits for the device.
    ///
    /// - Returns: nil if that cannot be done, or something is wrong with it, which `read` tells.
    /// - Complexity: O(bytes).
    public func readCached() -> BlockBytes? {
        let bytes = BlockBytes(byteCount: byteCount)
        let isRead = file.readCached(at: offset, into: bytes.writable)
        return isRead && Segment.isIntact(bytes.bytes) ? bytes : nil
    }
}

/// The name of a block among all of a data set.
public struct BlockAddress: Hashable, Sendable {
    let file: UInt64
    let block: Int

    /// Block `block` of the segment whose file has this number.
    public init(file: UInt64, block: Int) {
        self.file = file
        self.block = block
    }
}

/// A block's bytes on their way from the disk into a cache.
public final class BlockBytes: @unchecked Sendable {
    // Sendable because nothing changes once `ColdBlock.read` has filled it.
    private let memory: UnsafeMutableRawBufferPointer

    /// Room for a block, followed by what reading bits may touch behind it.
    fileprivate init(byteCount: Int) {
        memory = .allocate(byteCount: byteCount + Bits.paddingBytes, alignment: 16)
        UnsafeMutableRawBufferPointer(rebasing: memory[byteCount...]).initializeMemory(
            as: UInt8.self, repeating: 0)
    }

    deinit { memory.deallocate() }

    fileprivate var writable: UnsafeMutableRawBufferPointer {
        UnsafeMutableRawBufferPointer(rebasing: memory.dropLast(Bits.paddingBytes))
    }

    /// The block.
    var bytes: UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(rebasing: memory.dropLast(Bits.paddingBytes))
    }

    /// Memory taken, bytes.
    var allocatedBytes: Int { memory.count }
}
