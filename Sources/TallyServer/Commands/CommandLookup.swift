/// Finds a command by its name in any case, without making a string of it.
///
/// Names of up to 16 letters are folded into two words and looked up by open addressing in a table
/// built once and never freed.
struct CommandLookup: @unchecked Sendable {
    // Sendable because the table does not change after `init`.
    private struct Entry {
        var low: UInt64
        var high: UInt64
        /// 0 for a free entry.
        var byteCount: Int32
        var index: Int32
    }

    private let entries: UnsafeMutablePointer<Entry>
    private let mask: Int

    /// - Parameter names: lower-case names; the index of each is what `find` returns.
    init(_ names: [String]) {
        var size = 8
        while size < names.count * 4 { size *= 2 }
        mask = size - 1
        entries = .allocate(capacity: size)
        entries.initialize(
            repeating: Entry(low: 0, high: 0, byteCount: 0, index: 0), count: size)
        for (index, name) in names.enumerated() {
            let utf8 = Array(name.utf8)
            precondition((1...16).contains(utf8.count), "command name of wrong length")
            let (low, high) = utf8.withUnsafeBytes { Self.fold($0.baseAddress!, $0.count) }
            var slot = Self.hash(low, high) & mask
            while entries[slot].byteCount != 0 { slot = (slot + 1) & mask }
            entries[slot] = Entry(
                low: low, high: high, byteCount: Int32(utf8.count), index: Int32(index))
        }
    }

    /// The index of the command called `name`, or nil.
    @inline(__always)
    func find(_ name: UnsafeRawBufferPointer) -> Int? {
        guard let start = name.baseAddress, name.count <= 16, name.count > 0 else { return nil }
        let (low, high) = Self.fold(start, name.count)
        var slot = Self.hash(low, high) & mask
        while entries[slot].byteCount != 0 {
            if entries[slot].low == low, entries[slot].high == high,
                entries[slot].byteCount == name.count
            {
                return Int(entries[slot].index)
            }
            slot = (slot &+ 1) & mask
        }
        return nil
    }

    /// The name's bytes with bit 5 cleared, which makes letters capital and nothing else a letter.
    @inline(__always)
    private static func fold(_ name: UnsafeRawPointer, _ count: Int) -> (UInt64, UInt64) {
        var low: UInt64
        var high: UInt64 = 0
        if count >= 8 {
            low = name.loadUnaligned(as: UInt64.self)
            if count > 8 {
                high = name.loadUnaligned(fromByteOffset: count &- 8, as: UInt64.self)
                high &>>= UInt64((16 &- count) &* 8)
            }
        } else if count >= 4 {
            low = UInt64(name.loadUnaligned(as: UInt32.self))
            let last = name.loadUnaligned(fromByteOffset: count &- 4, as: UInt32.self)
            low |= UInt64(last) &<< UInt64((count &- 4) &* 8)
        } else {
            low = UInt64(name.load(as: UInt8.self))
            low |= UInt64(name.load(fromByteOffset: count &>> 1, as: UInt8.self)) &<< 8
            low |= UInt64(name.load(fromByteOffset: count &- 1, as: UInt8.self)) &<< 16
        }
        let capitals: UInt64 = 0xdfdf_dfdf_dfdf_dfdf
        return (low & capitals, high & capitals)
    }

    @inline(__always)
    private static func hash(_ low: UInt64, _ high: UInt64) -> Int {
        Int(truncatingIfNeeded: ((low ^ high &<< 17) &* 0x9e37_79b9_7f4a_7c15) &>> 40)
    }
}
