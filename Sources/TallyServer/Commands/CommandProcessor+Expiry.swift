import TallyCore
import TallyNode
import TallyRESP

/// The commands that give keys a deadline, and those that tell it.
extension CommandProcessor {
    /// What a command's options say about a key's deadline.
    struct ExpiryOption {
        /// The option that said so; another one may not follow.
        let name: String
        var change: ExpiryChange
        var deadline: Int64 = 0
    }

    /// Units and beginnings of the times that clients give.
    enum TimeUnit {
        case seconds
        case milliseconds
    }

    // MARK: Times

    /// The deadline that a time, counted from now or from 1970, stands for.
    private func deadline(
        _ time: Int64, _ unit: TimeUnit, fromNow: Bool, _ command: String
    ) throws(Refusal) -> Int64 {
        var deadline = time
        if unit == .seconds {
            let (product, overflow) = deadline.multipliedReportingOverflow(by: 1000)
            guard !overflow else { throw Self.invalidTime(command) }
            deadline = product
        }
        if fromNow {
            let (sum, overflow) = deadline.addingReportingOverflow(server.node.nowMilliseconds())
            guard !overflow else { throw Self.invalidTime(command) }
            deadline = sum
        }
        return deadline
    }

    private static func invalidTime(_ command: String) -> Refusal {
        Refusal("ERR invalid expire time in '\(command)' command")
    }

    /// The option that stands at `index`, if it is about deadlines; `index` then moves behind it.
    ///
    /// - Parameters:
    ///   - previous: Such an option that stood before; only the same one may be given again.
    ///   - change: An option without a time that the command has, and what it means.
    func expiryOption(
        at index: inout Int, _ command: String, after previous: ExpiryOption?,
        or change: (name: String, change: ExpiryChange)
    ) throws(Refusal) -> ExpiryOption? {
        let names: [(String, TimeUnit, fromNow: Bool)] = [
            ("ex", .seconds, true), ("px", .milliseconds, true), ("exat", .seconds, false),
            ("pxat", .milliseconds, false),
        ]
        let option = arguments[index]
        if option.equalsIgnoringCase(change.name) {
            guard previous == nil || previous?.name == change.name else { throw Self.syntaxError }
            index += 1
            return ExpiryOption(name: change.name, change: change.change)
        }
        for (name, unit, fromNow) in names where option.equalsIgnoringCase(name) {
            guard previous == nil || previous?.name == name, index + 1 < arguments.count else {
                throw Self.syntaxError
            }
            guard let time = Decimal.parse(arguments[index + 1]) else { throw Self.notAnInteger }
            guard time > 0 else { throw Self.invalidTime(command) }
            index += 2
            return ExpiryOption(
                name: name, change: .set,
                deadline: try deadline(time, unit, fromNow: fromNow, command))
        }
        return nil
    }

    static var syntaxError: Refusal { Refusal("ERR syntax error") }

    static var recordsDoNotExpire: Refusal {
        Refusal("ERR records of a counter do not expire; only plain keys do")
    }

    // MARK: EXPIRE, PERSIST, TTL

    /// `EXPIRE key time [NX | XX | GT | LT]` and its kin.
    mutating func expire(
        _ unit: TimeUnit, fromNow: Bool, _ command: String
    ) throws(Refusal) -> ReplyPlan {
        guard let time = Decimal.parse(arguments[2]) else { throw Self.notAnInteger }
        let condition = try expiryCondition()
        let deadline = try deadline(time, unit, fromNow: fromNow, command)
        guard case .plain(let key) = try target(1) else { throw Self.recordsDoNotExpire }
        batch.appendExpire(key, deadline: deadline, condition)
        return plan(.flag)
    }

    private func expiryCondition() throws(Refusal) -> ExpiryCondition {
        var (ifNone, ifAny, ifLater, ifEarlier) = (false, false, false, false)
        for index in 3..<max(3, arguments.count) {
            let option = arguments[index]
            if option.equalsIgnoringCase("nx") {
                ifNone = true
            } else if option.equalsIgnoringCase("xx") {
                ifAny = true
            } else if option.equalsIgnoringCase("gt") {
                ifLater = true
            } else if option.equalsIgnoringCase("lt") {
                ifEarlier = true
            } else {
                throw Refusal("ERR Unsupported option \(option.prefixText(128))")
            }
        }
        guard !ifNone || !(ifAny || ifLater || ifEarlier) else {
            throw Refusal(
                "ERR NX and XX, GT or LT options at the same time are not compatible")
        }
        guard !ifLater || !ifEarlier else {
            throw Refusal("ERR GT and LT options at the same time are not compatible")
        }
        if ifNone { return .ifNone }
        // What has no deadline never ends, so a later one cannot be given to it.
        if ifLater { return .ifLater }
        if ifEarlier { return ifAny ? .ifAnyEarlier : .ifEarlier }
        return ifAny ? .ifAny : .always
    }

    mutating func persist() throws(Refusal) -> ReplyPlan {
        switch try target(1) {
        case .plain(let key):
            batch.append(.persist, key: key)
            return plan(.flag)
        // A record has no deadline to lose.
        case .record, .column: return plan(.noFlag, from: batch.count)
        }
    }

    /// TTL and its kin: a shape that tells a key's deadline.
    mutating func readExpiry(_ shape: ReplyPlan.Shape) throws(Refusal) -> ReplyPlan {
        append(.readExpiry, .readRecord, try target(1))
        return plan(shape)
    }

    // MARK: SET, GETEX, INCREX

    /// `SET key value [NX | XX] [GET] [EX … | PX … | EXAT … | PXAT … | KEEPTTL]`
    mutating func set() throws(Refusal) -> ReplyPlan {
        var condition = ExtendedSet.Condition.none
        var returnsPrevious = false
        var expiry: ExpiryOption?
        var index = 3
        while index < arguments.count {
            let option = arguments[index]
            if option.equalsIgnoringCase("nx"), condition != .ifPresent {
                condition = .ifAbsent
            } else if option.equalsIgnoringCase("xx"), condition != .ifAbsent {
                condition = .ifPresent
            } else if option.equalsIgnoringCase("get") {
                returnsPrevious = true
            } else if let found = try expiryOption(
                at: &index, "set", after: expiry, or: ("keepttl", .keep))
            {
                expiry = found
                continue
            } else {
                throw Self.syntaxError
            }
            index += 1
        }
        let shape: ReplyPlan.Shape =
            returnsPrevious ? .previous : condition == .none ? .ok : .okOrNull
        return try set(2, condition, expiry, shape)
    }

    /// `SETEX key seconds value`, `PSETEX key milliseconds value`
    mutating func setWithTime(_ unit: TimeUnit, _ command: String) throws(Refusal) -> ReplyPlan {
        guard let time = Decimal.parse(arguments[2]) else { throw Self.notAnInteger }
        guard time > 0 else { throw Self.invalidTime(command) }
        let deadline = try deadline(time, unit, fromNow: true, command)
        return try set(3, .none, ExpiryOption(name: "", change: .set, deadline: deadline), .ok)
    }

    /// Sets what the first argument names to the argument at `valueIndex`.
    private mutating func set(
        _ valueIndex: Int, _ condition: ExtendedSet.Condition, _ expiry: ExpiryOption?,
        _ shape: ReplyPlan.Shape
    ) throws(Refusal) -> ReplyPlan {
        guard let value = Decimal.parse(arguments[valueIndex]) else {
            _ = try target(1)
            throw Self.notAnInteger
        }
        let target = try target(1)
        if let expiry, case .plain(let key) = target {
            batch.append(.extendedSet, key: key, wordCount: ExtendedSet.wordCount) {
                ExtendedSet(
                    value: value, condition: condition, expiry: expiry.change,
                    deadline: expiry.deadline
                ).write($0)
            }
            return plan(shape)
        }
        if let expiry, expiry.change == .set { throw Self.recordsDoNotExpire }
        let kind: Operation.Kind =
            switch condition {
            case .none: .set
            case .ifAbsent: .setIfAbsent
            case .ifPresent: .setIfPresent
            }
        try append(kind, number: 1, operand: value)
        return plan(shape)
    }

    /// `GETEX key [EX … | PX … | EXAT … | PXAT … | PERSIST]`
    mutating func readAndExpire() throws(Refusal) -> ReplyPlan {
        guard arguments.count > 2 else { return try read(.value) }
        var index = 2
        var option: ExpiryOption?
        while index < arguments.count {
            option = try expiryOption(
                at: &index, "getex", after: option, or: ("persist", .remove))
            if option == nil { throw Self.syntaxError }
        }
        guard let option else { throw Self.syntaxError }
        guard case .plain(let key) = try target(1) else { throw Self.recordsDoNotExpire }
        return try unit(.value) { (processor) throws(Refusal) in
            processor.batch.append(.get, key: key)
            if option.change == .set {
                processor.batch.appendExpire(key, deadline: option.deadline, .always)
            } else {
                processor.batch.append(.persist, key: key)
            }
        }
    }

    /// `INCREX key [BYINT delta] [LBOUND least] [UBOUND greatest] [SATURATE] [EX … | PERSIST] [ENX]`:
    /// the new value, and what of the delta took effect.
    mutating func addReporting() throws(Refusal) -> ReplyPlan {
        var (delta, lower, upper): (Int64?, Int64?, Int64?)
        var isSaturating = false
        var ifNone = false
        var expiry: ExpiryOption?
        var index = 2
        while index < arguments.count {
            let option = arguments[index]
            if option.equalsIgnoringCase("byint"), delta == nil {
                delta = try integer(after: &index)
            } else if option.equalsIgnoringCase("lbound"), lower == nil {
                lower = try integer(after: &index)
            } else if option.equalsIgnoringCase("ubound"), upper == nil {
                upper = try integer(after: &index)
            } else if option.equalsIgnoringCase("saturate"), !isSaturating {
                isSaturating = true
            } else if option.equalsIgnoringCase("enx"), !ifNone {
                ifNone = true
            } else if option.equalsIgnoringCase("byfloat") {
                throw Refusal("ERR counters are integers: BYFLOAT is not supported")
            } else if let found = try expiryOption(
                at: &index, "increx", after: expiry, or: ("persist", .remove))
            {
                expiry = found
                continue
            } else {
                throw Self.syntaxError
            }
            index += 1
        }
        if ifNone {
            guard expiry?.change == .set else {
                throw Refusal("ERR ENX needs one of EX, PX, EXAT and PXAT")
            }
            expiry?.change = .setIfNone
        }
        let request = ExtendedAdd(
            delta: delta ?? 1, lowerBound: lower ?? .min, upperBound: upper ?? .max,
            isSaturating: isSaturating, expiry: expiry?.change ?? .keep,
            deadline: expiry?.deadline ?? 0)
        guard request.lowerBound <= request.upperBound else {
            throw Refusal("ERR LBOUND is greater than UBOUND")
        }
        return try append(request, hasExpiry: expiry != nil)
    }

    private mutating func append(
        _ request: ExtendedAdd, hasExpiry: Bool
    ) throws(Refusal) -> ReplyPlan {
        let wordCount = ExtendedAdd.differenceWord + 1
        switch try target(1) {
        case .plain(let key):
            batch.append(.extendedAdd, key: key, wordCount: wordCount) { request.write($0) }
        case .column(let record, let column):
            guard !hasExpiry else { throw Self.recordsDoNotExpire }
            batch.append(
                .extendedAdd, record, column: column.number, wordCount: wordCount
            ) { request.write($0) }
        case .record(let record, let family):
            guard !hasExpiry else { throw Self.recordsDoNotExpire }
            let column = try onlyColumn(family, arguments[1])
            batch.append(
                .extendedAdd, record, column: column.number, wordCount: wordCount
            ) { request.write($0) }
        }
        return plan(.sumAndDifference)
    }

    private func integer(after index: inout Int) throws(Refusal) -> Int64 {
        index += 1
        guard index < arguments.count else { throw Self.syntaxError }
        guard let value = Decimal.parse(arguments[index]) else { throw Self.notAnInteger }
        return value
    }
}
