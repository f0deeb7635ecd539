import TallyCore

/// How requests are records of a table.
///
/// A request's fingerprint and the words of its outcomes follow one another in rows of four columns.
/// The first row's key is the token; the further ones' keys have two more bytes, the row's number.
enum OnceRows {
    static let columnCount = 4
    static let columns = (0..<UInt32(columnCount)).map { column in
        ColumnCoding(column: column, isSigned: column > 0)
    }

    /// How many rows a request takes.
    @inline(__always)
    static func count(wordCount: Int) -> Int { (wordCount &+ columnCount) / columnCount }

    /// The key of a request's row.
    struct Key {
        let token: RequestToken
        var index = 0

        static let byteCountMax = RequestToken.byteCount + 2

        init(_ token: RequestToken) { self.token = token }

        /// - Returns: nil for bytes that are no such key.
        init?(_ bytes: UnsafeRawBufferPointer) {
            guard let start = bytes.baseAddress, bytes.count >= RequestToken.byteCount else {
                return nil
            }
            token = RequestToken(bytes: start)
            if bytes.count == RequestToken.byteCount { return }
            guard bytes.count == Self.byteCountMax else { return nil }
            index = Int(bytes[RequestToken.byteCount]) << 8 | Int(bytes[RequestToken.byteCount + 1])
        }

        /// Writes its bytes.
        ///
        /// - Returns: how many these are.
        func write(to bytes: UnsafeMutableRawPointer) -> Int {
            token.write(to: bytes)
            guard index > 0 else { return RequestToken.byteCount }
            bytes.storeBytes(
                of: UInt16(index).bigEndian, toByteOffset: RequestToken.byteCount, as: UInt16.self)
            return Self.byteCountMax
        }
    }

    /// Writes row number `index` of a request.
    ///
    /// - Returns: false if it has no such row.
    static func write(
        _ index: Int, of record: TokenLog.Record, to row: UnsafeMutablePointer<UInt64>
    ) -> Bool {
        let words = TokenLog.words(record)
        let wordCount = OnceWords.wordCount(words[0])
        guard index < count(wordCount: wordCount) else { return false }
        for column in 0..<columnCount {
            // The fingerprint comes before the words.
            let word = index * columnCount + column - 1
            row[column] =
                if word < 0 {
                    TokenLog.fingerprint(record)
                } else if word >= wordCount {
                    0
                } else {
                    column == 0 ? UInt64(bitPattern: words[word]) : Varint.zigzag(words[word])
                }
        }
        return true
    }
}
