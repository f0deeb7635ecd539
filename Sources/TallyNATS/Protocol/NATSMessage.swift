public import NIOCore

/// One message as it came, its parts in place in the bytes that were read.
///
/// A message that is kept pins the buffer it arrived in, up to what one read of the socket holds;
/// copy what is to be kept for long.
public struct NATSMessage: Equatable, Sendable {
    /// From the subscription's subject to the last byte of the payload.
    private let frame: ByteBuffer
    /// Number of the subscription it was sent for.
    let subscription: UInt64
    private let subjectPart: Part
    private let replyPart: Part
    private let headerPart: Part
    private let payloadPart: Part

    /// A part of the frame.
    struct Part: Equatable {
        var offset: UInt32
        var count: UInt32

        static let none = Part(offset: 0, count: 0)
    }

    init(
        frame: ByteBuffer, subscription: UInt64, subject: Part, reply: Part, headers: Part,
        payload: Part
    ) {
        self.frame = frame
        self.subscription = subscription
        subjectPart = subject
        replyPart = reply
        headerPart = headers
        payloadPart = payload
    }

    /// The same in memory of its own, for those who take it to another thread: the loop reads what comes next into the
    /// buffer that this one is in as soon as nobody else has it.
    var copied: NATSMessage {
        var bytes = ByteBuffer()
        bytes.reserveCapacity(frame.readableBytes)
        bytes.writeImmutableBuffer(frame)
        return NATSMessage(
            frame: bytes, subscription: subscription, subject: subjectPart, reply: replyPart,
            headers: headerPart, payload: payloadPart)
    }

    /// The subject it was published to. Bytes that are not UTF-8 are replaced.
    public var subject: String { String(buffer: slice(subjectPart)) }

    /// Where an answer is expected, if anywhere.
    public var replyTo: String? {
        replyPart.count > 0 ? String(buffer: slice(replyPart)) : nil
    }

    /// The headers and status, if there are any.
    public var headers: NATSHeaders? {
        headerPart.count > 0 ? NATSHeaders(received: slice(headerPart)) : nil
    }

    /// The payload, not copied.
    public var payload: ByteBuffer { slice(payloadPart) }

    /// Bytes of subject, reply subject, headers and payload: what servers count against limits.
    public var byteCount: Int {
        Int(subjectPart.count) + Int(replyPart.count) + Int(headerPart.count)
            + Int(payloadPart.count)
    }

    /// The subject's bytes, not copied.
    var subjectBytes: ByteBuffer { slice(subjectPart) }

    /// The reply subject's bytes, not copied; empty if there is none.
    var replyBytes: ByteBuffer { slice(replyPart) }

    /// The status that a server sends instead of a payload.
    var status: Int? { payloadPart.count == 0 ? headers?.status : nil }

    private func slice(_ part: Part) -> ByteBuffer {
        // The parts were checked against the frame when it was parsed.
        frame.getSlice(at: frame.readerIndex + Int(part.offset), length: Int(part.count))!
    }
}
