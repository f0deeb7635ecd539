/// Why the bytes of a connection are not commands. The connection is told and closed.
public enum ProtocolError: Error, Equatable, Sendable {
    /// An array's length is not a number or too large.
    case invalidMultibulkLength
    /// A bulk string's length is not a number, negative or too large.
    case invalidBulkLength
    /// An argument does not start with `$`.
    case expectedBulk(got: UInt8)
    /// The line with an array's length does not end.
    case multibulkCountTooLong
    /// The line with a bulk string's length does not end.
    case bulkCountTooLong
    /// An inline command does not end.
    case inlineTooLong
    /// An inline command's quotes do not match.
    case unbalancedQuotes
    /// A line or a bulk string does not end with CR LF.
    case missingLineEnd
    /// All arguments together are too long.
    case commandTooLong

    /// The text of the error reply, as Redis has it where Redis has it; not always UTF-8.
    public var message: [UInt8] {
        if case .expectedBulk(let byte) = self {
            return Array("ERR Protocol error: expected '$', got '".utf8) + [byte]
                + Array("'".utf8)
        }
        let reason =
            switch self {
            case .invalidMultibulkLength: "invalid multibulk length"
            case .invalidBulkLength: "invalid bulk length"
            case .expectedBulk: "expected '$'"
            case .multibulkCountTooLong: "too big mbulk count string"
            case .bulkCountTooLong: "too big bulk count string"
            case .inlineTooLong: "too big inline request"
            case .unbalancedQuotes: "unbalanced quotes in request"
            case .missingLineEnd: "expected CRLF"
            case .commandTooLong: "too big command"
            }
        return Array("ERR Protocol error: \(reason)".utf8)
    }
}
