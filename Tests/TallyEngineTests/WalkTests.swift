import TallyCore
import TallyTestSupport
import Testing

@testable import TallyEngine

/// A partition that changes while it is walked over.
private struct WalkedPartition: ~Copyable {
    var partition = Partition(hasher: KeyHasher(seed: 7))
    var random: SeededGenerator
    /// What there is, plain keys and records.
    var keys: Set<String> = []
    private var merges: [TableMerge] = []
    private var sequence: UInt64 = 1
    private let rows = UnsafeMutablePointer<Int64>.allocate(capacity: 16)

    init(seed: UInt64) {
        random = SeededGenerator(seed: seed)
        for text in [
            "ADD COUNTER post", "ADD COLUMN post id primarykey", "ADD COLUMN post likes",
            "ADD COUNTER tag", "ADD COLUMN tag name primarykey type=string", "ADD COLUMN tag n",
        ] { run(.changeSchema, text) }
    }

    deinit { rows.deallocate() }

    mutating func run(
        _ kind: Operation.Kind, _ key: String, family: UInt32 = 0, operand: Int64 = 1
    ) {
        Array(key.utf8).withUnsafeBytes { bytes in
            var operation: Operation
            if family == 1, let integer = UInt64(key) {
                operation = Operation(
                    kind, integerKey: integer,
                    hash: KeyHasher(seed: 7).hash(PartitionPlace.only.compact(integer)),
                    partition: 0, operand: operand)
            } else {
                operation = Operation(
                    kind, key: bytes.baseAddress!, keyByteCount: bytes.count,
                    hash: KeyHasher(seed: 7).hash(bytes), partition: 0, operand: operand)
            }
            operation.family = family
            if kind == .expire { operation.count = 0 }
            _ = partition.apply(&operation, rows)
        }
    }

    /// Does something to one of `count` keys, which may be any but those of `kept`.
    mutating func change(_ count: Int, kept: Set<String>) {
        let number = Int.random(in: 0..<count, using: &random)
        let family = UInt32.random(in: 0...2, using: &random)
        let name = family == 1 ? "\(number * 37)" : "k\(number)"
        let key = "\(family):\(name)"
        switch Int.random(in: 0..<10, using: &random) {
        case 0..<4:
            run(.add, name, family: family)
            keys.insert(key)
        case 4..<6:
            guard !kept.contains(key) else { return run(.add, name, family: family) }
            run(.delete, name, family: family)
            keys.remove(key)
        case 6..<8 where family == 0: run(.expire, name, operand: 1 << 50)
        case 8 where family == 0: run(.persist, name)
        default: run(.get, name, family: family)
        }
    }

    /// Goes on with merging, or begins.
    mutating func merge() {
        if merges.isEmpty {
            merges = partition.freeze()
            return
        }
        sequence += 1
        for merge in merges {
            let segments = try? merge.run(
                place: .only, sequence: sequence, identity: LogIdentity(high: 1, low: 1))
            partition.adopt(segments ?? [], of: merge)
        }
        merges = []
    }

    mutating func finishMerge() { if !merges.isEmpty { merge() } }

    mutating func walk(limit: Int, _ place: inout WalkPlace?, _ seen: inout [String]) {
        let missing = partition.walk(&place, [.plain, .records], limit: limit, now: 1) {
            family, key in
            switch key {
            case .integer(let key): seen.append("\(family):\(key)")
            case .string(let key): seen.append("\(family):\(String(decoding: key, as: UTF8.self))")
            }
        }
        #expect(missing == nil)
    }
}

struct WalkTests {
    @Test(arguments: 1...60 as ClosedRange<UInt64>)
    func aWalkMissesNothingThatIsThereAllTheTime(seed: UInt64) {
        var world = WalkedPartition(seed: seed)
        let count = [5, 40, 3000][Int(seed % 3)]
        for step in 0..<(count * 3) {
            world.change(count, kept: [])
            if step % max(5, count / 3) == 0 { world.merge() }
        }
        let kept = world.keys
        var place: WalkPlace? = WalkPlace()
        var seen: [String] = []
        var steps = 0
        while place != nil, steps < 100_000 {
            steps += 1
            world.walk(limit: Int.random(in: 1...50, using: &world.random), &place, &seen)
            for _ in 0..<Int.random(in: 0...20, using: &world.random) {
                world.change(count, kept: kept)
            }
            if world.random.once(in: 4) { world.merge() }
        }
        #expect(place == nil)
        #expect(kept.subtracting(seen).isEmpty, "seed \(seed)")
        #expect(Set(seen).subtracting(world.keys).count < seen.count || seen.isEmpty)
    }

    @Test(arguments: 1...20 as ClosedRange<UInt64>)
    func aWalkWhileNothingHappensSeesEverythingOnce(seed: UInt64) {
        var world = WalkedPartition(seed: seed)
        for step in 0..<2000 {
            world.change(500, kept: [])
            if step % 300 == 0 { world.merge() }
        }
        // While a merge is under way, what was deleted and made again may be seen twice.
        world.finishMerge()
        var place: WalkPlace? = WalkPlace()
        var seen: [String] = []
        while place != nil { world.walk(limit: 7, &place, &seen) }
        let twice = Dictionary(grouping: seen, by: { $0 }).filter { $0.value.count > 1 }.keys
            .sorted()
        #expect(twice.isEmpty, "seed \(seed)")
        #expect(Set(seen) == world.keys, "seed \(seed)")
    }
}
