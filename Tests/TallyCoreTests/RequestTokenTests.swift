import TallyCore
import Testing

struct RequestTokenTests {
    private func token(_ text: String) -> RequestToken? {
        Array(text.utf8).withUnsafeBytes { RequestToken($0) }
    }

    @Test(
        arguments: [
            ("018bcfe5-687b-7000-8000-000000000001", 0x018b_cfe5_687b as UInt64?),
            ("018BCFE5687B70008000000000000001", 0x018b_cfe5_687b),
            ("ffffffff-ffff-7fff-bfff-ffffffffffff", 0xffff_ffff_ffff),
            ("00000000-0000-7000-8000-000000000000", 0),
            ("01ARZ3NDEKTSV4RRFFQ69G5FAV", 1_469_922_850_259),
            ("01arz3ndektsv4rrffq69g5fav", 1_469_922_850_259),
            ("7ZZZZZZZZZZZZZZZZZZZZZZZZZ", 0xffff_ffff_ffff),
            ("8ZZZZZZZZZZZZZZZZZZZZZZZZZ", nil), ("01ARZ3NDEKTSV4RRFFQ69G5FAI", nil),
            ("01ARZ3NDEKTSV4RRFFQ69G5FAU", nil), ("01ARZ3NDEKTSV4RRFFQ69G5FA", nil),
            ("018bcfe5-687b-4000-8000-000000000001", nil),
            ("018bcfe5-687b-7000-c000-000000000001", nil),
            ("018bcfe5-687b-7000-0000-000000000001", nil),
            ("018bcfe5x687b-7000-8000-000000000001", nil),
            ("018bcfe5-687b-7000-8000-00000000000g", nil),
            ("018bcfe5-687b-7000-8000-0000000000011", nil), ("", nil), ("1", nil),
        ])
    func readsTokens(text: String, milliseconds: UInt64?) {
        #expect(token(text)?.milliseconds == milliseconds)
    }

    @Test func bytesAreInOrderOfTime() throws {
        let tokens = try [
            "018bcfe5-687b-7000-8000-000000000001", "018bcfe5-687b-7000-8000-000000000002",
            "018bcfe5-687c-7000-8000-000000000000", "01ARZ3NDEKTSV4RRFFQ69G5FAV",
        ].map { try #require(token($0)) }
        let bytes = tokens.map { token in
            withUnsafeTemporaryAllocation(byteCount: 16, alignment: 8) { buffer in
                token.write(to: buffer.baseAddress!)
                #expect(RequestToken(bytes: UnsafeRawPointer(buffer.baseAddress!)) == token)
                return Array(buffer)
            }
        }
        #expect(bytes[0].lexicographicallyPrecedes(bytes[1]))
        #expect(bytes[1].lexicographicallyPrecedes(bytes[2]))
        #expect(bytes[3].lexicographicallyPrecedes(bytes[0]))
    }

    @Test func fingerprintsTellArgumentsApart() {
        let fingerprint = { (arguments: [String]) -> UInt64 in
            var fingerprint = CommandFingerprint()
            for argument in arguments {
                Array(argument.utf8).withUnsafeBytes { fingerprint.add($0) }
            }
            return fingerprint.value
        }
        let all = [
            ["incr", "a"], ["incr", "b"], ["incra", ""], ["incr", "a", ""], ["inc", "ra"],
        ]
        #expect(Set(all.map(fingerprint)).count == all.count)
        #expect(fingerprint(["incr", "a"]) == fingerprint(["incr", "a"]))
    }
}
