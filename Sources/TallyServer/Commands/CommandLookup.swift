import TallyCore

/// Finds a command by its name in any case, without making a string of it.
///
/// Names of up to 16 letters are folded into two words and looked up by open addressing in a table
/// built once.
struct CommandLookup: Sendable {
    private struct Name: Equatable {
        var low: UInt64
        var high: UInt64
    }

    private struct Entry {
        let name: Name
        let byteCount: Int
        let index: Int
    }

    private var slots: [Entry?]
    private let mask: Int

    /// - Parameter names: lower-case names; the index of each is what `find` returns.
    init(_ names: [String]) {
        var size = 8
        while size < names.count * 4 { size *= 2 }
        mask = size - 1
        slots = Array(repeating: nil, count: size)
        for (index, name) in names.enumerated() {
            let utf8 = Array(name.utf8)
            precondition(utf8.count <= 16, "command name too long to look up")
            let folded = utf8.withUnsafeBytes(Self.fold)
            var slot = Self.hash(folded) & mask
            while slots[slot] != nil { slot = (slot + 1) & mask }
            slots[slot] = Entry(name: folded, byteCount: utf8.count, index: index)
        }
    }

    /// The index of the command called `name`, or nil.
    @inline(__always)
    func find(_ name: UnsafeRawBufferPointer) -> Int? {
        guard name.count <= 16, !name.isEmpty else { return nil }
        let folded = Self.fold(name)
        var slot = Self.hash(folded) & mask
        while let entry = slots[slot] {
            if entry.name == folded, entry.byteCount == name.count { return entry.index }
            slot = (slot &+ 1) & mask
        }
        return nil
    }

    /// The name's bytes with bit 5 cleared, which makes letters capital and nothing else a letter.
    @inline(__always)
    private static func fold(_ name: UnsafeRawBufferPointer) -> Name {
        let low: UInt64
        var high: UInt64 = 0
        if name.count >= 8 {
            low = name.loadUnaligned(as: UInt64.self)
            let rest = name.count &- 8
            if rest > 0 {
                high = name.loadUnaligned(fromByteOffset: rest, as: UInt64.self)
                high &>>= UInt64((8 &- rest) &* 8)
            }
        } else {
            var word: UInt64 = 0
            for byte in name.reversed() { word = word &<< 8 | UInt64(byte) }
            low = word
        }
        let capitals: UInt64 = 0xdfdf_dfdf_dfdf_dfdf
        return Name(low: low & capitals, high: high & capitals)
    }

    @inline(__always)
    private static func hash(_ name: Name) -> Int {
        let mixed = (name.low ^ name.high &<< 17) &* 0x9e37_79b9_7f4a_7c15
        return Int(truncatingIfNeeded: mixed &>> 40)
    }
}
