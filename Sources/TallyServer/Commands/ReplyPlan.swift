import TallyCore
import TallyRESP

/// How the outcomes of some operations become one reply.
struct ReplyPlan {
    enum Shape: UInt8 {
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
        /// How many took effect.
        case appliedCount
        /// How many exist.
        case presentCount
        /// Length of the value's text.
        case textLength
        /// `string` or `none`.
        case type
        /// `int`, or null.
        case encoding
    }

    let shape: Shape
    /// Whether nobody wants the reply.
    var isSilent = false
    let first: UInt32
    let count: UInt32
}

extension ReplyWriter {
    @inline(__always)
    mutating func encode(
        _ plan: ReplyPlan, _ outcomes: UnsafePointer<Outcome>, _ version: RESPVersion
    ) {
        guard plan.count > 0 else { return encodeEmpty(plan) }
        let outcome = outcomes[Int(plan.first)]
        switch plan.shape {
        case .sum where outcome.status == .applied:
            integer(outcome.value)
        case .value:
            counter(outcome, version)
        default:
            encodeOther(plan, outcomes, version)
        }
    }

    private mutating func encodeOther(
        _ plan: ReplyPlan, _ outcomes: UnsafePointer<Outcome>, _ version: RESPVersion
    ) {
        let outcome = outcomes[Int(plan.first)]
        let operations = Int(plan.first)..<(Int(plan.first) + Int(plan.count))
        if let message = refusal(outcome.status) { return error(message) }
        switch plan.shape {
        case .sum: integer(outcome.value)
        case .value, .previous: counter(outcome, version)
        case .values:
            array(operations.count)
            for index in operations { counter(outcomes[index], version) }
        case .ok: simple("OK")
        case .okOrNull:
            if outcome.status == .applied { simple("OK") } else { null(version) }
        case .flag: integer(outcome.status == .applied ? 1 : 0)
        case .appliedCount:
            integer(Int64(operations.count { outcomes[$0].status == .applied }))
        case .presentCount:
            integer(Int64(operations.count { outcomes[$0].wasPresent }))
        case .textLength:
            integer(outcome.wasPresent ? Int64(Decimal.byteCount(outcome.value)) : 0)
        case .type:
            if outcome.wasPresent { simple("string") } else { simple("none") }
        case .encoding:
            if outcome.wasPresent { bulk("int") } else { null(version) }
        }
    }

    /// The reply of a command that needed no operation.
    private mutating func encodeEmpty(_ plan: ReplyPlan) {
        switch plan.shape {
        case .appliedCount, .presentCount: integer(0)
        case .values: array(0)
        default: simple("OK")
        }
    }

    @inline(__always)
    private mutating func counter(_ outcome: Outcome, _ version: RESPVersion) {
        if outcome.wasPresent { bulkInteger(outcome.value) } else { null(version) }
    }

    private func refusal(_ status: Outcome.Status) -> String? {
        switch status {
        case .applied, .unchanged: nil
        case .overflow: "ERR increment or decrement would overflow"
        case .memoryFull: "OOM command not allowed when used memory > 'maxmemory'."
        case .journalFull:
            "MISCONF The journal's disk is full. Commands that may modify the data set are refused "
                + "until there is space again; reads are served."
        }
    }
}
