/// The language of schema changes. The journal holds changes in it, too.
///
///     ADD COUNTER family [known=only] [deleted=final]
///     RESERVE COUNTER family [known=only] [deleted=final]
///     OPEN COUNTER family
///     ALTER COUNTER family cold-after=days [time-shift=bits] [time-unit=ms|s] [time-epoch=ms]
///     ALTER COUNTER family ack=applied|memory
///     DROP COUNTER family
///     ADD COLUMN family key primarykey [type=integer|string]
///     ADD COLUMN family column [hint=bits] [max=bits] [min=value] [default=value]
///         [suffix=name] [bound=reject|saturate]
///     ALTER COLUMN family column [max=bits] [hint=bits] [suffix=name] [bound=reject|saturate]
///     DROP COLUMN family column
///
/// A cluster adds a family in two steps, so RESERVE and OPEN are in its logs; no client sends them.
///
/// Words are separated by spaces; keywords and options may be in any case.
extension SchemaChange: CustomStringConvertible {
    /// Why words are not a schema change.
    public enum TextError: Error, Equatable, Sendable, CustomStringConvertible {
        /// Not the beginning of any change.
        case unknownChange
        /// Something is missing or too much.
        case wrongWords(String)
        /// An option that there is not.
        case unknownOption(String)
        /// An option that is given twice.
        case repeatedOption(String)
        /// An option whose value is none, and what it may be.
        case badValue(String, allowed: String)

        /// One line for a client.
        public var description: String {
            switch self {
            case .unknownChange:
                "expected ADD COUNTER, ALTER COUNTER, DROP COUNTER, ADD COLUMN, ALTER COLUMN or "
                    + "DROP COLUMN"
            case .wrongWords(let form): "expected \(form)"
            case .unknownOption(let option): "unknown option '\(option)'"
            case .repeatedOption(let option): "option '\(option)' is given twice"
            case .badValue(let option, let allowed): "'\(option)' is not \(allowed)"
            }
        }
    }

    /// The change that `words` spell.
    ///
    /// - Throws: `TextError`.
    public init(_ words: [String]) throws(TextError) {
        guard words.count >= 2 else { throw .unknownChange }
        let rest = Array(words[2...])
        switch (words[0].lowercased(), words[1].lowercased()) {
        case ("add", "counter"): self = try Self.addFamily(rest)
        case ("reserve", "counter"): self = try Self.addFamily(rest).asReservation
        case ("open", "counter"):
            guard rest.count == 1 else { throw .wrongWords("OPEN COUNTER name") }
            self = .openFamily(rest[0])
        case ("alter", "counter"): self = try Self.alterFamily(rest)
        case ("drop", "counter"):
            guard rest.count == 1 else { throw .wrongWords("DROP COUNTER name") }
            self = .dropFamily(rest[0])
        case ("add", "column"): self = try Self.addColumn(rest)
        case ("drop", "column"):
            guard rest.count == 2 else { throw .wrongWords("DROP COLUMN counter column") }
            self = .dropColumn(family: rest[0], rest[1])
        case ("alter", "column"): self = try Self.alterColumn(rest)
        default: throw .unknownChange
        }
    }

    /// The change that `description` had given as these bytes; nil if it is none.
    public init?(bytes: UnsafeRawBufferPointer) {
        let words = String(decoding: bytes, as: UTF8.self).split(separator: " ").map(String.init)
        do throws(TextError) {
            try self.init(words)
        } catch {
            return nil
        }
    }

    private static func addFamily(_ words: [String]) throws(TextError) -> SchemaChange {
        guard let name = words.first else {
            throw .wrongWords("ADD COUNTER name [known=only] [deleted=final]")
        }
        var options = try Options(words.dropFirst())
        let isKnownOnly = try options.choice("known", ["only": true]) ?? false
        let isDeletedFinal = try options.choice("deleted", ["final": true]) ?? false
        try options.finish()
        return .addFamily(name, isKnownOnly: isKnownOnly, isDeletedFinal: isDeletedFinal)
    }

    private static func alterFamily(_ words: [String]) throws(TextError) -> SchemaChange {
        let form =
            "ALTER COUNTER name ack=applied|memory, or "
            + "cold-after=days time-shift=bits [time-unit=ms|s] [time-epoch=ms]"
        guard let name = words.first else { throw .wrongWords(form) }
        var options = try Options(words.dropFirst())
        if let isAnsweredEarly = try options.choice("ack", ["applied": false, "memory": true]) {
            try options.finish()
            return .setAnsweredEarly(family: name, isAnsweredEarly)
        }
        guard let days = try options.integer("cold-after", in: 0...AgeRule.daysMax) else {
            throw .wrongWords(form)
        }
        let shift = try options.integer("time-shift", in: 0...63)
        let unit = try options.choice("time-unit", ["ms": 1, "s": 1000])
        let epoch = try options.integer("time-epoch")
        try options.finish()
        guard days > 0 else { return .setAge(family: name, nil) }
        guard let shift else { throw .wrongWords(form) }
        return .setAge(
            family: name,
            AgeRule(
                coldAfterDays: days, timeShift: shift, timeUnitMilliseconds: unit ?? 1,
                timeEpochMilliseconds: epoch ?? 0))
    }

    private static func addColumn(_ words: [String]) throws(TextError) -> SchemaChange {
        guard words.count >= 2 else { throw .wrongWords("ADD COLUMN counter column [options]") }
        var options = try Options(words.dropFirst(2))
        if options.take("primarykey") != nil {
            let kind = try options.choice("type", ["integer": KeyKind.integer, "string": .string])
            // A key has all 64 bits and no default; saying so is allowed.
            try options.require("hint", "64")
            try options.require("max", "64")
            try options.require("default", "0")
            try options.finish()
            return .setKey(family: words[0], name: words[1], kind: kind ?? .integer)
        }
        var column = ColumnDeclaration(name: words[1])
        column.hintBits = try options.bits("hint") ?? column.hintBits
        column.maxBits = try options.bits("max") ?? column.maxBits
        column.min = try options.integer("min") ?? column.min
        column.defaultValue = try options.integer("default") ?? column.defaultValue
        column.suffix = options.take("suffix")
        column.bound = try options.bound() ?? column.bound
        try options.finish()
        return .addColumn(family: words[0], column)
    }

    private static func alterColumn(_ words: [String]) throws(TextError) -> SchemaChange {
        guard words.count >= 3 else { throw .wrongWords("ALTER COLUMN counter column option …") }
        var options = try Options(words.dropFirst(2))
        var alteration = ColumnAlteration()
        alteration.maxBits = try options.bits("max")
        alteration.hintBits = try options.bits("hint")
        alteration.suffix = options.take("suffix")
        alteration.bound = try options.bound()
        try options.finish()
        return .alterColumn(family: words[0], words[1], alteration)
    }

    /// The change in its shortest form; `init` reads it back.
    public var description: String {
        switch self {
        case .addFamily(let name, let isKnownOnly, let isDeletedFinal):
            "ADD COUNTER \(name)\(isKnownOnly ? " known=only" : "")"
                + (isDeletedFinal ? " deleted=final" : "")
        case .reserveFamily(let name, let isKnownOnly, let isDeletedFinal):
            "RESERVE COUNTER \(name)\(isKnownOnly ? " known=only" : "")"
                + (isDeletedFinal ? " deleted=final" : "")
        case .openFamily(let name): "OPEN COUNTER \(name)"
        case .setAge(let family, let age):
            "ALTER COUNTER \(family) cold-after=\(age?.coldAfterDays ?? 0)"
                + (age.map {
                    " time-shift=\($0.timeShift)"
                        + " time-unit=\($0.timeUnitMilliseconds == 1 ? "ms" : "s")"
                        + " time-epoch=\($0.timeEpochMilliseconds)"
                } ?? "")
        case .setAnsweredEarly(let family, let isAnsweredEarly):
            "ALTER COUNTER \(family) ack=\(isAnsweredEarly ? "memory" : "applied")"
        case .dropFamily(let name): "DROP COUNTER \(name)"
        case .setKey(let family, let name, let kind):
            "ADD COLUMN \(family) \(name) primarykey type=\(kind == .string ? "string" : "integer")"
        case .addColumn(let family, let column):
            "ADD COLUMN \(family) \(column.name) hint=\(column.hintBits) max=\(column.maxBits)"
                + " min=\(column.min) default=\(column.defaultValue)"
                + (column.suffix.map { " suffix=\($0)" } ?? "") + Self.text(column.bound)
        case .dropColumn(let family, let column): "DROP COLUMN \(family) \(column)"
        case .alterColumn(let family, let column, let alteration):
            "ALTER COLUMN \(family) \(column)"
                + (alteration.maxBits.map { " max=\($0)" } ?? "")
                + (alteration.hintBits.map { " hint=\($0)" } ?? "")
                + (alteration.suffix.map { " suffix=\($0)" } ?? "")
                + (alteration.bound.map(Self.text) ?? "")
        }
    }

    /// The first step of adding a family where one node cannot do it alone; other changes are as they are.
    public var asReservation: SchemaChange {
        guard case .addFamily(let name, let isKnownOnly, let isDeletedFinal) = self else {
            return self
        }
        return .reserveFamily(name, isKnownOnly: isKnownOnly, isDeletedFinal: isDeletedFinal)
    }

    private static func text(_ bound: BoundPolicy) -> String {
        bound == .saturate ? " bound=saturate" : " bound=reject"
    }
}

/// `name=value` words, and `primarykey`, each at most once.
private struct Options {
    private var values: [String: String] = [:]

    init(_ words: some Sequence<String>) throws(SchemaChange.TextError) {
        for word in words {
            let parts = word.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            let name = parts[0].lowercased()
            guard parts.count == 2 || name == "primarykey" else { throw .unknownOption(word) }
            guard values[name] == nil else { throw .repeatedOption(name) }
            values[name] = parts.count == 2 ? String(parts[1]) : ""
        }
    }

    mutating func take(_ name: String) -> String? { values.removeValue(forKey: name) }

    mutating func integer(_ name: String) throws(SchemaChange.TextError) -> Int64? {
        guard let text = take(name) else { return nil }
        guard let value = Int64(text) else {
            throw .badValue("\(name)=\(text)", allowed: "\(name)= and a 64-bit integer")
        }
        return value
    }

    mutating func integer(
        _ name: String, in range: ClosedRange<Int>
    ) throws(SchemaChange.TextError) -> Int? {
        guard let text = take(name) else { return nil }
        guard let value = Int(text), range.contains(value) else {
            throw .badValue(
                "\(name)=\(text)",
                allowed: "\(name)= and a number in \(range.lowerBound)...\(range.upperBound)")
        }
        return value
    }

    mutating func bits(_ name: String) throws(SchemaChange.TextError) -> Int? {
        guard let text = take(name) else { return nil }
        guard let bits = Int(text), (1...64).contains(bits) else {
            throw .badValue("\(name)=\(text)", allowed: "\(name)= and a number of bits in 1...64")
        }
        return bits
    }

    mutating func choice<Value>(
        _ name: String, _ choices: [String: Value]
    ) throws(SchemaChange.TextError) -> Value? {
        guard let text = take(name) else { return nil }
        guard let value = choices[text.lowercased()] else {
            throw .badValue(
                "\(name)=\(text)",
                allowed: choices.keys.sorted().map { "\(name)=\($0)" }.joined(separator: " or "))
        }
        return value
    }

    mutating func bound() throws(SchemaChange.TextError) -> BoundPolicy? {
        try choice("bound", ["reject": .reject, "saturate": .saturate])
    }

    mutating func require(
        _ name: String, _ value: String
    ) throws(SchemaChange.TextError) {
        guard let text = take(name), text != value else { return }
        throw .badValue("\(name)=\(text)", allowed: "\(name)=\(value), as a primary key has it")
    }

    func finish() throws(SchemaChange.TextError) {
        if let name = values.keys.min() { throw .unknownOption(name) }
    }
}
