/// A reply, as a client reads it.
public indirect enum RESPValue: Sendable, Equatable {
    /// A word such as `OK`.
    case simple(String)
    /// Why a command was refused: a code in capital letters, and words.
    case error(String)
    case integer(Int64)
    /// Bytes, which may be text.
    case bulk([UInt8])
    case null
    case array([RESPValue])
    /// Keys and values in turn.
    case map([RESPValue])

    /// The value as text; nil for arrays, maps and null.
    public var text: String? {
        switch self {
        case .simple(let text), .error(let text): text
        case .integer(let value): String(value)
        case .bulk(let bytes): String(decoding: bytes, as: UTF8.self)
        case .null, .array, .map: nil
        }
    }

    /// The value as an integer, also if it comes as text; nil if it is none.
    public var integer: Int64? {
        if case .integer(let value) = self { return value }
        return text.flatMap { Int64($0) }
    }

    /// An array's elements, or a map's keys and values in turn; none for anything else.
    public var elements: [RESPValue] {
        switch self {
        case .array(let elements), .map(let elements): elements
        default: []
        }
    }
}

/// Finds replies in bytes that arrive in pieces.
public struct ReplyReader: Sendable {
    private var bytes: [UInt8] = []
    private var offset = 0

    /// Bytes that are no reply.
    public struct Malformed: Error {}

    /// Arrays within arrays, at most.
    private static let depthMax = 16

    /// Nothing has arrived.
    public init() {}

    /// Adds what has arrived.
    public mutating func append(_ received: some Sequence<UInt8>) {
        if offset > 0, offset == bytes.count {
            bytes.removeAll(keepingCapacity: true)
            offset = 0
        }
        bytes.append(contentsOf: received)
    }

    /// The next whole reply; nil if it has not all arrived.
    ///
    /// - Throws: `Malformed`.
    public mutating func next() throws(Malformed) -> RESPValue? {
        var end = offset
        guard let value = try read(&end, depth: 0) else { return nil }
        offset = end
        return value
    }

    private func read(_ next: inout Int, depth: Int) throws(Malformed) -> RESPValue? {
        guard depth <= Self.depthMax else { throw Malformed() }
        guard let lineEnd = bytes[next...].firstIndex(of: UInt8(ascii: "\n")) else { return nil }
        guard lineEnd > next, bytes[lineEnd - 1] == UInt8(ascii: "\r") else { throw Malformed() }
        let kind = bytes[next]
        let line = String(decoding: bytes[(next + 1)..<(lineEnd - 1)], as: UTF8.self)
        next = lineEnd + 1
        switch kind {
        case UInt8(ascii: "+"): return .simple(line)
        case UInt8(ascii: "-"): return .error(line)
        case UInt8(ascii: ":"):
            guard let value = Int64(line) else { throw Malformed() }
            return .integer(value)
        case UInt8(ascii: "#"): return .integer(line == "t" ? 1 : 0)
        case UInt8(ascii: "_"): return .null
        case UInt8(ascii: ","), UInt8(ascii: "("): return .simple(line)
        case UInt8(ascii: "$"), UInt8(ascii: "="):
            guard let count = Int(line) else { throw Malformed() }
            guard count >= 0 else { return .null }
            guard bytes.count - next >= count + 2 else { return nil }
            defer { next += count + 2 }
            // What is to be shown as it is begins with its format.
            let skipped = kind == UInt8(ascii: "=") ? min(4, count) : 0
            return .bulk(Array(bytes[(next + skipped)..<(next + count)]))
        case UInt8(ascii: "*"), UInt8(ascii: "~"), UInt8(ascii: ">"), UInt8(ascii: "%"):
            guard let announced = Int(line) else { throw Malformed() }
            guard announced >= 0 else { return .null }
            let isMap = kind == UInt8(ascii: "%")
            var elements: [RESPValue] = []
            for _ in 0..<(isMap ? 2 * announced : announced) {
                guard let element = try read(&next, depth: depth + 1) else { return nil }
                elements.append(element)
            }
            return isMap ? .map(elements) : .array(elements)
        default: throw Malformed()
        }
    }
}

/// A command as an array of bulk strings, as clients send it.
public func encodedCommand(_ arguments: [[UInt8]]) -> [UInt8] {
    var bytes = Array("*\(arguments.count)\r\n".utf8)
    for argument in arguments {
        bytes += Array("$\(argument.count)\r\n".utf8) + argument + [13, 10]
    }
    return bytes
}
