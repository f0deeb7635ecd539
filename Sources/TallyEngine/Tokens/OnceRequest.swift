public import TallyCore

/// A request that is to be executed once, where it stands in rows:
///
///     token, two words · fingerprint · how many words are remembered of it · room for them
public struct OnceRequest {
    /// Where it begins in the rows.
    public let place: Int
    @usableFromInline let start: UnsafeMutablePointer<Int64>

    /// The request at `place` in `rows`.
    @inlinable @inline(__always)
    public init(_ rows: UnsafeMutablePointer<Int64>, place: Int) {
        self.place = place
        start = rows + place
    }

    /// How many words of rows a request takes of which `wordCount` are remembered.
    @inlinable @inline(__always)
    public static func rowsCount(wordCount: Int) -> Int { 4 &+ wordCount }

    /// Writes all but the words that are remembered.
    @inlinable @inline(__always)
    public func write(_ token: RequestToken, fingerprint: UInt64, wordCount: Int) {
        token.write(to: start)
        start[2] = Int64(bitPattern: fingerprint)
        start[3] = Int64(wordCount)
    }

    /// Its token.
    @inlinable @inline(__always)
    public var token: RequestToken { RequestToken(bytes: start) }

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

    /// The operation that remembers it, once its words are there.
    ///
    /// - Parameter header: Whose hash is the token's, and whose partition is that of the request.
    @inline(__always)
    func remembering(_ header: UnsafePointer<Operation>) -> Operation {
        Operation(
            .remember, key: start, keyByteCount: RequestToken.byteCount, hash: header.pointee.hash,
            partition: Int(header.pointee.partition), operand: Int64(place &+ 2),
            count: UInt32(truncatingIfNeeded: wordCount))
    }
}
