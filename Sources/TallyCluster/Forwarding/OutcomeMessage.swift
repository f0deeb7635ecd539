import TallyCore
import TallyEngine
import TallyNode

/// What a node answers to the operations that another one has passed on to it.
///
///     magic u32 · version u16 · verdict u8 · 0 u8 · operations u32 · crc u32 │ outcome │ outcome │ …
///     outcome: status u8, with 128 if the counter was present · value, signed varint
///              · accepted additions, varint, of an addition · sequence, varint · rows, signed varints
///
/// `docs/forwarding.md` is its page.
public enum OutcomeMessage {
    static let magic: UInt32 = 0x5455_4f54  // "TOUT" in file order
    static let version: UInt16 = 1
    static let headerBytes = 16

    /// Whether the operations were executed.
    enum Verdict: UInt8 {
        /// They were, and their outcomes follow.
        case executed = 0
        /// None of them was: the node does not serve their log.
        case notServed = 1
    }

    /// An answer without outcomes.
    public static var notServed: [UInt8] {
        finish([UInt8](repeating: 0, count: headerBytes), .notServed, operationCount: 0)
    }

    /// The outcomes of all operations of a batch that has been executed.
    static func bytes(of batch: borrowing OperationBatch) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: headerBytes)
        bytes.reserveCapacity(headerBytes + batch.count * 8)
        for index in 0..<batch.count {
            let (operation, outcome) = (batch.operations[index], batch.outcomes[index])
            bytes.append(outcome.status.rawValue | (outcome.wasPresent ? 128 : 0))
            append(Varint.zigzag(outcome.value), to: &bytes)
            if operation.kind == .add { append(UInt64(outcome.acceptedCount), to: &bytes) }
            append(outcome.sequence, to: &bytes)
            for word in rows(of: operation) {
                append(Varint.zigzag(batch.rows[word]), to: &bytes)
            }
        }
        return finish(bytes, .executed, operationCount: batch.count)
    }

    /// Where in a batch's rows an operation leaves something.
    private static func rows(of operation: Operation) -> Range<Int> {
        let place = Int(operation.operand)
        switch operation.kind {
        case .readRecord: return place..<(place + Int(operation.count))
        case .extendedAdd:
            return (place + ExtendedAdd.differenceWord)..<(place + ExtendedAdd.differenceWord + 1)
        default: return 0..<0
        }
    }

    private static func append(_ value: UInt64, to bytes: inout [UInt8]) {
        withUnsafeTemporaryAllocation(byteCount: Varint.bytesMax, alignment: 1) { buffer in
            guard let base = buffer.baseAddress else { return }
            bytes.append(contentsOf: buffer[..<Varint.write(value, to: base)])
        }
    }

    private static func finish(
        _ bytes: consuming [UInt8], _ verdict: Verdict, operationCount: Int
    ) -> [UInt8] {
        bytes.withUnsafeMutableBytes { buffer in
            buffer.storeBytes(of: magic.littleEndian, toByteOffset: 0, as: UInt32.self)
            buffer.storeBytes(of: version.littleEndian, toByteOffset: 4, as: UInt16.self)
            buffer[6] = verdict.rawValue
            buffer.storeBytes(
                of: UInt32(operationCount).littleEndian, toByteOffset: 8, as: UInt32.self)
            buffer.storeBytes(
                of: checksum(UnsafeRawBufferPointer(buffer)).littleEndian, toByteOffset: 12,
                as: UInt32.self)
        }
        return bytes
    }

    /// Of everything but its own place.
    private static func checksum(_ bytes: UnsafeRawBufferPointer) -> UInt32 {
        var crc = CRC32C()
        crc.update(UnsafeRawBufferPointer(rebasing: bytes[..<12]))
        crc.update(UnsafeRawBufferPointer(rebasing: bytes[headerBytes...]))
        return crc.value
    }

    // MARK: Reading

    /// What an answer says.
    enum Reading: Equatable {
        /// The batch has its outcomes.
        case executed
        /// Nothing was executed.
        case notServed
        /// It is no answer to this batch that can be understood.
        case unreadable
    }

    /// Gives the operations of a batch the outcomes of an answer.
    static func read(
        _ bytes: UnsafeRawBufferPointer, into batch: inout OperationBatch
    ) -> Reading {
        guard bytes.count >= headerBytes, bytes.half(0) == magic,
            UInt16(littleEndian: bytes.loadUnaligned(fromByteOffset: 4, as: UInt16.self))
                == version,
            bytes.half(12) == checksum(bytes), let verdict = Verdict(rawValue: bytes[6])
        else { return .unreadable }
        guard verdict == .executed else { return .notServed }
        guard bytes.half(8) == UInt32(batch.count) else { return .unreadable }
        var offset = headerBytes
        for index in 0..<batch.count {
            let operation = batch.operations[index]
            guard offset < bytes.count,
                let status = Outcome.Status(rawValue: bytes[offset] & 127)
            else { return .unreadable }
            let wasPresent = bytes[offset] & 128 != 0
            offset += 1
            guard let value = Varint.read(bytes, at: &offset) else { return .unreadable }
            var acceptedCount: UInt32 = 0
            if operation.kind == .add {
                guard let count = Varint.read(bytes, at: &offset),
                    let exact = UInt32(exactly: count)
                else { return .unreadable }
                acceptedCount = exact
            }
            guard let sequence = Varint.read(bytes, at: &offset) else { return .unreadable }
            var outcome = Outcome(
                status, wasPresent: wasPresent, value: Varint.unzigzag(value),
                acceptedCount: acceptedCount)
            outcome.sequence = sequence
            batch.outcomes[index] = outcome
            for word in rows(of: operation) {
                guard let value = Varint.read(bytes, at: &offset) else { return .unreadable }
                batch.rows[word] = Varint.unzigzag(value)
            }
        }
        return offset == bytes.count ? .executed : .unreadable
    }
}

extension UnsafeRawBufferPointer {
    fileprivate func half(_ offset: Int) -> UInt32 {
        UInt32(littleEndian: loadUnaligned(fromByteOffset: offset, as: UInt32.self))
    }
}
