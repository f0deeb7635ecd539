public import NIOCore

/// A message that a consumer delivers, with its place in the stream.
public struct StreamMessage: Equatable, Sendable {
    /// The message; its parts pin what was read with it.
    public let message: NATSMessage
    /// Its sequence in the stream.
    public let sequence: UInt64
    /// When the stream's leader took it.
    public let time: NATSTime
    /// Messages of the stream that the consumer had not delivered when this one left.
    public let pending: UInt64

    init(message: NATSMessage, delivery: Delivery) {
        self.message = message
        sequence = delivery.streamSequence
        time = delivery.time
        pending = delivery.pending
    }

    /// Its subject.
    public var subject: String { message.subject }
    /// Its headers, if there are any.
    public var headers: NATSHeaders? { message.headers }
    /// Its payload, not copied.
    public var payload: ByteBuffer { message.payload }
    /// Bytes of credit that it took: what is granted again when it has been dealt with.
    public var creditBytes: Int { message.byteCount }
}

/// What the reply subject of a delivered message says of it, read in place.
///
///     $JS.ACK.<stream>.<consumer>.<deliveries>.<stream sequence>.<consumer sequence>.<time>.<pending>
///     $JS.ACK.<domain>.<account>.<stream>.<consumer>.<deliveries>.… (and perhaps more words)
struct Delivery: Equatable {
    var streamSequence: UInt64
    var consumerSequence: UInt64
    var time: NATSTime
    var pending: UInt64

    /// Reads a reply subject; nil if it is not of this form.
    init?(_ reply: ByteBuffer) {
        let bytes = reply.readableBytesView
        guard bytes.starts(with: "$JS.ACK.".utf8) else { return nil }
        let words = bytes.reduce(1) { $0 + ($1 == UInt8(ascii: ".") ? 1 : 0) }
        // The first number is the count of deliveries.
        let firstNumber: Int
        switch words {
        case 9: firstNumber = 4
        case 11...: firstNumber = 6
        default: return nil
        }
        var numbers: (UInt64, UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0, 0)
        var word = 0
        var position = bytes.startIndex
        while word < firstNumber + 5 {
            let end = bytes[position...].firstIndex(of: UInt8(ascii: ".")) ?? bytes.endIndex
            if word >= firstNumber {
                guard let number = Decimals.parse(bytes[position..<end]) else { return nil }
                switch word - firstNumber {
                case 0: numbers.0 = number
                case 1: numbers.1 = number
                case 2: numbers.2 = number
                case 3: numbers.3 = number
                default: numbers.4 = number
                }
            }
            word += 1
            position = end == bytes.endIndex ? end : end + 1
        }
        guard let nanoseconds = Int64(exactly: numbers.3), numbers.1 > 0, numbers.2 > 0 else {
            return nil
        }
        streamSequence = numbers.1
        consumerSequence = numbers.2
        time = NATSTime(nanoseconds: nanoseconds)
        pending = numbers.4
    }
}
