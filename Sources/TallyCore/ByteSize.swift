/// A number of bytes as people write it: `1048576`, `100mb`, `4GiB`.
public struct ByteSize: Equatable, Sendable {
    /// The size, bytes.
    public let bytes: Int

    /// The size that `text` spells, nil if it spells none.
    ///
    /// Units as in Redis, in any case: `k m g` are powers of 1000, `kb mb gb` and `kib mib gib`
    /// powers of 1024, `b` and nothing are bytes.
    public init?(_ text: String) {
        let digits = text.prefix { ("0"..."9").contains($0) }
        guard let number = Int(digits),
            let unit = Self.units[text.dropFirst(digits.count).lowercased()]
        else { return nil }
        let (bytes, overflow) = number.multipliedReportingOverflow(by: unit)
        guard !overflow else { return nil }
        self.bytes = bytes
    }

    private static let units = [
        "": 1, "b": 1, "k": 1000, "kb": 1 << 10, "kib": 1 << 10, "m": 1_000_000, "mb": 1 << 20,
        "mib": 1 << 20, "g": 1_000_000_000, "gb": 1 << 30, "gib": 1 << 30,
    ]

    /// `bytes` in the largest unit that leaves a readable number: `1.50G`.
    public static func readable(_ bytes: Int) -> String {
        let names = ["B", "K", "M", "G", "T"]
        var unit = 0
        while unit < names.count - 1, bytes >> (10 * (unit + 1)) > 0 { unit += 1 }
        let unitBytes = 1 << (10 * unit)
        let fraction = bytes % unitBytes * 100 / unitBytes
        return "\(bytes / unitBytes).\(fraction < 10 ? "0" : "")\(fraction)\(names[unit])"
    }
}
