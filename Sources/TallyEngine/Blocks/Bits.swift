internal import CTallyIntrinsics

/// Reading and writing of bit fields, the lowest bit of the first byte first.
///
/// Reads and searches may touch bytes behind what they are asked for; whoever owns the bytes keeps
/// `paddingBytes` readable behind them.
enum Bits {
    /// Readable bytes that must follow any bytes that are read from.
    static let paddingBytes = 64

    /// The `width` lowest bits set; `width` in 0...64.
    @inline(__always)
    static func mask(_ width: Int) -> UInt64 {
        width == 64 ? .max : (1 &<< UInt64(truncatingIfNeeded: width)) &- 1
    }

    /// How many bits `value` takes; 0 for 0.
    @inline(__always)
    static func length(_ value: UInt64) -> Int { 64 &- value.leadingZeroBitCount }

    /// Bits that `window` always has.
    static let windowBits = 57

    /// The bits from `bit` on: `windowBits` of them are there, those above may be zeros instead.
    @inline(__always)
    static func window(_ bytes: UnsafeRawPointer, _ bit: Int) -> UInt64 {
        word(bytes + bit &>> 3) &>> UInt64(truncatingIfNeeded: bit & 7)
    }

    /// The field of `width` bits, in 0...64, at `bit`.
    @inline(__always)
    static func read(_ bytes: UnsafeRawPointer, _ bit: Int, _ width: Int) -> UInt64 {
        if width > windowBits { return readWide(bytes, bit, width) }
        return window(bytes, bit) & ((1 &<< UInt64(truncatingIfNeeded: width)) &- 1)
    }

    @inline(never)
    private static func readWide(
        _ bytes: UnsafeRawPointer, _ bit: Int, _ width: Int
    ) -> UInt64 {
        let shift = UInt64(truncatingIfNeeded: bit & 7)
        var word = window(bytes, bit)
        if shift > 0 {
            let next = UInt64(bytes.load(fromByteOffset: bit &>> 3 &+ 8, as: UInt8.self))
            word |= next &<< (64 &- shift)
        }
        return word & mask(width)
    }

    /// The eight bytes at `bytes`.
    @inline(__always)
    static func word(_ bytes: UnsafeRawPointer) -> UInt64 {
        UInt64(littleEndian: bytes.loadUnaligned(as: UInt64.self))
    }

    /// Adds a field of `width` bits, in 0...64, at `bit` of words that are zero there.
    @inline(__always)
    static func write(
        _ words: UnsafeMutablePointer<UInt64>, _ bit: Int, _ width: Int, _ value: UInt64
    ) {
        let index = bit &>> 6
        let shift = UInt64(truncatingIfNeeded: bit & 63)
        words[index] |= value &<< shift
        if Int(shift) &+ width > 64 { words[index &+ 1] |= value &>> (64 &- shift) }
    }

    /// Sets the bit at `bit`.
    @inline(__always)
    static func set(_ words: UnsafeMutablePointer<UInt64>, _ bit: Int) {
        words[bit &>> 6] |= 1 &<< UInt64(truncatingIfNeeded: bit & 63)
    }

    /// Copies `count` bits from `bit` on to words that are zero there.
    @inline(__always)
    static func copy(
        _ bytes: UnsafeRawPointer, _ bit: Int, _ count: Int,
        to words: UnsafeMutablePointer<UInt64>, _ wordsBit: Int
    ) {
        var done = 0
        while done < count {
            let width = min(windowBits, count &- done)
            write(words, wordsBit &+ done, width, window(bytes, bit &+ done) & mask(width))
            done &+= width
        }
    }

    /// Moves the first `bits` bits of `words` to bytes, and clears them.
    ///
    /// - Returns: how many bytes those are.
    static func flush(
        _ words: UnsafeMutablePointer<UInt64>, bits: Int, to output: UnsafeMutableRawPointer
    ) -> Int {
        let byteCount = (bits + 7) >> 3
        let wordsUsed = (bits + 63) >> 6
        for index in 0..<wordsUsed { words[index] = words[index].littleEndian }
        output.copyMemory(from: words, byteCount: byteCount)
        words.update(repeating: 0, count: wordsUsed)
        return byteCount
    }

    /// The place of the set bit of `word` that has `rank` set bits below it.
    @inline(__always)
    static func select(_ word: UInt64, _ rank: Int) -> Int {
        Int(tally_select(word, UInt32(truncatingIfNeeded: rank)))
    }

    /// The place of the set bit that has `rank` set bits before it; there must be one.
    @inline(__always)
    static func selectOne(_ bytes: UnsafeRawPointer, _ rank: Int) -> Int {
        select(bytes, rank, flipped: 0)
    }

    /// The place of the clear bit that has `rank` clear bits before it; there must be one.
    @inline(__always)
    static func selectZero(_ bytes: UnsafeRawPointer, _ rank: Int) -> Int {
        select(bytes, rank, flipped: .max)
    }

    /// Four words at a time, and among them without a branch: which of them it is cannot be
    /// predicted.
    @inline(__always)
    private static func select(
        _ bytes: UnsafeRawPointer, _ rank: Int, flipped: UInt64
    ) -> Int {
        var rest = rank
        var offset = 0
        while true {
            let first = (word(bytes + offset) ^ flipped).nonzeroBitCount
            let second = (word(bytes + (offset &+ 8)) ^ flipped).nonzeroBitCount &+ first
            let third = (word(bytes + (offset &+ 16)) ^ flipped).nonzeroBitCount &+ second
            let fourth = (word(bytes + (offset &+ 24)) ^ flipped).nonzeroBitCount &+ third
            if rest < fourth {
                // All ones where the word is behind the one that is counted, zero elsewhere.
                let isPastFirst = (first &- 1 &- rest) &>> 63
                let isPastSecond = (second &- 1 &- rest) &>> 63
                let isPastThird = (third &- 1 &- rest) &>> 63
                rest &-= first & isPastFirst
                rest &-= (second &- first) & isPastSecond
                rest &-= (third &- second) & isPastThird
                offset &-= (isPastFirst &+ isPastSecond &+ isPastThird) &* 8
                return offset &* 8 &+ select(word(bytes + offset) ^ flipped, rest)
            }
            rest &-= fourth
            offset &+= 32
        }
    }

    /// How many of the first `end` bits are set.
    @inline(__always)
    static func countOnes(_ bytes: UnsafeRawPointer, _ end: Int) -> Int {
        var count = 0
        var offset = 0
        while offset &* 8 &+ 64 <= end {
            count &+= word(bytes + offset).nonzeroBitCount
            offset &+= 8
        }
        let rest = end & 63
        return rest == 0 ? count : count &+ (word(bytes + offset) & mask(rest)).nonzeroBitCount
    }

    /// How many clear bits there are from `bit` on before the next set one; there must be one.
    @inline(__always)
    static func zerosFrom(_ bytes: UnsafeRawPointer, _ bit: Int) -> Int {
        var count = 0
        while true {
            let at = bit &+ count
            let bits = word(bytes + at &>> 3) &>> UInt64(truncatingIfNeeded: at & 7)
            if bits != 0 { return count &+ bits.trailingZeroBitCount }
            count &+= 64 &- (at & 7)
        }
    }
}
