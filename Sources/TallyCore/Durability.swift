/// When a reply may leave, as seen from the disk. The user's explicit choice.
public enum Durability: Equatable, Sendable, CustomStringConvertible {
    /// When everything it reflects is on disk.
    case always
    /// At once, as long as no update older than this many milliseconds waits for the disk.
    case interval(milliseconds: Int)
    /// At once; the operating system decides when to write.
    case none

    /// Range of `interval`, milliseconds.
    public static let intervalMillisecondsRange = 1...60_000

    /// The setting that `text` spells: `always`, `interval=MS` or `none`; nil for anything else.
    public init?(_ text: String) {
        switch text {
        case "always": self = .always
        case "none": self = .none
        default:
            let prefix = "interval="
            guard text.hasPrefix(prefix), let milliseconds = Int(text.dropFirst(prefix.count)),
                Self.intervalMillisecondsRange.contains(milliseconds)
            else { return nil }
            self = .interval(milliseconds: milliseconds)
        }
    }

    /// The spelling that `init` reads.
    public var description: String {
        switch self {
        case .always: "always"
        case .interval(let milliseconds): "interval=\(milliseconds)"
        case .none: "none"
        }
    }
}
