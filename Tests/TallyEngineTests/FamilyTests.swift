import TallyCore
import TallyTestSupport
import Testing

@testable import TallyEngine

/// The rules of records, spelled out over a plain dictionary.
private struct FamilyModel {
    struct Record {
        /// Values by column number; what is absent is at its default.
        var values: [UInt32: Int64] = [:]
        var isKnown = false
        var isDeleted = false
    }

    var schema = Schema()
    var records: [String: [String: Record]] = [:]

    func value(_ record: Record, _ column: Column) -> Int64 {
        record.values[column.number] ?? column.defaultValue
    }

    func isPresent(_ record: Record, _ family: Family) -> Bool {
        if record.isDeleted { return false }
        return record.isKnown && family.isKnownOnly
            || family.columns.contains { value(record, $0) != $0.defaultValue }
    }

    /// Adds one by one, as a client that waits for every reply would see it.
    static func add(
        _ delta: Int64, to start: Int64, _ count: UInt32, _ column: Column
    ) -> (Int64, UInt32) {
        var value = start
        var accepted: UInt32 = 0
        for _ in 0..<count {
            let (sum, overflow) = value.addingReportingOverflow(delta)
            if !overflow, sum >= column.min, sum <= column.max {
                value = sum
            } else if column.bound == .saturate {
                value = delta < 0 ? column.min : column.max
            } else {
                break
            }
            accepted += 1
        }
        return (value, accepted)
    }
}

/// One partition and the model, which must always agree.
private struct FamilyPair: ~Copyable {
    var partition: Partition
    var replica: Partition
    var model = FamilyModel()
    private var hasher: KeyHasher
    private var replicaHasher: KeyHasher
    private var sequence: UInt64 = 1
    private let rows = UnsafeMutablePointer<Int64>.allocate(capacity: 1024)

    init(seed: UInt64) {
        hasher = KeyHasher(seed: seed)
        partition = Partition(hasher: hasher)
        replicaHasher = KeyHasher(seed: seed + 1)
        replica = Partition(hasher: replicaHasher)
    }

    deinit { rows.deallocate() }

    mutating func change(_ text: String) {
        let bytes = Array(text.utf8)
        let outcome = bytes.withUnsafeBytes { bytes in
            var operation = Operation(
                .changeSchema, key: bytes.baseAddress!, keyByteCount: bytes.count, hash: 0,
                partition: 0)
            return run(&operation)
        }
        let change = bytes.withUnsafeBytes { SchemaChange(bytes: $0) }
        var expected = Outcome.Status.schemaRefused
        if let change, (try? model.schema.apply(change)) != nil { expected = .applied }
        if case .dropFamily(let name) = change, expected == .applied { model.records[name] = nil }
        #expect(outcome.status == expected, "\(text)")
        #expect(partition.schema == model.schema)
    }

    mutating func run(_ operation: inout Operation) -> Outcome {
        let outcome = partition.apply(&operation, rows)
        if operation.isWrite, outcome.status == .applied {
            if operation.kind == .add { operation.count = outcome.acceptedCount }
            _ = partition.record(&operation, rows, sequence: sequence)
        }
        return outcome
    }

    /// An operation on a record, `fill` writing its pairs.
    mutating func run(
        _ kind: TallyCore.Operation.Kind, _ family: Family, _ key: String, column: UInt32 = 0,
        operand: Int64 = 0, count: UInt32 = 1, pairs: [(UInt32, Int64)] = []
    ) -> Outcome {
        for (index, pair) in pairs.enumerated() {
            rows[2 * index] = Int64(pair.0)
            rows[2 * index + 1] = pair.1
        }
        let count = pairs.isEmpty ? count : UInt32(pairs.count)
        return key.withBytes { bytes in
            var operation =
                family.key?.kind == .integer
                ? Operation(
                    kind, integerKey: UInt64(key)!, hash: hasher.hash(UInt64(key)!),
                    partition: 0, operand: operand, count: count)
                : Operation(
                    kind, key: bytes.baseAddress!, keyByteCount: bytes.count,
                    hash: hasher.hash(bytes), partition: 0, operand: operand, count: count)
            operation.family = family.number
            operation.column = column
            return run(&operation)
        }
    }

    /// Compares a whole record.
    mutating func check(_ family: Family, _ key: String) {
        let outcome = run(
            .readRecord, family, key, column: family.version,
            count: UInt32(family.columns.count))
        let record = model.records[family.name]?[key] ?? FamilyModel.Record()
        let values = family.columns.map { model.value(record, $0) }
        let found = (0..<family.columns.count).map { rows[$0] }
        #expect(found == values && outcome.status == .applied, "\(family.name) \(key)")
        #expect(outcome.wasPresent == model.isPresent(record, family), "\(family.name) \(key)")
    }

    /// Sends what has been recorded to the replica.
    mutating func replicate() throws {
        let section = partition.takePending(spare: .allocate(16))
        defer { section.buffer.deallocate() }
        #expect(section.byteCount <= section.reservedBytes)
        let bytes = UnsafeRawBufferPointer(start: section.buffer.bytes, count: section.byteCount)
        let entries = try replica.replay(bytes, sequence: sequence)
        #expect(entries == Int(section.entryCount))
        sequence += 1
    }

    /// Goes on with the replica in the place of the original.
    mutating func fail() {
        swap(&partition, &replica)
        swap(&hasher, &replicaHasher)
    }
}

struct FamilyTests {
    private static let declarations = [
        "ADD COUNTER weibo",
        "ADD COLUMN weibo id primarykey",
        "ADD COLUMN weibo small max=8",
        "ADD COLUMN weibo wide max=64",
        "ADD COLUMN weibo signed min=-9223372036854775808",
        "ADD COUNTER stock known=only",
        "ADD COLUMN stock sku primarykey type=string",
        "ADD COLUMN stock left max=10 default=7",
        "ADD COUNTER post deleted=final",
        "ADD COLUMN post id primarykey",
        "ADD COLUMN post likes max=20 bound=saturate",
        "ADD COUNTER both known=only deleted=final",
        "ADD COLUMN both name primarykey type=string",
        "ADD COLUMN both a min=-5 max=3 bound=saturate",
        "ADD COLUMN both b",
        "ADD COUNTER user",
        "ADD COLUMN user name primarykey type=string",
        "ADD COLUMN user followers max=63 default=-3 min=-100",
        "ADD COLUMN user following",
    ]

    /// Random operations of every kind on families of every kind, with columns coming and going, and
    /// the journal replayed elsewhere.
    @Test(arguments: 1...60 as ClosedRange<UInt64>)
    func familiesFollowTheirRules(seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        var pair = FamilyPair(seed: seed)
        for text in Self.declarations { pair.change(text) }
        for _ in 0..<6 {
            for _ in 0..<400 { step(&pair, &random) }
            try pair.replicate()
            for family in pair.model.schema.families {
                for key in Self.keys(family) { pair.check(family, key) }
            }
            #expect(pair.replica.count == pair.partition.count)
            #expect(pair.replica.schema == pair.partition.schema)
            // From here on in the place where only the journal has been.
            if random.once(in: 2) { pair.fail() }
        }
    }

    private static func keys(_ family: Family) -> [String] {
        family.key?.kind == .integer
            ? ["0", "1", "2", "77", "4096", "\(UInt64.max)", "\(UInt64.max - 1)"]
            : ["", "a", "b", "a.b", String(repeating: "k", count: Limits.keyBytesMax)]
    }

    private func step(_ pair: inout FamilyPair, _ random: inout SeededGenerator) {
        if random.once(in: 60) { return changeSchema(&pair, &random) }
        let family = pair.model.schema.families.randomElement(using: &random)!
        let key = Self.keys(family).randomElement(using: &random)!
        let column = family.columns.randomElement(using: &random)!
        let value = Self.value(column, &random)
        switch Int.random(in: 0..<12, using: &random) {
        case 0..<5: add(&pair, family, key, column, &random)
        case 5: set(&pair, .set, family, key, column, value)
        case 6: set(&pair, .setIfAbsent, family, key, column, value)
        case 7: set(&pair, .setIfPresent, family, key, column, value)
        case 8: set(&pair, .delete, family, key, column, column.defaultValue)
        case 9: setMany(&pair, family, key, &random)
        case 10: delete(&pair, family, key)
        default: pair.check(family, key)
        }
    }

    private static func value(_ column: Column, _ random: inout SeededGenerator) -> Int64 {
        [
            0, 1, column.min, column.max, column.max &+ 1, column.min &- 1, column.defaultValue,
            Int64(truncatingIfNeeded: random.next()) >> Int64.random(in: 0..<63, using: &random),
        ].randomElement(using: &random)!
    }

    private func changeSchema(_ pair: inout FamilyPair, _ random: inout SeededGenerator) {
        let family = pair.model.schema.families.randomElement(using: &random)!
        let column = family.columns.randomElement(using: &random)!
        let number = Int.random(in: 0..<100, using: &random)
        pair.change(
            [
                "ADD COLUMN \(family.name) c\(number) default=\(number % 3) max=16 suffix=s\(number)",
                "ADD COLUMN \(family.name) \(column.name)",
                "DROP COLUMN \(family.name) \(column.name)",
                "ALTER COLUMN \(family.name) \(column.name) max=\(min(64, column.maxBits + 1))",
                "ALTER COLUMN \(family.name) \(column.name) bound=\(random.once(in: 2) ? "reject" : "saturate")",
                "DROP COUNTER nosuch",
            ].randomElement(using: &random)!)
    }

    /// What rules say about a change of a record before its values matter.
    private func refusal(
        _ record: FamilyModel.Record, _ family: Family, isSetting: Bool
    ) -> Outcome.Status? {
        if family.isDeletedFinal, record.isDeleted { return .deletedKey }
        if family.isKnownOnly, !record.isKnown, !isSetting { return .unknownKey }
        return nil
    }

    private func add(
        _ pair: inout FamilyPair, _ family: Family, _ key: String, _ column: Column,
        _ random: inout SeededGenerator
    ) {
        let delta: Int64 =
            random.once(in: 3)
            ? Self.value(column, &random) : [1, 1, 1, -1, 5].randomElement(using: &random)!
        let count: UInt32 = random.once(in: 4) ? UInt32.random(in: 1...20, using: &random) : 1
        let outcome = pair.run(
            .add, family, key, column: column.number, operand: delta, count: count)
        var record = pair.model.records[family.name]?[key] ?? FamilyModel.Record()
        if let refusal = refusal(record, family, isSetting: false) {
            #expect(outcome.status == refusal)
            return
        }
        let old = pair.model.value(record, column)
        let (sum, accepted) = FamilyModel.add(delta, to: old, count, column)
        guard accepted > 0 else {
            #expect(outcome.status == .outOfBounds)
            return
        }
        #expect(
            outcome.status == .applied && outcome.value == sum
                && outcome.acceptedCount == accepted,
            "\(family.name) \(key) \(column.name): \(old) + \(count) × \(delta)")
        // What is journalled is what took effect.
        record.values[column.number] = sum
        pair.model.records[family.name, default: [:]][key] = record
    }

    private func set(
        _ pair: inout FamilyPair, _ kind: TallyCore.Operation.Kind, _ family: Family, _ key: String,
        _ column: Column, _ value: Int64
    ) {
        let outcome = pair.run(kind, family, key, column: column.number, operand: value)
        var record = pair.model.records[family.name]?[key] ?? FamilyModel.Record()
        if value < column.min || value > column.max {
            #expect(outcome.status == .outOfBounds)
            return
        }
        let isSetting = kind == .set || kind == .setIfAbsent
        if let refusal = refusal(record, family, isSetting: isSetting) {
            #expect(outcome.status == refusal)
            return
        }
        let old = pair.model.value(record, column)
        let wasPresent = old != column.defaultValue
        #expect(outcome.value == old && outcome.wasPresent == wasPresent)
        let holds =
            switch kind {
            case .setIfAbsent: !wasPresent
            case .setIfPresent, .delete: wasPresent
            default: true
            }
        #expect(outcome.status == (holds ? .applied : .unchanged))
        guard holds else { return }
        record.values[column.number] = value
        if isSetting { record.isKnown = true }
        if kind == .setIfPresent { record.isKnown = true }
        pair.model.records[family.name, default: [:]][key] = record
    }

    private func setMany(
        _ pair: inout FamilyPair, _ family: Family, _ key: String,
        _ random: inout SeededGenerator
    ) {
        let isWhole = random.once(in: 2)
        let columns = isWhole ? family.columns : [family.columns.randomElement(using: &random)!]
        let pairs = columns.map { ($0.number, Self.value($0, &random)) }
        let outcome = pair.run(isWhole ? .setRecord : .setColumns, family, key, pairs: pairs)
        var record = pair.model.records[family.name]?[key] ?? FamilyModel.Record()
        if zip(columns, pairs).contains(where: { $1.1 < $0.min || $1.1 > $0.max }) {
            #expect(outcome.status == .outOfBounds)
            return
        }
        if let refusal = refusal(record, family, isSetting: true) {
            #expect(outcome.status == refusal)
            return
        }
        #expect(outcome.status == .applied)
        if isWhole { record.values = [:] }
        for (number, value) in pairs { record.values[number] = value }
        record.isKnown = true
        pair.model.records[family.name, default: [:]][key] = record
    }

    private func delete(_ pair: inout FamilyPair, _ family: Family, _ key: String) {
        let outcome = pair.run(.deleteRecord, family, key)
        let record = pair.model.records[family.name]?[key] ?? FamilyModel.Record()
        let wasPresent = pair.model.isPresent(record, family)
        #expect(outcome.wasPresent == wasPresent)
        let isApplied = wasPresent || family.isDeletedFinal && !record.isDeleted
        #expect(outcome.status == (isApplied ? .applied : .unchanged))
        var deleted = FamilyModel.Record()
        deleted.isDeleted = family.isDeletedFinal
        pair.model.records[family.name, default: [:]][key] = deleted
    }
}
