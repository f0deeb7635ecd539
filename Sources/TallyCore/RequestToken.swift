/// What makes an update countable once: a name that its client chose, with the time of its choice.
///
/// A UUID of version 7 or a ULID: 128 bits, of which the upper 48 are milliseconds since 1970.
public struct RequestToken: Hashable, Sendable {
    /// The upper half.
    public let high: UInt64
    /// The lower half.
    public let low: UInt64

    /// A token in both its parts.
    public init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }

    /// How many bytes it has.
    public static let byteCount = 16

    /// When it was made, milliseconds since 1970.
    @inline(__always)
    public var milliseconds: UInt64 { high &>> 16 }

    /// Reads a token as clients write it: a UUID of version 7 with or without hyphens, or a ULID.
    ///
    /// - Returns: nil for any other text.
    public init?(_ text: UnsafeRawBufferPointer) {
        switch text.count {
        case 26: self.init(ulid: text)
        case 32, 36: self.init(uuid: text)
        default: return nil
        }
    }

    private init?(uuid text: UnsafeRawBufferPointer) {
        var value: UInt128 = 0
        var digits = 0
        for (index, byte) in text.enumerated() {
            if text.count == 36, [8, 13, 18, 23].contains(index) {
                guard byte == UInt8(ascii: "-") else { return nil }
                continue
            }
            guard let digit = Self.hexadecimal(byte) else { return nil }
            value = value << 4 | UInt128(digit)
            digits += 1
        }
        let isVersion7 = value >> 76 & 0xf == 7 && value >> 62 & 3 == 2
        guard digits == 32, isVersion7 else { return nil }
        self.init(value)
    }

    private init?(ulid text: UnsafeRawBufferPointer) {
        var value: UInt128 = 0
        for (index, byte) in text.enumerated() {
            guard let digit = Self.crockford(byte), index > 0 || digit < 8 else { return nil }
            value = value << 5 | UInt128(digit)
        }
        self.init(value)
    }

    private init(_ value: UInt128) {
        self.init(
            high: UInt64(truncatingIfNeeded: value >> 64), low: UInt64(truncatingIfNeeded: value))
    }

    private static func hexadecimal(_ byte: UInt8) -> UInt8? {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
        case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
        default: nil
        }
    }

    /// Crockford's base 32: digits and letters without I, L, O, U.
    private static func crockford(_ byte: UInt8) -> UInt8? {
        let upper = byte >= UInt8(ascii: "a") && byte <= UInt8(ascii: "z") ? byte - 32 : byte
        return Array("0123456789ABCDEFGHJKMNPQRSTVWXYZ".utf8).firstIndex(of: upper).map(UInt8.init)
    }

    /// Writes its bytes, the upper first, so that they are in order of time.
    public func write(to bytes: UnsafeMutableRawPointer) {
        bytes.storeBytes(of: high.bigEndian, as: UInt64.self)
        bytes.storeBytes(of: low.bigEndian, toByteOffset: 8, as: UInt64.self)
    }

    /// The token of the bytes that `write` writes.
    public init(bytes: UnsafeRawPointer) {
        high = UInt64(bigEndian: bytes.loadUnaligned(as: UInt64.self))
        low = UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
    }
}

/// What a command is, in 64 bits, the same on every machine: FNV-1a (Fowler, Noll, Vo, 1991) over its
/// arguments, each behind its length.
public struct CommandFingerprint: Sendable {
    /// The fingerprint of what has been added.
    public private(set) var value: UInt64 = 0xcbf2_9ce4_8422_2325

    /// Of nothing.
    public init() {}

    /// Adds an argument.
    public mutating func add(_ argument: UnsafeRawBufferPointer) {
        withUnsafeBytes(of: UInt32(truncatingIfNeeded: argument.count).littleEndian) { mix($0) }
        mix(argument)
    }

    private mutating func mix(_ bytes: UnsafeRawBufferPointer) {
        for byte in bytes { value = (value ^ UInt64(byte)) &* 0x100_0000_01b3 }
    }
}
