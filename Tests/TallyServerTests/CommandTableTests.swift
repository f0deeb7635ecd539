import TallyCore
import TallyTestSupport
import Testing

@testable import TallyServer

struct CommandTableTests {
    @Test func everyCommandIsDeclaredOnceAndCompletely() {
        let names = CommandTable.all.map(\.name)
        #expect(Set(names).count == names.count)
        for spec in CommandTable.all.flatMap({ [$0] + $0.subcommands }) {
            #expect(spec.name == spec.name.lowercased())
            #expect(spec.summary.hasSuffix("."))
            #expect(spec.arity.value != 0)
            let keys = spec.keys.range
            #expect((keys.first == 0) == (keys.step == 0))
        }
        for spec in CommandTable.all {
            #expect(spec.subcommands.allSatisfy { $0.fullName == "\(spec.name)|\($0.name)" })
        }
    }

    @Test func namesAreFoundInAnyCaseAndNothingElseIs() {
        let names = CommandTable.all.map(\.name)
        let lookup = CommandLookup(names)
        for (index, name) in names.enumerated() {
            #expect(name.withBytes(lookup.find) == index)
            #expect(name.uppercased().withBytes(lookup.find) == index)
            #expect((name + "x").withBytes(lookup.find) == nil)
            #expect((name + " ").withBytes(lookup.find) == nil)
            #expect((name + "\u{0}").withBytes(lookup.find) == nil)
            #expect(
                String(name.dropLast()).withBytes(lookup.find)
                    == names.firstIndex(of: String(name.dropLast())))
        }
        #expect("".withBytes(lookup.find) == nil)
        #expect(String(repeating: "get", count: 6).withBytes(lookup.find) == nil)
    }

    @Test(
        arguments: [
            ("*", "", true), ("*", "anything", true), ("max*", "maxmemory", true),
            ("max*", "timeout", false), ("m?x*", "maxclients", true), ("[mt]*", "timeout", true),
            ("[^m]*", "maxmemory", false), ("[a-c]x", "bx", true), ("[a-c]x", "dx", false),
            ("a\\*b", "a*b", true), ("a\\*b", "axb", false), ("*a*b*", "xxaxxbxx", true),
            ("*a*b*", "xxbxxaxx", false), ("abc", "ab", false), ("ab", "abc", false),
            ("[", "[", false), ("a[]b", "ab", false), ("**", "x", true),
        ] as [(String, String, Bool)])
    func globsMatchAsInRedis(pattern: String, text: String, expected: Bool) {
        #expect(GlobPattern(pattern).matches(text) == expected)
    }
}
