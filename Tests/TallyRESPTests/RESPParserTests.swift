import TallyCore
import TallyTestSupport
import Testing

@testable import TallyRESP

/// What a parser makes of a stretch of bytes.
enum Parsed: Equatable {
    case command([String])
    case error(ProtocolError)
}

/// Parses bytes that arrive in pieces ending at `cuts`.
func parse(_ bytes: [UInt8], cuts: [Int] = []) -> [Parsed] {
    let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 1)
    defer { memory.deallocate() }
    memory.copyBytes(from: bytes)
    let buffer = UnsafeRawBufferPointer(memory)
    var parser = RESPParser()
    var parsed: [Parsed] = []
    var start = 0
    for end in cuts.sorted() + [bytes.count] {
        while start < end {
            let found: RESPParser.Found
            do throws(ProtocolError) {
                found = try parser.next(UnsafeRawBufferPointer(rebasing: buffer[start..<end]))
            } catch {
                return parsed + [.error(error)]
            }
            guard case .command(let byteCount) = found else { break }
            let arguments = parser.arguments
            if arguments.count > 0 {
                parsed.append(
                    .command(
                        (0..<arguments.count).map {
                            String(decoding: arguments[$0], as: UTF8.self)
                        }))
            }
            start += byteCount
        }
    }
    return parsed
}

struct RESPParserTests {
    @Test(
        arguments: [
            ("*1\r\n$4\r\nPING\r\n", [.command(["PING"])]),
            ("*2\r\n$3\r\nGET\r\n$0\r\n\r\n", [.command(["GET", ""])]),
            ("PING\r\n", [.command(["PING"])]), ("PING\n", [.command(["PING"])]),
            ("  GET   a  \r\n", [.command(["GET", "a"])]), ("\r\n\n", []),
            ("*0\r\n*-1\r\nPING\r\n", [.command(["PING"])]),
            ("ECHO \"a b\\x41\\n\\\"\"\r\n", [.command(["ECHO", "a bA\n\""])]),
            ("ECHO 'it\\'s \\n'\r\n", [.command(["ECHO", "it's \\n"])]),
            ("ECHO \"\"\r\n", [.command(["ECHO", ""])]),
            ("*2\r\n$4\r\nINCR\r\n$1\r\na", []), ("*", []), ("$", []),
            ("ECHO \"a\r\n", [.error(.unbalancedQuotes)]),
            ("ECHO 'a'b\r\n", [.error(.unbalancedQuotes)]),
            ("*x\r\n", [.error(.invalidMultibulkLength)]),
            ("*1048577\r\n", [.error(.invalidMultibulkLength)]),
            ("*9999999999999999999\r\n", [.error(.invalidMultibulkLength)]),
            ("*1\r\n:4\r\n", [.error(.expectedBulk(got: 58))]),
            ("*1\r\n$-1\r\n", [.error(.invalidBulkLength)]),
            ("*1\r\n$x\r\n", [.error(.invalidBulkLength)]),
            ("*1\r\n$:\r\n0123456789\r\n", [.error(.invalidBulkLength)]),
            ("*1\r\n$01\r\na\r\n", [.error(.invalidBulkLength)]),
            ("*1\r\n$1048577\r\n", [.error(.invalidBulkLength)]),
            ("*1\r\n$4\r\nPINGxx", [.error(.missingLineEnd)]),
            ("*1\rx", [.error(.missingLineEnd)]),
            (
                "*1\r\n$4\r\nPING\r\n*1\r\n$x\r\n",
                [.command(["PING"]), .error(.invalidBulkLength)]
            ),
        ] as [(String, [Parsed])])
    func findsCommandsAndErrors(text: String, expected: [Parsed]) {
        #expect(parse(Array(text.utf8)) == expected)
    }

    @Test func endlessLinesAreRefused() {
        let much = [UInt8](repeating: UInt8(ascii: "1"), count: Limits.inlineBytesMax + 2)
        #expect(parse(Array("a".utf8) + much) == [.error(.inlineTooLong)])
        #expect(parse(Array("*".utf8) + much) == [.error(.multibulkCountTooLong)])
        #expect(parse(Array("*1\r\n$".utf8) + much) == [.error(.bulkCountTooLong)])
    }

    @Test func aCommandIsBoundedAsAWhole() {
        var bytes = Array("*20\r\n".utf8)
        for _ in 0..<9 {
            bytes += Array("$1000000\r\n".utf8) + Array(repeating: 65, count: 1_000_000)
            bytes += [13, 10]
        }
        #expect(parse(bytes) == [.error(.commandTooLong)])
    }

    /// However a stream is cut into pieces, the same commands come out.
    @Test(arguments: UInt64(1)...300)
    func chunkingChangesNothing(seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        var bytes: [UInt8] = []
        var expected: [Parsed] = []
        for _ in 0..<Int.random(in: 1...12, using: &random) {
            let words = (0..<Int.random(in: 1...12, using: &random)).map { _ -> String in
                let length = [0, 1, 4, 9, 10, 99, 100, 1000].randomElement(using: &random)!
                return String(
                    (0..<length).map { _ in "abc$*\r\n01".randomElement(using: &random)! })
            }
            if random.once(in: 4) {
                bytes += Array("ping x\r\n".utf8)
                expected.append(.command(["ping", "x"]))
            }
            bytes += Array("*\(words.count)\r\n".utf8)
            for word in words {
                bytes += Array("$\(word.utf8.count)\r\n".utf8) + Array(word.utf8) + [13, 10]
            }
            expected.append(.command(words))
        }
        #expect(parse(bytes) == expected)
        for _ in 0..<10 {
            let cuts = (0..<Int.random(in: 0...40, using: &random)).map { _ in
                Int.random(in: 0...bytes.count, using: &random)
            }
            #expect(parse(bytes, cuts: cuts) == expected, "seed \(seed), cuts \(cuts)")
        }
        if bytes.count < 2000 {
            #expect(parse(bytes, cuts: Array(0..<bytes.count)) == expected)
        }
    }

    /// The same wherever a stream of short commands is cut in three places.
    @Test(arguments: [
        "*2\r\n$4\r\nINCR\r\n$1\r\na\r\n*1\r\n$4\r\nPING\r\n*1\r\n$4\r\nPING\r\n",
        "PING\r\n*1\r\n$4\r\nPING\r\nGET a\r\n*1\r\n$4\r\nPING\r\n",
        "*10\r\n" + String(repeating: "$1\r\na\r\n", count: 10) + "*1\r\n$1\r\nb\r\nPING\r\n",
    ])
    func cutsBetweenShortCommandsChangeNothing(text: String) {
        let bytes = Array(text.utf8)
        let whole = parse(bytes)
        for first in 0..<bytes.count {
            for second in first..<bytes.count {
                for third in second..<bytes.count {
                    let cuts = [first, second, third]
                    guard parse(bytes, cuts: cuts) != whole else { continue }
                    Issue.record("cuts \(cuts)")
                }
            }
        }
    }

    @Test func manyArgumentsAreKeptAndForgotten() {
        let words = (0..<5000).map(String.init)
        var bytes = Array("*5000\r\n".utf8)
        for word in words { bytes += Array("$\(word.utf8.count)\r\n\(word)\r\n".utf8) }
        bytes += Array("*1\r\n$4\r\nPING\r\n".utf8)
        #expect(parse(bytes) == [.command(words), .command(["PING"])])
    }
}
