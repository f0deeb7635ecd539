import TallyTestSupport
import Testing

@testable import TallyRESP

struct ReplyWriterTests {
    private func written(_ body: (inout ReplyWriter) -> Void) -> String {
        var writer = ReplyWriter()
        body(&writer)
        return String(decoding: writer.encoded, as: UTF8.self)
    }

    @Test func everyReplyHasItsForm() {
        #expect(written { $0.integer(-12) } == ":-12\r\n")
        #expect(written { $0.integer(.min) } == ":-9223372036854775808\r\n")
        #expect(written { $0.bulkInteger(7) } == "$1\r\n7\r\n")
        #expect(written { $0.bulkInteger(.min) } == "$20\r\n-9223372036854775808\r\n")
        #expect(written { $0.simple("OK") } == "+OK\r\n")
        #expect(written { $0.error("ERR a\r\nb") } == "-ERR a  b\r\n")
        #expect(written { $0.bulk("") } == "$0\r\n\r\n")
        #expect(written { $0.bulk("abc") } == "$3\r\nabc\r\n")
        #expect(written { $0.array(0) } == "*0\r\n")
    }

    @Test func versionsDifferWhereRESP3HasTypesOfItsOwn() {
        #expect(written { $0.null(.two) } == "$-1\r\n")
        #expect(written { $0.null(.three) } == "_\r\n")
        #expect(written { $0.map(2, .two) } == "*4\r\n")
        #expect(written { $0.map(2, .three) } == "%2\r\n")
        #expect(written { $0.set(2, .two) } == "*2\r\n")
        #expect(written { $0.set(2, .three) } == "~2\r\n")
        #expect(written { $0.verbatim("ab", .two) } == "$2\r\nab\r\n")
        #expect(written { $0.verbatim("ab", .three) } == "=6\r\ntxt:ab\r\n")
    }

    @Test func growsAndShrinks() {
        var writer = ReplyWriter()
        let long = String(repeating: "x", count: 200_000)
        writer.integer(1)
        writer.bulk(long)
        #expect(writer.byteCount == 4 + 9 + 200_002)
        writer.truncate(to: 4)
        #expect(String(decoding: writer.encoded, as: UTF8.self) == ":1\r\n")
        writer.removeAll()
        #expect(writer.byteCount == 0)
        writer.integer(2)
        #expect(String(decoding: writer.encoded, as: UTF8.self) == ":2\r\n")
    }
}
