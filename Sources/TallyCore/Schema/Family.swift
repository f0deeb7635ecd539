/// What identifies a family's records.
public enum KeyKind: UInt8, Sendable {
    /// An unsigned 64-bit integer.
    case integer = 0
    /// Bytes.
    case string = 1
}

/// The key of a family's records.
public struct FamilyKey: Equatable, Sendable {
    /// Its name.
    public let name: String
    /// What it is.
    public let kind: KeyKind

    /// A key of this name and kind.
    public init(name: String, kind: KeyKind) {
        self.name = name
        self.kind = kind
    }
}

/// A counter family: a named set of columns over one kind of key.
public struct Family: Equatable, Sendable {
    /// Its number in the data set, never used again for another; 0 is the built-in family of plain
    /// keys.
    public let number: UInt32
    /// Its name.
    public let name: String
    /// The name and the kind of its key; nil until they are declared, and no record exists before.
    public var key: FamilyKey?
    /// Its columns in order of declaration.
    public var columns: [Column] = []
    /// Whether updates of keys that were never set are refused.
    public var isKnownOnly: Bool
    /// Whether updates of keys that were deleted are refused.
    public var isDeletedFinal: Bool
    /// When records need not be in memory any more; nil for a family that says nothing about that.
    public var age: AgeRule?
    /// Whether additions may be answered before they are in a cluster's log.
    public var isAnsweredEarly = false
    /// Whether only its name is kept, so that it has no records yet.
    public var isReserved = false
    /// The number of the next column.
    public var nextColumn: UInt32 = 0
    /// How often it has changed since it was created.
    public var version: UInt32 = 0

    /// A family without a key and without columns.
    public init(number: UInt32, name: String, isKnownOnly: Bool, isDeletedFinal: Bool) {
        self.number = number
        self.name = name
        self.isKnownOnly = isKnownOnly
        self.isDeletedFinal = isDeletedFinal
    }

    /// The column of this name, nil if there is none.
    public func column(named name: String) -> Column? { columns.first { $0.name == name } }

    /// The column of this suffix, nil if there is none.
    public func column(suffix: String) -> Column? { columns.first { $0.suffix == suffix } }

    /// The changes that declare this family where there is none.
    public var declaration: [SchemaChange] {
        var changes = [
            SchemaChange.addFamily(
                name, isKnownOnly: isKnownOnly, isDeletedFinal: isDeletedFinal)
        ]
        if let age { changes.append(.setAge(family: name, age)) }
        if isAnsweredEarly { changes.append(.setAnsweredEarly(family: name, true)) }
        if let key { changes.append(.setKey(family: name, name: key.name, kind: key.kind)) }
        for column in columns {
            var declaration = ColumnDeclaration(name: column.name)
            declaration.suffix = column.suffix
            declaration.hintBits = column.hintBits
            declaration.maxBits = column.maxBits
            declaration.min = column.min
            declaration.defaultValue = column.defaultValue
            declaration.bound = column.bound
            changes.append(.addColumn(family: name, declaration))
        }
        return changes
    }
}
