import TallyCore
import TallyNode
import TallyTestSupport

/// What the world's counters ought to be.
typealias Model = [String: Counter]

/// One counter of the model.
struct Counter: Equatable {
    var value: Int64
    /// Milliseconds since 1970, nil for none.
    var deadline: Int64?

    func isDue(_ now: Int64) -> Bool { deadline.map { $0 <= now } ?? false }
}

/// One operation of the world, and what it does to the model.
struct WorldStep: CustomStringConvertible {
    let kind: Operation.Kind
    let key: String
    let operand: Int64
    private let condition: ExpiryCondition
    private let set: ExtendedSet
    private let add: ExtendedAdd

    init(isUnit: Bool, hasRecords: Bool, now: Int64, _ random: inout SeededGenerator) {
        let isRecord = hasRecords && random.once(in: 2)
        let key =
            "\(isRecord ? Self.recordPrefix : "key:")\(Int.random(in: 0..<40, using: &random))"
        var kinds: [Operation.Kind] = [
            .add, .add, .add, .add, .get, .set, .setIfAbsent, .setIfPresent, .delete, .extendedAdd,
        ]
        if !isRecord { kinds += [.expire, .expire, .persist, .readExpiry, .extendedSet] }
        if isUnit { kinds = [.set] }
        kind = kinds.randomElement(using: &random) ?? .get
        self.key = key
        let deadlines: [Int64] = [-5, 0, 1, 20, 2000]
        let deadline = now + (deadlines.randomElement(using: &random) ?? 0)
        let values: [Int64] = [1, 1, 1, -1, 5, 1000, .max, .min]
        let value = values.randomElement(using: &random) ?? 1
        operand = kind == .expire ? deadline : value
        let raw = UInt32.random(in: 0...5, using: &random)
        condition = ExpiryCondition(rawValue: raw) ?? .always
        let change = ExpiryChange(rawValue: Int64.random(in: 0...3, using: &random)) ?? .keep
        let setCondition = ExtendedSet.Condition(rawValue: Int64.random(in: 0...2, using: &random))
        set = ExtendedSet(
            value: value, condition: setCondition ?? .none, expiry: change, deadline: deadline)
        add = ExtendedAdd(
            delta: value, lowerBound: [.min, -2, 0].randomElement(using: &random) ?? 0,
            upperBound: [.max, 4, 1000].randomElement(using: &random) ?? 0,
            isSaturating: random.once(in: 2), expiry: isRecord ? .keep : change, deadline: deadline)
    }

    /// An addition to some key.
    init(adding operand: Int64, hasRecords: Bool, _ random: inout SeededGenerator) {
        let prefix = hasRecords && random.once(in: 2) ? Self.recordPrefix : "key:"
        kind = .add
        key = "\(prefix)\(Int.random(in: 0..<40, using: &random))"
        self.operand = operand
        condition = .always
        set = ExtendedSet(value: 0, condition: .none, expiry: .keep, deadline: 0)
        add = ExtendedAdd(
            delta: 0, lowerBound: 0, upperBound: 0, isSaturating: false, expiry: .keep, deadline: 0)
    }

    var description: String { "\(kind) \(key) \(operand)" }

    var isWrite: Bool { kind != .get && kind != .readExpiry }

    /// A copy of the key that stays where it is until it is deallocated.
    var keyBytes: UnsafeRawBufferPointer {
        let bytes = UnsafeMutableRawBufferPointer.allocate(
            byteCount: key.utf8.count, alignment: 1)
        bytes.copyBytes(from: key.utf8)
        return UnsafeRawBufferPointer(bytes)
    }

    /// Stands in the model for the family's declaration.
    static let schemaKey = "schema"
    static let recordPrefix = "post:"
    static let declaration = [
        "ADD COUNTER post", "ADD COLUMN post id primarykey",
        "ADD COLUMN post likes min=-9223372036854775808",
    ]

    /// The record that the key names, nil for a plain key.
    private var record: OperationBatch.Record? {
        guard key.hasPrefix(Self.recordPrefix),
            let number = UInt64(key.dropFirst(Self.recordPrefix.count))
        else { return nil }
        return OperationBatch.Record(family: 1, key: number)
    }

    func append(_ bytes: UnsafeRawBufferPointer, to batch: inout OperationBatch) {
        let addWords = ExtendedAdd.differenceWord + 1
        switch kind {
        case .expire: batch.appendExpire(bytes, deadline: operand, condition)
        case .extendedSet:
            batch.append(kind, key: bytes, wordCount: ExtendedSet.wordCount) { set.write($0) }
        case .extendedAdd:
            if let record {
                batch.append(kind, record, column: 0, wordCount: addWords) { add.write($0) }
            } else {
                batch.append(kind, key: bytes, wordCount: addWords) { add.write($0) }
            }
        default:
            if let record {
                batch.append(kind, record, operand: operand)
            } else {
                batch.append(kind, key: bytes, operand: operand)
            }
        }
    }

    // MARK: The model

    func apply(to model: inout Model, _ now: Int64) -> Outcome {
        guard record == nil else { return applyToRecord(&model) }
        // What is due and still there must not be seen.
        let old = model[key].flatMap { $0.isDue(now) ? nil : $0 }
        let unchanged = Outcome(.unchanged, wasPresent: old != nil, value: old?.value ?? 0)
        var applied = Outcome(.applied, wasPresent: old != nil, value: old?.value ?? 0)
        switch kind {
        case .get: return applied
        case .readExpiry:
            applied.value = old == nil ? (model[key] == nil ? -1 : 0) : old?.deadline ?? -1
        case .add:
            let (sum, overflow) = (old?.value ?? 0).addingReportingOverflow(operand)
            if overflow {
                return Outcome(.overflow, wasPresent: old != nil, value: old?.value ?? 0)
            }
            model[key] = Counter(value: sum, deadline: old?.deadline)
            return Outcome(.applied, wasPresent: old != nil, value: sum, acceptedCount: 1)
        case .set: model[key] = Counter(value: operand)
        case .setIfAbsent:
            if old != nil { return unchanged }
            model[key] = Counter(value: operand)
        case .setIfPresent:
            if old == nil { return unchanged }
            model[key] = Counter(value: operand)
        case .delete:
            if old == nil { return unchanged }
            model[key] = nil
        case .clear: model = [:]
        case .expire:
            guard let old, condition.holds(operand, over: old.deadline) else { return unchanged }
            model[key]?.deadline = operand
        case .persist:
            guard old?.deadline != nil else { return unchanged }
            model[key]?.deadline = nil
        case .extendedSet:
            if set.condition == .ifAbsent, old != nil { return unchanged }
            if set.condition == .ifPresent, old == nil { return unchanged }
            model[key] = Counter(
                value: set.value, deadline: deadline(set.expiry, set.deadline, old))
        case .extendedAdd:
            guard let sum = sum(old?.value ?? 0) else { return unchanged }
            model[key] = Counter(value: sum, deadline: deadline(add.expiry, add.deadline, old))
            applied.value = sum
        case .readRecord, .setColumns, .setRecord, .deleteRecord, .importRuns, .changeSchema,
            .transaction, .countKeys, .readForMove, .setMoved, .deleteMoved, .remember, .raiseFloor:
            preconditionFailure("not a step of this world")
        }
        return applied
    }

    private func deadline(_ change: ExpiryChange, _ deadline: Int64, _ old: Counter?) -> Int64? {
        switch change {
        case .remove: nil
        case .keep: old?.deadline
        case .set: deadline
        case .setIfNone: old?.deadline ?? deadline
        }
    }

    /// The sum within bounds, in wider integers.
    private func sum(_ value: Int64) -> Int64? {
        let sum = Int128(value) + Int128(add.delta)
        let (least, greatest) = (Int128(add.lowerBound), Int128(add.upperBound))
        if sum >= least, sum <= greatest { return Int64(sum) }
        return add.isSaturating ? Int64(min(max(sum, least), greatest)) : nil
    }

    /// The same for a column that is at 0 by default.
    private func applyToRecord(_ model: inout Model) -> Outcome {
        guard model[Self.schemaKey] != nil else { return Outcome(refused: .schemaChanged) }
        let old = model[key]?.value ?? 0
        let unchanged = Outcome(.unchanged, wasPresent: old != 0, value: old)
        var outcome = Outcome(.applied, wasPresent: old != 0, value: old)
        var new = old
        switch kind {
        case .add:
            let (sum, overflow) = old.addingReportingOverflow(operand)
            if overflow { return Outcome(refused: .outOfBounds) }
            new = sum
            outcome.value = sum
            outcome.acceptedCount = 1
        case .extendedAdd:
            guard let sum = sum(old) else { return unchanged }
            new = sum
            outcome.value = sum
        case .set: new = operand
        case .setIfAbsent:
            if old != 0 { return unchanged }
            new = operand
        case .setIfPresent:
            if old == 0 { return unchanged }
            new = operand
        case .delete:
            if old == 0 { return unchanged }
            new = 0
        default: break
        }
        model[key] = new == 0 ? nil : Counter(value: new)
        return outcome
    }
}
