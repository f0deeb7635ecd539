/// How the keys of one block are to be coded: where runs break, and what codes the places.
struct KeyPlan {
    private(set) var runCount = 1
    private(set) var startWidth = 0
    private(set) var endWidth = 0
    private(set) var coding = IntegerBlock.KeyCoding.dense
    private(set) var lowWidth = 0
    /// Gaps of at least so many bits separate runs; 65 for none.
    private var breakLength = 65

    /// Tries every limit between gaps that separate runs and gaps that do not.
    init(_ keys: UnsafePointer<UInt64>, _ count: Int) {
        var counts = InlineArray<65, Int>(repeating: 0)
        var sums = InlineArray<65, UInt64>(repeating: 0)
        var firstBreak = 0
        for index in 1..<max(1, count) {
            let gap = keys[index] &- keys[index &- 1]
            precondition(keys[index] > keys[index &- 1], "keys out of order")
            let length = Bits.length(gap)
            counts[length] &+= 1
            sums[length] &+= gap
            firstBreak = max(firstBreak, length)
        }
        let rangeWidth = Bits.length(keys[count &- 1] &- keys[0])
        var sum = keys[count &- 1] &- keys[0]
        var runs = 1
        var best = Int.max
        var length = 65
        // From no break downwards; a gap of 1 is never one.
        while true {
            // The last place: a break is a step of 1.
            let end = sum &+ UInt64(runs &- 1)
            let startWidth = runs > 1 ? rangeWidth : 0
            let endWidth = Bits.length(end)
            let table = (runs &- 1) &* startWidth &+ runs &* endWidth
            let (coding, lowWidth, bits) = Self.coding(count, end)
            if table &+ bits < best {
                best = table &+ bits
                (runCount, breakLength) = (runs, length)
                (self.startWidth, self.endWidth) = (startWidth, endWidth)
                (self.coding, self.lowWidth) = (coding, lowWidth)
            }
            length = length == 65 ? firstBreak : length &- 1
            while length > 1, counts[length] == 0 { length &-= 1 }
            guard length > 1 else { return }
            sum &-= sums[length]
            runs &+= counts[length]
        }
    }

    /// The cheapest coding of `count` places, the last of which is `end`, and its bits.
    private static func coding(
        _ count: Int, _ end: UInt64
    ) -> (IntegerBlock.KeyCoding, lowWidth: Int, bits: Int) {
        if end &+ 1 == UInt64(count) { return (.dense, 0, 0) }
        let lowWidth = max(0, Bits.length(end / UInt64(count)) &- 1)
        let bits = count &* (1 &+ lowWidth) &+ Int(end &>> UInt64(lowWidth)) &+ 1
        if end < UInt64(bits) { return (.bitmap, 0, Int(end) &+ 1) }
        return (.eliasFano, lowWidth, bits)
    }

    @inline(__always)
    func isBreak(_ gap: UInt64) -> Bool { Bits.length(gap) >= breakLength }

    /// How far the places of two neighbours with this gap are apart.
    @inline(__always)
    func step(_ gap: UInt64) -> UInt64 { isBreak(gap) ? 1 : gap }
}
