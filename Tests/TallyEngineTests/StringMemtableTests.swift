import TallyCore
import TallyTestSupport
import Testing

@testable import TallyEngine

struct StringMemtableTests {
    @Test func aBucketIsOneCacheLine() {
        #expect(StringMemtable.Bucket.byteCount == 64)
        #expect(MemoryLayout<StringMemtable.LeafHeader>.size <= 64)
        #expect(MemoryLayout<StringMemtable.DirectoryEntry>.size == 16)
    }

    /// Random operations against a plain dictionary, over few and over many keys, short and long.
    @Test(arguments: UInt64(1)...20)
    func behavesLikeADictionary(seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        let keyCount = [3, 50, 1000, 20_000][Int(seed % 4)]
        let hasher = KeyHasher(seed: seed)
        var table = StringMemtable(columnCount: 1, hasher: hasher)
        var model: [String: UInt64] = [:]
        for step in 0..<20_000 {
            let number = Int.random(in: 0..<keyCount, using: &random)
            let key = Self.key(number)
            key.withBytes { bytes in
                let hash = hasher.hash(bytes)
                let start = bytes.baseAddress!
                let record = table.find(start, bytes.count, hash: hash)
                #expect(record.map(StringMemtable.value) == model[key])
                switch Int.random(in: 0..<10, using: &random) {
                case 0..<3:
                    #expect(table.remove(start, bytes.count, hash: hash) == model[key])
                    model[key] = nil
                default:
                    let value = random.next()
                    if let record {
                        StringMemtable.setValue(record, value)
                    } else {
                        table.insert(start, bytes.count, hash: hash, value: value)
                    }
                    model[key] = value
                }
            }
            if step % 5000 == 4999 { table.checkInvariants() }
        }
        var all: [String: UInt64] = [:]
        table.forEach { all[String(decoding: $0, as: UTF8.self)] = StringMemtable.value($1) }
        #expect(all == model)
        #expect(table.count == model.count)
    }

    /// Key 0 is empty, and some are as long as allowed.
    private static func key(_ number: Int) -> String {
        switch number {
        case 0: ""
        case 1: String(repeating: "k", count: Limits.keyBytesMax)
        case let number where number % 97 == 5: "\(number)" + String(repeating: "x", count: 300)
        default: "key:\(number)"
        }
    }

    @Test func insertingAndDeletingLeavesMemoryFlat() {
        let hasher = KeyHasher(seed: 7)
        var table = StringMemtable(columnCount: 1, hasher: hasher)
        var peak = 0
        for round in 0..<30 {
            for number in 0..<3000 {
                "round:\(round):\(number)".withBytes {
                    _ = table.insert($0.baseAddress!, $0.count, hash: hasher.hash($0), value: 1)
                }
            }
            for number in 0..<3000 {
                "round:\(round):\(number)".withBytes {
                    _ = table.remove($0.baseAddress!, $0.count, hash: hasher.hash($0))
                }
            }
            #expect(table.count == 0)
            if round == 4 { peak = table.allocatedBytes }
            if round > 4 { #expect(table.allocatedBytes <= peak + peak / 4) }
        }
        table.checkInvariants()
    }

    /// In a small leaf that changes all the time every bucket may have overflowed at some time; a
    /// search for what is not there must end all the same.
    @Test(arguments: UInt64(1)...20)
    func searchingForAbsentKeysEndsWhateverWasDeleted(seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        let hasher = KeyHasher(seed: seed)
        var table = StringMemtable(columnCount: 1, hasher: hasher)
        var alive: Set<Int> = []
        for _ in 0..<20_000 {
            let number = Int.random(in: 0..<30, using: &random)
            "key:\(number)".withBytes { key in
                let hash = hasher.hash(key)
                if alive.contains(number), alive.count > 8 {
                    #expect(table.remove(key.baseAddress!, key.count, hash: hash) == 1)
                    alive.remove(number)
                } else if !alive.contains(number), alive.count < 20 {
                    table.insert(key.baseAddress!, key.count, hash: hash, value: 1)
                    alive.insert(number)
                }
            }
            "absent:\(number)".withBytes { key in
                #expect(table.find(key.baseAddress!, key.count, hash: hasher.hash(key)) == nil)
                #expect(table.remove(key.baseAddress!, key.count, hash: hasher.hash(key)) == nil)
            }
        }
        table.checkInvariants()
    }

    @Test func removingAllGivesMemoryBack() {
        let hasher = KeyHasher(seed: 8)
        var table = StringMemtable(columnCount: 1, hasher: hasher)
        let empty = table.allocatedBytes
        for number in 0..<10_000 {
            "key:\(number)".withBytes {
                _ = table.insert($0.baseAddress!, $0.count, hash: hasher.hash($0), value: 1)
            }
        }
        table.removeAll()
        table.checkInvariants()
        #expect(table.count == 0)
        #expect(table.allocatedBytes == empty)
    }

    @Test func bytesPerKeyStayWithinBounds() {
        let hasher = KeyHasher(seed: 9)
        var table = StringMemtable(columnCount: 1, hasher: hasher)
        for number in 0..<100_000 {
            let digits = String(number)
            let key = "key:" + String(repeating: "0", count: 12 - digits.count) + digits
            key.withBytes {
                _ = table.insert($0.baseAddress!, $0.count, hash: hasher.hash($0), value: 1)
            }
        }
        #expect(table.allocatedBytes / 100_000 <= 48)
    }

    @Test func bytesAreComparedAndCopiedAtEveryLength() {
        var random = SeededGenerator(seed: 10)
        for count in 0..<64 {
            let bytes = (0..<(count + 1)).map { _ in UInt8(truncatingIfNeeded: random.next()) }
            var copy = [UInt8](repeating: 0x55, count: count + 1)
            bytes.withUnsafeBytes { source in
                copy.withUnsafeMutableBytes { target in
                    Bytes.copy(source.baseAddress!, to: target.baseAddress!, count)
                }
            }
            #expect(Array(copy[..<count]) == Array(bytes[..<count]))
            #expect(copy[count] == 0x55)
            for changed in 0...count {
                var other = bytes
                if changed < count { other[changed] ^= 1 }
                let isEqual = bytes.withUnsafeBytes { left in
                    other.withUnsafeBytes { right in
                        Bytes.equal(left.baseAddress!, right.baseAddress!, count)
                    }
                }
                #expect(isEqual == (changed == count))
            }
        }
    }
}
