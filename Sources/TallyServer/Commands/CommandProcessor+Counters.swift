import TallyCore
import TallyNode
import TallyRESP

/// The commands that read and change counters: each becomes operations of the batch.
extension CommandProcessor {
    /// Handles `id` if it is one of them.
    ///
    /// - Returns: nil if it is not; false if the journal is busy.
    mutating func dispatchCounter(_ id: CommandID, _ session: inout Session) -> Bool? {
        switch id {
        case .get: read(.value, &session)
        case .increment: add(1, &session)
        case .decrement: add(-1, &session)
        case .incrementBy: addOperand(isNegative: false, &session)
        case .decrementBy: addOperand(isNegative: true, &session)
        case .set: set(&session)
        case .setIfAbsent: store(.setIfAbsent, .flag, &session)
        case .getSet: store(.set, .previous, &session)
        case .getDelete: onAllKeys(.delete, .previous, &session)
        case .multipleGet: onAllKeys(.get, .values, &session)
        case .multipleSet, .multipleSetIfAbsent: storeMany(id, &session)
        case .delete, .unlink: onAllKeys(.delete, .appliedCount, &session)
        case .exists, .touch: onAllKeys(.get, .presentCount, &session)
        case .type: read(.type, &session)
        case .stringLength: read(.textLength, &session)
        case .flushDatabase, .flushAll: clear(&session)
        default: nil
        }
    }

    @inline(__always)
    mutating func add(_ delta: Int64, _ session: inout Session) -> Bool {
        let key = arguments[1]
        guard key.count <= Limits.keyBytesMax else { return rejectKey(key, &session) }
        batch.append(.add, key: key, operand: delta)
        plan(.sum, from: batch.count &- 1, &session)
        return true
    }

    @inline(__always)
    mutating func read(_ shape: ReplyPlan.Shape, _ session: inout Session) -> Bool {
        let key = arguments[1]
        guard key.count <= Limits.keyBytesMax else { return rejectKey(key, &session) }
        batch.append(.get, key: key)
        plan(shape, from: batch.count &- 1, &session)
        return true
    }

    /// `OBJECT ENCODING key`, outside of batches.
    mutating func objectEncoding(_ session: inout Session) {
        let key = arguments[2]
        guard key.count <= Limits.keyBytesMax else { return replies.error(Self.tooLong(key)) }
        batch.append(.get, key: key)
        if case .done(let sequence) = server.node.execute(&batch) { noteSequence(sequence) }
        replies.encode(
            ReplyPlan(shape: .encoding, isSilent: false, first: 0, count: 1),
            batch.outcomes, session.version)
        batch.removeAll()
    }

    private mutating func addOperand(isNegative: Bool, _ session: inout Session) -> Bool {
        guard var delta = Decimal.parse(arguments[2]) else {
            return reject(Self.notAnInteger, &session)
        }
        if isNegative {
            guard delta != .min else { return reject("ERR decrement would overflow", &session) }
            delta = -delta
        }
        return add(delta, &session)
    }

    private mutating func store(
        _ kind: Operation.Kind, _ shape: ReplyPlan.Shape, _ session: inout Session
    ) -> Bool {
        let key = arguments[1]
        guard key.count <= Limits.keyBytesMax else { return rejectKey(key, &session) }
        guard let value = Decimal.parse(arguments[2]) else {
            return reject(Self.notAnInteger, &session)
        }
        batch.append(kind, key: key, operand: value)
        plan(shape, from: batch.count - 1, &session)
        return true
    }

    private mutating func set(_ session: inout Session) -> Bool {
        var kind = Operation.Kind.set
        var returnsPrevious = false
        for index in 3..<max(3, arguments.count) {
            let option = arguments[index]
            if option.equalsIgnoringCase("nx"), kind != .setIfPresent {
                kind = .setIfAbsent
            } else if option.equalsIgnoringCase("xx"), kind != .setIfAbsent {
                kind = .setIfPresent
            } else if option.equalsIgnoringCase("get") {
                returnsPrevious = true
            } else if let name = Self.expiryOptions.first(where: option.equalsIgnoringCase) {
                return reject(
                    "ERR option \(name.uppercased()) is not supported: counters do not expire",
                    &session)
            } else {
                return reject("ERR syntax error", &session)
            }
        }
        return store(
            kind, returnsPrevious ? .previous : kind == .set ? .ok : .okOrNull, &session)
    }

    private static var expiryOptions: [String] { ["ex", "px", "exat", "pxat", "keepttl"] }

    private mutating func storeMany(_ id: CommandID, _ session: inout Session) -> Bool {
        let count = arguments.count
        guard count % 2 == 1 else {
            let name = id == .multipleSet ? "mset" : "msetnx"
            return reject(Self.wrongArity(name), &session)
        }
        for index in stride(from: 1, to: count, by: 2) {
            let key = arguments[index]
            guard key.count <= Limits.keyBytesMax else { return rejectKey(key, &session) }
            guard Decimal.parse(arguments[index + 1]) != nil else {
                return reject(Self.notAnInteger, &session)
            }
        }
        let first = batch.count
        // A single pair is no unit, and needs none.
        let kind: Operation.Kind =
            id == .multipleSetIfAbsent && count == 3 ? .setIfAbsent : .set
        for index in stride(from: 1, to: count, by: 2) {
            let value = Decimal.parse(arguments[index + 1]) ?? 0
            batch.append(kind, key: arguments[index], operand: value)
        }
        batch.makeUnit(from: first, condition: id == .multipleSet ? .none : .allAbsent)
        plan(id == .multipleSet ? .ok : .flag, from: first, &session)
        return true
    }

    private mutating func onAllKeys(
        _ kind: Operation.Kind, _ shape: ReplyPlan.Shape, _ session: inout Session
    ) -> Bool {
        let count = arguments.count
        for index in 1..<count {
            let key = arguments[index]
            guard key.count <= Limits.keyBytesMax else { return rejectKey(key, &session) }
        }
        let first = batch.count
        for index in 1..<count { batch.append(kind, key: arguments[index]) }
        batch.makeUnit(from: first)
        plan(shape, from: first, &session)
        return true
    }

    private mutating func clear(_ session: inout Session) -> Bool {
        if arguments.count > 1 {
            let mode = arguments[1]
            guard arguments.count == 2,
                mode.equalsIgnoringCase("sync") || mode.equalsIgnoringCase("async")
            else { return reject("ERR syntax error", &session) }
        }
        let first = batch.count
        batch.appendClear()
        plan(.ok, from: first, &session)
        return true
    }

    private static var notAnInteger: String { "ERR value is not an integer or out of range" }

    private static func tooLong(_ key: UnsafeRawBufferPointer) -> String {
        "ERR key of \(key.count) bytes is too long, at most \(Limits.keyBytesMax) are allowed"
    }

    @inline(never)
    private mutating func rejectKey(
        _ key: UnsafeRawBufferPointer, _ session: inout Session
    ) -> Bool {
        reject(Self.tooLong(key), &session)
    }
}
