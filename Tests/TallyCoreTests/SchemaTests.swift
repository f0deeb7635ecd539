import TallyCore
import Testing

struct SchemaTests {
    /// The schema after these changes, or the first error in words.
    private static func schema(_ lines: String) -> Result<Schema, SchemaFailure> {
        var schema = Schema()
        for line in lines.split(separator: "\n") {
            do {
                try schema.apply(SchemaChange(line.split(separator: " ").map(String.init)))
            } catch {
                return .failure(SchemaFailure(text: "\(error)"))
            }
        }
        return .success(schema)
    }

    struct SchemaFailure: Error { let text: String }

    private static let weibo = """
        ADD COUNTER weibo
        ADD COLUMN weibo weibo_id hint=64 max=64 default=0 primarykey
        ADD COLUMN weibo comment_num hint=16 max=32 default=0 suffix=cntcm
        ADD COLUMN weibo repost_num hint=16 max=32 default=0 suffix=cntrn

        """

    @Test func aCounterServiceIsDeclaredInItsOwnLanguage() throws {
        let family = try #require(try Self.schema(Self.weibo).get().family(named: "weibo"))
        #expect(family.key?.name == "weibo_id" && family.key?.kind == .integer)
        #expect(family.columns.map(\.name) == ["comment_num", "repost_num"])
        #expect(family.column(suffix: "cntrn")?.max == (1 << 32) - 1)
        #expect(family.column(named: "comment_num")?.number == 0)
    }

    @Test(
        arguments: [
            ("ADD COUNTER weibo", "counter 'weibo' exists already"),
            ("DROP COUNTER nosuch", "no such counter 'nosuch'"),
            ("ADD COLUMN nosuch a", "no such counter 'nosuch'"),
            ("ADD COLUMN weibo id primarykey", "the counter's primary key is 'weibo_id' already"),
            ("ADD COLUMN weibo comment_num", "column 'comment_num' exists already"),
            ("ADD COLUMN weibo weibo_id", "column 'weibo_id' exists already"),
            ("ADD COLUMN weibo a suffix=cntcm", "another column has the suffix 'cntcm'"),
            ("ADD COLUMN weibo a max=0", "'max=0' is not max= and a number of bits in 1...64"),
            ("ADD COLUMN weibo a max=8 default=256", "default=256 is not in 0...255"),
            ("ADD COLUMN weibo a max=3 min=9", "nothing lies between min=9 and 7"),
            ("ADD COLUMN weibo a color=red", "unknown option 'color'"),
            ("ADD COLUMN weibo a max", "unknown option 'max'"),
            ("ADD COLUMN weibo a max=8 MAX=9", "option 'max' is given twice"),
            ("ADD COLUMN weibo a bound=none", "'bound=none' is not bound=reject or bound=saturate"),
            (
                "ADD COLUMN weibo k max=32 primarykey",
                "'max=32' is not max=64, as a primary key has it"
            ),
            ("ALTER COLUMN weibo comment_num max=16", "max can only grow, it is 32"),
            ("ALTER COLUMN weibo comment_num min=1", "unknown option 'min'"),
            ("ALTER COLUMN weibo nosuch max=40", "no such column 'nosuch'"),
            ("DROP COLUMN weibo nosuch", "no such column 'nosuch'"),
            ("ADD COUNTER 1234", "'1234' is no name"),
            ("ADD COUNTER a:b", "'a:b' is no name"),
            ("ADD COUNTER x known=all", "'known=all' is not known=only"),
            ("ADD TABLE x", "expected ADD COUNTER"),
        ])
    func badChangesAreRefused(line: String, error: String) {
        guard case .failure(let failure) = Self.schema(Self.weibo + line) else {
            Issue.record("accepted")
            return
        }
        #expect(failure.text.hasPrefix(error), "\(failure.text)")
    }

    @Test(
        arguments: [
            "ADD COUNTER a", "ADD COUNTER a known=only deleted=final", "DROP COUNTER a",
            "ALTER COUNTER a ack=memory", "ALTER COUNTER a ack=applied",
            "ADD COLUMN a id primarykey type=string", "ADD COLUMN a id primarykey type=integer",
            "ADD COLUMN a b hint=8 max=12 min=-5 default=3 suffix=x bound=saturate",
            "ADD COLUMN a b hint=16 max=64 min=0 default=0 bound=reject", "DROP COLUMN a b",
            "ALTER COLUMN a b max=40 hint=20 suffix=y bound=reject",
            "ALTER COLUMN a b bound=saturate",
        ])
    func textIsReadBack(text: String) throws {
        let words = text.split(separator: " ").map(String.init)
        #expect(try SchemaChange(words).description == text)
        #expect(try SchemaChange(words.map { $0.lowercased() }).description == text)
    }

    @Test func numbersAreNeverUsedAgain() throws {
        let schema = try Self.schema(
            Self.weibo + """
                DROP COLUMN weibo comment_num
                ADD COLUMN weibo comment_num
                ADD COUNTER other
                DROP COUNTER other
                ADD COUNTER other
                """
        ).get()
        #expect(schema.family(named: "weibo")?.column(named: "comment_num")?.number == 2)
        #expect(schema.family(named: "other")?.number == 3)
    }

    @Test(
        arguments: [
            (1, 1), (8, 255), (32, 4_294_967_295), (62, (1 << 62) - 1), (63, .max), (64, .max),
        ] as [(Int, Int64)])
    func widthsGiveGreatestValues(bits: Int, max: Int64) {
        #expect(Column(number: 0, name: "a", maxBits: bits).max == max)
    }
}
