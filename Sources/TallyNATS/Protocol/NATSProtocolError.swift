/// Why the bytes of a server are not the NATS protocol. The connection is closed.
public enum NATSProtocolError: Error, Equatable, Sendable {
    /// A line does not end within the limit.
    case lineTooLong(bytesMax: Int)
    /// A line ends with LF but not with CR LF, or a message is not followed by CR LF.
    case lineEndMissing
    /// A line starts with a word that no server sends; at most its first 16 bytes.
    case operationUnknown(String)
    /// A line has too few or too many words.
    case wordCountInvalid(operation: String, count: Int)
    /// A length or a subscription's number is not a decimal number that fits.
    case numberInvalid(operation: String, word: String)
    /// A message is announced that is longer than allowed, headers included.
    case messageTooLong(bytes: Int, bytesMax: Int)
    /// A message's headers are announced as longer than the whole message.
    case headersLongerThanMessage(headerBytes: Int, messageBytes: Int)
    /// Headers do not start with `NATS/1.0` or do not end with an empty line.
    case headersInvalid
    /// The server's description of itself is not the JSON it should be.
    case infoInvalid(String)
}
