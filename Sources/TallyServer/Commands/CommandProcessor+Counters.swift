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
        case .set: try set()
        case .setIfAbsent: try store(.setIfAbsent, .flag)
        case .getSet: try store(.set, .previous)
        case .getDelete: try onAllKeys(.delete, .previous)
        case .multipleGet: try onAllKeys(.get, .values)
        case .multipleSet, .multipleSetIfAbsent: try storeMany(id)
        case .delete, .unlink: try onAllKeys(.delete, .appliedCount)
        case .exists, .touch: try onAllKeys(.get, .presentCount)
        case .type: try read(.type)
        case .stringLength: try read(.textLength)
        case .flushDatabase, .flushAll: try clear()
        default: nil
        }
    }

    @inline(__always)
    mutating func add(_ delta: Int64) throws(Refusal) -> ReplyPlan {
        batch.append(.add, key: try acceptedKey(1), operand: delta)
        return plan(.sum)
    }

    @inline(__always)
    mutating func read(_ shape: ReplyPlan.Shape) throws(Refusal) -> ReplyPlan {
        batch.append(.get, key: try acceptedKey(1))
        return plan(shape)
    }

    /// The key at `index` of the arguments.
    @inline(__always)
    private func acceptedKey(_ index: Int) throws(Refusal) -> UnsafeRawBufferPointer {
        let key = arguments[index]
        guard key.count <= Limits.keyBytesMax else { throw Self.tooLong(key) }
        return key
    }

    /// The latest operation of the batch becomes a reply of this shape.
    @inline(__always)
    private func plan(_ shape: ReplyPlan.Shape) -> ReplyPlan {
        plan(shape, from: batch.count &- 1)
    }

    /// The operations from `first` on become a reply of this shape.
    @inline(__always)
    private func plan(_ shape: ReplyPlan.Shape, from first: Int) -> ReplyPlan {
        ReplyPlan(
            shape: shape, first: UInt32(truncatingIfNeeded: first),
            count: UInt32(truncatingIfNeeded: batch.count &- first))
    }

    /// `OBJECT ENCODING key`, outside of batches.
    mutating func objectEncoding(_ session: inout Session) {
        let key = arguments[2]
        guard key.count <= Limits.keyBytesMax else {
            return replies.error(bytes: Self.tooLong(key).message)
        }
        batch.append(.get, key: key)
        precondition(server.node.execute(&batch) == .done, "a read waits for nothing")
        noteSequence(batch.latestSequence(0..<1))
        replies.encode(
            ReplyPlan(shape: .encoding, first: 0, count: 1),
            batch.outcomes, session.version)
        batch.removeAll()
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
        let key = try acceptedKey(1)
        guard let value = Decimal.parse(arguments[2]) else { throw Self.notAnInteger }
        batch.append(kind, key: key, operand: value)
        return plan(shape)
    }

    private mutating func set() throws(Refusal) -> ReplyPlan {
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
                throw Refusal(
                    "ERR option \(name.uppercased()) is not supported: counters do not expire")
            } else {
                throw Refusal("ERR syntax error")
            }
        }
        return try store(kind, returnsPrevious ? .previous : kind == .set ? .ok : .okOrNull)
    }

    private static var expiryOptions: [String] { ["ex", "px", "exat", "pxat", "keepttl"] }

    private mutating func storeMany(_ id: CommandID) throws(Refusal) -> ReplyPlan {
        let count = arguments.count
        guard count % 2 == 1 else {
            throw Refusal(Self.wrongArity(id == .multipleSet ? "mset" : "msetnx"))
        }
        for index in stride(from: 1, to: count, by: 2) {
            _ = try acceptedKey(index)
            guard Decimal.parse(arguments[index + 1]) != nil else { throw Self.notAnInteger }
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
        return plan(id == .multipleSet ? .ok : .flag, from: first)
    }

    private mutating func onAllKeys(
        _ kind: Operation.Kind, _ shape: ReplyPlan.Shape
    ) throws(Refusal) -> ReplyPlan {
        let count = arguments.count
        for index in 1..<count { _ = try acceptedKey(index) }
        let first = batch.count
        for index in 1..<count { batch.append(kind, key: arguments[index]) }
        batch.makeUnit(from: first)
        return plan(shape, from: first)
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

    private static var notAnInteger: Refusal {
        Refusal("ERR value is not an integer or out of range")
    }

    @inline(never)
    private static func tooLong(_ key: UnsafeRawBufferPointer) -> Refusal {
        Refusal(
            "ERR key of \(key.count) bytes is too long, at most \(Limits.keyBytesMax) are allowed")
    }
}
