import TallyCore
import TallyTestSupport
import Testing

@testable import TallyEngine

struct TokenLogTests {
    private struct Request {
        let token: RequestToken
        let fingerprint: UInt64
        let words: [Int64]
    }

    private static let hasher = KeyHasher(seed: 7)

    /// Requests of one outcome, of several, and now and then of as many as there may be.
    private static func requests(_ count: Int, _ random: inout SeededGenerator) -> [Request] {
        (0..<count).map { index in
            let outcomes =
                random.once(in: 500)
                ? (Limits.onceWordsMax - 1) / 2
                : random.once(in: 4) ? Int.random(in: 1...9, using: &random) : 1
            let wordCount = 1 + 2 * outcomes
            let rest = (1..<wordCount).map { _ in Int64(bitPattern: random.next()) }
            return Request(
                token: RequestToken(high: UInt64(index / 3) << 16 | 0x7000, low: random.next()),
                fingerprint: random.next(), words: [Int64(wordCount << 16 | outcomes)] + rest)
        }
    }

    private static func append(_ request: Request, to log: inout TokenLog) -> Bool {
        guard let place = log.place(for: request.token, hash: hasher.hash(request.token)) else {
            return false
        }
        let count = request.words.count
        log.append(request.token, fingerprint: request.fingerprint, count: count, at: place)
            .update(from: request.words, count: count)
        return true
    }

    private static func words(_ record: TokenLog.Record) -> [Int64] {
        let words = TokenLog.words(record)
        return Array(UnsafeBufferPointer(start: words, count: OnceWords.wordCount(words[0])))
    }

    @Test(arguments: [1, 96, 97, 5000, 40_000])
    func findsWhatWasAppendedAndNothingElse(count: Int) {
        var random = SeededGenerator(seed: UInt64(count))
        let requests = Self.requests(count, &random)
        var log = TokenLog()
        for request in requests {
            let record = log.find(request.token, hash: Self.hasher.hash(request.token))
            let isNew = Self.append(request, to: &log)
            #expect(record == nil)
            #expect(isNew)
        }
        for request in requests {
            let record = log.find(request.token, hash: Self.hasher.hash(request.token))
            #expect(record.map(TokenLog.fingerprint) == request.fingerprint)
            #expect(record.map(Self.words) == request.words)
        }
        var index = 0
        log.forEach { record in
            #expect(RequestToken(high: record[0], low: record[1]) == requests[index].token)
            index += 1
        }
        #expect(index == count)
        let allocatedBytes = log.allocatedBytes
        #expect(allocatedBytes < 4096 + 100 * requests.reduce(0) { $0 + $1.words.count })
    }

    @Test func aTokenIsAppendedOnce() {
        var random = SeededGenerator(seed: 1)
        let requests = Self.requests(1000, &random)
        var log = TokenLog()
        for request in requests {
            let areNew = (Self.append(request, to: &log), Self.append(request, to: &log))
            #expect(areNew == (true, false))
        }
    }

    /// The rows of a merge say the same as the log did.
    @Test func aWindowRemembersWhatIsMerged() throws {
        var random = SeededGenerator(seed: 3)
        let requests = Self.requests(3000, &random).shuffled(using: &random)
        var window = TokenWindow(hasher: Self.hasher, cache: BlockCache())
        let words = UnsafeMutablePointer<Int64>.allocate(capacity: Limits.onceWordsMax)
        defer { words.deallocate() }
        for (stage, part) in [requests[..<1000], requests[1000..<1500], requests[1500...]]
            .enumerated()
        {
            for request in part {
                let hash = Self.hasher.hash(request.token)
                let before = window.read(request.token, hash: hash, words, capacity: 0)
                let place = window.place(for: request.token, hash: hash)
                #expect(before == nil)
                window.remember(
                    request.token, fingerprint: request.fingerprint, count: request.words.count,
                    at: try #require(place)
                ).update(from: request.words, count: request.words.count)
            }
            // The first part becomes segments, the second stays frozen, the third in the log.
            if stage == 0 {
                let merge = window.freeze()
                let segments = try merge.run(
                    place: .only, sequence: 1, identity: LogIdentity(high: 1, low: 2))
                window.adopt(segments, of: merge)
            } else if stage == 1 {
                _ = window.freeze()
            }
        }
        for request in requests {
            let found = window.read(
                request.token, hash: Self.hasher.hash(request.token), words,
                capacity: Limits.onceWordsMax)
            #expect(found?.fingerprint == request.fingerprint)
            #expect(found?.wordCount == request.words.count)
            #expect(
                Array(UnsafeBufferPointer(start: words, count: request.words.count))
                    == request.words)
        }
        let rowCount = requests.reduce(0) { $0 + OnceRows.count(wordCount: $1.words.count) }
        let recordCount = window.recordCount
        #expect(recordCount == rowCount)
    }
}
