public import TallyCore

/// Requests that are counted once.
extension Partition {
    /// What is known of a request with a token.
    public enum TokenJudgement: Equatable, Sendable {
        /// It has not been executed.
        case new
        /// It has been executed; so many words say what became of it.
        case repeated(wordCount: Int)
        /// Its token was another command's.
        case reused
        /// It is too old to be judged.
        case tooOld
        /// Its token was made later than now.
        case tooNew
        /// What is known cannot be read from the disk.
        case unreadable
    }

    /// Judges a request, and writes what is remembered of it to `words`.
    ///
    /// - Parameters:
    ///   - hash: Of the token.
    ///   - nowMilliseconds: Log time.
    ///   - horizon: Tokens made until then are too old to be judged if nothing is known of them.
    ///   - capacity: Room in `words`.
    public mutating func judge(
        _ token: RequestToken, hash: UInt64, fingerprint: UInt64, nowMilliseconds: UInt64,
        horizon: UInt64,
        _ words: UnsafeMutablePointer<Int64>, capacity: Int
    ) -> TokenJudgement {
        let found = tokens.read(token, hash: hash, words, capacity: capacity)
        if cache.hasFailed {
            _ = cache.takeFailure()
            return .unreadable
        }
        if let found {
            return found.fingerprint == fingerprint
                ? .repeated(wordCount: found.wordCount) : .reused
        }
        if token.milliseconds <= max(tokens.floorMilliseconds, horizon) { return .tooOld }
        if token.milliseconds > nowMilliseconds + Limits.tokenFutureMillisecondsMax {
            return .tooNew
        }
        return .new
    }

    /// Where a request is to be remembered if it is new, and nothing but the latest requests need be looked
    /// at to know it.
    @inline(__always)
    mutating func placeAtAGlance(
        for token: RequestToken, hash: UInt64, nowMilliseconds: UInt64, horizon: UInt64
    ) -> TokenLog.Place? {
        guard tokens.isLaterThanSettled(token),
            token.milliseconds > max(tokens.floorMilliseconds, horizon),
            token.milliseconds <= nowMilliseconds &+ Limits.tokenFutureMillisecondsMax
        else { return nil }
        return tokens.place(for: token, hash: hash)
    }

    /// The block that must be read before a token can be judged without waiting.
    public mutating func need(of token: RequestToken) -> Need? {
        guard let block = tokens.missingBlock(token) else { return nil }
        return cache.failure(of: block.address).map { .unreadable($0) } ?? .block(block)
    }

    /// Remembers a request again that the journal has kept.
    mutating func remember(
        _ operation: UnsafePointer<Operation>, _ rows: UnsafeMutablePointer<Int64>
    ) -> Outcome {
        let token = RequestToken(bytes: operation.pointee.key)
        guard let place = tokens.place(for: token, hash: operation.pointee.hash) else {
            return Outcome(.unchanged, wasPresent: true, value: 0)
        }
        let start = rows + Int(operation.pointee.operand)
        let count = Int(start[1])
        tokens.remember(
            token, fingerprint: UInt64(bitPattern: start[0]), count: count, at: place
        ).update(from: start + 2, count: count)
        return Outcome(.applied, wasPresent: false, value: 0)
    }

    /// Remembers a request whose words are there, for the commit group `sequence`.
    ///
    /// - Returns: journal bytes that this may take, an upper bound.
    mutating func remember(
        _ request: OnceRequest, at place: TokenLog.Place, sequence: UInt64
    ) -> Int {
        let words = tokens.remember(
            request.token, fingerprint: request.fingerprint, count: request.wordCount, at: place)
        words.update(from: request.words, count: request.wordCount)
        return recordRemembered(sequence: sequence) { $0.appendRemembered(request) }
    }

    /// The same for a request of a single operation, whose words are made of its outcome.
    @inline(__always)
    mutating func remember(
        _ request: OnceRequest, _ outcome: Outcome, at place: TokenLog.Place, sequence: UInt64
    ) -> Int {
        let words = OnceWords.encode(outcome)
        let start = tokens.remember(
            request.token, fingerprint: request.fingerprint, count: OnceWords.singleCount, at: place
        )
        (start[0], start[1], start[2]) = words
        return recordRemembered(sequence: sequence) { $0.appendRemembered(request, words) }
    }

    /// Where the floor of what is remembered ought to be, nil if it is good as it is.
    ///
    /// - Parameters:
    ///   - horizon: Tokens made before may go, milliseconds since 1970.
    ///   - step: Not to be raised by less for that, milliseconds.
    public func wantedFloor(horizon: UInt64, step: UInt64, byteCountMax: Int) -> UInt64? {
        tokens.wantedFloor(horizon: horizon, step: step, byteCountMax: byteCountMax)
    }

    /// Tokens made at this time or before, milliseconds since 1970, are not judged.
    public var floorMilliseconds: UInt64 { tokens.floorMilliseconds }

    /// Goes on with the floor of a checkpoint, and the log time when it was made, milliseconds since 1970.
    public mutating func load(floorMilliseconds: UInt64, logTimeMilliseconds: UInt64) {
        _ = tokens.raiseFloor(to: floorMilliseconds)
        tokens.setLatest(milliseconds: logTimeMilliseconds)
    }

    /// How many records remember requests, and the memory that they take, bytes.
    public var tokenStatistics: (records: Int, byteCount: Int) {
        (tokens.recordCount, tokens.changedBytes + tokens.table.segmentBytes)
    }

    /// Calls `body` with the key and the words of every row that a checkpoint holds of what is remembered of
    /// requests, but for those that are forgotten and only not gone yet; in no order.
    public borrowing func forEachRememberedRow(
        _ body: (UnsafeRawBufferPointer, UnsafeBufferPointer<UInt64>) -> Void
    ) {
        let floor = tokens.floorMilliseconds
        tokens.table.forEach { key, row in
            guard let found = OnceRows.Key(key), found.token.milliseconds > floor else { return }
            body(key, UnsafeBufferPointer(start: row, count: OnceRows.columnCount))
        }
    }
}
