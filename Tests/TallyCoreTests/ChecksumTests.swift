@testable import TallyCore
import TallyTestSupport
import Testing

struct ChecksumTests {
    /// Vectors of RFC 3720, appendix B.4, and the check value of the CRC catalogue.
    @Test(
        arguments: [
            (Array("123456789".utf8), 0xe306_9283), ([UInt8](), 0),
            ([UInt8](repeating: 0, count: 32), 0x8a91_36aa),
            ([UInt8](repeating: 0xff, count: 32), 0x62a8_ab43),
            (Array(0..<32), 0x46dd_794e),
        ] as [([UInt8], UInt32)])
    func crc32cMatchesPublishedVectors(bytes: [UInt8], expected: UInt32) {
        #expect(bytes.withUnsafeBytes(CRC32C.checksum) == expected)
        var byTable = CRC32C()
        bytes.withUnsafeBytes { byTable.updateByTable($0) }
        #expect(byTable.value == expected)
    }

    @Test func crc32cIsTheSameInPiecesAndInSoftware() {
        var random = SeededGenerator(seed: 2)
        for count in 0..<300 {
            let bytes = (0..<count).map { _ in UInt8(truncatingIfNeeded: random.next()) }
            let whole = bytes.withUnsafeBytes(CRC32C.checksum)
            let cut = count == 0 ? 0 : Int.random(in: 0...count, using: &random)
            var pieces = CRC32C()
            var software = CRC32C()
            bytes.withUnsafeBytes { buffer in
                pieces.update(UnsafeRawBufferPointer(rebasing: buffer[..<cut]))
                pieces.update(UnsafeRawBufferPointer(rebasing: buffer[cut...]))
                software.updateByTable(buffer)
            }
            #expect(pieces.value == whole)
            #expect(software.value == whole)
        }
    }

    /// Slots as Redis Cluster's CLUSTER KEYSLOT gives them.
    @Test(
        arguments: [
            ("123456789", 12739), ("", 0), ("foo", 12182), ("bar", 5061), ("hello", 866),
            ("{user1000}.following", 3443), ("{user1000}.followers", 3443),
            ("foo{}{bar}", 8363), ("foo{{bar}}zap", 4015), ("foo{bar}{zap}", 5061),
            ("somekey", 11058), ("foo{hash_tag}", 2515), ("bar{hash_tag}", 2515),
        ] as [(String, UInt16)])
    func slotMatchesRedisCluster(key: String, expected: UInt16) {
        #expect(key.withBytes { Slot(of: $0) }.index == expected)
    }

    @Test func slotOfLongKeysMatchesBitByBit() {
        var random = SeededGenerator(seed: 3)
        for count in 0..<200 {
            let bytes = (0..<count).map { _ in UInt8.random(in: 0..<0x7b, using: &random) }
            var crc: UInt16 = 0
            for byte in bytes {
                crc ^= UInt16(byte) << 8
                for _ in 0..<8 { crc = crc << 1 ^ (crc & 0x8000 != 0 ? 0x1021 : 0) }
            }
            #expect(bytes.withUnsafeBytes(Slot.checksum) == crc)
            #expect(bytes.withUnsafeBytes(Slot.checksumByTable) == crc)
        }
    }

    @Test func partitionsAreContiguousRangesThatSplitInTwo() {
        for count in [1, 2, 64, 1024] {
            var seen: Set<Int> = []
            var last = 0
            for index in 0..<Slot.count {
                let partition = Self.slot(index).partition(of: count)
                #expect(partition >= last)
                last = partition
                seen.insert(partition)
                #expect(Self.slot(index).partition(of: count * 2) / 2 == partition)
            }
            #expect(seen.count == count)
        }
    }

    /// A key whose slot is `index`, found once for all.
    private static func slot(_ index: Int) -> Slot { slots[index] }

    private static let slots: [Slot] = {
        var slots = [Slot?](repeating: nil, count: Slot.count)
        var missing = Slot.count
        var number = 0
        while missing > 0 {
            let slot = "key:\(number)".withBytes { Slot(of: $0) }
            if slots[Int(slot.index)] == nil {
                slots[Int(slot.index)] = slot
                missing -= 1
            }
            number += 1
        }
        return slots.compactMap { $0 }
    }()
}
