import NIOCore
import Testing

@testable import TallyNATS

@Suite struct EncoderTests {
    private func written(_ body: (inout ByteBuffer) -> Void) -> String {
        var buffer = ByteBuffer()
        body(&buffer)
        return String(buffer: buffer)
    }

    @Test func operationsAreWrittenAsTheProtocolHasThem() throws {
        var headers = NATSHeaders()
        try headers.add("Nats-Msg-Id", "7")
        let pairs: [(String, String)] = [
            (written { NATSEncoder.connect("{}".utf8, into: &$0) }, "CONNECT {}\r\n"),
            (written { NATSEncoder.ping(into: &$0) }, "PING\r\n"),
            (written { NATSEncoder.pong(into: &$0) }, "PONG\r\n"),
            (written { NATSEncoder.subscribe("a.*", subscription: 3, into: &$0) }, "SUB a.* 3\r\n"),
            (
                written { NATSEncoder.subscribe("a.>", queue: "q", subscription: 3, into: &$0) },
                "SUB a.> q 3\r\n"
            ),
            (written { NATSEncoder.unsubscribe(3, into: &$0) }, "UNSUB 3\r\n"),
            (
                written { NATSEncoder.unsubscribe(3, afterMessages: 5, into: &$0) }, "UNSUB 3 5\r\n"
            ),
            (
                written {
                    NATSEncoder.publish(
                        "a.b", replyTo: "".utf8, headers: nil, payloadBytes: 2, into: &$0)
                }, "PUB a.b 2\r\n"
            ),
            (
                written {
                    NATSEncoder.publish(
                        "a.b", replyTo: "r".utf8, headers: headers, payloadBytes: 2, into: &$0)
                }, "HPUB a.b r 28 30\r\nNATS/1.0\r\nNats-Msg-Id: 7\r\n\r\n"
            ),
        ]
        for (text, expected) in pairs { #expect(text == expected) }
    }
}

@Suite struct HeaderTests {
    private func headers(_ text: String) -> NATSHeaders {
        NATSHeaders(received: ByteBuffer(string: text))
    }

    @Test(
        arguments: [
            ("NATS/1.0\r\n\r\n", nil, ""),
            ("NATS/1.0 503\r\n\r\n", 503, ""),
            ("NATS/1.0 100 Idle Heartbeat\r\nA: 1\r\n\r\n", 100, "Idle Heartbeat"),
            ("NATS/1.0   404   No Messages\r\n\r\n", 404, "No Messages"),
            ("NATS/1.0 4x4 No\r\n\r\n", nil, " No"),
        ] as [(String, Int?, String)])
    func statusIsRead(text: String, status: Int?, words: String) {
        #expect(headers(text).status == status)
        if status != nil { #expect(headers(text).statusDescription == words) }
    }

    @Test func valuesAreFoundByExactName() {
        let found = headers(
            "NATS/1.0\r\nA:1\r\nB:  two words \r\na: 3\r\nA: 4\r\nNone\r\nC:\r\n\r\n")
        #expect(found["A"] == "1")
        #expect(found["B"] == "two words ")
        #expect(found["a"] == "3")
        #expect(found["C"] == "")
        #expect(found["None"] == nil)
        #expect(found.integer("A") == 1)
        #expect(found.integer("B") == nil)
        #expect(found.all.map(\.name) == ["A", "B", "a", "A", "C"])
    }

    @Test func whatIsWrittenIsRead() throws {
        var headers = NATSHeaders()
        #expect(headers.isEmpty)
        try headers.add("Key", "value: with colon")
        #expect(!headers.isEmpty)
        var block = headers.lines
        block.writeString("\r\n")
        #expect(block.readableBytes == headers.byteCount)
        #expect(NATSHeaders.isValid(block))
        #expect(NATSHeaders(received: block)["Key"] == "value: with colon")
    }

    @Test(arguments: [
        ("", "x"), ("a b", "x"), ("a:", "x"), ("a\r", "x"), ("é", "x"), ("a", "x\r\ny"),
        ("a", "\n"),
    ])
    func whatWouldBreakTheProtocolIsRefused(name: String, value: String) {
        var headers = NATSHeaders()
        #expect(throws: NATSHeaders.Problem.self) { try headers.add(name, value) }
        #expect(headers.isEmpty)
    }
}

@Suite struct SubjectTests {
    @Test(
        arguments: [
            ("a", nil), ("a.b.c", nil), ("$JS.API.INFO", nil), ("é.b", nil), ("a*b.c>", nil),
            ("", .empty), (".", .wordEmpty), ("a.", .wordEmpty), (".a", .wordEmpty),
            ("a..b", .wordEmpty), ("a b", .characterInvalid(0x20)),
            ("a\r\n", .characterInvalid(0x0d)),
            ("a\tb", .characterInvalid(9)), ("a\u{7f}", .characterInvalid(0x7f)),
            ("*", .wildcardInvalid), ("a.>", .wildcardInvalid), ("a.*.b", .wildcardInvalid),
            (String(repeating: "a", count: 2_049), .tooLong(bytes: 2_049)),
        ] as [(String, NATSSubject.Problem?)])
    func subjectsToPublishTo(subject: String, problem: NATSSubject.Problem?) {
        #expect(self.problem(subject, false) == problem)
    }

    @Test(
        arguments: [
            ("*", nil), (">", nil), ("a.*.b", nil), ("a.>", nil), ("*.>", nil), ("a*.>b", nil),
            ("a.>.b", .wildcardInvalid), (">.", .wildcardInvalid), ("a..>", .wordEmpty),
        ] as [(String, NATSSubject.Problem?)])
    func subjectsToSubscribeTo(subject: String, problem: NATSSubject.Problem?) {
        #expect(self.problem(subject, true) == problem)
    }

    private func problem(_ subject: String, _ allowsWildcards: Bool) -> NATSSubject.Problem? {
        do throws(NATSSubject.Problem) {
            try NATSSubject.check(subject, allowsWildcards: allowsWildcards)
            return nil
        } catch {
            return error
        }
    }

    @Test(arguments: [
        ("TALLY_LOG-07", true), ("", false), ("a.b", false), ("a b", false), ("a/b", false),
        ("*", false), ("é", false), (String(repeating: "a", count: 256), false),
    ])
    func names(name: String, isName: Bool) { #expect(NATSSubject.isName(name) == isName) }
}

@Suite struct AddressTests {
    @Test(arguments: [
        ("localhost", "localhost:4222", false), ("nats://a.b:1", "a.b:1", false),
        ("tls://a.b", "a.b:4222", true), ("127.0.0.1:4223", "127.0.0.1:4223", false),
        ("nats://[::1]:4222", "[::1]:4222", false), ("[::1]", "[::1]:4222", false),
        ("nats://host:4222/", "host:4222", false),
    ])
    func addressesAreRead(text: String, expected: String, requiresTLS: Bool) throws {
        let address = try #require(NATSServerAddress(text))
        #expect(address.description == expected)
        #expect(address.requiresTLS == requiresTLS)
    }

    @Test(arguments: [
        "", "nats://", ":4222", "host:", "host:x", "host:0", "host:65536", "http://host",
        "nats://user:secret@host:4222", "::1", "[::1", "[::1]x", "host/path", "a b",
    ])
    func whatIsNoAddressIsRefused(text: String) { #expect(NATSServerAddress(text) == nil) }

    @Test(
        arguments: [
            ("a.example", nil, nil, "a.example"), ("a.example", nil, "first", "a.example"),
            ("10.0.0.1", nil, "first", "first"), ("10.0.0.1", nil, nil, nil),
            ("[::1]:4222", nil, nil, nil), ("10.0.0.1", "wanted", "first", "wanted"),
            ("a.example", "wanted", nil, "wanted"),
        ] as [(String, String?, String?, String?)])
    func certificatesAreComparedWithAName(
        address: String, wanted: String?, first: String?, expected: String?
    ) throws {
        let address = try #require(NATSServerAddress(address))
        #expect(address.tlsName(wanted, default: first) == expected)
    }

    @Test func printedOptionsHaveNoSecrets() {
        for authentication in [
            NATSAuthentication.password(user: "u", password: "secret"), .token("secret"),
            .nkey(seed: "secret"), .credentials("secret"),
        ] {
            var options = NATSOptions(servers: ["localhost"])
            options.authentication = authentication
            var dumped = ""
            dump(options, to: &dumped)
            for text in ["\(options)", String(reflecting: options), dumped, "\(authentication)"] {
                #expect(!text.contains("secret"), "\(text)")
            }
        }
    }

    @Test func optionsNeverRepeatASecret() {
        let options = NATSOptions(servers: ["nats://user:secret@host:4222"])
        do throws(NATSOptionsError) {
            _ = try options.check()
            Issue.record("credentials in an address are accepted")
        } catch {
            #expect(!"\(error)".contains("secret"))
        }
    }

    @Test func numbersOutOfRangeAreRefused() {
        let changes: [(inout NATSOptions) -> Void] = [
            { $0.servers = [] }, { $0.connectTimeout = .zero }, { $0.pingInterval = .zero },
            { $0.pingsOutstandingMax = 0 }, { $0.reconnectDelayMin = .seconds(10) },
            { $0.pendingBytesMax = 0 }, { $0.messageBytesMax = 0 }, { $0.inboxPrefix = "a.*" },
            { $0.moveDelayMax = .seconds(61) },
        ]
        for change in changes {
            var options = NATSOptions(servers: ["localhost"])
            #expect(throws: Never.self) { try options.check() }
            change(&options)
            #expect(throws: NATSOptionsError.self) { try options.check() }
        }
    }
}
