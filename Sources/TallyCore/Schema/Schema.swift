/// All counter families of a data set: part of the state, changed by journalled operations only.
public struct Schema: Equatable, Sendable {
    /// In order of their creation.
    public private(set) var families: [Family] = []
    /// The number of the next family.
    public private(set) var nextFamily: UInt32 = 1
    /// How many changes have made it.
    public private(set) var changeCount: UInt64 = 0

    /// The number that stands for plain keys without a deadline, where families have one.
    public static let plainKeys: UInt32 = 0
    /// The number that stands for plain keys with a deadline.
    public static let expiringKeys = UInt32.max

    /// The number that stands for what is remembered of requests with a token.
    public static let tokens = UInt32.max - 1

    /// Whether a family's number stands for plain keys.
    @inlinable
    public static func isPlain(_ family: UInt32) -> Bool {
        family == plainKeys || family == expiringKeys
    }

    /// No families.
    public init() {}

    /// A schema as it was written down.
    ///
    /// - Parameter nextFamily: Greater than every family's number.
    public init(families: [Family], nextFamily: UInt32, changeCount: UInt64 = 0) {
        self.changeCount = changeCount
        self.families = families
        self.nextFamily = nextFamily
    }

    /// The family of this name, nil if there is none.
    public func family(named name: String) -> Family? { families.first { $0.name == name } }

    /// Applies a change.
    ///
    /// - Throws: `SchemaError`; nothing has then changed.
    public mutating func apply(_ change: SchemaChange) throws(SchemaError) {
        try perform(change)
        changeCount += 1
    }

    private mutating func perform(_ change: SchemaChange) throws(SchemaError) {
        let changed: Int
        switch change {
        case .addFamily(let name, let isKnownOnly, let isDeletedFinal):
            return try add(
                Family(
                    number: nextFamily, name: name, isKnownOnly: isKnownOnly,
                    isDeletedFinal: isDeletedFinal))
        case .reserveFamily(let name, let isKnownOnly, let isDeletedFinal):
            var family = Family(
                number: nextFamily, name: name, isKnownOnly: isKnownOnly,
                isDeletedFinal: isDeletedFinal)
            family.isReserved = true
            return try add(family)
        case .openFamily(let name):
            guard let index = families.firstIndex(where: { $0.name == name && $0.isReserved })
            else { throw .noSuchFamily(name) }
            changed = index
            families[changed].isReserved = false
        case .dropFamily(let name):
            guard let index = families.firstIndex(where: { $0.name == name }) else {
                throw .noSuchFamily(name)
            }
            families.remove(at: index)
            return
        case .setAge(let family, let age):
            changed = try index(family)
            families[changed].age = age
        case .setAnsweredEarly(let family, let isAnsweredEarly):
            changed = try index(family)
            families[changed].isAnsweredEarly = isAnsweredEarly
        case .setKey(let family, let name, let kind):
            changed = try index(family)
            try Self.checkName(name)
            if let key = families[changed].key { throw .keyExists(key.name) }
            guard families[changed].column(named: name) == nil else { throw .columnExists(name) }
            families[changed].key = FamilyKey(name: name, kind: kind)
        case .addColumn(let family, let column):
            changed = try index(family)
            try add(column, to: changed)
        case .dropColumn(let family, let column):
            changed = try index(family)
            let columnIndex = try self.column(column, changed)
            guard families[changed].columns.count > 1 else { throw .lastColumn(column) }
            families[changed].columns.remove(at: columnIndex)
        case .alterColumn(let family, let column, let alteration):
            changed = try index(family)
            try alter(alteration, changed, self.column(column, changed))
        }
        families[changed].version += 1
    }

    private mutating func add(_ family: Family) throws(SchemaError) {
        try Self.checkName(family.name)
        guard self.family(named: family.name) == nil else { throw .familyExists(family.name) }
        guard families.count < Limits.familiesMax else {
            throw .tooManyFamilies(Limits.familiesMax)
        }
        families.append(family)
        nextFamily += 1
    }

    /// Whether a plain key would be taken for a family or one of its records.
    ///
    /// - Complexity: O(families).
    public func claims(_ key: UnsafeRawBufferPointer) -> Bool {
        families.contains { family in
            let name = family.name.utf8
            guard key.count >= name.count, name.elementsEqual(key.prefix(name.count)) else {
                return false
            }
            return key.count == name.count || key[name.count] == UInt8(ascii: ":")
        }
    }

    /// A family that is not only reserved.
    private func index(_ name: String) throws(SchemaError) -> Int {
        guard let index = families.firstIndex(where: { $0.name == name && !$0.isReserved }) else {
            throw .noSuchFamily(name)
        }
        return index
    }

    private func column(_ name: String, _ family: Int) throws(SchemaError) -> Int {
        guard let index = families[family].columns.firstIndex(where: { $0.name == name }) else {
            throw .noSuchColumn(name)
        }
        return index
    }

    private mutating func add(
        _ declaration: ColumnDeclaration, to index: Int
    ) throws(SchemaError) {
        let family = families[index]
        try Self.checkName(declaration.name)
        guard family.column(named: declaration.name) == nil, family.key?.name != declaration.name
        else { throw .columnExists(declaration.name) }
        guard family.columns.count < Limits.columnsMax else {
            throw .tooManyColumns(Limits.columnsMax)
        }
        if let suffix = declaration.suffix { try checkSuffix(suffix, family, except: nil) }
        let column = Column(
            number: family.nextColumn, name: declaration.name, suffix: declaration.suffix,
            hintBits: declaration.hintBits, maxBits: declaration.maxBits, min: declaration.min,
            defaultValue: declaration.defaultValue, bound: declaration.bound)
        try Self.checkRange(column)
        families[index].columns.append(column)
        families[index].nextColumn += 1
    }

    private mutating func alter(
        _ alteration: ColumnAlteration, _ index: Int, _ columnIndex: Int
    ) throws(SchemaError) {
        let family = families[index]
        var column = family.columns[columnIndex]
        if let maxBits = alteration.maxBits {
            guard maxBits >= column.maxBits else { throw .narrower(column.maxBits) }
            column.maxBits = maxBits
        }
        if let hintBits = alteration.hintBits { column.hintBits = hintBits }
        if let bound = alteration.bound { column.bound = bound }
        if let suffix = alteration.suffix {
            try checkSuffix(suffix, family, except: column.name)
            column.suffix = suffix
        }
        try Self.checkRange(column)
        families[index].columns[columnIndex] = column
    }

    // MARK: Checks

    private static func checkName(_ name: String) throws(SchemaError) {
        let isFine =
            (1...Limits.schemaNameBytesMax).contains(name.utf8.count)
            && name.utf8.allSatisfy { byte in
                (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte | 0x20)
                    || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
                    || byte == UInt8(ascii: "_") || byte == UInt8(ascii: "-")
            }
        // A name of digits only would be taken for a key.
        guard isFine, !name.utf8.allSatisfy({ $0 < UInt8(ascii: "A") }) else {
            throw .badName(name)
        }
    }

    private func checkSuffix(
        _ suffix: String, _ family: Family, except column: String?
    ) throws(SchemaError) {
        try Self.checkName(suffix)
        if let other = family.column(suffix: suffix), other.name != column {
            throw .suffixExists(suffix)
        }
    }

    private static func checkRange(_ column: Column) throws(SchemaError) {
        guard (1...64).contains(column.maxBits) else { throw .badWidth("max", column.maxBits) }
        guard (1...64).contains(column.hintBits) else { throw .badWidth("hint", column.hintBits) }
        guard column.min <= column.max else { throw .emptyRange(column.min, column.max) }
        guard (column.min...column.max).contains(column.defaultValue) else {
            throw .defaultOutOfRange(column.defaultValue, column.min, column.max)
        }
    }
}

/// A column as a client declares it.
public struct ColumnDeclaration: Equatable, Sendable {
    /// As in `Column`.
    public var name: String
    /// As in `Column`.
    public var suffix: String?
    /// As in `Column`.
    public var hintBits = 16
    /// As in `Column`.
    public var maxBits = 64
    /// As in `Column`.
    public var min: Int64 = 0
    /// As in `Column`.
    public var defaultValue: Int64 = 0
    /// As in `Column`.
    public var bound = BoundPolicy.reject

    /// A column of 64 bits from 0 on.
    public init(name: String) { self.name = name }
}

/// What of a column is to change; nil for what stays.
public struct ColumnAlteration: Equatable, Sendable {
    /// A greater width.
    public var maxBits: Int?
    /// Another hint.
    public var hintBits: Int?
    /// Another suffix.
    public var suffix: String?
    /// Another policy.
    public var bound: BoundPolicy?

    /// Nothing.
    public init() {}
}

/// One change of a schema.
public enum SchemaChange: Equatable, Sendable {
    /// A new family.
    case addFamily(String, isKnownOnly: Bool, isDeletedFinal: Bool)
    /// Keep a name for a new family: no plain key of it may be made any more, and no record yet.
    case reserveFamily(String, isKnownOnly: Bool, isDeletedFinal: Bool)
    /// Let a family have records whose name was kept.
    case openFamily(String)
    /// A family's records are cold from an age on, or no longer.
    case setAge(family: String, AgeRule?)
    /// Additions to a family may be answered before they are in a cluster's log, or not any more.
    case setAnsweredEarly(family: String, Bool)
    /// A family with all its records goes.
    case dropFamily(String)
    /// A family gets its key, once.
    case setKey(family: String, name: String, kind: KeyKind)
    /// A family gets another column; all records have its default in it.
    case addColumn(family: String, ColumnDeclaration)
    /// A column goes, with all that stands in it.
    case dropColumn(family: String, String)
    /// A column changes.
    case alterColumn(family: String, String, ColumnAlteration)
}

/// Why a schema is not changed.
public enum SchemaError: Error, Equatable, Sendable, CustomStringConvertible {
    /// Not a name.
    case badName(String)
    /// There is such a family already.
    case familyExists(String)
    /// There is no such family.
    case noSuchFamily(String)
    /// The family has a key already, of this name.
    case keyExists(String)
    /// The family has such a column already.
    case columnExists(String)
    /// The family has no such column.
    case noSuchColumn(String)
    /// Another column of the family has this suffix.
    case suffixExists(String)
    /// A width, of this name, that is none.
    case badWidth(String, Int)
    /// No value lies in the range.
    case emptyRange(Int64, Int64)
    /// The default lies outside of the range.
    case defaultOutOfRange(Int64, Int64, Int64)
    /// A column cannot become narrower than it is.
    case narrower(Int)
    /// A family keeps at least one column.
    case lastColumn(String)
    /// No more families.
    case tooManyFamilies(Int)
    /// No more columns.
    case tooManyColumns(Int)

    /// One line for a client.
    public var description: String {
        switch self {
        case .badName(let name):
            "'\(name)' is no name: 1 to \(Limits.schemaNameBytesMax) letters, digits, _ and -, "
                + "not digits only"
        case .familyExists(let name): "counter '\(name)' exists already"
        case .noSuchFamily(let name): "no such counter '\(name)'"
        case .keyExists(let name): "the counter's primary key is '\(name)' already"
        case .columnExists(let name): "column '\(name)' exists already"
        case .noSuchColumn(let name): "no such column '\(name)'"
        case .suffixExists(let suffix): "another column has the suffix '\(suffix)'"
        case .badWidth(let name, let bits): "\(name)=\(bits) is not in 1...64"
        case .emptyRange(let min, let max): "nothing lies between min=\(min) and \(max)"
        case .defaultOutOfRange(let value, let min, let max):
            "default=\(value) is not in \(min)...\(max)"
        case .narrower(let bits): "max can only grow, it is \(bits)"
        case .lastColumn(let name):
            "'\(name)' is the counter's only column: use DROP COUNTER to drop all"
        case .tooManyFamilies(let count): "there are \(count) counters already, no more are allowed"
        case .tooManyColumns(let count): "there are \(count) columns already, no more are allowed"
        }
    }
}
