internal import Glibc

/// Says of keys that a cold segment cannot have them, so that nobody reads the disk for those.
///
/// A binary fuse filter (Graf and Lemire, 2022) over the keys' hashes, with fingerprints of `bits`
/// bits: about 1.14 × `bits` bits a key, and one in 2^`bits` absent keys is taken for a present one.
/// Kept in memory only, since hashes are seeded anew at every start.
public final class KeyFilter: @unchecked Sendable {
    // Sendable because nothing changes once it is made.
    private let cells: UnsafeMutableRawPointer
    private let bits: Int
    private let seed: UInt64
    private let segmentLength: UInt64
    private let segmentCount: UInt64

    /// Memory taken, bytes.
    public let allocatedBytes: Int

    /// Most bits of a fingerprint.
    public static let bitsMax = 16

    private static let paddingBytes = 4

    /// A filter for keys of these hashes, different ones.
    ///
    /// - Complexity: O(hashes) expected; for the time being 20 bytes a key are taken.
    init(_ hashes: UnsafeBufferPointer<UInt64>, bits: Int) {
        precondition((1...Self.bitsMax).contains(bits), "a fingerprint of \(bits) bits")
        self.bits = bits
        let count = max(2, Double(hashes.count))
        let length = Int((log(count) / log(3.33) + 2.25).rounded(.down))
        segmentLength = 1 << UInt64(min(max(length, 2), 18))
        let factor = max(1.125, 0.875 + 0.25 * log(1_000_000) / log(count))
        let capacity = UInt64((count * factor).rounded())
        segmentCount =
            max(
                3, (capacity + segmentLength - 1) / segmentLength) - 2
        let cellCount = Int((segmentCount + 2) * segmentLength)
        allocatedBytes = (cellCount * bits + 7) / 8 + Self.paddingBytes
        cells = .allocate(byteCount: allocatedBytes, alignment: 8)
        cells.initializeMemory(as: UInt8.self, repeating: 0, count: allocatedBytes)
        var peeling = Peeling(cellCount: cellCount, keyCount: hashes.count)
        var seed: UInt64 = 0
        var distinct: [UInt64]?
        while true {
            seed &+= 0x9e37_79b9_7f4a_7c15
            let shape = Shape(
                seed: seed, segmentLength: segmentLength, segmentCount: segmentCount)
            let isPeeled =
                if let distinct {
                    distinct.withUnsafeBufferPointer { peeling.run($0, shape) }
                } else {
                    peeling.run(hashes, shape)
                }
            if isPeeled { break }
            // Two keys of one hash would fail for ever.
            if distinct == nil { distinct = Array(Set(hashes)) }
        }
        self.seed = seed
        assign(peeling)
    }

    deinit { cells.deallocate() }

    /// Whether there may be a key of this hash.
    @inline(__always)
    func mayContain(_ hash: UInt64) -> Bool {
        let shape = Shape(seed: seed, segmentLength: segmentLength, segmentCount: segmentCount)
        let mixed = shape.mix(hash)
        let (first, second, third) = shape.cells(mixed)
        return fingerprint(mixed) == cell(first) ^ cell(second) ^ cell(third)
    }

    @inline(__always)
    private func fingerprint(_ mixed: UInt64) -> UInt32 {
        UInt32(truncatingIfNeeded: (mixed &* 0xd6e8_feb8_6659_fd93) &>> UInt64(64 &- bits))
    }

    @inline(__always)
    private func cell(_ index: Int) -> UInt32 {
        let bit = index &* bits
        let word = cells.loadUnaligned(fromByteOffset: bit &>> 3, as: UInt32.self)
        return word &>> UInt32(truncatingIfNeeded: bit & 7) & (1 &<< UInt32(bits) &- 1)
    }

    private func setCell(_ index: Int, _ value: UInt32) {
        let bit = index * bits
        let word = cells.loadUnaligned(fromByteOffset: bit >> 3, as: UInt32.self)
        cells.storeBytes(
            of: word | value << UInt32(bit & 7), toByteOffset: bit >> 3, as: UInt32.self)
    }

    /// Gives each key's last free cell what makes its three cells its fingerprint, in the reverse
    /// order of peeling.
    private func assign(_ peeling: borrowing Peeling) {
        let shape = Shape(seed: seed, segmentLength: segmentLength, segmentCount: segmentCount)
        for index in stride(from: peeling.peeledCount - 1, through: 0, by: -1) {
            let (mixed, free) = peeling.peeled(index)
            let (first, second, third) = shape.cells(mixed)
            setCell(free, fingerprint(mixed) ^ cell(first) ^ cell(second) ^ cell(third))
        }
    }

    /// Where a hash's cells are.
    fileprivate struct Shape {
        let seed: UInt64
        let segmentLength: UInt64
        let segmentCount: UInt64

        @inline(__always)
        func mix(_ hash: UInt64) -> UInt64 {
            var mixed = hash &+ seed
            mixed = (mixed ^ mixed &>> 33) &* 0xff51_afd7_ed55_8ccd
            mixed = (mixed ^ mixed &>> 33) &* 0xc4ce_b9fe_1a85_ec53
            return mixed ^ mixed &>> 33
        }

        /// One cell in each of three neighbouring segments.
        @inline(__always)
        func cells(_ mixed: UInt64) -> (Int, Int, Int) {
            let first = mixed.multipliedFullWidth(by: segmentCount &* segmentLength).high
            let mask = segmentLength &- 1
            let second = (first &+ segmentLength) ^ (mixed &>> 18 & mask)
            let third = (first &+ 2 &* segmentLength) ^ (mixed & mask)
            return (
                Int(truncatingIfNeeded: first), Int(truncatingIfNeeded: second),
                Int(truncatingIfNeeded: third)
            )
        }
    }
}

/// Finds an order in which every key has a cell that no later key uses: takes away, again and again, a
/// key that is alone in one of its cells.
private struct Peeling: ~Copyable {
    private let cellCount: Int
    /// For each cell how many keys use it, and the exclusive or of their hashes.
    private let counts: UnsafeMutablePointer<UInt8>
    private let hashes: UnsafeMutablePointer<UInt64>
    private let stack: UnsafeMutablePointer<(mixed: UInt64, free: UInt32)>
    private let alone: UnsafeMutablePointer<UInt32>
    private(set) var peeledCount = 0

    init(cellCount: Int, keyCount: Int) {
        self.cellCount = cellCount
        counts = .allocate(capacity: cellCount)
        hashes = .allocate(capacity: cellCount)
        stack = .allocate(capacity: max(1, keyCount))
        alone = .allocate(capacity: cellCount)
    }

    deinit {
        counts.deallocate()
        hashes.deallocate()
        stack.deallocate()
        alone.deallocate()
    }

    func peeled(_ index: Int) -> (mixed: UInt64, free: Int) {
        (stack[index].mixed, Int(stack[index].free))
    }

    /// - Returns: false if no such order was found; another seed may have one.
    mutating func run(_ keys: UnsafeBufferPointer<UInt64>, _ shape: KeyFilter.Shape) -> Bool {
        counts.initialize(repeating: 0, count: cellCount)
        hashes.initialize(repeating: 0, count: cellCount)
        peeledCount = 0
        for key in keys {
            let mixed = shape.mix(key)
            let (first, second, third) = shape.cells(mixed)
            guard add(mixed, first), add(mixed, second), add(mixed, third) else { return false }
        }
        var aloneCount = 0
        for cell in 0..<cellCount where counts[cell] == 1 {
            alone[aloneCount] = UInt32(cell)
            aloneCount += 1
        }
        while aloneCount > 0 {
            aloneCount -= 1
            let free = Int(alone[aloneCount])
            guard counts[free] == 1 else { continue }
            let mixed = hashes[free]
            (stack + peeledCount).initialize(to: (mixed, UInt32(free)))
            peeledCount += 1
            let (first, second, third) = shape.cells(mixed)
            remove(mixed, first, &aloneCount)
            remove(mixed, second, &aloneCount)
            remove(mixed, third, &aloneCount)
        }
        return peeledCount == keys.count
    }

    /// - Returns: false if there are too many keys in the cell.
    @inline(__always)
    private func add(_ mixed: UInt64, _ cell: Int) -> Bool {
        guard counts[cell] < .max else { return false }
        counts[cell] += 1
        hashes[cell] ^= mixed
        return true
    }

    @inline(__always)
    private func remove(_ mixed: UInt64, _ cell: Int, _ aloneCount: inout Int) {
        counts[cell] -= 1
        hashes[cell] ^= mixed
        guard counts[cell] == 1 else { return }
        alone[aloneCount] = UInt32(cell)
        aloneCount += 1
    }
}
