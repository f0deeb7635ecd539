/// A place in a log's history.
///
/// Every reply, view and file knows the position it reflects. A log that is rebuilt or restored
/// begins a new epoch, so positions never run backwards.
public struct Position: Equatable, Hashable, Comparable, Sendable {
    /// Which history of the log, starting at 1.
    public var epoch: UInt32
    /// Which commit group of it, starting at 1; 0 is the state before the first.
    public var sequence: UInt64

    /// The position of group `sequence` in history `epoch`.
    public init(epoch: UInt32, sequence: UInt64) {
        self.epoch = epoch
        self.sequence = sequence
    }

    /// Orders by epoch, then by sequence.
    public static func < (left: Position, right: Position) -> Bool {
        (left.epoch, left.sequence) < (right.epoch, right.sequence)
    }
}
