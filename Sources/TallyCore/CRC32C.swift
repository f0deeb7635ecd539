internal import CTallyIntrinsics

/// CRC-32C (Castagnoli): the checksum of every on-disk format.
///
/// Uses the processor's instruction where there is one and eight table look-ups per eight bytes
/// (Kounavis and Berry, "A Systematic Approach to Building High Performance Software-based CRC
/// Generators", 2005) where there is not.
public struct CRC32C: Sendable {
    private var state: UInt32 = ~0

    /// A checksum of nothing so far.
    public init() {}

    /// The checksum of all bytes given so far.
    public var value: UInt32 { ~state }

    /// Folds in `bytes`.
    ///
    /// - Complexity: O(*n*) in the number of bytes.
    public mutating func update(_ bytes: UnsafeRawBufferPointer) {
        if Self.isHardware {
            state = tally_crc32c_update(state, bytes.baseAddress, bytes.count)
        } else {
            updateByTable(bytes)
        }
    }

    /// Folds in the eight little-endian bytes of `word`.
    public mutating func update(_ word: UInt64) {
        withUnsafeBytes(of: word.littleEndian) { update($0) }
    }

    /// The checksum of `bytes` alone.
    public static func checksum(_ bytes: UnsafeRawBufferPointer) -> UInt32 {
        var crc = CRC32C()
        crc.update(bytes)
        return crc.value
    }

    /// Folds in `bytes` without the processor's help; what `update` does elsewhere.
    mutating func updateByTable(_ bytes: UnsafeRawBufferPointer) {
        var rest = bytes[...]
        while rest.count >= 8 {
            let word =
                UInt64(
                    littleEndian: bytes.loadUnaligned(
                        fromByteOffset: rest.startIndex, as: UInt64.self))
                ^ UInt64(state)
            var folded: UInt32 = 0
            for byte in 0..<8 {
                folded ^= Self.tables[(7 - byte) << 8 | Int(word >> (8 * UInt64(byte)) & 0xff)]
            }
            state = folded
            rest = rest.dropFirst(8)
        }
        for byte in rest {
            state = Self.tables[Int((state ^ UInt32(byte)) & 0xff)] ^ state >> 8
        }
    }

    private static let isHardware = tally_crc32c_available()

    /// Eight tables of 256: table *k* advances a byte through *k* more zero bytes.
    private static let tables: [UInt32] = {
        var tables = [UInt32](repeating: 0, count: 8 * 256)
        for byte in 0..<256 {
            var remainder = UInt32(byte)
            for _ in 0..<8 {
                remainder = remainder >> 1 ^ (remainder & 1 == 1 ? 0x82f6_3b78 : 0)
            }
            tables[byte] = remainder
        }
        for index in 256..<(8 * 256) {
            let previous = tables[index - 256]
            tables[index] = tables[Int(previous & 0xff)] ^ previous >> 8
        }
        return tables
    }()
}
