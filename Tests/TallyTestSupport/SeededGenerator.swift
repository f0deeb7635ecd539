/// Random numbers that are the same for the same seed (Steele, Lea and Flood's SplitMix64).
package struct SeededGenerator: RandomNumberGenerator, Sendable {
    private var state: UInt64

    package init(seed: UInt64) {
        state = seed
    }

    package mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var word = state
        word = (word ^ word >> 30) &* 0xbf58_476d_1ce4_e5b9
        word = (word ^ word >> 27) &* 0x94d0_49bb_1331_11eb
        return word ^ word >> 31
    }

    /// True once in `rarity` times on average; never for 0.
    package mutating func once(in rarity: Int) -> Bool {
        rarity > 0 && Int.random(in: 0..<rarity, using: &self) == 0
    }
}
