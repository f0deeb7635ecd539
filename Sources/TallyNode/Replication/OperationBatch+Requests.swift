public import TallyCore
public import TallyEngine

/// Batches on their way into a log, and out of it.
extension OperationBatch {
    // MARK: Writing

    /// Whether what begins at `index` is applied as one, and ends where.
    @inline(__always)
    public func unitEnd(_ index: Int) -> Int { index &+ Int(operations[index].unitCount) }

    /// Writes the operations of some partitions for their log, in order.
    ///
    /// A unit of several operations is one in each partition that it names; a transaction must name one.
    ///
    /// - Parameters:
    ///   - sections: Of the partitions in `partitions`, in order.
    ///   - isLocal: Tells which operations are executed here and now; whole units only.
    ///   - tickets: Where to note where each operation's outcome will be.
    /// - Returns: how many operations were written.
    public mutating func write(
        _ sections: UnsafeMutablePointer<RequestSection>, partitions: Range<Int>,
        isLocal: UnsafePointer<Bool>, _ tickets: UnsafeMutablePointer<RequestSection.Ticket>
    ) -> Int {
        var written = 0
        var index = 0
        while index < count {
            let end = unitEnd(index)
            defer { index = end }
            guard !isLocal[index] else { continue }
            let partition = Int(operations[index].partition)
            if operations[index].kind == .transaction {
                guard partitions.contains(partition) else { continue }
                let section = sections + (partition &- partitions.lowerBound)
                writeTransaction(index..<end, section, tickets)
                written &+= end &- index
            } else if end &- index > 1 {
                written &+= writeUnit(index..<end, sections, partitions, tickets)
            } else if partitions.contains(partition) {
                let section = sections + (partition &- partitions.lowerBound)
                tickets[index] = section.pointee.append(operations + index, rows, combines: true)
                written &+= 1
            }
        }
        return written
    }

    private mutating func writeTransaction(
        _ range: Range<Int>, _ section: UnsafeMutablePointer<RequestSection>,
        _ tickets: UnsafeMutablePointer<RequestSection.Ticket>
    ) {
        let first = range.lowerBound
        let count = range.count - 1
        if let once = request(operations + first) {
            tickets[first] = section.pointee.beginOnce(
                once.token, fingerprint: once.fingerprint, count: count)
        } else {
            tickets[first] = section.pointee.beginTransaction(count: count)
        }
        var index = first + 1
        while index < range.upperBound {
            let end = unitEnd(index)
            if end - index > 1 {
                section.pointee.beginUnit(count: end - index, operations[index].unitCondition)
            }
            for member in index..<end {
                tickets[member] = section.pointee.append(
                    operations + member, rows, combines: false)
            }
            index = end
        }
    }

    private mutating func writeUnit(
        _ range: Range<Int>, _ sections: UnsafeMutablePointer<RequestSection>,
        _ partitions: Range<Int>, _ tickets: UnsafeMutablePointer<RequestSection.Ticket>
    ) -> Int {
        var written = 0
        for partition in partitions {
            let members = range.filter { Int(operations[$0].partition) == partition }
            guard !members.isEmpty else { continue }
            let section = sections + (partition - partitions.lowerBound)
            if members.count > 1 || operations[range.lowerBound].unitCondition != .none {
                section.pointee.beginUnit(
                    count: members.count, operations[range.lowerBound].unitCondition)
            }
            for member in members {
                tickets[member] = section.pointee.append(
                    operations + member, rows, combines: false)
            }
            written += members.count
        }
        return written
    }

    // MARK: Reading

    /// Appends what a section of a log's entry asks for. The bytes must stay until the batch has been
    /// executed.
    ///
    /// - Parameter scratch: Room for `EntryReader.rowsCapacity` integers.
    /// - Throws: `EntryError`; the batch then holds a part.
    public mutating func appendRequests(
        _ section: UnsafeRawBufferPointer, partition: Int, scratch: UnsafeMutablePointer<Int64>
    ) throws(EntryError) {
        var reader = EntryReader(
            section, place: PartitionPlace(number: partition, count: partitionCount),
            hasher: hasher, rows: scratch)
        var open = OpenUnits()
        while true {
            let offset = reader.offset
            guard let item = try reader.nextRequest() else { break }
            guard append(item, scratch, &open) else { throw .malformed(offset: offset) }
        }
        guard open.unit == nil, open.transaction == nil else {
            throw .malformed(offset: section.count)
        }
    }

    /// What has begun and not ended while a section is read.
    private struct OpenUnits {
        var unit: (first: Int, end: Int, condition: Operation.UnitCondition)?
        var transaction: (first: Int, end: Int, once: (token: RequestToken, fingerprint: UInt64)?)?
        /// Where the words of the latest `readForMove` are.
        var move: Int64?
    }

    /// - Returns: false if it makes no sense here.
    @inline(__always)
    private mutating func append(
        _ item: RequestItem, _ scratch: UnsafeMutablePointer<Int64>, _ open: inout OpenUnits
    ) -> Bool {
        switch item {
        case .operation(let operation):
            guard appendWithRows(operation, scratch, &open) else { return false }
        case .run(let operation):
            guard open.unit == nil, open.transaction == nil else { return false }
            appendRun(operation)
        case .move(var operation):
            guard let move = open.move else { return false }
            operation.operand = move
            append(operation)
        case .unit(let memberCount, let condition):
            guard open.unit == nil else { return false }
            open.unit = (count, count + memberCount, condition)
        case .transaction(let memberCount):
            guard open.unit == nil, open.transaction == nil else { return false }
            let first = beginTransaction()
            open.transaction = (first, count + memberCount, nil)
        case .once(let token, let fingerprint, let memberCount):
            guard open.unit == nil, open.transaction == nil else { return false }
            let first = beginTransaction()
            open.transaction = (first, count + memberCount, (token, fingerprint))
        }
        if open.unit == nil, open.transaction == nil { return true }
        return close(&open)
    }

    private mutating func close(_ open: inout OpenUnits) -> Bool {
        if let unit = open.unit, count == unit.end {
            makeUnit(from: unit.first, condition: unit.condition)
            open.unit = nil
        }
        guard open.unit == nil, let transaction = open.transaction, count >= transaction.end else {
            return true
        }
        open.transaction = nil
        guard count == transaction.end else { return false }
        if let once = transaction.once {
            return endTransaction(
                from: transaction.first, once: once.token, fingerprint: once.fingerprint)
        }
        endTransaction(from: transaction.first)
        return true
    }

    /// Appends reading a number and then adding to it.
    private mutating func appendRun(_ operation: Operation) {
        var read = operation
        read.kind = .get
        read.count = 1
        read.operand = 0
        append(read)
        append(operation)
    }

    /// Appends an operation whose rows are in `scratch`.
    @inline(__always)
    private mutating func appendWithRows(
        _ operation: Operation, _ scratch: UnsafeMutablePointer<Int64>, _ open: inout OpenUnits
    ) -> Bool {
        if operation.kind == .add || operation.kind == .get {
            append(operation)
            return true
        }
        return appendOther(operation, scratch, &open)
    }

    @inline(never)
    private mutating func appendOther(
        _ operation: Operation, _ scratch: UnsafeMutablePointer<Int64>, _ open: inout OpenUnits
    ) -> Bool {
        var operation = operation
        let copied: Int
        let room: Int
        switch operation.kind {
        case .remember, .importRuns, .transaction, .countKeys, .setMoved, .deleteMoved:
            return false
        case .setColumns, .setRecord: (copied, room) = (2 * Int(operation.count), 0)
        case .readRecord: (copied, room) = (0, Int(operation.count))
        case .extendedSet: (copied, room) = (ExtendedSet.wordCount, 0)
        case .extendedAdd: (copied, room) = (ExtendedAdd.wordCount, 1)
        case .readForMove: (copied, room) = (ExtendedSet.wordCount, 1)
        default:
            append(operation)
            return true
        }
        operation.operand = appendWords(copied + room) { words in
            words.update(from: scratch, count: copied)
            (words + copied).update(repeating: 0, count: room)
        }
        if operation.kind == .readForMove { open.move = operation.operand }
        append(operation)
        return true
    }

    // MARK: Outcomes

    /// Gives an operation an outcome that changed nothing.
    public mutating func refuse(_ index: Int, _ status: Outcome.Status) {
        outcomes[index] = Outcome(refused: status)
    }

    /// Where outcomes are written of operations that others have been given; good until the batch changes.
    public var places: Places {
        Places(operations: operations, outcomes: outcomes, rows: rows, count: count)
    }

    /// A batch's memory, without the batch.
    public struct Places {
        /// The operations.
        public let operations: UnsafeMutablePointer<Operation>
        fileprivate let outcomes: UnsafeMutablePointer<Outcome>
        fileprivate let rows: UnsafeMutablePointer<Int64>
        /// How many operations there are.
        public let count: Int

        /// Gives an operation its outcome.
        public func setOutcome(_ index: Int, _ outcome: Outcome) { outcomes[index] = outcome }

        /// Gives an operation an outcome that changed nothing.
        public func refuse(_ index: Int, _ status: Outcome.Status) {
            outcomes[index] = Outcome(refused: status)
        }
    }
}

extension OperationBatch.Places {

    /// Takes over what became of an operation from the batch that was applied for it.
    ///
    /// - Parameter first: Where the operations of its section begin there.
    @inline(__always)
    public func takeOutcome(
        _ index: Int, _ ticket: RequestSection.Ticket, of applied: OperationBatch.Results,
        first: Int
    ) {
        let place = first &+ Int(ticket.index)
        guard let element = ticket.element else {
            outcomes[index] = applied.outcomes[place]
            takeRows(index, of: applied, place)
            return
        }
        outcomes[index] = RunOutcome(
            base: applied.outcomes[place &- 1].value, run: applied.operations + place,
            outcome: applied.outcomes[place]
        ).part(from: element, count: operations[index].count)
    }

    /// Takes over what an operation has left in rows.
    @inline(__always)
    private func takeRows(_ index: Int, of applied: OperationBatch.Results, _ place: Int) {
        switch operations[index].kind {
        case .readRecord, .extendedAdd: break
        default: return
        }
        let source = applied.rows + Int(applied.operations[place].operand)
        let target = rows + Int(operations[index].operand)
        if operations[index].kind == .readRecord {
            target.update(from: source, count: Int(operations[index].count))
        } else {
            target[ExtendedAdd.differenceWord] = source[ExtendedAdd.differenceWord]
        }
    }
}

/// What became of a run of equal additions, of which each has an outcome of its own.
struct RunOutcome {
    /// The number before the run.
    let base: Int64
    let run: UnsafePointer<Operation>
    /// Of the run as a whole.
    let outcome: Outcome

    /// What became of `count` additions behind the first `element`.
    func part(from element: UInt32, count: UInt32) -> Outcome {
        guard outcome.status == .applied, element < outcome.acceptedCount else {
            guard outcome.status == .applied else { return outcome }
            var refused = Outcome(refused: run.pointee.family == 0 ? .overflow : .outOfBounds)
            refused.sequence = outcome.sequence
            return refused
        }
        let accepted = min(count, outcome.acceptedCount - element)
        var part = outcome
        part.wasPresent = element > 0 || outcome.wasPresent
        part.acceptedCount = accepted
        part.value = sum(after: Int64(element) + Int64(accepted))
        return part
    }

    /// The number after so many additions; one that a bound cut short ends at the bound, as the run does.
    private func sum(after count: Int64) -> Int64 {
        let (product, isTooLarge) = run.pointee.operand.multipliedReportingOverflow(by: count)
        let (sum, overflows) = base.addingReportingOverflow(product)
        if isTooLarge || overflows { return outcome.value }
        return run.pointee.operand >= 0 ? min(sum, outcome.value) : max(sum, outcome.value)
    }
}
