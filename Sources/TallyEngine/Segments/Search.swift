internal import CTallyIntrinsics

/// Searches in sorted keys.
enum Search {
    /// The last of `count` ascending keys that is at most `key`; 0 if none is.
    ///
    /// Which half goes on is a matter of arithmetic, not of a branch that would be mispredicted
    /// every other time.
    ///
    /// - Complexity: O(log count).
    @inline(__always)
    static func lastIndex(
        _ keys: UnsafePointer<UInt64>, _ count: Int, notAbove key: UInt64
    ) -> Int {
        var index = 0
        var rest = count
        while rest > 1 {
            let half = rest &>> 1
            let middle = keys[index &+ half]
            // 1 if `middle` is above `key`: the borrow of their difference.
            let borrow = ((~key & middle) | ((~key | middle) & (key &- middle))) &>> 63
            index &+= half & (Int(truncatingIfNeeded: borrow) &- 1)
            rest &-= half
        }
        return index
    }
}

extension Search {
    /// 1 if a key is at most another one and its index is not behind the last, else 0.
    @inline(__always)
    fileprivate static func isAtMost(
        _ key: UInt64, _ other: UInt64, _ index: Int, _ last: Int
    ) -> Int {
        (key <= other ? 1 : 0) & (index <= last ? 1 : 0)
    }
}

/// A table over sorted keys that says where in them to search, by how far a key lies between the
/// first and the last: where keys are spread evenly, a step or two remain of a search.
struct SearchTable {
    /// For each part of the range the first index whose key lies in it or behind it; two more than
    /// there are parts.
    private let starts: UnsafeMutablePointer<UInt32>
    private let first: UInt64
    private let shift: UInt64
    private let partLast: UInt64

    /// - Complexity: O(count).
    init(_ keys: UnsafePointer<UInt64>, _ count: Int) {
        first = keys[0]
        let range = keys[count - 1] - first
        let partBits = Bits.length(UInt64(count))
        shift = UInt64(max(0, Bits.length(range) - partBits))
        partLast = range >> shift
        starts = .allocate(capacity: Int(partLast) + 2)
        var index = 0
        for part in 0...Int(partLast) {
            while index < count, (keys[index] &- first) &>> shift < UInt64(part) { index += 1 }
            starts[part] = UInt32(index)
        }
        starts[Int(partLast) + 1] = UInt32(count)
    }

    func deallocate() { starts.deallocate() }

    /// Memory taken, bytes.
    var allocatedBytes: Int { (Int(partLast) + 2) * MemoryLayout<UInt32>.stride }

    /// The part of the range that a key lies in, or would if it were not outside.
    @inline(__always)
    func part(_ key: UInt64) -> Int {
        key <= first ? 0 : Int(truncatingIfNeeded: min((key &- first) &>> shift, partLast))
    }

    /// Asks the memory system for what `start(ofPart:)` needs.
    @inline(__always)
    func prefetch(part: Int) { tally_prefetch(starts + part) }

    /// Where in the keys to search for one that lies in `part`.
    @inline(__always)
    func start(ofPart part: Int) -> Int {
        // Keys of earlier parts are below, keys of later parts above.
        max(Int(starts[part]) &- 1, 0)
    }

    /// The same as `Search.lastIndex` among the keys that this was made of.
    @inline(__always)
    func lastIndex(
        _ keys: UnsafePointer<UInt64>, notAbove key: UInt64, inPart part: Int
    ) -> Int {
        let start = start(ofPart: part)
        let high = max(Int(starts[part &+ 1]), start &+ 1)
        if high &- start <= 4 {
            // Few: all of them are looked at, without a branch that could be mispredicted.
            let last = high &- 1
            return start
                &+ Search.isAtMost(keys[min(start &+ 1, last)], key, start &+ 1, last)
                &+ Search.isAtMost(keys[min(start &+ 2, last)], key, start &+ 2, last)
                &+ Search.isAtMost(keys[min(start &+ 3, last)], key, start &+ 3, last)
        }
        return start &+ Search.lastIndex(keys + start, high &- start, notAbove: key)
    }

    /// As above, of a key whose part is not known yet.
    @inline(__always)
    func lastIndex(_ keys: UnsafePointer<UInt64>, notAbove key: UInt64) -> Int {
        lastIndex(keys, notAbove: key, inPart: part(key))
    }
}
