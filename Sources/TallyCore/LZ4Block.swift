/// The LZ4 block format: literals and references to what came up to 65,535 bytes before.
///
/// The format is Yann Collet's (LZ4 Block Format Description, version 1.5). References are sought by a table of the
/// latest place of each hash of six bytes, and only one candidate is looked at.
public enum LZ4Block {
    /// A reference of fewer bytes would save nothing.
    private static let matchMin = 6
    /// The format's own least.
    private static let formatMatchMin = 4
    /// What every block ends with as literals, bytes.
    private static let tailBytes = 5
    /// Where the last reference begins at the latest, bytes before the end.
    private static let lastMatchBytes = 12
    private static let distanceMax = 65_535
    private static let tableBits = 12

    /// Most bytes that are taken at once.
    public static let byteCountMax = 1 << 30

    /// Writes `source` in fewer bytes.
    ///
    /// - Returns: how many; nil if they do not fit into `target`.
    /// - Complexity: O(bytes).
    public static func compress(
        _ source: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer
    ) -> Int? {
        precondition(source.count <= byteCountMax, "too much to compress at once")
        guard let base = source.baseAddress, source.count > lastMatchBytes else {
            var output = Output(target)
            return output.append(source, literals: 0..<source.count, reference: nil)
                ? output.count : nil
        }
        let table = UnsafeMutablePointer<UInt32>.allocate(capacity: 1 << tableBits)
        defer { table.deallocate() }
        table.update(repeating: 0, count: 1 << tableBits)
        var output = Output(target)
        let end = source.count - lastMatchBytes
        var anchor = 0
        var index = 1
        while index < end {
            let word = base.loadUnaligned(fromByteOffset: index, as: UInt64.self)
            let slot = table + hash(word)
            var candidate = Int(slot.pointee)
            slot.pointee = UInt32(truncatingIfNeeded: index)
            let there = base.loadUnaligned(fromByteOffset: candidate, as: UInt64.self)
            guard (word ^ there).littleEndian &<< 16 == 0, candidate < index,
                index &- candidate <= distanceMax
            else {
                // Where nothing is found for long, little is looked for.
                index &+= 1 &+ (index &- anchor) &>> 6
                continue
            }
            while index > anchor, candidate > 0, base.byte(index &- 1) == base.byte(candidate &- 1)
            {
                index &-= 1
                candidate &-= 1
            }
            let length =
                matchMin
                + common(
                    base, index + matchMin, candidate + matchMin, source.count - tailBytes)
            guard
                output.append(
                    source, literals: anchor..<index,
                    reference: (distance: index - candidate, length: length))
            else { return nil }
            index += length
            anchor = index
            if index < end {
                let inside = index - 2
                table[hash(base.loadUnaligned(fromByteOffset: inside, as: UInt64.self))] =
                    UInt32(inside)
            }
        }
        guard output.append(source, literals: anchor..<source.count, reference: nil) else {
            return nil
        }
        return output.count
    }

    /// Of the first six bytes.
    @inline(__always)
    private static func hash(_ word: UInt64) -> Int {
        let product = (word.littleEndian &<< 16) &* 0x9e37_79b9_7f4a_7c15
        return Int(truncatingIfNeeded: product &>> UInt64(64 - tableBits))
    }

    /// How many bytes are the same from two places on.
    @inline(__always)
    private static func common(
        _ base: UnsafeRawPointer, _ first: Int, _ second: Int, _ end: Int
    ) -> Int {
        var length = 0
        while first + length + 8 <= end {
            let difference =
                base.loadUnaligned(fromByteOffset: first + length, as: UInt64.self).littleEndian
                ^ base.loadUnaligned(fromByteOffset: second + length, as: UInt64.self).littleEndian
            if difference != 0 { return length + difference.trailingZeroBitCount / 8 }
            length += 8
        }
        while first + length < end, base.byte(first + length) == base.byte(second + length) {
            length += 1
        }
        return length
    }

    /// A block while it is written.
    private struct Output {
        private let target: UnsafeMutableRawBufferPointer
        private(set) var count = 0

        init(_ target: UnsafeMutableRawBufferPointer) { self.target = target }

        /// - Returns: false if there is no room.
        @inline(__always)
        mutating func append(
            _ source: UnsafeRawBufferPointer, literals: Range<Int>,
            reference: (distance: Int, length: Int)?
        ) -> Bool {
            let extra = (reference?.length ?? formatMatchMin) - formatMatchMin
            // The token, the lengths' further bytes, the literals, the distance.
            let most = 1 + literals.count / 255 + 1 + literals.count + 2 + extra / 255 + 1
            guard target.count - count >= most, let base = target.baseAddress else { return false }
            let token = count
            count += 1
            var code = UInt8(min(15, literals.count)) << 4
            if literals.count >= 15 { writeLength(literals.count - 15, base) }
            if !literals.isEmpty, let from = source.baseAddress {
                (base + count).copyMemory(
                    from: from + literals.lowerBound, byteCount: literals.count)
                count += literals.count
            }
            if let reference {
                (base + count).storeBytes(
                    of: UInt16(reference.distance).littleEndian, as: UInt16.self)
                count += 2
                code |= UInt8(min(15, extra))
                if extra >= 15 { writeLength(extra - 15, base) }
            }
            (base + token).storeBytes(of: code, as: UInt8.self)
            return true
        }

        private mutating func writeLength(_ length: Int, _ base: UnsafeMutableRawPointer) {
            var rest = length
            while rest >= 255 {
                (base + count).storeBytes(of: 255, as: UInt8.self)
                count += 1
                rest -= 255
            }
            (base + count).storeBytes(of: UInt8(rest), as: UInt8.self)
            count += 1
        }
    }

    /// Writes what `source` stands for.
    ///
    /// - Returns: false if it is no block of exactly as many bytes as `target` has; what is in `target` is then of no
    ///   use.
    /// - Complexity: O(bytes of the target).
    public static func decompress(
        _ source: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer
    ) -> Bool {
        guard let input = source.baseAddress, source.count > 0 else { return false }
        guard let output = target.baseAddress else { return source.count == 1 && source[0] == 0 }
        var read = 0
        var written = 0
        while read < source.count {
            let token = input.byte(read)
            read += 1
            var literals = Int(token >> 4)
            if literals == 15, !addLength(&literals, source, &read) { return false }
            guard literals <= source.count - read, literals <= target.count - written else {
                return false
            }
            if literals <= 16, source.count - read >= 16, target.count - written >= 16 {
                // Sixteen at once: what is too much is written over.
                copy16(from: input + read, to: output + written)
            } else {
                (output + written).copyMemory(from: input + read, byteCount: literals)
            }
            read += literals
            written += literals
            if read == source.count { return written == target.count }
            guard source.count - read >= 2 else { return false }
            let distance = Int(
                input.loadUnaligned(fromByteOffset: read, as: UInt16.self).littleEndian)
            read += 2
            var length = Int(token & 15)
            if length == 15, !addLength(&length, source, &read) { return false }
            length += formatMatchMin
            guard distance > 0, distance <= written, length <= target.count - written else {
                return false
            }
            let from = output + (written - distance)
            if distance >= 16, length <= 16, target.count - written >= 16 {
                copy16(from: from, to: output + written)
            } else if distance >= length {
                (output + written).copyMemory(from: from, byteCount: length)
            } else {
                // It overlaps: what was just written is repeated.
                for offset in 0..<length {
                    (output + written + offset).storeBytes(of: from.byte(offset), as: UInt8.self)
                }
            }
            written += length
        }
        // A block ends with literals.
        return false
    }

    @inline(__always)
    private static func copy16(from: UnsafeRawPointer, to: UnsafeMutableRawPointer) {
        let words = from.loadUnaligned(as: SIMD2<UInt64>.self)
        to.storeBytes(of: words, as: SIMD2<UInt64>.self)
    }

    private static func addLength(
        _ length: inout Int, _ source: UnsafeRawBufferPointer, _ read: inout Int
    ) -> Bool {
        while read < source.count {
            let byte = source[read]
            read += 1
            length += Int(byte)
            if byte < 255 { return true }
        }
        return false
    }
}

extension UnsafeRawPointer {
    @inline(__always)
    fileprivate func byte(_ offset: Int) -> UInt8 { load(fromByteOffset: offset, as: UInt8.self) }
}

extension UnsafeMutableRawPointer {
    @inline(__always)
    fileprivate func byte(_ offset: Int) -> UInt8 { load(fromByteOffset: offset, as: UInt8.self) }
}
