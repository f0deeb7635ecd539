import NIOCore

/// One thing that a server says.
enum NATSServerOperation: Equatable, Sendable {
    /// What the server says of itself, JSON.
    case info(ByteBuffer)
    case message(NATSMessage)
    case ping
    case pong
    case ok
    /// An error's text without its quotes.
    case error(String)
}

/// Finds what a server says in the bytes of one connection, in place.
///
/// What arrives in pieces is continued where parsing stopped: the caller keeps the bytes that are left
/// in its buffer and adds the next ones behind them.
struct NATSParser {
    /// Longest line, bytes; a server's description with all its neighbours is the longest.
    static let lineBytesMax = 64 << 10

    /// Longest message with its headers, bytes.
    var messageBytesMax: Int
    /// Bytes in which no line's end was found.
    private var searched = 0
    /// The message whose line has been read and whose rest is missing.
    private var pending: Head?

    /// Where a message's parts are, counted from the start of its line.
    private struct Head {
        var lineBytes: Int
        var subscription: UInt64
        var subject: Range<Int>
        var reply: Range<Int>
        var headerBytes: Int
        var messageBytes: Int
        /// With the line's end behind the payload.
        var frameBytes: Int { lineBytes + messageBytes + 2 }
    }

    init(messageBytesMax: Int) {
        self.messageBytesMax = messageBytesMax
    }

    /// Bytes that the unfinished message has in all; 0 if none is unfinished.
    var bytesExpected: Int { pending?.frameBytes ?? 0 }

    /// Takes the next operation from the start of `buffer`, or nothing if it is not all there.
    ///
    /// - Throws: `NATSProtocolError`; nothing more can then be read from this connection.
    mutating func next(
        _ buffer: inout ByteBuffer
    ) throws(NATSProtocolError) -> NATSServerOperation? {
        if let pending { return try message(pending, &buffer) }
        guard let lineBytes = try line(buffer) else { return nil }
        searched = 0
        let contentBytes = lineBytes - 2
        guard buffer.uint8(at: contentBytes) == 0x0d else { throw .lineEndMissing }
        let line = Line(buffer, contentBytes)
        switch line.operation {
        case .message:
            let head = try Self.head(line, lineBytes, hasHeaders: false)
            return try message(head, &buffer)
        case .messageWithHeaders:
            let head = try Self.head(line, lineBytes, hasHeaders: true)
            return try message(head, &buffer)
        case .info:
            let content = buffer.getSlice(
                at: buffer.readerIndex + line.firstEnd, length: contentBytes - line.firstEnd)!
            buffer.moveReaderIndex(forwardBy: lineBytes)
            return .info(content)
        case .ping:
            buffer.moveReaderIndex(forwardBy: lineBytes)
            return .ping
        case .pong:
            buffer.moveReaderIndex(forwardBy: lineBytes)
            return .pong
        case .ok:
            buffer.moveReaderIndex(forwardBy: lineBytes)
            return .ok
        case .error:
            let text = line.text(line.firstEnd..<contentBytes)
            buffer.moveReaderIndex(forwardBy: lineBytes)
            return .error(text.trimming { $0 == " " }.trimming { $0 == "'" })
        case nil:
            throw .operationUnknown(line.text(0..<min(16, line.firstEnd)))
        }
    }

    /// Bytes of the line that starts `buffer`, with its end; nil if that is not there.
    private mutating func line(_ buffer: ByteBuffer) throws(NATSProtocolError) -> Int? {
        let bytes = buffer.readableBytesView.dropFirst(searched).prefix(
            Self.lineBytesMax - searched)
        guard let end = bytes.firstIndex(of: 0x0a) else {
            searched += bytes.count
            guard searched < Self.lineBytesMax else {
                throw .lineTooLong(bytesMax: Self.lineBytesMax)
            }
            return nil
        }
        let lineBytes = end - buffer.readerIndex + 1
        guard lineBytes >= 2 else { throw .lineEndMissing }
        return lineBytes
    }

    private static func head(
        _ line: Line, _ lineBytes: Int, hasHeaders: Bool
    ) throws(NATSProtocolError) -> Head {
        let operation = hasHeaders ? "HMSG" : "MSG"
        let words = line.words()
        // The subject, the subscription, perhaps a reply subject, one or two lengths.
        let few = hasHeaders ? 5 : 4
        guard words.count == few || words.count == few + 1 else {
            throw .wordCountInvalid(operation: operation, count: words.count)
        }
        let messageBytes = try line.length(words[words.count - 1], operation)
        let headerBytes = hasHeaders ? try line.length(words[words.count - 2], operation) : 0
        guard headerBytes <= messageBytes else {
            throw .headersLongerThanMessage(
                headerBytes: headerBytes, messageBytes: messageBytes)
        }
        return Head(
            lineBytes: lineBytes, subscription: try line.number(words[2], operation),
            subject: words[1], reply: words.count == few ? 0..<0 : words[3],
            headerBytes: headerBytes, messageBytes: messageBytes)
    }

    private mutating func message(
        _ head: Head, _ buffer: inout ByteBuffer
    ) throws(NATSProtocolError) -> NATSServerOperation? {
        guard head.messageBytes <= messageBytesMax else {
            throw .messageTooLong(bytes: head.messageBytes, bytesMax: messageBytesMax)
        }
        guard buffer.readableBytes >= head.frameBytes else {
            pending = head
            return nil
        }
        pending = nil
        let end = head.lineBytes + head.messageBytes
        guard buffer.uint8(at: end) == 0x0d, buffer.uint8(at: end + 1) == 0x0a else {
            throw .lineEndMissing
        }
        // Both were found to be within the readable bytes.
        let frame = buffer.getSlice(at: buffer.readerIndex, length: end)!
        if head.headerBytes > 0 {
            let headers = frame.getSlice(
                at: frame.readerIndex + head.lineBytes, length: head.headerBytes)!
            guard NATSHeaders.isValid(headers) else { throw .headersInvalid }
        }
        buffer.moveReaderIndex(forwardBy: head.frameBytes)
        return .message(
            NATSMessage(
                frame: frame, subscription: head.subscription, subject: .init(head.subject),
                reply: .init(head.reply),
                headers: .init(head.lineBytes..<(head.lineBytes + head.headerBytes)),
                payload: .init((head.lineBytes + head.headerBytes)..<end)))
    }
}

/// One line without its end.
private struct Line {
    private let bytes: ByteBufferView
    /// Where the first word ends.
    let firstEnd: Int

    enum Operation {
        case info, message, messageWithHeaders, ping, pong, ok, error
    }

    init(_ buffer: ByteBuffer, _ contentBytes: Int) {
        let view = buffer.readableBytesView
        bytes = view[view.startIndex..<(view.startIndex + contentBytes)]
        firstEnd = bytes.prefix { !Self.isSpace($0) }.count
    }

    /// What the first word means, in capitals or not.
    var operation: Operation? {
        guard let first = bytes.first else { return nil }
        return switch first | 0x20 {
        case UInt8(ascii: "m"): isFirst("msg") ? .message : nil
        case UInt8(ascii: "h"): isFirst("hmsg") ? .messageWithHeaders : nil
        case UInt8(ascii: "i"): isFirst("info") ? .info : nil
        case UInt8(ascii: "p"): isFirst("ping") ? .ping : isFirst("pong") ? .pong : nil
        case UInt8(ascii: "+"): isFirst("+ok") ? .ok : nil
        case UInt8(ascii: "-"): isFirst("-err") ? .error : nil
        default: nil
        }
    }

    private func isFirst(_ word: StaticString) -> Bool {
        guard word.utf8CodeUnitCount == firstEnd else { return false }
        for offset in 0..<firstEnd {
            guard bytes[bytes.startIndex + offset] | 0x20 == word.utf8Start[offset] else {
                return false
            }
        }
        return true
    }

    /// Where the words are.
    func words() -> Words {
        var words = Words()
        var start: Int?
        for offset in 0..<bytes.count {
            if !Self.isSpace(bytes[bytes.startIndex + offset]) {
                start = start ?? offset
            } else if let first = start {
                words.add(first..<offset)
                start = nil
            }
        }
        if let start { words.add(start..<bytes.count) }
        return words
    }

    private static func isSpace(_ byte: UInt8) -> Bool { byte == 0x20 || byte == 0x09 }

    func text(_ range: Range<Int>) -> String {
        String(decoding: slice(range), as: UTF8.self)
    }

    func number(_ word: Range<Int>, _ operation: String) throws(NATSProtocolError) -> UInt64 {
        guard let number = Decimals.parse(slice(word)) else {
            throw .numberInvalid(operation: operation, word: String(text(word).prefix(32)))
        }
        return number
    }

    /// A number that may be a length: so small that sums of some do not overflow.
    func length(_ word: Range<Int>, _ operation: String) throws(NATSProtocolError) -> Int {
        let number = try number(word, operation)
        guard number <= UInt64(Int32.max) else {
            throw .numberInvalid(operation: operation, word: String(text(word).prefix(32)))
        }
        return Int(number)
    }

    private func slice(_ range: Range<Int>) -> ByteBufferView {
        let start = bytes.startIndex
        return bytes[(start + range.lowerBound)..<(start + range.upperBound)]
    }
}

/// Where the words of a line are: six at most, more are counted only.
private struct Words {
    private var ranges: InlineSix = (0..<0, 0..<0, 0..<0, 0..<0, 0..<0, 0..<0)
    private(set) var count = 0

    private typealias InlineSix = (
        Range<Int>, Range<Int>, Range<Int>, Range<Int>, Range<Int>, Range<Int>
    )

    mutating func add(_ range: Range<Int>) {
        switch count {
        case 0: ranges.0 = range
        case 1: ranges.1 = range
        case 2: ranges.2 = range
        case 3: ranges.3 = range
        case 4: ranges.4 = range
        case 5: ranges.5 = range
        default: break
        }
        count += 1
    }

    subscript(_ index: Int) -> Range<Int> {
        switch index {
        case 0: ranges.0
        case 1: ranges.1
        case 2: ranges.2
        case 3: ranges.3
        case 4: ranges.4
        default: ranges.5
        }
    }
}

extension NATSMessage.Part {
    fileprivate init(_ range: Range<Int>) {
        self.init(offset: UInt32(range.lowerBound), count: UInt32(range.count))
    }
}

extension ByteBuffer {
    /// The byte at `offset` behind the reader index, which must be readable.
    fileprivate func uint8(at offset: Int) -> UInt8 {
        readableBytesView[readableBytesView.startIndex + offset]
    }
}

extension String {
    /// The same without the characters at both ends that `predicate` says.
    fileprivate func trimming(_ predicate: (Character) -> Bool) -> String {
        var rest = self[...]
        while let first = rest.first, predicate(first) { rest.removeFirst() }
        while let last = rest.last, predicate(last) { rest.removeLast() }
        return String(rest)
    }
}
