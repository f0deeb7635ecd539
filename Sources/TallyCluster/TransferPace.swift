/// Spreads transfers over time, so that they take no more than so many bytes a second on average.
public struct TransferPace: Sendable {
    private let bytesPerSecond: UInt64
    /// When what was let through so far is paid for, nanoseconds.
    private var paid: UInt64 = 0

    /// What may be made up for after a pause, nanoseconds.
    private static let burstNanoseconds: UInt64 = 100_000_000

    /// A pace that nothing has been measured by yet.
    public init(bytesPerSecond: Int) {
        precondition(bytesPerSecond > 0, "a transfer that would never end")
        self.bytesPerSecond = UInt64(bytesPerSecond)
    }

    /// Takes note of so many bytes that have been transferred.
    ///
    /// - Parameter now: Monotonic nanoseconds.
    /// - Returns: how long to wait before the next ones, nanoseconds.
    public mutating func delay(after byteCount: Int, now: UInt64) -> UInt64 {
        let cost = UInt64(max(0, byteCount)).multipliedFullWidth(by: 1_000_000_000)
        let nanoseconds =
            cost.high < bytesPerSecond ? bytesPerSecond.dividingFullWidth(cost).quotient : .max / 2
        paid = max(paid, now - min(now, Self.burstNanoseconds)) + nanoseconds
        return paid > now ? paid - now : 0
    }
}
