import TallyCore
import TallyStorage
import TallyTestSupport
import Testing

@testable import TallyNode

struct JournalReplayTests {
    /// What checksums cannot see: entries that do not lead where their writer was.
    @Test func entriesThatCannotHaveBeenAppliedAreRefused() throws {
        let served = try HandDrivenNode()
        #expect(served.add("a", .max) != nil)
        _ = try served.committer.commit()
        #expect(served.add("b") != nil)
        try served.committer.close()
        var groups = 0
        var skipping = JournalReplay(hasher: KeyHasher(seed: 1))
        var whole = JournalReplay(hasher: KeyHasher(seed: 1))
        var twice = JournalReplay(hasher: KeyHasher(seed: 1))
        _ = try JournalScanner.scan(served.disk) { group, sections in
            groups += 1
            #expect(whole.apply(group, sections) == nil)
            // The same group with a section less has an entry less than it says.
            if !sections.isEmpty {
                #expect(skipping.apply(group, []) == "0 entries instead of 1")
            }
            if groups == 1 {
                #expect(twice.apply(group, sections) == nil)
                #expect(twice.apply(group, sections)?.contains("partition") == true)
            }
            return nil
        }
        #expect(groups == 3)
    }
}
