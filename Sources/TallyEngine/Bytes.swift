internal import Glibc

/// Comparison and copying of short byte strings without a call.
enum Bytes {
    /// Copies `count` bytes to a place that does not overlap.
    @inline(__always)
    static func copy(
        _ source: UnsafeRawPointer, to target: UnsafeMutableRawPointer, _ count: Int
    ) {
        guard count >= 8 else { return copyFew(source, to: target, count) }
        var offset = 0
        while offset &+ 8 < count {
            target.storeBytes(of: word(source, offset), toByteOffset: offset, as: UInt64.self)
            offset &+= 8
        }
        // The last eight bytes, some of them for the second time.
        target.storeBytes(
            of: word(source, count &- 8), toByteOffset: count &- 8, as: UInt64.self)
    }

    @inline(__always)
    private static func copyFew(
        _ source: UnsafeRawPointer, to target: UnsafeMutableRawPointer, _ count: Int
    ) {
        if count >= 4 {
            let last = half(source, count &- 4)
            target.storeBytes(of: half(source, 0), as: UInt32.self)
            target.storeBytes(of: last, toByteOffset: count &- 4, as: UInt32.self)
            return
        }
        var offset = 0
        while offset < count {
            target.storeBytes(
                of: source.load(fromByteOffset: offset, as: UInt8.self), toByteOffset: offset,
                as: UInt8.self)
            offset &+= 1
        }
    }

    /// Whether `count` bytes at both places are the same.
    @inline(__always)
    static func equal(_ left: UnsafeRawPointer, _ right: UnsafeRawPointer, _ count: Int) -> Bool {
        if count >= 8 {
            var offset = 0
            while offset &+ 8 <= count {
                if word(left, offset) != word(right, offset) { return false }
                offset &+= 8
            }
            return word(left, count &- 8) == word(right, count &- 8)
        }
        if count >= 4 {
            return half(left, 0) == half(right, 0)
                && half(left, count &- 4) == half(right, count &- 4)
        }
        var offset = 0
        while offset < count {
            if left.load(fromByteOffset: offset, as: UInt8.self)
                != right.load(fromByteOffset: offset, as: UInt8.self)
            {
                return false
            }
            offset &+= 1
        }
        return true
    }

    /// Whether `left` comes before `right`: bytes are unsigned, a prefix before what it begins.
    @inline(__always)
    static func isLess(_ left: UnsafeRawBufferPointer, _ right: UnsafeRawBufferPointer) -> Bool {
        compare(left, right) < 0
    }

    /// Below 0, 0 or above 0 as `left` comes before `right`, is the same, or comes after.
    @inline(__always)
    static func compare(_ left: UnsafeRawBufferPointer, _ right: UnsafeRawBufferPointer) -> Int {
        let shared = min(left.count, right.count)
        if shared > 0 {
            let order = memcmp(
                left.baseAddress.unsafelyUnwrapped, right.baseAddress.unsafelyUnwrapped, shared)
            if order != 0 { return Int(order) }
        }
        return left.count &- right.count
    }

    @inline(__always)
    private static func word(_ bytes: UnsafeRawPointer, _ offset: Int) -> UInt64 {
        bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
    }

    @inline(__always)
    private static func half(_ bytes: UnsafeRawPointer, _ offset: Int) -> UInt32 {
        bytes.loadUnaligned(fromByteOffset: offset, as: UInt32.self)
    }
}
