import NIOCore
import TallyTestSupport
import Testing

@testable import TallyNATS

/// What a parser finds in `text`, arriving in pieces of `pieceBytes`.
func operations(
    _ bytes: [UInt8], pieces: [Int] = [], messageBytesMax: Int = 1 << 20
) throws(NATSProtocolError) -> [NATSServerOperation] {
    var parser = NATSParser(messageBytesMax: messageBytesMax)
    var buffer = ByteBuffer()
    var found: [NATSServerOperation] = []
    var rest = bytes[...]
    for piece in pieces + [bytes.count] {
        buffer.writeBytes(rest.prefix(piece))
        rest = rest.dropFirst(piece)
        while let operation = try parser.next(&buffer) { found.append(operation) }
    }
    return found
}

/// An operation in words, so that buffers of different origin compare alike.
func words(_ operation: NATSServerOperation) -> String {
    switch operation {
    case .info(let json): "info\(String(buffer: json))"
    case .ping: "ping"
    case .pong: "pong"
    case .ok: "ok"
    case .error(let text): "error \(text)"
    case .message(let message):
        "message \(message.subscription) \(message.subject) \(message.replyTo ?? "-")"
            + " \(message.headers.map { "\($0.status ?? 0)\($0.all)" } ?? "-")"
            + " \(String(buffer: message.payload))"
    }
}

@Suite struct ParserTests {
    @Test(arguments: [
        ("PING\r\n", ["ping"]),
        ("ping\r\nPONG\r\n", ["ping", "pong"]),
        ("+OK\r\n", ["ok"]),
        ("-ERR 'Unknown Protocol Operation'\r\n", ["error Unknown Protocol Operation"]),
        ("-ERR\r\n", ["error "]),
        ("INFO {\"a\":1}\r\n", ["info {\"a\":1}"]),
        ("MSG a.b 9 5\r\nhello\r\n", ["message 9 a.b - - hello"]),
        ("MSG a.b 9 back.to 5\r\nhello\r\n", ["message 9 a.b back.to - hello"]),
        ("MSG\ta.b  9\t0\r\n\r\n", ["message 9 a.b - - "]),
        ("MSG a 1 4\r\n\r\n\r\n\r\n", ["message 1 a - - \r\n\r\n"]),
        (
            "HMSG a 1 12 17\r\nNATS/1.0\r\n\r\nhello\r\nPING\r\n",
            ["message 1 a - 0[] hello", "ping"]
        ),
        (
            "HMSG a 1 r 28 28\r\nNATS/1.0 503 No Responders\r\n\r\n\r\n".replacing(
                "28 28", with: "30 30"),
            ["message 1 a r 503[] "]
        ),
        (
            "HMSG a 1 26 28\r\nNATS/1.0\r\nKey: va: lue\r\n\r\nhi\r\n",
            ["message 1 a - 0[(name: \"Key\", value: \"va: lue\")] hi"]
        ),
    ])
    func findsOperations(text: String, expected: [String]) throws {
        #expect(try operations(Array(text.utf8)).map(words) == expected)
    }

    @Test(
        arguments: [
            ("MSG a 1\r\n", .wordCountInvalid(operation: "MSG", count: 3)),
            ("MSG a 1 r s 5\r\n", .wordCountInvalid(operation: "MSG", count: 6)),
            ("MSG a 1 b c d e f 5\r\n", .wordCountInvalid(operation: "MSG", count: 9)),
            ("HMSG a 1 5\r\n", .wordCountInvalid(operation: "HMSG", count: 4)),
            ("MSG a x 5\r\n", .numberInvalid(operation: "MSG", word: "x")),
            ("MSG a 1 -5\r\n", .numberInvalid(operation: "MSG", word: "-5")),
            ("MSG a 1 5x\r\n", .numberInvalid(operation: "MSG", word: "5x")),
            (
                "MSG a 99999999999999999999 5\r\n",
                .numberInvalid(operation: "MSG", word: "99999999999999999999")
            ),
            ("MSG a 1 4294967296\r\n", .numberInvalid(operation: "MSG", word: "4294967296")),
            ("MSG a 1 1048577\r\n", .messageTooLong(bytes: 1_048_577, bytesMax: 1 << 20)),
            ("HMSG a 1 13 12\r\n", .headersLongerThanMessage(headerBytes: 13, messageBytes: 12)),
            ("HMSG a 1 12 12\r\nNATS/2.0\r\n\r\n\r\n", .headersInvalid),
            ("HMSG a 1 12 12\r\nNATS/1.0\r\n\rx\r\n", .headersInvalid),
            ("HMSG a 1 4 4\r\n\r\n\r\n\r\n", .headersInvalid),
            ("MSG a 1 5\r\nhelloXX", .lineEndMissing),
            ("PING\n", .lineEndMissing),
            ("\n", .lineEndMissing),
            ("\r\n", .operationUnknown("")),
            ("PINGS\r\n", .operationUnknown("PINGS")),
            ("HTTP/1.1 200 OK\r\n", .operationUnknown("HTTP/1.1")),
            ("ABCDEFGHIJKLMNOPQRSTUVWXYZ\r\n", .operationUnknown("ABCDEFGHIJKLMNOP")),
        ] as [(String, NATSProtocolError)])
    func namesWhatIsWrong(text: String, expected: NATSProtocolError) {
        #expect(throws: expected) { try operations(Array(text.utf8)) }
    }

    @Test func endlessLineIsRefused() {
        let bytes = [UInt8](repeating: 0x41, count: NATSParser.lineBytesMax)
        #expect(throws: NATSProtocolError.lineTooLong(bytesMax: NATSParser.lineBytesMax)) {
            try operations(bytes)
        }
        #expect(throws: Never.self) { try operations(Array(bytes.dropLast())) }
    }

    @Test func payloadIsNotCopied() throws {
        var buffer = ByteBuffer(string: "MSG a 1 5\r\nhello\r\n")
        let whole = buffer.withUnsafeReadableBytes { $0.baseAddress! }
        var parser = NATSParser(messageBytesMax: 100)
        guard case .message(let message) = try parser.next(&buffer) else {
            Issue.record("no message")
            return
        }
        let payload = message.payload.withUnsafeReadableBytes { $0.baseAddress! }
        #expect(payload == whole + 11)
        #expect(message.byteCount == 6)
    }

    @Test func unfinishedMessageTellsItsLength() throws {
        var parser = NATSParser(messageBytesMax: 1 << 20)
        var buffer = ByteBuffer(string: "MSG a 1 100000\r\nabc")
        #expect(try parser.next(&buffer) == nil)
        #expect(parser.bytesExpected == 16 + 100_000 + 2)
        #expect(buffer.readableBytes == 19)
    }

    /// Whatever pieces a valid stream arrives in, the same operations are found.
    @Test(arguments: UInt64(1)...40)
    func piecesChangeNothing(seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        var bytes: [UInt8] = []
        for _ in 0..<30 { bytes += randomOperation(&random) }
        let whole = try operations(bytes).map(words)
        #expect(whole.count == 30)
        for _ in 0..<10 {
            var pieces: [Int] = []
            while pieces.reduce(0, +) < bytes.count {
                pieces.append(Int.random(in: 1...40, using: &random))
            }
            #expect(try operations(bytes, pieces: pieces).map(words) == whole)
        }
        #expect(
            try operations(bytes, pieces: Array(repeating: 1, count: bytes.count)).map(words)
                == whole)
    }

    private func randomOperation(_ random: inout SeededGenerator) -> [UInt8] {
        let payload = (0..<Int.random(in: 0...80, using: &random)).map { _ in
            UInt8.random(in: 0...255, using: &random)
        }
        let reply =
            Bool.random(using: &random) ? "reply.\(Int.random(in: 0...9, using: &random)) " : ""
        switch Int.random(in: 0..<6, using: &random) {
        case 0: return Array("PING\r\n".utf8)
        case 1: return Array("-ERR 'no'\r\n".utf8)
        case 2: return Array("INFO {\"server_id\":\"x\"}\r\n".utf8)
        case 3:
            let headers = "NATS/1.0\r\nA: \(Int.random(in: 0...999, using: &random))\r\n\r\n"
            return Array(
                "HMSG s.t 7 \(reply)\(headers.utf8.count) \(headers.utf8.count + payload.count)\r\n"
                    .utf8) + Array(headers.utf8) + payload + [13, 10]
        default: return Array("MSG s.t 7 \(reply)\(payload.count)\r\n".utf8) + payload + [13, 10]
        }
    }

    /// Damaged and random bytes give operations or an error, never a trap, and pieces change nothing.
    @Test(arguments: UInt64(1)...200)
    func randomBytesNeverTrap(seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        for _ in 0..<20 {
            var bytes: [UInt8] = []
            for _ in 0..<Int.random(in: 1...6, using: &random) { bytes += randomOperation(&random) }
            for _ in 0..<Int.random(in: 0...4, using: &random) {
                let place = Int.random(in: 0..<bytes.count, using: &random)
                let byte = Array(" \r\n0129:MSG*.\0\u{7f}".utf8).randomElement(using: &random)!
                if Bool.random(using: &random) {
                    bytes[place] = byte
                } else {
                    bytes.insert(byte, at: place)
                }
            }
            #expect(outcome(bytes, []) == outcome(bytes, Array(repeating: 3, count: bytes.count)))
        }
    }

    private func outcome(_ bytes: [UInt8], _ pieces: [Int]) -> [String] {
        var parser = NATSParser(messageBytesMax: 4_096)
        var buffer = ByteBuffer()
        var found: [String] = []
        var rest = bytes[...]
        do {
            for piece in pieces + [bytes.count] {
                buffer.writeBytes(rest.prefix(piece))
                rest = rest.dropFirst(piece)
                while let operation = try parser.next(&buffer) { found.append(words(operation)) }
            }
        } catch {
            found.append("\(error)")
        }
        return found
    }
}
