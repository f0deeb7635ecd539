import TallyCore
import TallyEngine
import TallyNode
import TallyStorage
import TallyTestSupport
import Testing

/// What damage does to a small data directory that was stopped cleanly.
struct DamageTests {
    /// A directory with plain keys, records of both kinds of keys, a checkpoint, and groups behind it.
    private static func directory() throws -> SimulatedDisk {
        let disk = SimulatedDisk(seed: 1)
        var configuration = NodeConfiguration()
        configuration.partitionCount = 1
        configuration.journal.fileBytes = 64 << 10
        configuration.journal.groupBytesMax = 16 << 10
        let opening = try NodeOpening(
            disk: disk, clock: SimulatedClock(), configuration: configuration)
        let node = opening.node
        var batch = node.makeBatch()
        for text in [
            "ADD COUNTER post", "ADD COLUMN post id primarykey", "ADD COLUMN post likes",
            "ADD COUNTER user", "ADD COLUMN user name primarykey type=string",
            "ADD COLUMN user posts",
        ] {
            batch.appendChange(try #require(text.withBytes { SchemaChange(bytes: $0) }))
        }
        #expect(node.execute(&batch) == .done)
        batch.removeAll()
        write(&batch, 1...5, node)
        #expect(try opening.committer.commit())
        opening.checkpointer.begin()
        for _ in 0..<8 {
            _ = try opening.checkpointer.step()
            _ = try opening.committer.commit()
        }
        #expect(opening.checkpointer.isIdle && opening.node.checkpoint.sequence == 1)
        write(&batch, 4...7, node)
        try opening.committer.close()
        return disk
    }

    private static func write(
        _ batch: inout OperationBatch, _ numbers: ClosedRange<Int>, _ node: Node
    ) {
        for number in numbers {
            "key:\(number)".withBytes { key in
                batch.append(.add, key: key, operand: Int64(number))
                batch.append(
                    .add, OperationBatch.Record(family: 1, key: UInt64(number * 1000)),
                    operand: Int64(number))
                batch.append(
                    .add, OperationBatch.Record(family: 2, key: key, slot: Slot(of: key)),
                    operand: Int64(number))
                #expect(node.execute(&batch) == .done)
            }
            batch.removeAll()
        }
    }

    /// Everything in a directory, as text; nil if it is refused.
    private static func contents(_ disk: SimulatedDisk) -> [String]? {
        guard let snapshot = try? DataSnapshot(on: disk) else { return nil }
        var lines: [String] = snapshot.schema.families.flatMap {
            $0.declaration.map(\.description)
        }
        for family in snapshot.schema.families {
            snapshot.forEachRecord(family: family.number) { key, values in
                switch key {
                case .integer(let number): lines.append("\(number) \(Array(values))")
                case .string(let bytes):
                    lines.append("\(String(decoding: bytes, as: UTF8.self)) \(Array(values))")
                }
            }
        }
        snapshot.forEachPlainKey { key, value, deadline in
            lines.append("\(String(decoding: key, as: UTF8.self)) \(value) \(deadline ?? -1)")
        }
        return lines.sorted()
    }

    @Test func everyFlippedBitIsFoundOrHarmless() throws {
        let disk = try Self.directory()
        let names = try disk.list()
        let expected = try #require(Self.contents(disk))
        #expect(expected.count == 6 + 3 * 7)
        #expect(names.count { $0.hasPrefix("segment-") } == 3)
        #expect(names.contains("manifest") && names.count == 5)
        var found = 0
        for name in names {
            var bytes = try #require(disk.contents(of: name))
            for bit in 0..<(bytes.count * 8) {
                bytes[bit / 8] ^= 1 << UInt8(bit % 8)
                disk.replace(name, with: bytes)
                if let contents = Self.contents(disk) {
                    if contents != expected {
                        Issue.record("bit \(bit) of \(name) changed what is served")
                    }
                } else {
                    found += 1
                }
                bytes[bit / 8] ^= 1 << UInt8(bit % 8)
            }
            disk.replace(name, with: bytes)
        }
        #expect(found > 5000)
        #expect(Self.contents(disk) == expected)
    }

    @Test func everyShorterFileIsFoundOrHarmless() throws {
        let disk = try Self.directory()
        let expected = try #require(Self.contents(disk))
        for name in try disk.list() {
            let bytes = try #require(disk.contents(of: name))
            for count in 0..<bytes.count {
                disk.replace(name, with: Array(bytes[..<count]))
                let contents = Self.contents(disk)
                // A journal that ends early has lost its tail, as after a power failure.
                if let contents, contents != expected, !name.hasPrefix("journal-") {
                    Issue.record("\(count) bytes of \(name) are served as something else")
                }
            }
            disk.replace(name, with: bytes)
        }
    }

    // MARK: Served data

    /// What a server that finds these files says of each key: its value, or that it cannot be read; nil if
    /// it does not start.
    private static func served(
        _ files: [String: [UInt8]], memoryBytesMax: Int?
    ) throws -> [Int64?]? {
        let disk = SimulatedDisk(seed: 1)
        for (name, bytes) in files {
            _ = try disk.create(name)
            disk.replace(name, with: bytes)
        }
        var configuration = NodeConfiguration()
        configuration.memoryBytesMax = memoryBytesMax
        configuration.journal.fileBytes = 64 << 10
        configuration.journal.groupBytesMax = 16 << 10
        guard
            let opening = try? NodeOpening(
                disk: disk, clock: SimulatedClock(), configuration: configuration)
        else { return nil }
        var batch = opening.node.makeBatch()
        var values: [Int64?] = []
        for number in 1...7 {
            "key:\(number)".withBytes { key in
                batch.append(.get, key: key)
                batch.append(.get, OperationBatch.Record(family: 1, key: UInt64(number * 1000)))
                batch.append(.get, OperationBatch.Record(family: 2, key: key, slot: Slot(of: key)))
                #expect(opening.node.execute(&batch) == .done)
                for index in 0..<3 {
                    let outcome = batch.outcomes[index]
                    values.append(outcome.status == .unreadable ? nil : outcome.value)
                }
            }
            batch.removeAll()
        }
        return values
    }

    /// Whatever bit of a segment is flipped, no wrong number is served; and one damaged block is no reason
    /// not to start, unless the journal needs it.
    @Test(arguments: [nil, 1 << 20])
    func noWrongNumberIsServed(memoryBytesMax: Int?) throws {
        let disk = try Self.directory()
        var files: [String: [UInt8]] = [:]
        for name in try disk.list() { files[name] = disk.contents(of: name) }
        let expected = try #require(try Self.served(files, memoryBytesMax: memoryBytesMax))
        #expect(expected.allSatisfy { $0 != nil } && expected.count == 21)
        var refused = 0
        for (name, bytes) in files where name.hasPrefix("segment-") {
            for bit in stride(from: 0, to: bytes.count * 8, by: 3) {
                var damaged = files
                damaged[name]?[bit / 8] ^= 1 << UInt8(bit % 8)
                guard let values = try Self.served(damaged, memoryBytesMax: memoryBytesMax) else {
                    refused += 1
                    continue
                }
                for (value, right) in zip(values, expected) where value != nil && value != right {
                    Issue.record("bit \(bit) of \(name) changed a number that is served")
                }
            }
        }
        // The journal's tail changes the keys 4 to 7 of each block, so most starts are refused.
        #expect(refused > 300)
    }
}
