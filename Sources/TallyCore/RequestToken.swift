internal import CTallyIntrinsics

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
        let start = text.baseAddress.unsafelyUnwrapped
        var words: (UInt64, UInt64, UInt64, UInt64)
        if text.count == 36 {
            guard text[8] == Self.hyphen, text[13] == Self.hyphen, text[18] == Self.hyphen,
                text[23] == Self.hyphen
            else { return nil }
            words = (
                Self.eight(start, 0), Self.four(start, 9) | Self.four(start, 14) &<< 32,
                Self.four(start, 19) | Self.four(start, 24) &<< 32, Self.eight(start, 28)
            )
        } else {
            words = (
                Self.eight(start, 0), Self.eight(start, 8), Self.eight(start, 16),
                Self.eight(start, 24)
            )
        }
        let (upper, lower) = (
            tally_hexadecimal(words.0, words.1), tally_hexadecimal(words.2, words.3)
        )
        guard upper.are_digits, lower.are_digits else { return nil }
        let (high, low) = (upper.value, lower.value)
        guard high & 0xf000 == 0x7000, low &>> 62 == 2 else { return nil }
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

    // MARK: Digits

    private static var hyphen: UInt8 { UInt8(ascii: "-") }

    /// Eight bytes, the first one lowest.
    @inline(__always)
    private static func eight(_ start: UnsafeRawPointer, _ offset: Int) -> UInt64 {
        UInt64(littleEndian: start.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
    }

    /// Four bytes, the first one lowest.
    @inline(__always)
    private static func four(_ start: UnsafeRawPointer, _ offset: Int) -> UInt64 {
        UInt64(UInt32(littleEndian: start.loadUnaligned(fromByteOffset: offset, as: UInt32.self)))
    }

    /// Crockford's base 32: digits and letters without I, L, O, U.
    @inline(__always)
    private static func crockford(_ byte: UInt8) -> UInt8? {
        let decimal = byte &- UInt8(ascii: "0")
        if decimal < 10 { return decimal }
        let letter = (byte | 0x20) &- UInt8(ascii: "a")
        let missing: UInt32 = 1 << 8 | 1 << 11 | 1 << 14 | 1 << 20
        guard letter < 26, missing &>> UInt32(letter) & 1 == 0 else { return nil }
        let before = missing & (1 &<< UInt32(letter) &- 1)
        return 10 &+ letter &- UInt8(before.nonzeroBitCount)
    }

    /// Writes its bytes, the upper first, so that they are in order of time.
    @inlinable @inline(__always)
    public func write(to bytes: UnsafeMutableRawPointer) {
        bytes.storeBytes(of: high.bigEndian, as: UInt64.self)
        bytes.storeBytes(of: low.bigEndian, toByteOffset: 8, as: UInt64.self)
    }

    /// The token of the bytes that `write` writes.
    @inlinable @inline(__always)
    public init(bytes: UnsafeRawPointer) {
        high = UInt64(bigEndian: bytes.loadUnaligned(as: UInt64.self))
        low = UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
    }
}

/// What a command is, in 64 bits, the same on every machine: words are mixed in one after the other by
/// multiplication to 128 bits whose halves are folded, as in Wang Yi's wyhash.
public struct CommandFingerprint: Sendable {
    /// The fingerprint of what has been added.
    public private(set) var value: UInt64 = 0xcbf2_9ce4_8422_2325

    /// Of nothing.
    public init() {}

    /// The fingerprint of a command's name.
    public init(name: String) {
        let name = Array(name.utf8)
        name.withUnsafeBytes { add($0) }
    }

    /// Adds an argument: its length, and its bytes, eight at a time.
    public mutating func add(_ argument: UnsafeRawBufferPointer) {
        add(UInt64(argument.count))
        guard let start = argument.baseAddress else { return }
        var offset = 0
        while offset &+ 8 <= argument.count {
            add(
                UInt64(
                    littleEndian: start.loadUnaligned(fromByteOffset: offset, as: UInt64.self)))
            offset &+= 8
        }
        guard offset < argument.count else { return }
        var last: UInt64 = 0
        for index in offset..<argument.count { last = last &<< 8 | UInt64(argument[index]) }
        add(last)
    }

    /// Adds a word.
    @inline(__always)
    public mutating func add(_ word: UInt64) {
        let product = (value ^ word).multipliedFullWidth(by: 0x9e37_79b9_7f4a_7c15)
        // What was before is not lost where the word is the same as it.
        value = product.high ^ product.low ^ (value &<< 32 | value &>> 32)
    }
}
