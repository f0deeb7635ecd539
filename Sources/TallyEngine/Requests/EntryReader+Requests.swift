import TallyCore

/// Reading what clients ask for, as `RequestSection` writes it.
extension EntryReader {
    /// The next thing that is asked for, nil at the end.
    ///
    /// What an operation has in rows is at the beginning of the reader's, until the next is read.
    ///
    /// - Throws: `malformed`, `unknownKind`. The reader then stays where it was.
    public mutating func nextRequest() throws(EntryError) -> RequestItem? {
        guard offset < bytes.count else { return nil }
        guard let kind = RequestKind(rawValue: bytes[offset]) else {
            return try next().map { .operation($0) }
        }
        var next = offset + 1
        guard let item = item(kind, at: &next) else { throw .malformed(offset: offset) }
        offset = next
        return item
    }

    private func item(_ kind: RequestKind, at next: inout Int) -> RequestItem? {
        switch kind {
        case .run: run(at: &next).map { .run($0) }
        case .columnSetIfPresent: column(.setIfPresent, at: &next).map { .operation($0) }
        case .columnSetIfAbsent: column(.setIfAbsent, at: &next).map { .operation($0) }
        case .get: keyed(.get, at: &next, operand: 0).map { .operation($0) }
        case .columnGet: column(.get, at: &next, operand: 0).map { .operation($0) }
        case .recordRead: recordRead(at: &next).map { .operation($0) }
        case .expiryRead: keyed(.readExpiry, at: &next, operand: 0).map { .operation($0) }
        case .moveRead:
            keyed(.readForMove, at: &next, operand: 0).flatMap {
                words(ExtendedSet.wordCount, at: &next) ? .operation($0) : nil
            }
        case .moveSet: keyed(.setMoved, at: &next, operand: 0).map { .move($0) }
        case .moveDelete: keyed(.deleteMoved, at: &next, operand: 0).map { .move($0) }
        case .unit: unit(at: &next)
        case .transaction: operationCount(at: &next).map { .transaction(count: $0) }
        case .once: once(at: &next)
        }
    }

    private func run(at next: inout Int) -> Operation? {
        guard let target = Varint.read(bytes, at: &next), target < UInt64(offset),
            let delta = number(at: &next), bytes.count - next >= 4,
            var operation = added(at: Int(target), delta)
        else { return nil }
        operation.count = bytes.loadUnaligned(fromByteOffset: next, as: UInt32.self).littleEndian
        next += 4
        return operation.count > 0 ? operation : nil
    }

    private func recordRead(at next: inout Int) -> Operation? {
        guard var operation = record(.readRecord, at: &next),
            let version = Varint.read(bytes, at: &next).flatMap({ UInt32(exactly: $0) }),
            let count = Varint.read(bytes, at: &next), count <= UInt64(Limits.columnsMax)
        else { return nil }
        operation.column = version
        operation.count = UInt32(count)
        return operation
    }

    private func unit(at next: inout Int) -> RequestItem? {
        guard next < bytes.count, let condition = Operation.UnitCondition(rawValue: bytes[next])
        else { return nil }
        next += 1
        return operationCount(at: &next).map { .unit(count: $0, condition) }
    }

    private func once(at next: inout Int) -> RequestItem? {
        let head = RequestToken.byteCount + 8
        guard bytes.count - next >= head, let base = bytes.baseAddress else { return nil }
        let token = RequestToken(bytes: base + next)
        let fingerprint = UInt64(
            littleEndian: base.loadUnaligned(
                fromByteOffset: next + RequestToken.byteCount, as: UInt64.self))
        next += head
        return operationCount(at: &next).map {
            .once(token, fingerprint: fingerprint, count: $0)
        }
    }

    /// How many operations belong together: no more than there is room for.
    private func operationCount(at next: inout Int) -> Int? {
        guard let count = Varint.read(bytes, at: &next), count >= 1,
            count <= UInt64(bytes.count - next)
        else { return nil }
        return Int(count)
    }
}
