import TallyCore

/// Some records over older ones, waiting to be merged.
enum IntegerLayer: Sendable {
    /// What clients have changed.
    case memtable(FrozenMemtable)
    /// What was imported.
    case run(IntegerRun)

    var columns: [ColumnCoding] {
        switch self {
        case .memtable(let frozen): frozen.columns
        case .run(let run): run.columns
        }
    }

    /// How many rows there are, those that say that there is no record included.
    var count: Int {
        switch self {
        case .memtable(let frozen): frozen.memtable.count
        case .run(let run): run.recordCount
        }
    }

    var allocatedBytes: Int {
        switch self {
        case .memtable(let frozen): frozen.memtable.allocatedBytes
        case .run(let run): run.segments.reduce(0) { $0 + $1.allocatedBytes }
        }
    }

    /// Writes the row of `key`, of this layer's columns.
    ///
    /// - Returns: false if this layer says nothing about the key.
    func read(_ key: UInt64, hash: UInt64, _ row: UnsafeMutablePointer<UInt64>) -> Bool {
        switch self {
        case .memtable(let frozen):
            guard let found = frozen.memtable.find(key, hash: hash) else { return false }
            found.read(row, frozen.columns.count)
            return true
        case .run(let run): return run.read(key, row)
        }
    }

    /// Whether this layer says anything about the key.
    func contains(_ key: UInt64, hash: UInt64) -> Bool {
        switch self {
        case .memtable(let frozen): frozen.memtable.find(key, hash: hash) != nil
        case .run(let run): run.contains(key)
        }
    }

    /// Calls `body` with every key and its row.
    func forEach(_ body: (UInt64, UnsafePointer<UInt64>) -> Void) {
        switch self {
        case .memtable(let frozen): frozen.memtable.forEach { body($0, $1) }
        case .run(let run): for segment in run.segments { segment.forEach(body) }
        }
    }
}

/// Imported segments of one set of columns, in order of their keys.
final class IntegerRun: Sendable {
    let segments: [IntegerSegment]
    let columns: [ColumnCoding]
    let recordCount: Int

    init(_ segments: [IntegerSegment]) {
        precondition(!segments.isEmpty, "a run without records")
        self.segments = segments
        columns = segments[0].header.columns
        recordCount = segments.reduce(0) { $0 + Int($1.header.recordCount) }
    }

    /// The segment and block that hold `key` if any do.
    private func place(_ key: UInt64) -> (view: IntegerSegmentView, block: Int) {
        var low = 0
        var high = segments.count
        while high - low > 1 {
            let middle = (low + high) / 2
            if segments[middle].header.firstKey > key { high = middle } else { low = middle }
        }
        let view = segments[low].view
        return (view, view.blockNumber(key))
    }

    func read(_ key: UInt64, _ row: UnsafeMutablePointer<UInt64>) -> Bool {
        let (view, block) = place(key)
        return view.read(key, block: block, row)
    }

    func contains(_ key: UInt64) -> Bool {
        let (view, block) = place(key)
        guard key >= view.firstKeys[block] else { return false }
        return view.layout(block).rank(key &- view.firstKeys[block]) != nil
    }
}
