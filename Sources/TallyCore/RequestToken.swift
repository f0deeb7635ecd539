/// What makes an update countable once: a name that its client chose, with the time of its choice.
///
/// A UUID of version 7 or a ULID: 128 bits, of which the upper 48 are milliseconds since 1970.
public struct RequestToken: Hashable, Comparable, Sendable {
    /// The upper half.
    public let high: UInt64
    /// The lower half.
    public let low: UInt64

    /// A token in both its parts.
    public init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }

    /// Whether it was made before another, or sorts before it.
    @inline(__always)
    public static func < (left: RequestToken, right: RequestToken) -> Bool {
        left.high != right.high ? left.high < right.high : left.low < right.low
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
        let hasHyphens = text.count == 36
        var (high, low): (UInt64, UInt64) = (0, 0)
        var bad: UInt8 = 0
        for (index, byte) in text.enumerated() {
            if hasHyphens, index == 8 || index == 13 || index == 18 || index == 23 {
                bad |= byte ^ UInt8(ascii: "-")
                continue
            }
            let digit = Self.hexadecimal(byte)
            bad |= digit & 0xf0
            high = high &<< 4 | low &>> 60
            low = low &<< 4 | UInt64(digit & 0xf)
        }
        guard bad == 0, high & 0xf000 == 0x7000, low &>> 62 == 2 else { return nil }
        self.init(high: high, low: low)
    }

    private init?(ulid text: UnsafeRawBufferPointer) {
        var (high, low): (UInt64, UInt64) = (0, 0)
        for (index, byte) in text.enumerated() {
            guard let digit = Self.crockford(byte), index > 0 || digit < 8 else { return nil }
            high = high &<< 5 | low &>> 59
            low = low &<< 5 | UInt64(digit)
        }
        self.init(high: high, low: low)
    }

    /// A digit's value, above 15 if it is none.
    @inline(__always)
    private static func hexadecimal(_ byte: UInt8) -> UInt8 {
        let decimal = byte &- UInt8(ascii: "0")
        if decimal < 10 { return decimal }
        let letter = (byte | 0x20) &- UInt8(ascii: "a")
        return letter < 6 ? letter &+ 10 : 0xff
    }

    /// Crockford's base 32: digits and letters without I, L, O, U.
    private static func crockford(_ byte: UInt8) -> UInt8? {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): return byte - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "z"): return crockford(byte - 32)
        case UInt8(ascii: "A")...UInt8(ascii: "Z"): break
        default: return nil
        }
        var value = byte - UInt8(ascii: "A") + 10
        for missing: UInt8 in [
            UInt8(ascii: "I"), UInt8(ascii: "L"), UInt8(ascii: "O"), UInt8(ascii: "U"),
        ] {
            if byte == missing { return nil }
            if byte > missing { value -= 1 }
        }
        return value
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
        addLength(argument.count)
        for byte in argument { mix(byte) }
    }

    /// Adds an argument of which capital letters count as small ones.
    public mutating func addIgnoringCase(_ argument: UnsafeRawBufferPointer) {
        addLength(argument.count)
        for byte in argument {
            let isCapital = byte >= UInt8(ascii: "A") && byte <= UInt8(ascii: "Z")
            mix(isCapital ? byte | 0x20 : byte)
        }
    }

    private mutating func addLength(_ count: Int) {
        let count = UInt32(truncatingIfNeeded: count)
        for shift: UInt32 in [0, 8, 16, 24] { mix(UInt8(truncatingIfNeeded: count &>> shift)) }
    }

    @inline(__always)
    private mutating func mix(_ byte: UInt8) { value = (value ^ UInt64(byte)) &* 0x100_0000_01b3 }
}
