/// From which age on records need not be in memory, in families whose ids bear the time of their making.
///
/// An id's upper bits count milliseconds or seconds since some moment, as a snowflake's do.
public struct AgeRule: Equatable, Sendable {
    /// Days after which a record is cold.
    public var coldAfterDays: Int
    /// How many lower bits of an id say nothing about time.
    public var timeShift: Int
    /// What one of the upper bits' steps takes, milliseconds: 1 or 1000.
    public var timeUnitMilliseconds: Int
    /// The moment at which the upper bits are 0, milliseconds since 1970.
    public var timeEpochMilliseconds: Int64

    /// A rule of all these.
    public init(
        coldAfterDays: Int, timeShift: Int, timeUnitMilliseconds: Int = 1,
        timeEpochMilliseconds: Int64 = 0
    ) {
        self.coldAfterDays = coldAfterDays
        self.timeShift = timeShift
        self.timeUnitMilliseconds = timeUnitMilliseconds
        self.timeEpochMilliseconds = timeEpochMilliseconds
    }

    /// Most days.
    public static let daysMax = 100_000

    /// The least id that is not cold at this time, milliseconds since 1970.
    public func coldBelow(nowMilliseconds: UInt64) -> UInt64 {
        let now = Int64(clamping: nowMilliseconds)
        let (age, overflow) = (now - Int64(coldAfterDays) * 86_400_000)
            .subtractingReportingOverflow(timeEpochMilliseconds)
        guard !overflow, age > 0 else { return 0 }
        let steps = UInt64(age) / UInt64(timeUnitMilliseconds)
        // An id cannot be that late: all are cold.
        guard steps.leadingZeroBitCount >= timeShift else { return .max }
        return steps << UInt64(timeShift)
    }
}
