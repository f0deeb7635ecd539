/// A glob as Redis matches it: `*`, `?`, `[abc]`, `[^a-z]` and `\` to escape.
public struct GlobPattern: Sendable {
    private let pattern: [UInt8]

    /// The pattern that `pattern` spells.
    public init(_ pattern: String) { self.init(bytes: Array(pattern.utf8)) }

    /// The pattern that these bytes spell.
    public init(bytes pattern: [UInt8]) { self.pattern = pattern }

    /// Whether `text` matches from its start to its end.
    public func matches(_ text: String) -> Bool { matches(bytes: Array(text.utf8)) }

    /// Whether `text` matches from its start to its end.
    public func matches(bytes text: [UInt8]) -> Bool { text.withUnsafeBytes { matches($0) } }

    /// Whether `text` matches from its start to its end.
    ///
    /// - Complexity: O(*n*·*m*): only the latest `*` is ever tried again.
    public func matches(_ text: UnsafeRawBufferPointer) -> Bool {
        var (p, t) = (0, 0)
        var star: (pattern: Int, text: Int)?
        while t < text.count {
            if p < pattern.count, pattern[p] == UInt8(ascii: "*") {
                star = (p, t)
                p += 1
            } else if let next = matchOne(at: p, text[t]) {
                p = next
                t += 1
            } else if let last = star {
                star = (last.pattern, last.text + 1)
                (p, t) = (last.pattern + 1, last.text + 1)
            } else {
                return false
            }
        }
        return pattern[p...].allSatisfy { $0 == UInt8(ascii: "*") }
    }

    /// Where the pattern goes on if its element at `index` matches `byte`; nil if it does not.
    private func matchOne(at index: Int, _ byte: UInt8) -> Int? {
        guard index < pattern.count else { return nil }
        switch pattern[index] {
        case UInt8(ascii: "?"): return index + 1
        case UInt8(ascii: "["): return matchSet(at: index + 1, byte)
        case UInt8(ascii: "\\") where index + 1 < pattern.count:
            return pattern[index + 1] == byte ? index + 2 : nil
        default: return pattern[index] == byte ? index + 1 : nil
        }
    }

    private func matchSet(at start: Int, _ byte: UInt8) -> Int? {
        var index = start
        let isNegated = index < pattern.count && pattern[index] == UInt8(ascii: "^")
        if isNegated { index += 1 }
        var isMember = false
        while index < pattern.count, pattern[index] != UInt8(ascii: "]") {
            if pattern[index] == UInt8(ascii: "\\"), index + 1 < pattern.count { index += 1 }
            if index + 2 < pattern.count, pattern[index + 1] == UInt8(ascii: "-"),
                pattern[index + 2] != UInt8(ascii: "]")
            {
                let bounds = (pattern[index], pattern[index + 2])
                isMember =
                    isMember
                    || (min(bounds.0, bounds.1)...max(bounds.0, bounds.1)).contains(byte)
                index += 3
            } else {
                isMember = isMember || pattern[index] == byte
                index += 1
            }
        }
        return isMember != isNegated ? min(index + 1, pattern.count) : nil
    }
}
