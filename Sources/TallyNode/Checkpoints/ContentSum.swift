public import TallyCore
import TallyEngine
public import TallyStorage

/// What is in some partitions, as numbers: the same wherever the same records are, in whatever order and files.
///
/// Every record is hashed twice, differently, and the hashes are added up, so that no order matters.
public struct ContentSum: Equatable, Sendable, CustomStringConvertible {
    /// The sum of one hash.
    public private(set) var high: UInt64 = 0
    /// The sum of the other one.
    public private(set) var low: UInt64 = 0
    /// How many records there are; keys, rows, and what is remembered of requests.
    public private(set) var records = 0

    private var bytes: [UInt8] = []
    private static let hashers = (KeyHasher(seed: 0x7461), KeyHasher(seed: 0x6c6c))

    /// Nothing at all.
    public init() {}

    /// Two sums are the same if what was added up is.
    public static func == (one: ContentSum, other: ContentSum) -> Bool {
        one.high == other.high && one.low == other.low && one.records == other.records
    }

    /// 32 hexadecimal digits.
    public var description: String { ProducerIdentity(high: high, low: low).description }

    /// Kinds of records, so that none is taken for one of another kind.
    private enum Kind: UInt8 {
        case schema, plain, integer, string, token, floor
    }

    /// Adds everything in a partition.
    ///
    /// - Complexity: O(records).
    mutating func add(_ box: PartitionBox) {
        let schema = box.partition.schema
        note(.schema) { bytes in
            Self.append(schema.changeCount, to: &bytes)
            for family in schema.families {
                Self.append(UInt64(family.number), to: &bytes)
                bytes += family.name.utf8
                for column in family.columns { bytes += " \(column.name)".utf8 }
            }
        }
        let floor = box.partition.floorMilliseconds
        note(.floor) { Self.append(floor, to: &$0) }
        box.partition.forEachPlainKey { key, value, deadline in
            note(.plain) {
                Self.append(UInt64(bitPattern: value), to: &$0)
                Self.append(UInt64(bitPattern: deadline ?? -1), to: &$0)
                $0 += key
            }
        }
        for family in schema.families {
            box.partition.forEachRecord(family: family.number) { key, values in
                switch key {
                case .integer(let key):
                    note(.integer) {
                        Self.append(UInt64(family.number), to: &$0)
                        Self.append(key, to: &$0)
                        for value in values { Self.append(UInt64(bitPattern: value), to: &$0) }
                    }
                case .string(let key):
                    note(.string) {
                        Self.append(UInt64(family.number), to: &$0)
                        for value in values { Self.append(UInt64(bitPattern: value), to: &$0) }
                        $0 += key
                    }
                }
            }
        }
        box.partition.forEachRememberedRow { key, row in
            note(.token) {
                for value in row { Self.append(value, to: &$0) }
                $0 += key
            }
        }
    }

    private mutating func note(_ kind: Kind, _ write: (inout [UInt8]) -> Void) {
        bytes.removeAll(keepingCapacity: true)
        bytes.append(kind.rawValue)
        write(&bytes)
        bytes.withUnsafeBytes {
            high &+= Self.hashers.0.hash($0)
            low &+= Self.hashers.1.hash($0)
        }
        if kind != .schema, kind != .floor { records += 1 }
    }

    private static func append(_ value: UInt64, to bytes: inout [UInt8]) {
        withUnsafeBytes(of: value.littleEndian) { bytes += $0 }
    }
}

extension CheckpointCopies {
    /// What the checkpoint on disk holds of a log's partitions, read from its files.
    ///
    /// - Returns: how far the partitions have come there, and what is in them; nil if no checkpoint holds them.
    /// - Throws: `StorageError` if a file is damaged.
    /// - Complexity: O(data of the log). Takes the memory of one partition at a time.
    public func contentSum(
        ofLog number: Int
    ) throws(StorageError) -> (state: LogState, sum: ContentSum)? {
        guard let (loan, manifest) = lend(log: number), let held = manifest.logs[number] else {
            return nil
        }
        defer { giveBack(loan: loan) }
        var sum = ContentSum()
        for partition in manifest.shares.partitions(of: number) {
            var damage: [String] = []
            sum.add(
                try LoadedCheckpoint.partition(
                    partition, of: manifest, disk, node.hasher, .strict, &damage))
            _ = library.renew(loan, now: clock.monotonicNanoseconds())
        }
        return (held.state, sum)
    }
}
