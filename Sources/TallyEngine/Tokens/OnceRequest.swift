public import TallyCore

/// A request that is to be executed once, where it stands in rows:
///
///     token, two words · fingerprint · how many words are remembered of it · room for them
public struct OnceRequest {
    @usableFromInline let start: UnsafeMutablePointer<Int64>

    /// The request at `start` in the rows.
    @inlinable @inline(__always)
    public init(_ start: UnsafeMutablePointer<Int64>) { self.start = start }

    /// How many words of rows a request takes of which `wordCount` are remembered.
    @inlinable @inline(__always)
    public static func rowsCount(wordCount: Int) -> Int { 4 &+ wordCount }

    /// Writes all but the words that are remembered.
    @inlinable @inline(__always)
    public func write(_ token: RequestToken, fingerprint: UInt64, wordCount: Int) {
        start[0] = Int64(bitPattern: token.high)
        start[1] = Int64(bitPattern: token.low)
        start[2] = Int64(bitPattern: fingerprint)
        start[3] = Int64(wordCount)
    }

    /// Its token.
    @inlinable @inline(__always)
    public var token: RequestToken {
        RequestToken(high: UInt64(bitPattern: start[0]), low: UInt64(bitPattern: start[1]))
    }

    /// The fingerprint of its command.
    @inlinable @inline(__always)
    public var fingerprint: UInt64 { UInt64(bitPattern: start[2]) }

    /// How many words are remembered of it.
    @inlinable @inline(__always)
    public var wordCount: Int { Int(start[3]) }

    /// These words, laid out as `OnceWords` does.
    @inlinable @inline(__always)
    public var words: UnsafeMutablePointer<Int64> { start + 4 }

    /// Most bytes that remembering it adds to the journal.
    public var journalBytesMax: Int { Partition.rememberedBytesMax(wordCount: wordCount) }
}
