internal import CTallyIntrinsics
internal import Glibc

/// Where a string key lives: one of the 16,384 slots of Redis Cluster.
///
/// The slot is CRC16 (XMODEM) of the key, or of what stands between its first `{` and the next
/// `}` when that is not empty, so that keys with one hash tag share a slot.
public struct Slot: Equatable, Hashable, Sendable {
    /// How many slots there are.
    public static let count = 16384

    /// 0 ..< 16384.
    public let index: UInt16

    /// The slot of `key`.
    ///
    /// - Complexity: O(*n*) in the length of the key.
    public init(of key: UnsafeRawBufferPointer) {
        index = Self.checksum(Self.hashedPart(of: key)) & 0x3fff
    }

    /// The slot of `family:key`.
    ///
    /// - Complexity: O(*n*) in the length of both.
    public init(of key: UnsafeRawBufferPointer, ofFamily family: UnsafeRawBufferPointer) {
        index = withUnsafeTemporaryAllocation(
            byteCount: family.count + 1 + key.count, alignment: 1
        ) { whole in
            whole.copyMemory(from: family)
            whole[family.count] = UInt8(ascii: ":")
            UnsafeMutableRawBufferPointer(rebasing: whole[(family.count + 1)...])
                .copyMemory(from: key)
            return Slot(of: UnsafeRawBufferPointer(whole)).index
        }
    }

    /// The partition that holds this slot: partitions are contiguous ranges of slots, so doubling
    /// their number splits each in two.
    public func partition(of partitionCount: Int) -> Int {
        (Int(index) &* partitionCount) &>> 14
    }

    @inline(__always)
    private static func hashedPart(of key: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
        guard let start = key.baseAddress,
            memchr(start, Int32(UInt8(ascii: "{")), key.count) != nil
        else { return key }
        return tag(of: key) ?? key
    }

    /// What stands between the first `{` and the next `}`, nil if there is nothing.
    private static func tag(of key: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer? {
        guard let open = key.firstIndex(of: UInt8(ascii: "{")),
            let close = key[(open + 1)...].firstIndex(of: UInt8(ascii: "}")), close > open + 1
        else { return nil }
        return UnsafeRawBufferPointer(rebasing: key[(open + 1)..<close])
    }

    /// CRC16 with polynomial 0x1021, no reflection, starting from zero.
    @inline(__always)
    static func checksum(_ bytes: UnsafeRawBufferPointer) -> UInt16 {
        isHardware ? tally_crc16(bytes.baseAddress, bytes.count) : checksumByTable(bytes)
    }

    private static let isHardware = tally_crc16_available()

    /// The same without the processor's help, eight bytes at a time.
    static func checksumByTable(_ bytes: UnsafeRawBufferPointer) -> UInt16 {
        guard let start = bytes.baseAddress else { return 0 }
        let tables = tables
        let count = bytes.count
        var crc: UInt16 = 0
        var offset = 0
        while offset &+ 8 <= count {
            let word =
                UInt64(bigEndian: start.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
                ^ UInt64(crc) &<< 48
            let high =
                tables[7 &<< 8 | Int(word &>> 56)]
                ^ tables[6 &<< 8 | Int(word &>> 48 & 0xff)]
                ^ tables[5 &<< 8 | Int(word &>> 40 & 0xff)]
                ^ tables[4 &<< 8 | Int(word &>> 32 & 0xff)]
            crc =
                high
                ^ tables[3 &<< 8 | Int(word &>> 24 & 0xff)]
                ^ tables[2 &<< 8 | Int(word &>> 16 & 0xff)]
                ^ tables[1 &<< 8 | Int(word &>> 8 & 0xff)]
                ^ tables[Int(word & 0xff)]
            offset &+= 8
        }
        while offset < count {
            let byte = start.load(fromByteOffset: offset, as: UInt8.self)
            crc = crc &<< 8 ^ tables[Int(UInt8(truncatingIfNeeded: crc &>> 8) ^ byte)]
            offset &+= 1
        }
        return crc
    }

    /// Eight tables of 256: table *k* advances a byte through *k* more zero bytes. Never changed
    /// once made.
    nonisolated(unsafe) private static let tables: UnsafePointer<UInt16> = {
        let tables = UnsafeMutablePointer<UInt16>.allocate(capacity: 8 * 256)
        for byte in 0..<256 {
            var remainder = UInt16(byte) << 8
            for _ in 0..<8 {
                remainder = remainder << 1 ^ (remainder & 0x8000 != 0 ? 0x1021 : 0)
            }
            tables[byte] = remainder
        }
        for index in 256..<(8 * 256) {
            let previous = tables[index - 256]
            tables[index] = previous << 8 ^ tables[Int(previous >> 8)]
        }
        return UnsafePointer(tables)
    }()
}
