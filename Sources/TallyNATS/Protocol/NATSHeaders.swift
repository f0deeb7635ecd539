import NIOCore

/// The headers of a message: names and values in order, and the status that servers put before them.
///
///     NATS/1.0 503 No Responders\r\n
///     Name: value\r\n
///     \r\n
///
/// Held as these bytes, without the last empty line; looked up by walking them, which is fast for the
/// few headers that messages have. Names are compared byte for byte, as servers do.
public struct NATSHeaders: Equatable, Sendable {
    private static let version: StaticString = "NATS/1.0"

    /// Why a header cannot be sent.
    public enum Problem: Error, Equatable, Sendable {
        /// A name is empty or has other bytes than visible ASCII without the colon.
        case nameInvalid(String)
        /// A value has a line's end in it.
        case valueInvalid(name: String)
    }

    /// The status line and the headers, each with its line's end.
    private(set) var lines: ByteBuffer

    /// No headers.
    public init() {
        // Room for what a publish has, so that it is allocated once.
        lines = ByteBufferAllocator().buffer(capacity: 192)
        lines.writeStaticString(Self.version)
        lines.writeStaticString("\r\n")
    }

    /// What was received, with the empty line, already checked by `isValid`.
    init(received: ByteBuffer) {
        lines = received.getSlice(at: received.readerIndex, length: received.readableBytes - 2)!
    }

    /// Whether `block` starts and ends as headers do.
    static func isValid(_ block: ByteBuffer) -> Bool {
        let bytes = block.readableBytesView
        return bytes.count >= 12 && bytes.starts(with: "NATS/1.0".utf8)
            && (bytes[bytes.startIndex + 8] == UInt8(ascii: " ")
                || bytes[bytes.startIndex + 8] == UInt8(ascii: "\r"))
            && bytes.suffix(4).elementsEqual("\r\n\r\n".utf8)
    }

    /// Whether there is neither a status nor a header.
    public var isEmpty: Bool { lines.readableBytes == 10 }

    /// Bytes of the headers on the wire.
    var byteCount: Int { lines.readableBytes + 2 }

    /// Adds a header behind the others.
    ///
    /// - Throws: `Problem`; nothing is added then.
    public mutating func add(_ name: String, _ value: String) throws(Problem) {
        guard !name.isEmpty, name.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7f && $0 != 0x3a }) else {
            throw .nameInvalid(name)
        }
        guard value.utf8.allSatisfy({ $0 != 0x0d && $0 != 0x0a }) else {
            throw .valueInvalid(name: name)
        }
        write(name, value)
    }

    /// Adds a header of which it is known that it can be sent.
    mutating func write(_ name: String, _ value: String) {
        lines.writeString(name)
        lines.writeStaticString(": ")
        lines.writeString(value)
        lines.writeStaticString("\r\n")
    }

    // MARK: Reading

    /// The status, for example 503, if the first line has one of three digits.
    public var status: Int? {
        let line = firstLine
        guard line.count >= 3 else { return nil }
        var status = 0
        for byte in line.prefix(3) {
            guard byte >= 0x30, byte <= 0x39 else { return nil }
            status = status * 10 + Int(byte - 0x30)
        }
        return status
    }

    /// What follows the status, for example `No Responders`; empty without one.
    public var statusDescription: String {
        let text = String(decoding: firstLine.dropFirst(3), as: UTF8.self)
        return String(text.drop { $0 == " " })
    }

    /// Of the first line what follows the version.
    private var firstLine: ByteBufferView {
        let bytes = lines.readableBytesView
        return bytes.dropFirst(8).prefix { $0 != 0x0d }.trimmedStart
    }

    /// The first value of `name`.
    ///
    /// - Complexity: O(bytes of headers).
    public subscript(_ name: String) -> String? {
        value(of: name).map { String(decoding: $0, as: UTF8.self) }
    }

    /// The first value of `name` as a number of decimal digits.
    public func integer(_ name: String) -> UInt64? {
        value(of: name).flatMap { Decimals.parse($0) }
    }

    /// All names and values in order.
    public var all: [(name: String, value: String)] {
        var found: [(name: String, value: String)] = []
        forEach { name, value in
            found.append(
                (String(decoding: name, as: UTF8.self), String(decoding: value, as: UTF8.self)))
            return true
        }
        return found
    }

    private func value(of name: String) -> ByteBufferView? {
        var found: ByteBufferView?
        forEach { candidate, value in
            guard candidate.elementsEqual(name.utf8) else { return true }
            found = value
            return false
        }
        return found
    }

    /// Calls `body` with each name and value until it returns false.
    private func forEach(
        _ body: (_ name: ByteBufferView, _ value: ByteBufferView) -> Bool
    ) {
        let bytes = lines.readableBytesView
        var position = bytes.startIndex
        var isFirst = true
        while let end = bytes[position...].firstIndex(of: 0x0a) {
            let line = position..<(end > position && bytes[end - 1] == 0x0d ? end - 1 : end)
            position = end + 1
            defer { isFirst = false }
            guard !isFirst, let colon = bytes[line].firstIndex(of: 0x3a) else { continue }
            let name = bytes[line.lowerBound..<colon]
            let value = bytes[(colon + 1)..<line.upperBound].trimmedStart
            guard body(name, value) else { return }
        }
    }
}

extension ByteBufferView {
    /// The same without the spaces at its start.
    fileprivate var trimmedStart: ByteBufferView {
        drop { $0 == 0x20 }
    }
}

/// Decimal numbers in bytes.
enum Decimals {
    /// The number that `digits` are: nothing but digits, at least one, no overflow.
    static func parse(_ digits: some Sequence<UInt8>) -> UInt64? {
        var value: UInt64 = 0
        var isEmpty = true
        for digit in digits {
            guard digit >= 0x30, digit <= 0x39 else { return nil }
            let (tens, tensOverflow) = value.multipliedReportingOverflow(by: 10)
            let (sum, sumOverflow) = tens.addingReportingOverflow(UInt64(digit - 0x30))
            guard !tensOverflow, !sumOverflow else { return nil }
            value = sum
            isEmpty = false
        }
        return isEmpty ? nil : value
    }
}
