public import TallyCore

/// Why a partition's journal entries cannot be applied.
public enum EntryError: Error, Equatable, Sendable {
    /// The entry at this byte of the section ends too early or breaks its layout.
    case malformed(offset: Int)
    /// The entry at this byte is of a kind that this version does not know.
    case unknownKind(UInt8, offset: Int)
    /// The entry at this byte was applied when it was written and cannot be applied now.
    case diverged(offset: Int)
    /// The entry at this byte changes a key that cannot be read from the disk.
    case unreadable(SegmentFileError, offset: Int)
    /// The files of this import are not there, or not what they were.
    case importMissing(UInt64)
}

/// Reads the entries of one partition's section of a commit group, in order.
///
/// An operation's key points into the section's bytes, its place in rows into memory of the caller.
public struct EntryReader {
    /// Room for what one entry has in rows.
    public static let rowsCapacity = 2 * Limits.columnsMax + Limits.onceWordsMax

    let bytes: UnsafeRawBufferPointer
    let place: PartitionPlace
    private let hasher: KeyHasher
    let rows: UnsafeMutablePointer<Int64>
    /// Where the next entry starts, bytes.
    public internal(set) var offset = 0

    /// A reader of `bytes`, the section of the partition at `place`.
    ///
    /// - Parameter rows: Room for `rowsCapacity` integers.
    public init(
        _ bytes: UnsafeRawBufferPointer, place: PartitionPlace, hasher: KeyHasher,
        rows: UnsafeMutablePointer<Int64>
    ) {
        self.rows = rows
        self.bytes = bytes
        self.place = place
        self.hasher = hasher
    }

    /// The next entry as an operation, nil at the end.
    ///
    /// Its place in rows is good until the next one is read.
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
                    Operation(.clear, key: $0, keyByteCount: 0, hash: 0, partition: place.number)
                }
            case .columnIncrement: column(.add, at: &next, operand: 1)
            case .columnAdd: column(.add, at: &next)
            case .columnAddRun: column(.add, at: &next, hasCount: true)
            case .columnSet: column(.set, at: &next)
            case .columnDelete: column(.delete, at: &next, operand: 0)
            case .recordSetColumns: pairs(.setColumns, at: &next)
            case .recordSet: pairs(.setRecord, at: &next)
            case .recordDelete: record(.deleteRecord, at: &next)
            case .schemaChange: keyed(.changeSchema, at: &next, operand: 0)
            case .importRuns: imported(at: &next)
            case .expire: expire(at: &next)
            case .persist: keyed(.persist, at: &next, operand: 0)
            case .extendedSet:
                keyed(.extendedSet, at: &next, operand: 0).flatMap {
                    words(ExtendedSet.wordCount, at: &next) ? $0 : nil
                }
            case .extendedAdd:
                keyed(.extendedAdd, at: &next, operand: 0).flatMap {
                    words(ExtendedAdd.wordCount, at: &next) ? $0 : nil
                }
            case .remember: remembered(at: &next)
            case .raiseFloor:
                Varint.read(bytes, at: &next).flatMap { milliseconds in
                    bytes.baseAddress.map {
                        Operation(
                            .raiseFloor, key: $0, keyByteCount: 0, hash: 0,
                            partition: place.number, operand: Int64(bitPattern: milliseconds))
                    }
                }
            case .columnExtendedAdd:
                column(.extendedAdd, at: &next, operand: 0).flatMap {
                    words(ExtendedAdd.wordCount, at: &next) ? $0 : nil
                }
            }
        guard let operation else { throw .malformed(offset: offset) }
        offset = next
        return operation
    }

    func keyed(
        _ kind: Operation.Kind, at next: inout Int, operand: Int64? = nil, hasCount: Bool = false
    ) -> Operation? {
        guard let key = key(at: &next), let base = key.baseAddress,
            let operand = operand ?? number(at: &next),
            let count = hasCount ? self.count(at: &next) : 1
        else { return nil }
        return Operation(
            kind, key: base, keyByteCount: key.count, hash: hasher.hash(key),
            partition: place.number, operand: operand, count: count)
    }

    private func again(at next: inout Int) -> Operation? {
        guard let target = Varint.read(bytes, at: &next), target < UInt64(offset),
            let delta = number(at: &next), let count = count(at: &next),
            var operation = added(at: Int(target), delta)
        else { return nil }
        operation.count = count
        return operation
    }

    /// Adding `delta` to what the entry at `target` adds to.
    func added(at target: Int, _ delta: Int64) -> Operation? {
        guard let kind = EntryKind(rawValue: bytes[target]), kind.isAdd else { return nil }
        var targetOffset = target + 1
        var operation: Operation?
        switch kind {
        case .increment, .add, .addRun:
            operation = keyed(.add, at: &targetOffset, operand: delta)
        default:
            operation = column(.add, at: &targetOffset, operand: delta)
        }
        return targetOffset <= offset ? operation : nil
    }

    /// An operation on the record that is named at `next`.
    func record(_ kind: Operation.Kind, at next: inout Int) -> Operation? {
        guard let head = Varint.read(bytes, at: &next), let family = UInt32(exactly: head >> 1),
            family > 0
        else { return nil }
        var operation: Operation
        if head & 1 == 1 {
            guard let key = key(at: &next), let base = key.baseAddress else { return nil }
            operation = Operation(
                kind, key: base, keyByteCount: key.count, hash: hasher.hash(key),
                partition: place.number)
        } else {
            guard let key = Varint.read(bytes, at: &next) else { return nil }
            operation = Operation(
                kind, integerKey: key, hash: hasher.hash(place.compact(key)),
                partition: place.number)
        }
        operation.family = family
        return operation
    }

    func column(
        _ kind: Operation.Kind, at next: inout Int, operand: Int64? = nil, hasCount: Bool = false
    ) -> Operation? {
        guard var operation = record(kind, at: &next), let column = columnNumber(at: &next),
            let operand = operand ?? number(at: &next),
            let count = hasCount ? self.count(at: &next) : 1
        else { return nil }
        operation.column = column
        operation.operand = operand
        operation.count = count
        return operation
    }

    private func pairs(_ kind: Operation.Kind, at next: inout Int) -> Operation? {
        guard var operation = record(kind, at: &next), let count = Varint.read(bytes, at: &next),
            count <= UInt64(Limits.columnsMax)
        else { return nil }
        for index in 0..<Int(count) {
            guard let column = columnNumber(at: &next), let value = number(at: &next) else {
                return nil
            }
            rows[2 * index] = Int64(column)
            rows[2 * index + 1] = value
        }
        operation.count = UInt32(count)
        return operation
    }

    /// An import whose records the caller must find.
    private func imported(at next: inout Int) -> Operation? {
        guard let family = Varint.read(bytes, at: &next).flatMap({ UInt32(exactly: $0) }),
            let number = Varint.read(bytes, at: &next), let base = bytes.baseAddress
        else { return nil }
        var operation = Operation(
            .importRuns, key: base, keyByteCount: 0, hash: 0, partition: place.number,
            operand: Int64(bitPattern: number))
        operation.family = family
        return operation
    }

    private func remembered(at next: inout Int) -> Operation? {
        let head = RequestToken.byteCount + 8
        guard bytes.count - next >= head, let base = bytes.baseAddress else { return nil }
        let token = base + next
        rows[0] = Int64(
            littleEndian: token.loadUnaligned(
                fromByteOffset: RequestToken.byteCount, as: Int64.self))
        next += head
        guard let count = Varint.read(bytes, at: &next), count >= 1,
            count <= UInt64(Limits.onceWordsMax)
        else { return nil }
        rows[1] = Int64(count)
        for word in 0..<Int(count) {
            guard let value = number(at: &next) else { return nil }
            rows[2 + word] = value
        }
        guard OnceWords.wordCount(rows[2]) == Int(count) else { return nil }
        return Operation(
            .remember, key: token, keyByteCount: RequestToken.byteCount,
            hash: hasher.hash(token, count: RequestToken.byteCount), partition: place.number,
            count: UInt32(count))
    }

    private func expire(at next: inout Int) -> Operation? {
        guard var operation = keyed(.expire, at: &next),
            let condition = Varint.read(bytes, at: &next).flatMap({ UInt32(exactly: $0) }),
            ExpiryCondition(rawValue: condition) != nil
        else { return nil }
        operation.count = condition
        return operation
    }

    /// Reads an extended operation's words to the rows' beginning.
    ///
    /// - Returns: whether they are there and make sense.
    func words(_ count: Int, at next: inout Int) -> Bool {
        for index in 0..<count {
            guard let word = number(at: &next) else { return false }
            rows[index] = word
        }
        return count == ExtendedSet.wordCount
            ? ExtendedSet.isValid(rows) : ExtendedAdd.isValid(rows)
    }

    private func columnNumber(at next: inout Int) -> UInt32? {
        Varint.read(bytes, at: &next).flatMap { UInt32(exactly: $0) }
    }

    private func key(at next: inout Int) -> UnsafeRawBufferPointer? {
        guard let length = Varint.read(bytes, at: &next), length <= UInt64(Limits.keyBytesMax),
            Int(length) <= bytes.count - next
        else { return nil }
        defer { next += Int(length) }
        return UnsafeRawBufferPointer(rebasing: bytes[next..<(next + Int(length))])
    }

    func number(at next: inout Int) -> Int64? {
        Varint.read(bytes, at: &next).map(Varint.unzigzag)
    }

    private func count(at next: inout Int) -> UInt32? {
        guard let count = Varint.read(bytes, at: &next), count >= 1 else { return nil }
        return UInt32(exactly: count)
    }
}
