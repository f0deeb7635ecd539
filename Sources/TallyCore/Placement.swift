/// Which partition holds an integer key: its *run*, the keys that differ in their lowest 12 bits only,
/// is hashed, and partitions are ranges of the hash, so that neighbours stay together and doubling the
/// number of partitions splits each in two.
///
/// Part of what is stored: the function never changes. `docs/decisions/0009-integer-segments.md` says
/// why it is this one.
public enum Placement {
    /// Lowest bits of a key that do not matter.
    public static let runBits: UInt64 = 12

    /// The partition of `key` among `partitionCount`, a power of two.
    ///
    /// The hash is the finaliser of MurmurHash3 (Appleby, public domain): a bijection.
    @inlinable @inline(__always)
    public static func partition(of key: UInt64, count partitionCount: Int) -> Int {
        var hash = key &>> runBits
        hash = (hash ^ hash &>> 33) &* 0xff51_afd7_ed55_8ccd
        hash = (hash ^ hash &>> 33) &* 0xc4ce_b9fe_1a85_ec53
        hash ^= hash &>> 33
        return Int(truncatingIfNeeded: hash.multipliedFullWidth(by: UInt64(partitionCount)).high)
    }
}
