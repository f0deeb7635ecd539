public import TallyCore

/// The records of one import for one partition: runs of segments, each in order of its keys, later runs
/// over earlier ones.
public final class ImportedRuns: Sendable {
    /// The runs.
    public let runs: [[Segment]]

    /// Runs of segments.
    public init(runs: [[Segment]]) { self.runs = runs }

    /// How many records there are, repeated ones included.
    public var recordCount: Int {
        runs.reduce(0) { $0 + $1.reduce(0) { $0 + Int($1.header.recordCount) } }
    }

    /// The operation that takes these over; they must live until it has been applied.
    public func operation(number: UInt64, family: UInt32, partition: Int) -> Operation {
        var operation = Operation(
            .importRuns, key: UnsafeRawPointer(Unmanaged.passUnretained(self).toOpaque()),
            keyByteCount: 0, hash: 0, partition: partition, operand: Int64(bitPattern: number))
        operation.family = family
        return operation
    }

    static func of(_ operation: UnsafePointer<Operation>) -> ImportedRuns {
        Unmanaged<ImportedRuns>.fromOpaque(operation.pointee.key).takeUnretainedValue()
    }
}

extension Family {
    /// How the family's records are coded in segments: its columns in order of declaration, and behind
    /// them a record's state if its rules need one.
    public var codings: [ColumnCoding] {
        var codings = columns.map { ColumnCoding($0) }
        if isKnownOnly || isDeletedFinal {
            codings.append(ColumnCoding(column: FamilyRecords.stateColumn))
        }
        return codings
    }

    /// Writes the coded row of a record that was set to `values`, one for each column.
    public func encode(_ values: UnsafePointer<Int64>, to row: UnsafeMutablePointer<UInt64>) {
        for (index, column) in columns.enumerated() {
            row[index] = ColumnCoding(column).encode(values[index])
        }
        if isKnownOnly || isDeletedFinal {
            row[columns.count] = isKnownOnly ? FamilyRecords.State.known : FamilyRecords.State.none
        }
    }
}

extension ColumnCoding {
    /// The coding of a family's column.
    init(_ column: Column) {
        self.init(
            column: column.number, defaultValue: column.defaultValue,
            isSigned: column.min < column.defaultValue)
    }
}
