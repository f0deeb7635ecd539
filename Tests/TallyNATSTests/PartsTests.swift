import NIOCore
import TallyTestSupport
import Testing

@testable import TallyNATS

@Suite struct ServerPoolTests {
    private let addresses = ["a", "b", "c"].compactMap { NATSServerAddress($0) }

    @Test(arguments: UInt64(1)...20)
    func everyServerIsTriedOnceInARound(seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        var pool = ServerPool(addresses)
        pool.discover(["b:4222", "d:4222", "bad:port"], requiresTLS: false)
        for last in [nil, addresses[1]] {
            pool.startRound(last: last, using: &random)
            var tried: [NATSServerAddress] = []
            while let address = pool.next() { tried.append(address) }
            #expect(Set(tried.map(\.host)) == ["a", "b", "c", "d"])
            #expect(tried.count == 4)
            if let last { #expect(tried.last == last) }
        }
    }

    @Test func discoveredServersAreReplacedGivenOnesStay() {
        var pool = ServerPool(addresses)
        pool.discover(["d:1", "e:1"], requiresTLS: true)
        #expect(pool.all.count == 5)
        #expect(pool.all.last?.requiresTLS == true)
        pool.discover(["e:1"], requiresTLS: true)
        #expect(pool.all.map(\.host) == ["a", "b", "c", "e"])
    }

    @Test func ordersDiffer() {
        var random = SeededGenerator(seed: 1)
        var pool = ServerPool(addresses)
        var firsts: Set<String> = []
        for _ in 0..<50 {
            pool.startRound(using: &random)
            if let first = pool.next() { firsts.insert(first.host) }
        }
        #expect(firsts.count == 3)
    }
}

@Suite struct BackoffTests {
    @Test func waitsGrowToTheLongestAndStartAgain() {
        var random = SeededGenerator(seed: 1)
        var backoff = Backoff(min: .milliseconds(100), max: .seconds(1))
        for full in [100, 200, 400, 800, 1_000, 1_000] {
            let wait = backoff.next(using: &random)
            #expect(wait <= .milliseconds(full))
            #expect(wait >= .milliseconds(full) / 2)
        }
        for _ in 0..<100 { #expect(backoff.next(using: &random) <= .seconds(1)) }
        backoff.reset()
        #expect(backoff.next(using: &random) <= .milliseconds(100))
    }
}

@Suite struct KeyTests {
    /// From the page that describes keys: made with another implementation.
    private let seed = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY"
    private let publicKey = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"

    @Test func publicKeyFollowsFromTheSeed() throws {
        #expect(try NKey(seed: seed).publicKey == publicKey)
        #expect(try NKey(seed: seed).signature(of: "nonce").utf8.count == 86)
    }

    @Test(
        arguments: [
            ("", .seedInvalid), ("SU", .seedInvalid),
            (
                "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VX",
                NATSCredentialError.seedChecksumWrong
            ),
            ("UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4", .seedInvalid),
            ("SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU31!", .seedInvalid),
        ] as [(String, NATSCredentialError)])
    func badSeedsAreRefusedWithoutRepeatingThem(seed: String, expected: NATSCredentialError) {
        #expect(throws: expected) { try NKey(seed: seed) }
    }

    @Test func anAccountsSeedIsRefused() throws {
        var bytes = try #require(Base32.decode(seed))
        // An account's prefix is 0, a user's 160.
        bytes[0] = 18 << 3
        bytes[1] &= 7
        let checksum = CRC16.checksum(bytes[..<34])
        bytes[34] = UInt8(checksum & 0xff)
        bytes[35] = UInt8(checksum >> 8)
        let account = Base32.encode(bytes)
        #expect(account.hasPrefix("SA"))
        #expect(throws: NATSCredentialError.seedNotOfUser) { try NKey(seed: account) }
    }

    @Test(arguments: UInt64(1)...50)
    func base32IsReversible(seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        let bytes = (0..<Int.random(in: 0...64, using: &random)).map { _ in
            UInt8.random(in: 0...255, using: &random)
        }
        #expect(Base32.decode(Base32.encode(bytes)) == bytes)
    }

    @Test func checksumIsTheKnownOne() {
        #expect(CRC16.checksum(Array("123456789".utf8)[...]) == 0x31c3)
    }

    @Test func credentialsHaveAJWTAndASeed() throws {
        let text = """
            -----BEGIN NATS USER JWT-----
            eyJ0.eyJq.c2ln
            ------END NATS USER JWT------

            ************************* IMPORTANT *************************
            Keep it secret.

            -----BEGIN USER NKEY SEED-----
            \(seed)
            ------END USER NKEY SEED------
            """
        let resolved = try ResolvedAuthentication(.credentials(text))
        #expect(resolved.jwt == "eyJ0.eyJq.c2ln")
        #expect(resolved.key?.publicKey == publicKey)
        #expect(throws: NATSCredentialError.seedMissing) {
            try ResolvedAuthentication(.credentials(text.replacing("NKEY", with: "KEY")))
        }
        #expect(throws: NATSCredentialError.jwtMissing) {
            try ResolvedAuthentication(.credentials(text.replacing("eyJ0.eyJq.c2ln", with: "")))
        }
        #expect(throws: NATSCredentialError.self) {
            try ResolvedAuthentication(.credentialsFile(path: "/does/not/exist"))
        }
    }
}

@Suite struct TimeTests {
    @Test(
        arguments: [
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01T00:00:00.000000001Z", 1),
            ("2000-02-29T12:34:56.5Z", 951_827_696_500_000_000),
            ("2026-11-22T01:33:39.123456789Z", 1_795_311_219_123_456_789),
            ("2026-11-22T03:03:39.123456789+01:30", 1_795_311_219_123_456_789),
            ("1969-12-31T23:59:59.9Z", -100_000_000),
            ("0001-01-01T00:00:00Z", nil), ("2026-11-22T01:33:39", nil),
            ("2026-13-22T01:33:39Z", nil),
            ("2026-11-22 01:33:39Z", nil), ("2026-11-22T01:33:39.Z", nil),
            ("2026-11-22T01:33:39.1234567890Z", nil), ("2026-11-22T01:33:39Zx", nil), ("", nil),
        ] as [(String, Int64?)])
    func timesAreReadToTheNanosecond(text: String, expected: Int64?) {
        #expect(NATSTime(text)?.nanoseconds == expected)
    }
}

@Suite struct DeliveryTests {
    @Test(
        arguments: [
            ("$JS.ACK.S.c.1.10.3.1700000000000000001.7", [10, 3, 1_700_000_000_000_000_001, 7]),
            ("$JS.ACK.hub.ACC.S.c.1.10.3.17.0", [10, 3, 17, 0]),
            ("$JS.ACK._.ACC.S.c.1.10.3.17.0.token", [10, 3, 17, 0]),
            ("$JS.ACK._.ACC.S.c.1.10.3.17.0.a.b.c", [10, 3, 17, 0]),
        ] as [(String, [UInt64])])
    func bothFormsOfReplySubjectsAreRead(text: String, expected: [UInt64]) throws {
        let delivery = try #require(Delivery(ByteBuffer(string: text)))
        #expect(delivery.streamSequence == expected[0])
        #expect(delivery.consumerSequence == expected[1])
        #expect(delivery.time.nanoseconds == Int64(expected[2]))
        #expect(delivery.pending == expected[3])
    }

    @Test(arguments: [
        "", "$JS.ACK.", "$JS.ACK.S.c.1.10.3.17", "$JS.ACK.S.c.1.10.3.17.0.5",
        "$JS.ACK.S.c.1.x.3.17.0", "$JS.ACK.S.c.1.10.3.-1.0", "$JS.ACK.S.c.1.10..17.0",
        "$JS.ACK.S.c.1.0.3.17.0", "_INBOX.a.b.c.d.e.f.g.h",
        "$JS.ACK.S.c.1.10.3.9999999999999999999.0",
    ])
    func otherSubjectsAreNot(text: String) { #expect(Delivery(ByteBuffer(string: text)) == nil) }
}

@Suite struct CreditTests {
    @Test func requestsNeverExceedWhatWasGranted() {
        var credit = Credit()
        #expect(credit.startPull(messagesMax: 10, bytesMin: 100) == nil)
        credit.grant(messages: 3, bytes: 99)
        #expect(credit.startPull(messagesMax: 10, bytesMin: 100) == nil)
        credit.grant(messages: 0, bytes: 1)
        #expect(credit.startPull(messagesMax: 2, bytesMin: 100)?.messages == 2)
        #expect(credit.startPull(messagesMax: 2, bytesMin: 100) == nil)
        credit.grant(messages: 10, bytes: 1_000)
        #expect(credit.pull?.bytes == 100)
        credit.take(bytes: 40)
        #expect(credit.pull?.messages == 1)
        credit.take(bytes: 10)
        #expect(credit.pull == nil)
        #expect(credit.messages == 11)
        #expect(credit.bytes == 1_050)
    }

    @Test func aRequestWhoseBytesAreUsedUpIsOver() {
        var credit = Credit()
        credit.grant(messages: 10, bytes: 100)
        _ = credit.startPull(messagesMax: 10, bytesMin: 1)
        credit.take(bytes: 100)
        #expect(credit.pull == nil)
        #expect(credit.messages == 9)
    }

    @Test func anotherRequestsEndIsIgnored() throws {
        var credit = Credit()
        credit.grant(messages: 10, bytes: 100)
        let first = credit.startPull(messagesMax: 10, bytesMin: 1)
        credit.endPull(try #require(first?.number))
        let second = credit.startPull(messagesMax: 10, bytesMin: 1)
        credit.endPull(first?.number)
        #expect(credit.pull == second)
        #expect(second != nil)
    }

    @Test func comparingTakesNoCredit() {
        var credit = Credit()
        #expect(credit.startUncounted().messages == 1)
        credit.take(bytes: 1 << 20)
        #expect(credit == Credit(afterPulls: 1))
    }
}

extension Credit {
    /// Credit of nothing after some requests.
    fileprivate init(afterPulls count: Int) {
        self.init()
        for _ in 0..<count {
            _ = startUncounted()
            endPull(nil)
        }
    }
}

@Suite struct PublishOutcomeTests {
    private func outcome(_ text: String) -> PublishOutcome {
        var buffer = ByteBuffer(string: "MSG a 0 \(text.utf8.count)\r\n\(text)\r\n")
        var parser = NATSParser(messageBytesMax: 1 << 20)
        guard case .message(let message)? = try? parser.next(&buffer) else {
            preconditionFailure("not a message")
        }
        return PublishOutcome(.success(message))
    }

    @Test(arguments: [
        ("{\"stream\":\"S\", \"seq\":7}", PublishAcknowledgement(stream: "S", sequence: 7)),
        (
            "{\"stream\":\"S\", \"seq\":7,\"duplicate\": true}",
            PublishAcknowledgement(stream: "S", sequence: 7, isDuplicate: true)
        ),
        (
            "{\"stream\":\"S\", \"domain\":\"hub\", \"seq\":7}",
            PublishAcknowledgement(stream: "S", sequence: 7, domain: "hub")
        ),
        ("{\"seq\":7,\"stream\":\"a\\u0062\"}", PublishAcknowledgement(stream: "ab", sequence: 7)),
    ])
    func acknowledgementsAreRead(text: String, expected: PublishAcknowledgement) {
        #expect(outcome(text) == .acknowledged(expected))
    }

    @Test(arguments: [
        "", "{}", "{\"stream\":\"S\"}", "{\"stream\":\"S\", \"seq\":0}", "+OK",
        "{\"stream\":\"S\", \"seq\":7",
        "{\"stream\":\"S\", \"seq\":7}}",
    ])
    func otherAnswersLeaveItOpen(text: String) {
        guard case .unknown(.replyInvalid) = outcome(text) else {
            Issue.record("\(text) is taken as \(outcome(text))")
            return
        }
    }

    @Test(arguments: [
        (10071, "wrong last sequence: 5", true), (10164, "wrong last sequence", true),
        (10060, "expected stream does not match", true), (10054, "message size exceeds", true),
        (10077, "maximum bytes exceeded", true), (10077, "maximum messages exceeded", true),
        (10077, "maximum messages per subject exceeded", true), (10109, "sealed", true),
        (10077, "store is closed", false), (10158, "duplicate message id is in process", false),
        (10063, "expected stream sequence does not match", false), (10023, "insufficient", false),
        (10009, "not leader", false), (0, "", false), (19999, "of a later version", false),
    ])
    func onlySureRefusalsAreRefusals(code: Int, text: String, isSure: Bool) {
        let answer =
            "{\"error\":{\"code\":400,\"err_code\":\(code),\"description\":\"\(text)\"},"
            + "\"stream\":\"S\",\"seq\":0}"
        let error = JetStreamAPIError(status: 400, code: code, text: text)
        #expect(outcome(answer) == (isSure ? .refused(.api(error)) : .unknown(.api(error))))
    }

    @Test func failuresOfRequestsKeepTheirClass() {
        #expect(PublishOutcome(.failure(.noResponders)) == .refused(.noResponders))
        #expect(PublishOutcome(.failure(.timedOut)) == .unknown(.timedOut))
        #expect(
            PublishOutcome(.failure(.disconnected(.closedByServer)))
                == .unknown(.disconnected(.closedByServer)))
    }
}
