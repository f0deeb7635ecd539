import NIOCore

/// What a client says, as bytes. Subjects and headers have been checked.
enum NATSEncoder {
    /// Writes who the client is; `json` is the object that the server reads it from.
    static func connect(_ json: some Sequence<UInt8>, into buffer: inout ByteBuffer) {
        buffer.writeStaticString("CONNECT ")
        buffer.writeBytes(json)
        buffer.writeStaticString("\r\n")
    }

    /// Writes what precedes a payload of `payloadBytes`; the payload and `\r\n` follow.
    static func publish(
        _ subject: String, replyTo: some Sequence<UInt8>, headers: NATSHeaders?, payloadBytes: Int,
        into buffer: inout ByteBuffer
    ) {
        buffer.writeStaticString(headers == nil ? "PUB " : "HPUB ")
        buffer.writeString(subject)
        buffer.writeStaticString(" ")
        if buffer.writeBytes(replyTo) > 0 { buffer.writeStaticString(" ") }
        if let headers {
            decimal(headers.byteCount, into: &buffer)
            buffer.writeStaticString(" ")
            decimal(headers.byteCount + payloadBytes, into: &buffer)
            buffer.writeStaticString("\r\n")
            buffer.writeImmutableBuffer(headers.lines)
        } else {
            decimal(payloadBytes, into: &buffer)
        }
        buffer.writeStaticString("\r\n")
    }

    /// Writes the wish to get what is published to `subject`.
    static func subscribe(
        _ subject: String, queue: String? = nil, subscription: UInt64,
        into buffer: inout ByteBuffer
    ) {
        buffer.writeStaticString("SUB ")
        buffer.writeString(subject)
        buffer.writeStaticString(" ")
        if let queue {
            buffer.writeString(queue)
            buffer.writeStaticString(" ")
        }
        buffer.writeString(String(subscription))
        buffer.writeStaticString("\r\n")
    }

    /// Writes the end of a subscription, at once or after so many messages in all.
    static func unsubscribe(
        _ subscription: UInt64, afterMessages: Int? = nil, into buffer: inout ByteBuffer
    ) {
        buffer.writeStaticString("UNSUB ")
        buffer.writeString(String(subscription))
        if let afterMessages {
            buffer.writeStaticString(" ")
            decimal(afterMessages, into: &buffer)
        }
        buffer.writeStaticString("\r\n")
    }

    /// Writes a question for a sign of life.
    static func ping(into buffer: inout ByteBuffer) { buffer.writeStaticString("PING\r\n") }

    /// Writes the answer to one.
    static func pong(into buffer: inout ByteBuffer) { buffer.writeStaticString("PONG\r\n") }

    private static func decimal(_ number: Int, into buffer: inout ByteBuffer) {
        buffer.writeString(String(number))
    }
}
