import TallyCore

/// How what has changed becomes segments, and which segments are in memory.
extension StringTable {
    // MARK: Merging

    /// Sets aside what has changed, to be merged; changes go on in a new memtable.
    public mutating func freeze() {
        if memtable.count > 0 { replaceMemtable(columns) }
    }

    mutating func replaceMemtable(_ columns: [ColumnCoding]) {
        var fresh = StringMemtable(columnCount: columns.count, hasher: hasher)
        swap(&fresh, &memtable)
        guard fresh.count > 0 else { return }
        frozen.insert(
            Layer(
                content: .memtable(FrozenStringMemtable(fresh, columns: self.columns)), map: nil,
                records: memtableRecords), at: 0)
        memtableRecords = 0
        noteBase()
    }

    /// Puts records over all that there are, as `IntegerTable.add(run:)`.
    public mutating func add(run segments: [StringSegment]) {
        let run = StringRun(segments)
        add(.run(run), recordCount: run.recordCount)
    }

    /// Puts records over all that there are, to be merged with them.
    ///
    /// - Parameter recordCount: How many more there are then.
    mutating func add(_ content: StringLayer, recordCount: Int) {
        freeze()
        frozen.insert(
            Layer(
                content: content, map: ColumnMap(from: content.columns, to: columns),
                records: recordCount), at: 0)
        self.recordCount += recordCount
        noteBase()
    }

    mutating func noteBase() {
        frozenBytes = frozen.reduce(0) { $0 + $1.content.allocatedBytes }
        segmentBytes = segments.reduce(0) { $0 + $1.allocatedBytes }
        coldCount = segments.count { $0.isCold }
        hasBase = !frozen.isEmpty || !segments.isEmpty
    }

    /// Goes on with other columns, as `IntegerTable.setColumns`.
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
    }

    /// What is to be merged, which may go on elsewhere meanwhile.
    public var mergeInput: StringMerge {
        StringMerge(
            columns: columns, keepsZeroRows: keepsZeroRows, frozen: frozen.map(\.content),
            segments: segments, floor: floor)
    }

    /// Takes over what a merge of all that was frozen has made.
    ///
    /// - Parameter merged: How many memtables it had merged, the oldest ones.
    public mutating func adopt(_ segments: [StringSegment], merged: Int) {
        frozen.removeLast(merged)
        recordCount = frozen.reduce(memtableRecords) { $0 + $1.records }
        for segment in segments { recordCount += Int(segment.header.recordCount) }
        self.segments = demand.follow(self.segments, segments)
        makeMaps()
        noteBase()
    }

    // MARK: Residency

    /// Calls `body` with every segment and how much it is asked for, as `IntegerTable.survey`.
    mutating func survey(decay: Double, _ body: (Segment, _ demand: Double) -> Void) {
        demand.survey(segments, decay: decay, body)
    }

    /// Puts a segment's twin in its place, as `IntegerTable.replace`.
    mutating func replace(_ segment: Segment, with twin: Segment) -> Bool {
        guard let twin = twin as? StringSegment,
            let index = segments.firstIndex(where: { $0 === segment })
        else { return false }
        segments[index] = twin
        noteBase()
        return true
    }

    /// Begins with these segments, in order of their keys.
    public mutating func load(_ segments: [StringSegment]) {
        precondition(recordCount == 0 && memtable.count == 0, "loaded into a table with records")
        adopt(segments, merged: 0)
    }

    // MARK: Everything

    /// Calls `body` with every key that starts with `prefix` and its values, in no order.
    ///
    /// - Complexity: O(changed records + records of blocks that may have such keys).
    public borrowing func forEach(
        startingWith prefix: [UInt8] = [],
        _ body: (UnsafeRawBufferPointer, UnsafePointer<UInt64>) -> Void
    ) {
        visit(startingWith: prefix) { key, row in
            body(key, row)
            return true
        }
    }

    /// As `forEach`, until `body` says that it has seen enough.
    ///
    /// - Parameter readingAll: Whether blocks are read from the disk; otherwise `body` is called with what
    ///   such a block's keys begin with.
    borrowing func visit(
        startingWith prefix: [UInt8], readingAll: Bool = true,
        _ body: (UnsafeRawBufferPointer, UnsafePointer<UInt64>) -> Bool
    ) {
        let row = UnsafeMutablePointer<UInt64>.allocate(capacity: SegmentHeader.columnsMax)
        defer { row.deallocate() }
        var goesOn = true
        memtable.forEach { key, record in
            guard goesOn, key.starts(with: prefix), !StringMemtable.isRemoved(record) else {
                return
            }
            memtable.read(record, row)
            goesOn = body(key, row)
        }
        for (index, layer) in frozen.enumerated() where goesOn {
            layer.content.forEach { key, found in
                guard goesOn, key.starts(with: prefix), !isKnown(key, before: index), let found,
                    take(
                        row, layer.map,
                        { $0.update(from: found, count: layer.content.columns.count) })
                else { return }
                goesOn = body(key, row)
            }
        }
        for index in segmentRange(startingWith: prefix) {
            let view = segments[index].view
            let blocks = prefix.withUnsafeBytes { view.blocks(startingWith: $0) }
            for number in blocks where goesOn {
                if !readingAll, view.isCold, let cold = coldBlock(index, number, hash: nil),
                    !cache.contains(cold.address)
                {
                    goesOn = body(view.separator(number), row)
                    continue
                }
                withBlock(index, number) { layout in
                    var rank = 0
                    layout.forEachKey { key in
                        defer { rank += 1 }
                        guard goesOn, key.starts(with: prefix),
                            !isKnown(key, before: frozen.count),
                            take(row, maps[index], { layout.rows.read(rank, $0) })
                        else { return }
                        goesOn = body(key, row)
                    }
                }
            }
        }
    }

    /// Whether the memtable or one of the first `layers` frozen ones has a record of `key`.
    borrowing func isKnown(_ key: UnsafeRawBufferPointer, before layers: Int) -> Bool {
        // An empty key still has an address.
        guard let start = key.baseAddress else { return false }
        let hash = hasher.hash(key)
        if memtable.find(start, key.count, hash: hash) != nil { return true }
        let lookup = Lookup(start, count: key.count, hash: hash)
        return frozen[..<layers].contains { $0.content.read(lookup, spareRow) != .unknown }
    }

    /// Traps if any internal promise is broken. For tests.
    public borrowing func checkInvariants() {
        memtable.checkInvariants()
        guard !hasBase else { return }
        // What has been removed may still be noted, if a merge has left nothing of it.
        var live = 0
        memtable.forEach { _, record in if !StringMemtable.isRemoved(record) { live += 1 } }
        precondition(live == recordCount, "table miscounts its records")
    }
}
