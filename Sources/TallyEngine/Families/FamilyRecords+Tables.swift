import TallyCore

/// Everything that concerns all of a family's records: imports, merges, what is in memory.
extension FamilyRecords {
    // MARK: Imports

    /// Why imported records cannot be taken over; nil if they can.
    func refusal(of imported: ImportedRuns) -> Outcome.Status? {
        let kind: SegmentKind = keyKind == .integer ? .integer : .string
        let fits = imported.runs.allSatisfy { run in
            run.allSatisfy { segment in
                segment.header.kind == kind
                    && segment.header.columns.allSatisfy(codings.contains)
            }
        }
        guard keyKind != nil, columnCount > 0, fits else { return .schemaChanged }
        // What was deleted for ever would come back.
        return isDeletedFinal && recordCount > 0 ? .deletedKey : nil
    }

    mutating func take(_ imported: ImportedRuns) -> Outcome {
        if let refusal = refusal(of: imported) { return Outcome(refused: refusal) }
        makeTable()
        for run in imported.runs where !run.isEmpty {
            integers?.pointee.add(run: run.compactMap { $0 as? IntegerSegment })
            strings?.pointee.add(run: run.compactMap { $0 as? StringSegment })
        }
        return Outcome(.applied, wasPresent: true, value: 0)
    }

    // MARK: Everything

    /// Removes all records.
    mutating func removeAll() {
        integers?.pointee.removeAll()
        strings?.pointee.removeAll()
    }

    /// Calls `body` with every record's key and values, of those that a client may see.
    func forEach(_ body: (RecordKey, UnsafeBufferPointer<Int64>) -> Void) {
        let values = UnsafeMutableBufferPointer<Int64>.allocate(capacity: columnCount)
        defer { values.deallocate() }
        integers?.pointee.forEach { show(.integer(place.expand($0)), $1, values, body) }
        strings?.pointee.forEach { show(.string($0), $1, values, body) }
    }

    borrowing func show(
        _ key: RecordKey, _ found: UnsafePointer<UInt64>,
        _ values: UnsafeMutableBufferPointer<Int64>,
        _ body: (RecordKey, UnsafeBufferPointer<Int64>) -> Void
    ) {
        row.update(from: found, count: codings.count)
        guard isPresent else { return }
        for column in 0..<columnCount { values[column] = rules[column].coding.decode(row[column]) }
        body(key, UnsafeBufferPointer(values))
    }

    // MARK: Residency

    var segments: [Segment] { integers?.pointee.segments ?? strings?.pointee.segments ?? [] }

    /// How many segments are cold.
    @inline(__always)
    var coldCount: Int {
        if let integers { return integers.pointee.coldCount }
        return strings?.pointee.coldCount ?? 0
    }

    /// The block that must be read from the disk before `operation` can be applied without waiting.
    borrowing func missingBlock(_ operation: UnsafePointer<Operation>) -> ColdBlock? {
        guard operation.pointee.keyKind == keyKind, operation.pointee.kind != .importRuns else {
            return nil
        }
        if let integers {
            return integers.pointee.missingBlock(
                place.compact(operation.pointee.integerKey), hash: operation.pointee.hash)
        }
        return strings?.pointee.missingBlock(StringTable.Lookup(operation))
    }

    mutating func survey(decay: Double, _ body: (Segment, _ demand: Double) -> Void) {
        integers?.pointee.survey(decay: decay, body)
        strings?.pointee.survey(decay: decay, body)
    }

    mutating func replace(_ segment: Segment, with twin: Segment) -> Bool {
        if let integers { return integers.pointee.replace(segment, with: twin) }
        return strings?.pointee.replace(segment, with: twin) ?? false
    }

    // MARK: Merging

    /// Sets aside what has changed.
    ///
    /// - Returns: what is to be merged, nil if there are no records.
    mutating func freeze() -> TableMerge? {
        if let integers { return integers.pointee.freeze(family: number) }
        return strings?.pointee.freeze(family: number)
    }

    /// Takes over what a merge has made.
    mutating func adopt(_ segments: [Segment], of merge: TableMerge) {
        integers?.pointee.adopt(segments, of: merge)
        strings?.pointee.adopt(segments, of: merge)
    }

    /// Begins with these segments, in order of their keys.
    mutating func load(_ segments: [Segment]) {
        makeTable()
        integers?.pointee.load(segments.compactMap { $0 as? IntegerSegment })
        strings?.pointee.load(segments.compactMap { $0 as? StringSegment })
    }
}
