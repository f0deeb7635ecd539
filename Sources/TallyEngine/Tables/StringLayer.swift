import TallyCore

/// Some records over older ones, waiting to be merged.
enum StringLayer: Sendable {
    /// What clients have changed.
    case memtable(FrozenStringMemtable)
    /// What was imported.
    case run(StringRun)
    /// The latest requests of a `TokenWindow`.
    case tokens(FrozenTokenLog)

    /// What a layer says about a key.
    enum Reading {
        case unknown
        case removed
        case found
    }

    var columns: [ColumnCoding] {
        switch self {
        case .memtable(let frozen): frozen.columns
        case .run(let run): run.columns
        case .tokens: OnceRows.columns
        }
    }

    /// How many records there are, removed ones too.
    var recordCount: Int {
        switch self {
        case .memtable(let frozen): frozen.memtable.count
        case .run(let run): run.recordCount
        case .tokens(let log): log.rowCount
        }
    }

    var allocatedBytes: Int {
        switch self {
        case .memtable(let frozen): frozen.memtable.allocatedBytes
        case .run(let run): run.segments.reduce(0) { $0 + $1.allocatedBytes }
        case .tokens(let log): log.allocatedBytes
        }
    }

    /// Writes the row of `key`, of this layer's columns, if it has one.
    func read(_ key: StringTable.Lookup, _ row: UnsafeMutablePointer<UInt64>) -> Reading {
        switch self {
        case .memtable(let frozen):
            guard let record = frozen.memtable.find(key.start, key.count, hash: key.hash) else {
                return .unknown
            }
            if StringMemtable.isRemoved(record) { return .removed }
            frozen.memtable.read(record, row)
            return .found
        case .run(let run): return run.read(key.bytes, row) ? .found : .unknown
        case .tokens(let log): return log.read(key.bytes, row) ? .found : .unknown
        }
    }

    /// Calls `body` with every key and its row, nil for a key that has been removed.
    func forEach(_ body: (UnsafeRawBufferPointer, UnsafePointer<UInt64>?) -> Void) {
        switch self {
        case .memtable(let frozen):
            let row = UnsafeMutablePointer<UInt64>.allocate(capacity: frozen.columns.count)
            defer { row.deallocate() }
            frozen.memtable.forEach { key, record in
                guard !StringMemtable.isRemoved(record) else { return body(key, nil) }
                frozen.memtable.read(record, row)
                body(key, row)
            }
        case .run(let run): for segment in run.segments { segment.forEach { body($0, $1) } }
        case .tokens(let log): log.forEach { body($0, $1) }
        }
    }
}

/// Imported segments of one set of columns, in order of their keys.
final class StringRun: Sendable {
    let segments: [StringSegment]
    let columns: [ColumnCoding]
    let recordCount: Int

    init(_ segments: [StringSegment]) {
        precondition(!segments.isEmpty, "a run without records")
        self.segments = segments
        columns = segments[0].header.columns
        recordCount = segments.reduce(0) { $0 + Int($1.header.recordCount) }
    }

    func read(_ key: UnsafeRawBufferPointer, _ row: UnsafeMutablePointer<UInt64>) -> Bool {
        var low = 0
        var high = segments.count
        while high - low > 1 {
            let middle = (low + high) / 2
            if Bytes.isLess(key, segments[middle].view.separator(0)) {
                high = middle
            } else {
                low = middle
            }
        }
        let view = segments[low].view
        return view.read(key, block: view.blockNumber(key), row)
    }
}
