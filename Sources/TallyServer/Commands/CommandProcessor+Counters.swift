import TallyCore
import TallyNode
import TallyRESP

/// The commands that read and change counters: each becomes operations of the batch.
extension CommandProcessor {
    /// Appends the operations of a counter command to the batch.
    ///
    /// - Returns: how they become its reply; nil if `id` is no such command.
    mutating func planCounter(_ id: CommandID) throws(Refusal) -> ReplyPlan? {
        switch id {
        case .get: try read(.value)
        case .increment: try add(1)
        case .decrement: try add(-1)
        case .incrementBy: try addOperand(isNegative: false)
        case .decrementBy: try addOperand(isNegative: true)
        case .incrementExtended: try addReporting()
        case .set: try set()
        case .setIfAbsent: try store(.setIfAbsent, .flag)
        case .getSet: try store(.set, .previous)
        case .getDelete: try onNumber(.delete, .previous)
        case .getExpire: try readAndExpire()
        case .setWithSeconds: try setWithTime(.seconds, "setex")
        case .setWithMilliseconds: try setWithTime(.milliseconds, "psetex")
        case .expire: try expire(.seconds, fromNow: true, "expire")
        case .expireMilliseconds: try expire(.milliseconds, fromNow: true, "pexpire")
        case .expireAt: try expire(.seconds, fromNow: false, "expireat")
        case .expireAtMilliseconds: try expire(.milliseconds, fromNow: false, "pexpireat")
        case .persist: try persist()
        case .timeToLive: try readExpiry(.secondsLeft)
        case .timeToLiveMilliseconds: try readExpiry(.millisecondsLeft)
        case .expireTime: try readExpiry(.deadlineSeconds)
        case .expireTimeMilliseconds: try readExpiry(.deadlineMilliseconds)
        case .multipleGet: try readMany()
        case .multipleSet, .multipleSetIfAbsent: try storeMany(id)
        case .delete, .unlink: try onAllKeys(.delete, .deleteRecord, .removedCount)
        case .exists, .touch: try onAllKeys(.get, .readRecord, .presentCount)
        case .type: try readType(1, .type)
        case .stringLength: try read(.textLength)
        case .flushDatabase, .flushAll: try clear()
        case .databaseSize: countKeys()
        case .copy: try copy()
        case .rename: try rename(replaces: true)
        case .renameIfAbsent: try rename(replaces: false)
        case .hashScan: try hashScan()
        case .add, .alter, .drop: try planSchemaChange()
        default: try planHash(id)
        }
    }

    @inline(__always)
    mutating func add(_ delta: Int64) throws(Refusal) -> ReplyPlan {
        try append(.add, number: 1, operand: delta)
        return plan(.sum)
    }

    @inline(__always)
    mutating func read(_ shape: ReplyPlan.Shape) throws(Refusal) -> ReplyPlan {
        try append(.get, number: 1)
        return plan(shape)
    }

    private mutating func onNumber(
        _ kind: Operation.Kind, _ shape: ReplyPlan.Shape
    ) throws(Refusal) -> ReplyPlan {
        try append(kind, number: 1)
        return plan(shape)
    }

    /// Appends an operation on the number that the argument at `index` names: a plain key's, or one
    /// column of a record.
    @inline(__always)
    mutating func append(
        _ kind: Operation.Kind, number index: Int, operand: Int64 = 0
    ) throws(Refusal) {
        switch try target(index) {
        case .plain(let key): batch.append(kind, key: key, operand: operand)
        case .column(let record, let column):
            try append(kind, record, column, index, operand)
        case .record(let record, let family):
            let column = try onlyColumn(family, arguments[index])
            try append(kind, record, column, index, operand)
        }
    }

    private mutating func append(
        _ kind: Operation.Kind, _ record: OperationBatch.Record, _ column: FamilyCatalog.Column,
        _ index: Int, _ operand: Int64
    ) throws(Refusal) {
        switch kind {
        case .set, .setIfAbsent, .setIfPresent:
            guard operand >= column.min, operand <= column.max else {
                throw outOfBounds(column, arguments[index + 1])
            }
        default: break
        }
        batch.append(kind, record, column: column.number, operand: operand)
    }

    /// The latest operation of the batch becomes a reply of this shape.
    @inline(__always)
    mutating func plan(_ shape: ReplyPlan.Shape) -> ReplyPlan {
        plan(shape, from: batch.count &- 1)
    }

    /// The operations from `first` on become a reply of this shape.
    @inline(__always)
    mutating func plan(_ shape: ReplyPlan.Shape, from first: Int) -> ReplyPlan {
        ReplyPlan(
            shape: shape, first: UInt32(truncatingIfNeeded: first),
            count: UInt32(truncatingIfNeeded: batch.count &- first))
    }

    /// Plans `OBJECT ENCODING key` and its kin.
    ///
    /// - Returns: nil for other subcommands.
    mutating func planObject() throws(Refusal) -> ReplyPlan? {
        guard arguments.count == 3 else { return nil }
        if arguments[1].equalsIgnoringCase("encoding") { return try readType(2, .encoding) }
        if arguments[1].equalsIgnoringCase("refcount") { return try readType(2, .one) }
        if arguments[1].equalsIgnoringCase("idletime") { return try readType(2, .zero) }
        if arguments[1].equalsIgnoringCase("freq") { return try readType(2, .noFrequency) }
        return nil
    }

    /// Reads what a reply about a key's type needs.
    private mutating func readType(
        _ index: Int, _ shape: ReplyPlan.Shape
    ) throws(Refusal) -> ReplyPlan {
        append(.get, .readRecord, try target(index))
        return plan(shape)
    }

    private mutating func readMany() throws(Refusal) -> ReplyPlan {
        try unit(.values) { (processor) throws(Refusal) in
            for index in 1..<processor.arguments.count {
                try processor.append(.get, number: index)
            }
        }
    }

    /// Makes the operations that `body` appends one unit, or none if it throws.
    mutating func unit(
        _ shape: ReplyPlan.Shape, condition: Operation.UnitCondition = .none,
        _ body: (inout CommandProcessor) throws(Refusal) -> Void
    ) throws(Refusal) -> ReplyPlan {
        let first = batch.count
        do throws(Refusal) {
            try body(&self)
        } catch {
            batch.removeLast(to: first)
            throw error
        }
        batch.makeUnit(from: first, condition: condition)
        return plan(shape, from: first)
    }

    private mutating func addOperand(isNegative: Bool) throws(Refusal) -> ReplyPlan {
        guard var delta = Decimal.parse(arguments[2]) else { throw Self.notAnInteger }
        if isNegative {
            guard delta != .min else { throw Refusal("ERR decrement would overflow") }
            delta = -delta
        }
        return try add(delta)
    }

    private mutating func store(
        _ kind: Operation.Kind, _ shape: ReplyPlan.Shape
    ) throws(Refusal) -> ReplyPlan {
        guard let value = Decimal.parse(arguments[2]) else {
            _ = try target(1)
            throw Self.notAnInteger
        }
        try append(kind, number: 1, operand: value)
        return plan(shape)
    }

    private mutating func storeMany(_ id: CommandID) throws(Refusal) -> ReplyPlan {
        let count = arguments.count
        guard count % 2 == 1 else {
            throw Refusal(Self.wrongArity(id == .multipleSet ? "mset" : "msetnx"))
        }
        // A single pair is no unit, and needs none.
        let kind: Operation.Kind =
            id == .multipleSetIfAbsent && count == 3 ? .setIfAbsent : .set
        return try unit(
            id == .multipleSet ? .ok : .flag,
            condition: id == .multipleSet ? .none : .allAbsent
        ) { (processor) throws(Refusal) in
            for index in stride(from: 1, to: count, by: 2) {
                guard let value = Decimal.parse(processor.arguments[index + 1]) else {
                    throw Self.notAnInteger
                }
                try processor.append(kind, number: index, operand: value)
            }
        }
    }

    private mutating func onAllKeys(
        _ kind: Operation.Kind, _ recordKind: Operation.Kind, _ shape: ReplyPlan.Shape
    ) throws(Refusal) -> ReplyPlan {
        try unit(shape) { (processor) throws(Refusal) in
            for index in 1..<processor.arguments.count {
                processor.append(kind, recordKind, try processor.target(index))
            }
        }
    }

    private mutating func countKeys() -> ReplyPlan {
        let first = batch.count
        batch.appendCount()
        return plan(.total, from: first)
    }

    private mutating func clear() throws(Refusal) -> ReplyPlan {
        if arguments.count > 1 {
            let mode = arguments[1]
            guard arguments.count == 2,
                mode.equalsIgnoringCase("sync") || mode.equalsIgnoringCase("async")
            else { throw Refusal("ERR syntax error") }
        }
        let first = batch.count
        batch.appendClear()
        return plan(.ok, from: first)
    }

    static var notAnInteger: Refusal {
        Refusal("ERR value is not an integer or out of range")
    }
}
