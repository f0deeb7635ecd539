/// Unsigned integers in 1...10 bytes, seven bits a byte, low bits first (LEB128), and signed ones
/// folded into them (zigzag).
public enum Varint {
    /// Most bytes of one integer.
    public static let bytesMax = 10

    /// Writes `value` at `target`, which has room for `bytesMax` bytes.
    ///
    /// - Returns: the number of bytes written.
    @inlinable @inline(__always)
    public static func write(_ value: UInt64, to target: UnsafeMutableRawPointer) -> Int {
        var rest = value
        var written = 0
        while rest >= 0x80 {
            target.storeBytes(
                of: UInt8(truncatingIfNeeded: rest) | 0x80, toByteOffset: written, as: UInt8.self)
            rest &>>= 7
            written &+= 1
        }
        target.storeBytes(
            of: UInt8(truncatingIfNeeded: rest), toByteOffset: written, as: UInt8.self)
        return written &+ 1
    }

    /// Reads the integer at `offset` and moves `offset` behind it.
    ///
    /// - Returns: nil when the bytes end too early, exceed 64 bits, or are longer than needed.
    public static func read(_ bytes: UnsafeRawBufferPointer, at offset: inout Int) -> UInt64? {
        var value: UInt64 = 0
        var shift: UInt64 = 0
        var next = offset
        while next < bytes.count {
            let byte = bytes[next]
            next &+= 1
            if shift == 63, byte > 1 { return nil }
            value |= UInt64(byte & 0x7f) &<< shift
            if byte < 0x80 {
                if byte == 0, shift > 0 { return nil }
                offset = next
                return value
            }
            shift &+= 7
            if shift > 63 { return nil }
        }
        return nil
    }

    /// Folds the sign into the lowest bit, so that small magnitudes stay small.
    @inlinable @inline(__always)
    public static func zigzag(_ value: Int64) -> UInt64 {
        UInt64(bitPattern: value &<< 1 ^ value &>> 63)
    }

    /// Undoes `zigzag`.
    @inlinable @inline(__always)
    public static func unzigzag(_ value: UInt64) -> Int64 {
        Int64(bitPattern: value &>> 1 ^ (0 &- (value & 1)))
    }
}
