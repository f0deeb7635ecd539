import TallyAccess
import Testing

struct PasswordTests {
    @Test func aHashKnowsItsPasswordAndNoOther() throws {
        let hash = PasswordHash(of: Array("correct horse".utf8))
        let read = try PasswordHash(hash.description)
        #expect(read == hash)
        #expect(read.matches(Array("correct horse".utf8)))
        #expect(!read.matches(Array("correct horsf".utf8)))
        #expect(!read.matches([]))
        #expect(PasswordHash(of: Array("correct horse".utf8)) != hash)
    }

    /// The third vector of RFC 7914, section 12.
    @Test func isScrypt() throws {
        let hash = try PasswordHash(
            "scrypt$16384$8$1$U29kaXVtQ2hsb3JpZGU=$cCO9yzr9c0hGHAbNgf046/2o+7qQT44+qbVD9lRdof"
                + "LVQylVYT8Pz2LUlwUkKpr55h6F3A1lHkDfzwF7RVdYhw==")
        #expect(hash.matches(Array("pleaseletmein".utf8)))
    }

    @Test(
        arguments: [
            "", "scrypt", "scrypt$16384$8$1$$", "md5$1$1$1$c2FsdHNhbHQ=$aGFzaA==",
            "scrypt$16383$8$1$c2FsdHNhbHQ=$MDEyMzQ1Njc4OWFiY2RlZg==",
            "scrypt$2097152$64$1$c2FsdHNhbHQ=$MDEyMzQ1Njc4OWFiY2RlZg==",
            "scrypt$16384$8$1$c2FsdHNhbHQ=$not base64", "scrypt$-2$8$1$c2FsdHNhbHQ=$MDEyMw==",
            "scrypt$16384$8$1$c2FsdA==$MDEyMzQ1Njc4OWFiY2RlZg==", "hunter2",
        ])
    func refuses(text: String) {
        #expect(throws: PasswordHash.Malformed.self) { try PasswordHash(text) }
    }
}
