import TallyCore

/// Finds commands in the bytes of one connection, in place and without allocating.
///
/// A command is an array of bulk strings, or a line of plain text (an inline command). One that
/// arrives in pieces is continued where parsing stopped, never from its start; the caller keeps
/// the bytes and presents them again, from the command's first byte on, with more behind them.
///
///     *2\r\n $4\r\n INCR\r\n $5\r\n likes\r\n        INCR likes\r\n
public struct RESPParser: ~Copyable {
    /// What `next` found.
    public enum Found: Equatable, Sendable {
        /// A whole command of so many bytes, now in `arguments`. Without arguments
        /// it means nothing and gets no reply.
        case command(byteCount: Int)
        /// The command's end has not arrived.
        case needMoreBytes
    }

    private typealias Argument = CommandArguments.Argument

    private var slots: UnsafeMutablePointer<CommandArguments.Argument>
    private var capacity: Int
    /// Arguments still missing; nil before a command's first line has been read.
    private var missing: Int?
    /// Length of the argument that is being read; nil before its length is known.
    private var bulkByteCount: Int?
    /// Bytes of the command that need not be read again.
    private var position = 0
    /// Where the search for the end of a line goes on.
    private var searched = 0
    /// Whether the last command was one that all of this was needed for.
    private var isComplete = false
    /// Arguments of an inline command, without quotes and escapes.
    private var unquoted = UnsafeMutableRawBufferPointer(start: nil, count: 0)
    private var unquotedCount = 0

    private static let argumentsKept = 64

    private var argumentCount = 0

    /// The arguments of the command that `next` has returned.
    public private(set) var arguments = CommandArguments()

    /// A parser at the start of a connection.
    public init() {
        capacity = Self.argumentsKept
        slots = .allocate(capacity: capacity)
    }

    deinit {
        slots.deallocate()
        unquoted.deallocate()
    }

    /// Looks for the command that starts `bytes`.
    ///
    /// - Throws: `ProtocolError`; the connection then has no further commands.
    /// - Complexity: O(bytes not seen before).
    public mutating func next(_ bytes: UnsafeRawBufferPointer) throws(ProtocolError) -> Found {
        if isComplete { reset() }
        // Nothing of it has been seen before, so nothing of what is noted of it can outlive it.
        if searched == 0, let byteCount = nextShort(bytes) {
            return .command(byteCount: byteCount)
        }
        return try nextLong(bytes)
    }

    private mutating func nextLong(
        _ bytes: UnsafeRawBufferPointer
    ) throws(ProtocolError) -> Found {
        guard let first = bytes.first else { return .needMoreBytes }
        if missing == nil, first != UInt8(ascii: "*") {
            return try nextInline(bytes)
        }
        if missing == nil { missing = try header(bytes) }
        guard let missing else { return .needMoreBytes }
        while argumentCount < missing {
            guard try nextBulk(bytes) else { return .needMoreBytes }
        }
        return complete(bytes, areInPlace: true)
    }

    private mutating func complete(
        _ bytes: UnsafeRawBufferPointer, areInPlace: Bool
    ) -> Found {
        isComplete = true
        arguments = CommandArguments(
            bytes.baseAddress, slots, count: argumentCount, areInPlace: areInPlace)
        return .command(byteCount: position)
    }

    private mutating func reset() {
        isComplete = false
        missing = nil
        bulkByteCount = nil
        position = 0
        searched = 0
        argumentCount = 0
        if capacity > Self.argumentsKept * 16 {
            slots.deallocate()
            capacity = Self.argumentsKept
            slots = .allocate(capacity: capacity)
        }
    }

    // MARK: The common case

    /// Reads a command that is all there, of at most nine arguments of at most 99 bytes each.
    ///
    /// - Returns: its length, or nil, with nothing changed, if it is not like that.
    @inline(__always)
    private mutating func nextShort(_ bytes: UnsafeRawBufferPointer) -> Int? {
        guard bytes.count >= 4, let start = bytes.baseAddress,
            case let head = Self.quad(start, 0), head & 0xffff_00ff == 0x0a0d_002a,
            let count = Self.digit(head, 1)
        else { return nil }
        var position = 4
        for index in 0..<count {
            guard bytes.count &- position >= 6 else { return nil }
            let head = Self.quad(start, position)
            guard var length = Self.digit(head, 1), head & 0xff == UInt32(UInt8(ascii: "$"))
            else { return nil }
            if head &>> 16 == 0x0a0d {
                position &+= 4
            } else {
                guard let ones = Self.digit(head, 2), length > 0,
                    Self.isLineEnd(start, position &+ 3)
                else { return nil }
                length = length &* 10 &+ ones
                position &+= 5
            }
            guard bytes.count &- position >= length &+ 2,
                Self.isLineEnd(start, position &+ length)
            else { return nil }
            slots[index] = Argument(
                offset: Int32(truncatingIfNeeded: position),
                count: Int32(truncatingIfNeeded: length))
            position &+= length &+ 2
        }
        arguments = CommandArguments(start, slots, count: count, areInPlace: true)
        return position
    }

    /// The four bytes at `offset`, the first one lowest.
    @inline(__always)
    private static func quad(_ start: UnsafeRawPointer, _ offset: Int) -> UInt32 {
        UInt32(littleEndian: start.loadUnaligned(fromByteOffset: offset, as: UInt32.self))
    }

    /// What the byte at `index` of four stands for as a digit, nil if it is none.
    @inline(__always)
    private static func digit(_ quad: UInt32, _ index: UInt32) -> Int? {
        let digit = (quad &>> (8 &* index) & 0xff) &- UInt32(UInt8(ascii: "0"))
        return digit <= 9 ? Int(digit) : nil
    }

    @inline(__always)
    private static func isLineEnd(_ start: UnsafeRawPointer, _ offset: Int) -> Bool {
        UInt16(littleEndian: start.loadUnaligned(fromByteOffset: offset, as: UInt16.self)) == 0x0a0d
    }

    // MARK: Arrays of bulk strings

    /// Reads `*count\r\n`; nil if it has not arrived.
    private mutating func header(_ bytes: UnsafeRawBufferPointer) throws(ProtocolError) -> Int? {
        guard let line = try line(bytes, tooLong: .multibulkCountTooLong) else { return nil }
        guard let count = Decimal.parse(line), count <= Int64(Limits.argumentsMax) else {
            throw .invalidMultibulkLength
        }
        return max(0, Int(count))
    }

    /// Reads one `$length\r\nbytes\r\n`; false if it has not all arrived.
    private mutating func nextBulk(_ bytes: UnsafeRawBufferPointer) throws(ProtocolError) -> Bool {
        let length: Int
        if let known = bulkByteCount {
            length = known
        } else {
            guard let announced = try bulkLength(bytes) else { return false }
            length = announced
        }
        guard bytes.count &- position >= length &+ 2 else {
            bulkByteCount = length
            return false
        }
        guard bytes[position &+ length] == UInt8(ascii: "\r"),
            bytes[position &+ length &+ 1] == UInt8(ascii: "\n")
        else { throw .missingLineEnd }
        append(Argument(offset: Int32(position), count: Int32(length)))
        bulkByteCount = nil
        position &+= length &+ 2
        searched = position
        return true
    }

    private mutating func bulkLength(
        _ bytes: UnsafeRawBufferPointer
    ) throws(ProtocolError) -> Int? {
        guard position < bytes.count else { return nil }
        guard bytes[position] == UInt8(ascii: "$") else {
            throw .expectedBulk(got: bytes[position])
        }
        guard let line = try line(bytes, tooLong: .bulkCountTooLong) else { return nil }
        guard let length = Decimal.parse(line), length >= 0, length <= Int64(Limits.bulkBytesMax)
        else { throw .invalidBulkLength }
        guard position + Int(length) <= Limits.commandBytesMax else { throw .commandTooLong }
        return Int(length)
    }

    /// What stands between the type byte at `position` and the line's end; moves behind it.
    private mutating func line(
        _ bytes: UnsafeRawBufferPointer, tooLong: ProtocolError
    ) throws(ProtocolError) -> UnsafeRawBufferPointer? {
        searched = max(searched, position)
        guard let end = bytes[searched...].firstIndex(of: UInt8(ascii: "\r")) else {
            searched = bytes.count
            guard searched - position <= Limits.inlineBytesMax else { throw tooLong }
            return nil
        }
        searched = end
        guard end + 1 < bytes.count else { return nil }
        guard bytes[end + 1] == UInt8(ascii: "\n") else { throw .missingLineEnd }
        let line = UnsafeRawBufferPointer(rebasing: bytes[(position + 1)..<end])
        position = end + 2
        searched = position
        return line
    }

    @inline(__always)
    private mutating func append(_ argument: Argument) {
        if argumentCount == capacity { grow() }
        (slots + argumentCount).initialize(to: argument)
        argumentCount &+= 1
    }

    @inline(never)
    private mutating func grow() {
        let grown = UnsafeMutablePointer<Argument>.allocate(capacity: capacity * 2)
        grown.initialize(from: slots, count: argumentCount)
        slots.deallocate()
        slots = grown
        capacity *= 2
    }

    // MARK: Inline commands

    private mutating func nextInline(
        _ bytes: UnsafeRawBufferPointer
    ) throws(ProtocolError) -> Found {
        guard let newline = bytes[searched...].firstIndex(of: UInt8(ascii: "\n")) else {
            searched = bytes.count
            guard searched <= Limits.inlineBytesMax else { throw .inlineTooLong }
            return .needMoreBytes
        }
        var end = newline
        if end > 0, bytes[end - 1] == UInt8(ascii: "\r") { end -= 1 }
        position = newline + 1
        if unquoted.count < end + 1 {
            unquoted.deallocate()
            unquoted = .allocate(byteCount: end + 1, alignment: 1)
        }
        unquotedCount = 0
        var line = UnsafeRawBufferPointer(rebasing: bytes[..<end])[...]
        while let argument = try nextWord(&line) { append(argument) }
        return complete(UnsafeRawBufferPointer(unquoted), areInPlace: false)
    }

    /// Reads one word, quoted or not, as Redis does; nil at the end of the line.
    private mutating func nextWord(
        _ line: inout Slice<UnsafeRawBufferPointer>
    ) throws(ProtocolError) -> Argument? {
        line = line.drop(while: Self.isSpace)
        guard !line.isEmpty else { return nil }
        let start = unquotedCount
        while let byte = line.first, !Self.endsWord(byte) {
            line.removeFirst()
            switch byte {
            case UInt8(ascii: "\""): try quoted(&line, by: byte, hasEscapes: true)
            case UInt8(ascii: "'"): try quoted(&line, by: byte, hasEscapes: false)
            default: keep(byte)
            }
        }
        return Argument(offset: Int32(start), count: Int32(unquotedCount - start))
    }

    private mutating func quoted(
        _ line: inout Slice<UnsafeRawBufferPointer>, by quote: UInt8, hasEscapes: Bool
    ) throws(ProtocolError) {
        while let byte = line.popFirst() {
            if byte == quote {
                guard line.first.map(Self.isSpace) ?? true else { throw .unbalancedQuotes }
                return
            }
            if byte == UInt8(ascii: "\\"), let escaped = line.first {
                if hasEscapes {
                    line.removeFirst()
                    keep(Self.unescape(escaped, &line))
                    continue
                }
                if escaped == quote {
                    line.removeFirst()
                    keep(quote)
                    continue
                }
            }
            keep(byte)
        }
        throw .unbalancedQuotes
    }

    private mutating func keep(_ byte: UInt8) {
        unquoted[unquotedCount] = byte
        unquotedCount += 1
    }

    private static func unescape(
        _ escaped: UInt8, _ line: inout Slice<UnsafeRawBufferPointer>
    ) -> UInt8 {
        switch escaped {
        case UInt8(ascii: "n"): return UInt8(ascii: "\n")
        case UInt8(ascii: "r"): return UInt8(ascii: "\r")
        case UInt8(ascii: "t"): return UInt8(ascii: "\t")
        case UInt8(ascii: "b"): return 8
        case UInt8(ascii: "a"): return 7
        case UInt8(ascii: "x"):
            let digits = line.prefix(2).compactMap(hexDigit)
            guard digits.count == 2 else { return escaped }
            line = line.dropFirst(2)
            return digits[0] << 4 | digits[1]
        default: return escaped
        }
    }

    private static func hexDigit(_ byte: UInt8) -> UInt8? {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
        case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
        default: nil
        }
    }

    private static func endsWord(_ byte: UInt8) -> Bool {
        isSpace(byte) && byte != 0x0b && byte != 0x0c
    }

    private static func isSpace(_ byte: UInt8) -> Bool {
        byte == UInt8(ascii: " ") || (9...13).contains(byte) || byte == 0
    }
}
