import TallyCore

/// How what has changed becomes segments, and which segments are in memory.
extension IntegerTable {
    // MARK: Merging

    /// Sets aside what has changed, to be merged; changes go on in a new memtable.
    public mutating func freeze() {
        if memtable.count > 0 { replaceMemtable(columns) }
    }

    mutating func replaceMemtable(_ columns: [ColumnCoding]) {
        var fresh = IntegerMemtable(columnCount: columns.count, hasher: hasher)
        swap(&fresh, &memtable)
        guard fresh.count > 0 else { return }
        frozen.insert(
            Layer(
                content: .memtable(FrozenMemtable(fresh, columns: self.columns)), map: nil,
                records: memtableRecords), at: 0)
        memtableRecords = 0
        noteFrozen()
    }

    /// Puts records over all that there are, in segments of this table's columns, in order of their
    /// keys. Until the next merge each is counted as one more.
    public mutating func add(run segments: [IntegerSegment]) {
        freeze()
        let run = IntegerRun(segments)
        frozen.insert(
            Layer(
                content: .run(run), map: ColumnMap(from: run.columns, to: columns),
                records: run.recordCount), at: 0)
        recordCount += run.recordCount
        noteFrozen()
    }

    mutating func noteFrozen() {
        frozenBytes = frozen.reduce(0) { $0 + $1.content.allocatedBytes }
    }

    /// Goes on with other columns. What there is stays as it is and is read through a map, so this
    /// takes no time that depends on the number of records.
    ///
    /// - Parameter columns: Those that stay keep their coding.
    public mutating func setColumns(_ columns: [ColumnCoding]) {
        precondition(!columns.isEmpty, "a table without columns")
        replaceMemtable(columns)
        self.columns = columns
        columnCount = columns.count
        scratch.deallocate()
        scratch = .allocate(capacity: columnCount)
        for index in frozen.indices {
            frozen[index].map = ColumnMap(from: frozen[index].content.columns, to: columns)
        }
        makeMaps()
    }

    mutating func makeMaps() {
        maps = segments.map { ColumnMap(from: $0.header.columns, to: columns) }
        hasMaps = maps.contains { $0 != nil }
    }

    /// What is to be merged, which may go on elsewhere meanwhile.
    public var mergeInput: IntegerMerge {
        IntegerMerge(columns: columns, frozen: frozen.map(\.content), segments: segments)
    }

    /// Takes over what a merge of all that was frozen has made.
    ///
    /// - Parameter merged: How many memtables it had merged, the oldest ones.
    public mutating func adopt(_ segments: [IntegerSegment], merged: Int) {
        frozen.removeLast(merged)
        recordCount = frozen.reduce(memtableRecords) { $0 + $1.records }
        for segment in segments { recordCount += Int(segment.header.recordCount) }
        self.segments = demand.follow(self.segments, segments)
        segmentCount = segments.count
        noteFrozen()
        firstKeys.deallocate()
        views.deallocate()
        firstKeys = .allocate(capacity: max(1, segments.count))
        views = .allocate(capacity: max(1, segments.count))
        for (index, segment) in self.segments.enumerated() {
            firstKeys[index] = segment.header.firstKey
            (views + index).initialize(to: segment.view)
        }
        noteSegments()
        makeMaps()
    }

    mutating func noteSegments() {
        segmentBytes = segments.reduce(0) { $0 + $1.allocatedBytes }
        coldCount = segments.count { $0.isCold }
    }

    // MARK: Residency

    /// Calls `body` with every segment and how much it is asked for, of late and before.
    ///
    /// - Complexity: O(segments).
    mutating func survey(decay: Double, _ body: (Segment, _ demand: Double) -> Void) {
        demand.survey(segments, decay: decay, body)
    }

    /// Puts a segment's twin in its place.
    ///
    /// - Returns: false if the segment is not there any more.
    mutating func replace(_ segment: Segment, with twin: Segment) -> Bool {
        guard let twin = twin as? IntegerSegment,
            let index = segments.firstIndex(where: { $0 === segment })
        else { return false }
        segments[index] = twin
        views[index] = twin.view
        noteSegments()
        return true
    }

    /// Removes everything.
    public mutating func removeAll() {
        var fresh = IntegerMemtable(columnCount: columnCount, hasher: hasher)
        swap(&fresh, &memtable)
        memtableRecords = 0
        generation += 1
        adopt([], merged: frozen.count)
    }

    /// Begins with these segments, in order of their keys.
    public mutating func load(_ segments: [IntegerSegment]) {
        precondition(recordCount == 0 && memtable.count == 0, "loaded into a table with records")
        adopt(segments, merged: 0)
    }

    // MARK: Everything

    /// Calls `body` with every key and its row, in no order.
    ///
    /// - Complexity: O(records).
    public borrowing func forEach(_ body: (UInt64, UnsafePointer<UInt64>) -> Void) {
        let row = UnsafeMutablePointer<UInt64>.allocate(capacity: columnCount)
        defer { row.deallocate() }
        memtable.forEach { key, found in if !isZero(found) { body(key, found) } }
        for (index, layer) in frozen.enumerated() {
            layer.content.forEach { key, found in
                visit(key, found, layer.map, row, newer: index, body)
            }
        }
        for (index, segment) in segments.enumerated() {
            // A cold one is read as a whole; what cannot be read is left out.
            (try? segment.warmed() as? IntegerSegment)?.forEach { key, found in
                visit(key, found, maps[index], row, newer: frozen.count, body)
            }
        }
    }

    /// Calls `body` with a row as it was found, unless the memtable or one of the first `layers` frozen
    /// ones has another.
    borrowing func visit(
        _ key: UInt64, _ found: UnsafePointer<UInt64>, _ map: ColumnMap?,
        _ row: UnsafeMutablePointer<UInt64>, newer layers: Int,
        _ body: (UInt64, UnsafePointer<UInt64>) -> Void
    ) {
        let hash = hasher.hash(key)
        guard memtable.find(key, hash: hash) == nil,
            !frozen[..<layers].contains(where: { $0.content.contains(key, hash: hash) })
        else { return }
        if let map {
            map.apply(found, row)
        } else {
            row.update(from: found, count: columnCount)
        }
        if !isZero(row) { body(key, row) }
    }
}
