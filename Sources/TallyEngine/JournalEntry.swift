public import TallyCore

/// The kinds of journal entries; their numbers are part of the file format.
enum EntryKind: UInt8 {
    /// key: add 1.
    case increment = 1
    /// key · delta: add it.
    case add = 2
    /// key · delta · count: add it so many times.
    case addRun = 3
    /// offset of an earlier entry · delta · count: add it so many times to that entry's key.
    case again = 4
    /// key · value.
    case set = 5
    /// key · value: unless the key exists.
    case setIfAbsent = 6
    /// key · value: if the key exists.
    case setIfPresent = 7
    /// key.
    case delete = 8
    /// Nothing: remove every key of the partition.
    case clear = 9
}

/// Why a partition's journal entries cannot be applied.
public enum EntryError: Error, Equatable, Sendable {
    /// The entry at this byte of the section ends too early or breaks its layout.
    case malformed(offset: Int)
    /// The entry at this byte is of a kind that this version does not know.
    case unknownKind(UInt8, offset: Int)
    /// The entry at this byte was applied when it was written and cannot be applied now.
    case diverged(offset: Int)
}

/// Reads the entries of one partition's section of a commit group, in order.
///
/// An operation's key points into the section's bytes.
public struct EntryReader {
    private let bytes: UnsafeRawBufferPointer
    private let partition: Int
    private let hasher: KeyHasher
    /// Where the next entry starts, bytes.
    public private(set) var offset = 0

    /// A reader of `bytes`, the section of `partition`.
    public init(_ bytes: UnsafeRawBufferPointer, partition: Int, hasher: KeyHasher) {
        self.bytes = bytes
        self.partition = partition
        self.hasher = hasher
    }

    /// The next entry as an operation, nil at the end.
    ///
    /// - Throws: `malformed`, `unknownKind`. The reader then stays where it was.
    public mutating func next() throws(EntryError) -> Operation? {
        guard offset < bytes.count else { return nil }
        var next = offset + 1
        guard let kind = EntryKind(rawValue: bytes[offset]) else {
            throw .unknownKind(bytes[offset], offset: offset)
        }
        let operation: Operation? =
            switch kind {
            case .increment: keyed(.add, at: &next, operand: 1)
            case .add: keyed(.add, at: &next)
            case .addRun: keyed(.add, at: &next, hasCount: true)
            case .again: again(at: &next)
            case .set: keyed(.set, at: &next)
            case .setIfAbsent: keyed(.setIfAbsent, at: &next)
            case .setIfPresent: keyed(.setIfPresent, at: &next)
            case .delete: keyed(.delete, at: &next, operand: 0)
            case .clear:
                bytes.baseAddress.map {
                    Operation(.clear, key: $0, keyByteCount: 0, hash: 0, partition: partition)
                }
            }
        guard let operation else { throw .malformed(offset: offset) }
        offset = next
        return operation
    }

    private func keyed(
        _ kind: Operation.Kind, at next: inout Int, operand: Int64? = nil, hasCount: Bool = false
    ) -> Operation? {
        guard let key = key(at: &next), let base = key.baseAddress,
            let operand = operand ?? number(at: &next),
            let count = hasCount ? self.count(at: &next) : 1
        else { return nil }
        return Operation(
            kind, key: base, keyByteCount: key.count, hash: hasher.hash(key),
            partition: partition, operand: operand, count: count)
    }

    private func again(at next: inout Int) -> Operation? {
        guard let target = Varint.read(bytes, at: &next), target < UInt64(offset),
            let kind = EntryKind(rawValue: bytes[Int(target)]),
            kind == .increment || kind == .add || kind == .addRun,
            let delta = number(at: &next), let count = count(at: &next)
        else { return nil }
        var keyOffset = Int(target) + 1
        guard let key = key(at: &keyOffset), keyOffset <= offset, let base = key.baseAddress else {
            return nil
        }
        return Operation(
            .add, key: base, keyByteCount: key.count, hash: hasher.hash(key),
            partition: partition, operand: delta, count: count)
    }

    private func key(at next: inout Int) -> UnsafeRawBufferPointer? {
        guard let length = Varint.read(bytes, at: &next), length <= UInt64(Limits.keyBytesMax),
            Int(length) <= bytes.count - next
        else { return nil }
        defer { next += Int(length) }
        return UnsafeRawBufferPointer(rebasing: bytes[next..<(next + Int(length))])
    }

    private func number(at next: inout Int) -> Int64? {
        Varint.read(bytes, at: &next).map(Varint.unzigzag)
    }

    private func count(at next: inout Int) -> UInt32? {
        guard let count = Varint.read(bytes, at: &next), count >= 1 else { return nil }
        return UInt32(exactly: count)
    }
}
