import TallyCore

/// What the rules of families need of a table, whatever its keys are.
protocol RecordTable: ~Copyable {
    /// A key whose place has been looked up as far as that pays.
    associatedtype Lookup

    /// How many records there are.
    var recordCount: Int { get }
    /// Memory taken by what has changed, bytes.
    var memtableBytes: Int { get }
    /// Memory taken by segments, bytes.
    var segmentBytes: Int { get }

    /// Writes a key's row of coded values, zeros if there is no record.
    borrowing func read(_ key: Lookup, _ row: UnsafeMutablePointer<UInt64>) -> Bool
    /// Replaces a key's row; zeros remove it.
    mutating func write(_ key: Lookup, _ row: UnsafePointer<UInt64>)
    /// Replaces one value by what `change` makes of it, if it makes anything.
    mutating func update(_ key: Lookup, column: Int, _ change: (UInt64) -> UInt64?) -> Bool

    /// How many segments are cold.
    var coldCount: Int { get }
    /// Tells of every segment and how much it is asked for.
    mutating func survey(decay: Double, _ body: (Segment, _ demand: Double) -> Void)
    /// Puts a segment's twin in its place, if it is there.
    mutating func replace(_ segment: Segment, with twin: Segment) -> Bool

    /// Goes on with other columns.
    mutating func setColumns(_ columns: [ColumnCoding])
    /// Removes everything.
    mutating func removeAll()
    /// Sets aside what has changed, to be merged.
    mutating func freeze()
}

extension IntegerTable: RecordTable {}
extension StringTable: RecordTable {}
