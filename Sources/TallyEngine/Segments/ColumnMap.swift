/// Takes rows of one set of columns to rows of another: columns that came since are at their default,
/// those that have gone are left out.
final class ColumnMap: @unchecked Sendable {
    // Sendable because nothing ever changes.

    /// The columns of rows as they are found.
    let source: [ColumnCoding]
    let sourceCount: Int
    private let targetCount: Int
    /// For each wanted column its place in a row as found, −1 for none.
    private let places: UnsafeMutablePointer<Int>

    /// A map between two sets of columns, nil if they are the same.
    init?(from source: [ColumnCoding], to target: [ColumnCoding]) {
        if source == target { return nil }
        self.source = source
        sourceCount = source.count
        targetCount = target.count
        places = .allocate(capacity: target.count)
        for (index, column) in target.enumerated() {
            places[index] = source.firstIndex { $0.column == column.column } ?? -1
        }
    }

    deinit { places.deallocate() }

    /// Writes the wanted form of `found` to `row`.
    @inline(__always)
    func apply(_ found: UnsafePointer<UInt64>, _ row: UnsafeMutablePointer<UInt64>) {
        for index in 0..<targetCount {
            let place = places[index]
            row[index] = place < 0 ? 0 : found[place]
        }
    }
}
