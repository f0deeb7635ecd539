import TallyCore

/// One partition's families: the schema, and each family's records.
struct FamilySet: ~Copyable {
    private(set) var schema = Schema()
    /// In order of their numbers.
    private var families: UnsafeMutablePointer<FamilyRecords>
    private var count = 0
    private var capacity = 4
    private let hasher: KeyHasher
    private let cache: BlockCache
    private let place: PartitionPlace
    /// Memory that all records take, bytes.
    private(set) var allocatedBytes = 0
    /// How many segments are cold.
    private(set) var coldCount = 0

    init(place: PartitionPlace, hasher: KeyHasher, cache: BlockCache) {
        self.cache = cache
        self.place = place
        self.hasher = hasher
        families = .allocate(capacity: capacity)
    }

    deinit {
        families.deinitialize(count: count)
        families.deallocate()
    }

    var recordCount: Int { (0..<count).reduce(0) { $0 + families[$1].recordCount } }

    /// Memory that changes since the last merge take, and segments, bytes.
    var tableBytes: (changed: Int, segments: Int) {
        (0..<count).reduce((0, 0)) { sum, index in
            (sum.0 + families[index].changedBytes, sum.1 + families[index].segmentBytes)
        }
    }

    /// The family of this number, nil if there is none.
    @inline(__always)
    borrowing func find(_ number: UInt32) -> UnsafeMutablePointer<FamilyRecords>? {
        // Without dropped families it is at its number.
        let guess = Int(number) &- 1
        if guess >= 0, guess < count, families[guess].number == number { return families + guess }
        return search(number)
    }

    @inline(never)
    private borrowing func search(_ number: UInt32) -> UnsafeMutablePointer<FamilyRecords>? {
        var low = 0
        var high = count
        while low < high {
            let middle = (low + high) / 2
            if families[middle].number < number { low = middle + 1 } else { high = middle }
        }
        return low < count && families[low].number == number ? families + low : nil
    }

    // MARK: Records

    @inline(__always)
    mutating func prefetch(_ operation: UnsafePointer<Operation>) {
        find(operation.pointee.family)?.pointee.prefetch(operation.pointee.hash)
    }

    @inline(__always)
    mutating func locate(
        _ step: FamilyRecords.Step, _ operation: UnsafePointer<Operation>,
        _ place: inout IntegerTable.Lookup
    ) {
        find(operation.pointee.family)?.pointee.locate(step, operation, &place)
    }

    @inline(__always)
    mutating func apply(
        _ operation: UnsafePointer<Operation>, _ place: IntegerTable.Lookup,
        _ rows: UnsafeMutablePointer<Int64>
    ) -> Outcome {
        guard let family = find(operation.pointee.family) else {
            return Outcome(refused: .schemaChanged)
        }
        let bytesBefore = family.pointee.allocatedBytes
        let outcome = family.pointee.apply(operation, place, rows)
        allocatedBytes &+= family.pointee.allocatedBytes &- bytesBefore
        return outcome
    }

    mutating func wouldCreate(_ operation: UnsafePointer<Operation>) -> Bool {
        find(operation.pointee.family)?.pointee.wouldCreate(operation) ?? false
    }

    mutating func isAbsent(_ operation: UnsafePointer<Operation>) -> Bool {
        find(operation.pointee.family)?.pointee.isAbsent(operation) ?? true
    }

    mutating func refusal(
        of operation: UnsafePointer<Operation>, _ rows: UnsafeMutablePointer<Int64>
    ) -> Outcome.Status? {
        guard let family = find(operation.pointee.family) else { return .schemaChanged }
        return family.pointee.refusal(of: operation, rows)
    }

    mutating func removeAll() {
        for index in 0..<count { families[index].removeAll() }
        allocatedBytes = 0
        noteCold()
    }

    /// Calls `body` with every record of a family.
    borrowing func forEach(
        family number: UInt32, _ body: (RecordKey, UnsafeBufferPointer<Int64>) -> Void
    ) {
        find(number)?.pointee.forEach(body)
    }

    // MARK: Residency

    var segments: [Segment] { (0..<count).flatMap { families[$0].segments } }

    borrowing func missingBlock(_ operation: UnsafePointer<Operation>) -> ColdBlock? {
        find(operation.pointee.family)?.pointee.missingBlock(operation)
    }

    mutating func survey(decay: Double, _ body: (Segment, _ demand: Double) -> Void) {
        for index in 0..<count { families[index].survey(decay: decay, body) }
    }

    private mutating func noteCold() {
        coldCount = (0..<count).reduce(0) { $0 + families[$1].coldCount }
    }

    mutating func replace(_ segment: Segment, with twin: Segment) -> Bool {
        guard let family = find(segment.header.family) else { return false }
        let bytesBefore = family.pointee.allocatedBytes
        guard family.pointee.replace(segment, with: twin) else { return false }
        allocatedBytes &+= family.pointee.allocatedBytes &- bytesBefore
        noteCold()
        return true
    }

    // MARK: Merging

    /// Sets aside what has changed in all families.
    mutating func freeze() -> [TableMerge] {
        (0..<count).compactMap { families[$0].freeze() }
    }

    mutating func adopt(_ segments: [Segment], of merge: TableMerge) {
        guard let family = find(merge.family) else { return }
        let bytesBefore = family.pointee.allocatedBytes
        family.pointee.adopt(segments, of: merge)
        allocatedBytes &+= family.pointee.allocatedBytes &- bytesBefore
        noteCold()
    }

    /// Begins with a schema, before there is any record.
    mutating func load(_ schema: Schema) {
        precondition(count == 0, "a schema loaded over another")
        self.schema = schema
        follow([])
    }

    /// Begins a family with these segments.
    ///
    /// - Returns: false if the schema has no such family.
    mutating func load(_ segments: [Segment], family number: UInt32) -> Bool {
        guard let family = find(number) else { return false }
        family.pointee.load(segments)
        allocatedBytes &+= family.pointee.allocatedBytes
        noteCold()
        return true
    }

    // MARK: Schema

    /// Changes the schema as the text says.
    ///
    /// - Returns: false if that cannot be; nothing has then changed.
    /// - Complexity: O(families × columns), whatever the number of records.
    mutating func change(_ text: UnsafeRawBufferPointer) -> Bool {
        guard let change = SchemaChange(bytes: text) else { return false }
        return self.change(change)
    }

    /// Changes the schema; false if that cannot be.
    mutating func change(_ change: SchemaChange) -> Bool {
        let before = schema.families.map(\.number)
        do throws(SchemaError) {
            try schema.apply(change)
        } catch {
            return false
        }
        let bytesBefore = memoryInUse
        follow(before)
        allocatedBytes &+= memoryInUse &- bytesBefore
        noteCold()
        return true
    }

    private var memoryInUse: Int { (0..<count).reduce(0) { $0 + families[$1].allocatedBytes } }

    /// Makes the families what the schema says they are.
    private mutating func follow(_ before: [UInt32]) {
        let after = schema.families
        if let dropped = before.firstIndex(where: { old in !after.contains { $0.number == old } }) {
            (families + dropped).deinitialize(count: 1)
            (families + dropped).moveInitialize(
                from: families + dropped + 1, count: count - dropped - 1)
            count -= 1
        }
        for (index, family) in after.enumerated() {
            if index == count { append(family) }
            if families[index].version != family.version {
                families[index].change(to: family)
            }
        }
    }

    private mutating func append(_ family: Family) {
        if count == capacity {
            capacity *= 2
            let grown = UnsafeMutablePointer<FamilyRecords>.allocate(capacity: capacity)
            grown.moveInitialize(from: families, count: count)
            families.deallocate()
            families = grown
        }
        (families + count).initialize(
            to: FamilyRecords(family, place: place, hasher: hasher, cache: cache))
        count += 1
    }
}
