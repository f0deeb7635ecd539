/// Rules for subjects: words separated by dots, of any bytes but spaces and line ends; in
/// subscriptions `*` stands for one word, `>` as the last word for one or more.
public enum NATSSubject {
    /// Longest subject, bytes: with the lengths that follow it fits a server's default line of 4,096.
    public static let bytesMax = 2_048

    /// What is wrong with a subject.
    public enum Problem: Error, Equatable, Sendable {
        /// It has no bytes.
        case empty
        /// It is longer than `bytesMax`.
        case tooLong(bytes: Int)
        /// Two dots are neighbours, or it starts or ends with one.
        case wordEmpty
        /// It has a space, a tab, a line's end or another control character.
        case characterInvalid(UInt8)
        /// It has `*` or `>` as a word where no wildcard may be, or `>` before its end.
        case wildcardInvalid
    }

    /// Checks a subject that messages are published to, or with `allowsWildcards` one that is
    /// subscribed to.
    ///
    /// - Complexity: O(bytes), without allocation.
    public static func check(
        _ subject: String, allowsWildcards: Bool = false
    ) throws(Problem) {
        let bytes = subject.utf8
        guard !bytes.isEmpty else { throw .empty }
        guard bytes.count <= bytesMax else { throw .tooLong(bytes: bytes.count) }
        var wordBytes = 0
        /// The only byte of the word so far, if it is one that may be a wildcard.
        var wildcard: UInt8 = 0
        var hasTail = false
        for byte in bytes {
            guard byte > 0x20, byte != 0x7f else { throw .characterInvalid(byte) }
            guard !hasTail else { throw .wildcardInvalid }
            if byte == UInt8(ascii: ".") {
                guard wordBytes > 0 else { throw .wordEmpty }
                if wildcard != 0 {
                    guard allowsWildcards else { throw .wildcardInvalid }
                    hasTail = wildcard == UInt8(ascii: ">")
                }
                wordBytes = 0
                wildcard = 0
            } else {
                wordBytes += 1
                let mayBeWildcard = byte == UInt8(ascii: "*") || byte == UInt8(ascii: ">")
                wildcard = wordBytes == 1 && mayBeWildcard ? byte : 0
            }
        }
        guard wordBytes > 0 else { throw hasTail ? .wildcardInvalid : .wordEmpty }
        guard wildcard == 0 || allowsWildcards else { throw .wildcardInvalid }
    }

    /// Whether `name` may name a stream, a consumer or a bucket: visible ASCII without dots,
    /// wildcards and what file systems mind, at most 255 bytes.
    public static func isName(_ name: String) -> Bool {
        let forbidden = ".*>/\\"
        return !name.isEmpty && name.utf8.count <= 255
            && name.utf8.allSatisfy { byte in
                byte > 0x20 && byte < 0x7f && !forbidden.utf8.contains(byte)
            }
    }
}
