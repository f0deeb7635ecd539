import TallyCore
import TallyNode
import TallyRESP

/// How the outcomes of some operations become one reply.
struct ReplyPlan {
    enum Shape: UInt8 {
        /// An array of the replies of the next `detail` plans, or null if nothing was executed.
        case transaction
        /// The reply of the next command, and the positions that it reflects.
        case positioned
        /// What was prepared under the number `detail`.
        case prepared
        /// The new value, as an integer.
        case sum
        /// The value, as a bulk string, or null.
        case value
        /// All values, as an array.
        case values
        /// The value before, as a bulk string, or null.
        case previous
        /// OK.
        case ok
        /// OK, or null if the condition did not hold.
        case okOrNull
        /// 1 if it took effect, else 0.
        case flag
        /// 0.
        case noFlag
        /// Seconds until the key's deadline, −1 without one, −2 without the key.
        case secondsLeft
        /// The same in milliseconds.
        case millisecondsLeft
        /// The key's deadline, seconds since 1970, −1 without one, −2 without the key.
        case deadlineSeconds
        /// The same in milliseconds.
        case deadlineMilliseconds
        /// How many removed something.
        case removedCount
        /// How many exist.
        case presentCount
        /// The sum of the values.
        case total
        /// Length of the value's text.
        case textLength
        /// `string` or `none`.
        case type
        /// `int`, or null.
        case encoding
        /// 1, or null.
        case one
        /// 0, or null.
        case zero
        /// That there is no such thing as a frequency of use, or null.
        case noFrequency
        /// About how many bytes the key takes, or null.
        case memoryUsage
        /// Whether the second of two operations took effect.
        case copied
        /// OK, or that there is no such key.
        case renamed
        /// Whether the second operation took effect, or that there is no such key.
        case renamedIfAbsent
        /// A cursor of 0 and the names and values of those columns whose bits are set behind the row.
        case hashScan
        /// The same without values.
        case hashScanNames
        /// The value after, and what was added.
        case sumAndDifference
        /// A record as an array of integers, or one column as an integer.
        case record
        /// An array of those.
        case records
        /// One column's value, as a bulk string; null without an operation.
        case hashValue
        /// The columns' names and values.
        case hashAll
        /// The columns' names.
        case hashKeys
        /// The columns' values, as bulk strings.
        case hashValues
        /// How many columns there are.
        case hashLength
        /// How many columns left their defaults.
        case changedCount
    }

    let shape: Shape
    /// Whether nobody wants the reply.
    var isSilent = false
    /// The command's place in the table.
    var command: UInt16 = 0
    let first: UInt32
    let count: UInt32
    var detail: UInt32 = 0
}

extension ReplyWriter {
    /// Encodes the reply of a plan if it is one of those that most are.
    ///
    /// - Parameter outcomes: Of the batch, which would be copied if it were passed as a whole.
    /// - Returns: false if it is another.
    @inline(__always)
    mutating func encodeNumber(_ plan: ReplyPlan, _ outcomes: UnsafePointer<Outcome>) -> Bool {
        guard plan.count > 0 else { return false }
        let outcome = outcomes + Int(plan.first)
        switch plan.shape {
        case .sum where outcome.pointee.status == .applied: integer(outcome.pointee.value)
        case .value where outcome.pointee.wasPresent: bulkInteger(outcome.pointee.value)
        default: return false
        }
        return true
    }

    /// Encodes the reply that the outcomes of a batch make, read by `catalog`.
    mutating func encode(
        _ plan: ReplyPlan, _ batch: OperationBatch.Results, _ catalog: FamilyCatalog,
        _ version: RESPVersion
    ) {
        guard plan.count > 0 else { return encodeEmpty(plan, version) }
        let first = Int(plan.first)
        let outcome = batch.outcomes[first]
        let operations = first..<(first + Int(plan.count))
        if let refused = operations.first(where: { batch.outcomes[$0].status.isRefusal }) {
            let status = batch.outcomes[refused].status
            return error(refusal(status, batch.operations[refused], catalog))
        }
        switch plan.shape {
        case .transaction, .positioned, .prepared:
            preconditionFailure("not the reply of one command")
        case .sum: integer(outcome.value)
        case .value, .previous: number(first, batch, version)
        case .hashValue: bulkInteger(outcome.value)
        case .values:
            array(operations.count)
            for index in operations { number(index, batch, version) }
        case .ok: simple("OK")
        case .okOrNull:
            if outcome.status == .applied { simple("OK") } else { null(version) }
        case .flag: integer(outcome.status == .applied ? 1 : 0)
        case .noFlag: integer(0)
        case .secondsLeft, .millisecondsLeft, .deadlineSeconds, .deadlineMilliseconds:
            deadline(plan.shape, batch.operations[first], outcome, batch.nowMilliseconds)
        case .removedCount:
            var count: Int64 = 0
            // A final deletion takes effect on what is not there, too.
            for index in operations
            where batch.outcomes[index].status == .applied && batch.outcomes[index].wasPresent {
                count += 1
            }
            integer(count)
        case .presentCount:
            var count: Int64 = 0
            for index in operations where batch.outcomes[index].wasPresent { count += 1 }
            integer(count)
        case .total: integer(operations.reduce(0) { $0 + batch.outcomes[$1].value })
        case .textLength:
            integer(isThere(first, batch) ? Int64(Decimal.byteCount(outcome.value)) : 0)
        case .type:
            if !outcome.wasPresent {
                simple("none")
            } else if batch.operations[first].kind == .readRecord {
                simple("hash")
            } else {
                simple("string")
            }
        case .encoding:
            if outcome.wasPresent { bulk("int") } else { null(version) }
        case .one, .zero:
            if outcome.wasPresent { integer(plan.shape == .one ? 1 : 0) } else { null(version) }
        case .noFrequency:
            guard outcome.wasPresent else { return null(version) }
            error("ERR keys are never evicted, so how often they are used is not counted")
        case .memoryUsage:
            guard outcome.wasPresent else { return null(version) }
            integer(Self.memoryUsage(batch.operations[first]))
        case .copied:
            integer(batch.outcomes[first + 1].status == .applied ? 1 : 0)
        case .renamed:
            if outcome.wasPresent { simple("OK") } else { error("ERR no such key") }
        case .renamedIfAbsent:
            guard outcome.wasPresent else { return error("ERR no such key") }
            integer(plan.count > 1 && batch.outcomes[first + 1].status == .applied ? 1 : 0)
        case .hashScan, .hashScanNames:
            array(2)
            bulk("0")
            hashScan(plan.shape, batch.operations[first], batch, catalog)
        case .sumAndDifference:
            array(2)
            integer(outcome.value)
            integer(
                batch.rows[
                    Int(batch.operations[first].operand) &+ ExtendedAdd.differenceWord])
        case .record: record(first, batch)
        case .records:
            array(operations.count)
            for index in operations { record(index, batch) }
        case .hashAll, .hashKeys, .hashValues:
            hash(plan.shape, batch.operations[first], batch, catalog, version)
        case .hashLength: integer(Int64(batch.operations[first].count))
        case .changedCount: integer(outcome.value)
        }
    }

    /// The reply of a command that needed no operation.
    private mutating func encodeEmpty(_ plan: ReplyPlan, _ version: RESPVersion) {
        switch plan.shape {
        case .removedCount, .presentCount, .textLength, .noFlag: integer(0)
        case .values: array(0)
        case .hashValue: null(version)
        default: simple("OK")
        }
    }

    private mutating func deadline(
        _ shape: ReplyPlan.Shape, _ operation: Operation, _ outcome: Outcome, _ now: Int64
    ) {
        guard outcome.wasPresent else { return integer(-2) }
        guard operation.kind == .readExpiry, outcome.value != Outcome.noDeadline else {
            return integer(-1)
        }
        let left = max(0, outcome.value &- now)
        switch shape {
        case .secondsLeft: integer((left &+ 500) / 1000)
        case .millisecondsLeft: integer(left)
        case .deadlineSeconds: integer((outcome.value &+ 500) / 1000)
        default: integer(outcome.value)
        }
    }

    /// Whether an operation's number is to be shown: a column has one always.
    @inline(__always)
    private func isThere(_ index: Int, _ batch: OperationBatch.Results) -> Bool {
        batch.outcomes[index].wasPresent
            || batch.operations[index].family != 0 && batch.operations[index].kind != .readRecord
    }

    @inline(__always)
    private mutating func number(
        _ index: Int, _ batch: OperationBatch.Results, _ version: RESPVersion
    ) {
        // A record of which nothing was read stands for a column that there is not.
        guard isThere(index, batch), batch.operations[index].kind != .readRecord else {
            return null(version)
        }
        bulkInteger(batch.outcomes[index].value)
    }

    @inline(__always)
    private mutating func record(_ index: Int, _ batch: OperationBatch.Results) {
        let operation = batch.operations[index]
        guard operation.kind == .readRecord else {
            return integer(batch.outcomes[index].value)
        }
        let count = Int(operation.count)
        array(count)
        let row = batch.rows + Int(operation.operand)
        for column in 0..<count { integer(row[column]) }
    }

    private mutating func hash(
        _ shape: ReplyPlan.Shape, _ operation: Operation, _ batch: OperationBatch.Results,
        _ catalog: FamilyCatalog, _ version: RESPVersion
    ) {
        guard let family = catalog.family(number: operation.family) else { return array(0) }
        let count = Int(operation.count)
        let row = batch.rows + Int(operation.operand)
        if shape == .hashAll { map(count, version) } else { array(count) }
        for column in 0..<count {
            if shape != .hashValues { bulk(family.columns[column].name) }
            if shape != .hashKeys { bulkInteger(row[column]) }
        }
    }

    private mutating func hashScan(
        _ shape: ReplyPlan.Shape, _ operation: Operation, _ batch: OperationBatch.Results,
        _ catalog: FamilyCatalog
    ) {
        guard let family = catalog.family(number: operation.family) else { return array(0) }
        let count = Int(operation.count)
        let row = batch.rows + Int(operation.operand)
        let chosen = UInt64(bitPattern: row[count])
        array(chosen.nonzeroBitCount * (shape == .hashScan ? 2 : 1))
        for column in 0..<count where chosen >> UInt64(column) & 1 == 1 {
            bulk(family.columns[column].name)
            if shape == .hashScan { bulkInteger(row[column]) }
        }
    }

    /// What an operation's key takes while it is among what changed lately, bytes, about.
    private static func memoryUsage(_ operation: Operation) -> Int64 {
        // A slot of the table, and the record.
        operation.keyKind == .integer ? 24 : 16 + Int64(operation.keyByteCount)
    }

    // MARK: Refusals

    /// The error that says why an operation was not applied.
    func refusal(
        _ status: Outcome.Status, _ operation: Operation, _ catalog: FamilyCatalog
    ) -> String {
        let family = catalog.family(number: operation.family)
        let name = family?.name.text ?? "?"
        switch status {
        case .applied, .unchanged: preconditionFailure("not a refusal")
        case .overflow: return "ERR increment or decrement would overflow"
        case .outOfBounds:
            guard let column = family?.columns.first(where: { $0.number == operation.column })
            else { return "ERR the value is out of its column's range" }
            return "ERR column '\(column.name.text)' of counter '\(name)' would leave its range, "
                + "\(column.min) to \(column.max)"
        case .unknownKey:
            return "ERR counter '\(name)' takes updates of keys that have been SET only, "
                + "and this one has not"
        case .deletedKey:
            return "ERR the record has been deleted, and deletions are final in counter '\(name)'"
        case .schemaChanged, .schemaRefused:
            return "TRYAGAIN The counter has just been changed by another client"
        case .keysInTheWay:
            return "ERR there are plain keys that would be taken for the counter or its records; "
                + "delete them first"
        case .unreadable:
            return "ERR what the disk holds of this key cannot be read; see the server's log"
        case .tokenReused: return "TOKENREUSED This token is that of another command"
        case .tokenTooOld:
            return "TOKENOLD This token is older than what is remembered: whether its command was "
                + "executed cannot be told"
        case .tokenTooNew: return "TOKENFUTURE This token is from the future"
        case .replyLost:
            return "TOKENLOST The command was executed before, and what it changed has another "
                + "form now, so its reply cannot be told again"
        case .logUnavailable:
            return
                "UNAVAILABLE The log that this change must go through cannot be reached: nothing was "
                + "changed, try again later"
        case .outcomeUnknown:
            return "UNKNOWN The log has not answered in time: the change may or may not be made"
        case .messageTooLong:
            return "ERR this command is too long for one message of a log, "
                + "\(Limits.logMessageBytesMax) bytes: name fewer keys at a time"
        case .memoryFull: return "OOM command not allowed when used memory > 'maxmemory'."
        case .journalFull:
            return "MISCONF The journal's disk is full. Commands that may modify the data set are "
                + "refused until there is space again; reads are served."
        }
    }
}

extension Outcome.Status {
    /// Whether a command that ended so is answered with an error.
    fileprivate var isRefusal: Bool { self != .applied && self != .unchanged }
}
