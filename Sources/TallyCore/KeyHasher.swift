/// A seeded 64-bit hash of keys for tables in memory; never stored.
///
/// Each 16 bytes are folded with one 64×64→128-bit multiplication, as in Wang Yi's wyhash. The
/// seed is drawn at start-up, so that nobody can choose keys that collide.
public struct KeyHasher: Sendable {
    @usableFromInline
    let seed: UInt64
    /// What no chosen word can cancel, because it is drawn with the seed.
    @usableFromInline
    let secret: UInt64

    private static let multiplier: UInt64 = 0x9e37_79b9_7f4a_7c15
    @usableFromInline
    static var increment: UInt64 { 0xd1b5_4a32_d192_ed03 }

    /// A hash function of its own for each `seed`.
    public init(seed: UInt64) {
        self.seed = Self.fold(seed ^ Self.increment, Self.multiplier) | 1
        secret = Self.fold(seed ^ Self.multiplier, Self.increment) | 1
    }

    /// The hash of `count` bytes at `key`.
    ///
    /// - Complexity: O(*n*) in the length of the key.
    @inlinable @inline(__always)
    public func hash(_ key: UnsafeRawPointer, count: Int) -> UInt64 {
        _hash(key, count)
    }

    /// The hash of `key`.
    public func hash(_ key: UnsafeRawBufferPointer) -> UInt64 {
        guard let base = key.baseAddress else { return Self.fold(seed, secret) }
        return _hash(base, key.count)
    }

    /// The hash of an integer key.
    @inlinable @inline(__always)
    public func hash(_ key: UInt64) -> UInt64 {
        let product = (key ^ secret).multipliedFullWidth(by: seed)
        return product.high ^ product.low
    }

    /// The hash of a token, as of its bytes.
    @inlinable @inline(__always)
    public func hash(_ token: RequestToken) -> UInt64 {
        let state = seed ^ UInt64(truncatingIfNeeded: RequestToken.byteCount) &* Self.increment
        let product = (token.high.bigEndian ^ secret).multipliedFullWidth(
            by: token.low.bigEndian ^ state)
        return product.high ^ product.low ^ state &>> 32
    }

    @usableFromInline
    func _hash(_ key: UnsafeRawPointer, _ count: Int) -> UInt64 {
        var state = seed ^ UInt64(truncatingIfNeeded: count) &* Self.increment
        var next = key
        var left = count
        while left > 16 {
            state = Self.fold(
                next.loadUnaligned(as: UInt64.self) ^ secret,
                next.loadUnaligned(fromByteOffset: 8, as: UInt64.self) ^ state)
            next += 16
            left &-= 16
        }
        let (low, high) = Self.tail(next, left)
        return Self.fold(low ^ secret, high ^ state) ^ state &>> 32
    }

    /// The last 0...16 bytes as two words; which bytes overlap depends on the count alone, and the
    /// count is part of the state.
    @inline(__always)
    private static func tail(_ bytes: UnsafeRawPointer, _ count: Int) -> (UInt64, UInt64) {
        if count >= 8 {
            return (
                bytes.loadUnaligned(as: UInt64.self),
                bytes.loadUnaligned(fromByteOffset: count &- 8, as: UInt64.self)
            )
        }
        if count >= 4 {
            return (
                UInt64(bytes.loadUnaligned(as: UInt32.self)),
                UInt64(bytes.loadUnaligned(fromByteOffset: count &- 4, as: UInt32.self))
            )
        }
        if count == 0 { return (0, 0) }
        let first = UInt64(bytes.load(as: UInt8.self))
        let middle = UInt64(bytes.load(fromByteOffset: count &>> 1, as: UInt8.self))
        let last = UInt64(bytes.load(fromByteOffset: count &- 1, as: UInt8.self))
        return (first &<< 16 | middle &<< 8 | last, 0)
    }

    @inline(__always)
    private static func fold(_ a: UInt64, _ b: UInt64) -> UInt64 {
        let product = a.multipliedFullWidth(by: b)
        return product.high ^ product.low
    }
}
