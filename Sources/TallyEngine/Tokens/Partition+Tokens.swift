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

    /// Whether a request is new, and nothing but the latest requests need be looked at to know it.
    @inline(__always)
    mutating func isNew(
        _ token: RequestToken, hash: UInt64, nowMilliseconds: UInt64, horizon: UInt64
    ) -> Bool {
        tokens.isLaterThanSettled(token)
            && token.milliseconds > max(tokens.floorMilliseconds, horizon)
            && token.milliseconds <= nowMilliseconds &+ Limits.tokenFutureMillisecondsMax
            && !tokens.hasInLog(token, hash: hash)
    }

    /// The block that must be read before a token can be judged without waiting.
    public mutating func need(of token: RequestToken) -> Need? {
        guard let block = tokens.missingBlock(token) else { return nil }
        return cache.failure(of: block.address).map { .unreadable($0) } ?? .block(block)
    }

    @inline(__always)
    mutating func remember(
        _ operation: UnsafePointer<Operation>, _ rows: UnsafeMutablePointer<Int64>
    ) -> Outcome {
        let place = rows + Int(operation.pointee.operand)
        let isNew = tokens.remember(
            RequestToken(bytes: operation.pointee.key), hash: operation.pointee.hash,
            fingerprint: UInt64(bitPattern: place[0]), place + 2, count: Int(place[1]))
        return Outcome(isNew ? .applied : .unchanged, wasPresent: !isNew, value: 0)
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
}
