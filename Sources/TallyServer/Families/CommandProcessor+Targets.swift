import TallyCore
import TallyNode
import TallyRESP

/// What the keys of commands name: plain keys, records of families, columns of records.
///
/// These methods change nothing, and are `mutating` so that each is given the processor in its place: for
/// one that borrows the compiler copies all of it.
extension CommandProcessor {
    /// What one key names.
    enum Target {
        case plain(UnsafeRawBufferPointer)
        case column(OperationBatch.Record, FamilyCatalog.Column)
        case record(OperationBatch.Record, family: Int)
    }

    /// What the argument at `index` names as a key of Redis: a plain key, `family:key` or
    /// `family:key.suffix`.
    @inline(__always)
    mutating func target(_ index: Int) throws(Refusal) -> Target {
        let key = arguments[index]
        if catalog.isEmpty {
            guard key.count <= Limits.keyBytesMax else { throw Self.tooLong(key) }
            return .plain(key)
        }
        return try targetAmongFamilies(key)
    }

    @inline(never)
    private mutating func targetAmongFamilies(_ key: UnsafeRawBufferPointer) throws(Refusal)
        -> Target
    {
        guard let (family, restOffset) = catalog.split(key) else {
            guard key.count <= Limits.keyBytesMax else { throw Self.tooLong(key) }
            if let family = catalog.find(key) { throw familyIsNoKey(family) }
            return .plain(key)
        }
        return try target(
            family, UnsafeRawBufferPointer(rebasing: key[restOffset...]), prefixed: key)
    }

    /// What `text` names among the records of a family: a key, or a key, a dot and a suffix.
    ///
    /// - Parameter prefixed: The whole argument, if `text` is what stands behind `family:` there.
    @inline(__always)
    mutating func target(
        _ index: Int, _ text: UnsafeRawBufferPointer, prefixed: UnsafeRawBufferPointer? = nil
    ) throws(Refusal) -> Target {
        let family = catalog.families[index]
        let start = text.baseAddress.unsafelyUnwrapped
        var end = text.count
        while end > 0, text[end &- 1] != UInt8(ascii: ".") { end &-= 1 }
        guard end > 0,
            let column = family.column(
                suffix: UnsafeRawBufferPointer(start: start + end, count: text.count &- end))
        else { return .record(try record(index, text, prefixed: prefixed), family: index) }
        let key = UnsafeRawBufferPointer(start: start, count: end &- 1)
        return .column(try record(index, key, prefixed: prefixed), column)
    }

    /// The record of a family that `key` names, without a suffix.
    @inline(__always)
    mutating func record(
        _ index: Int, _ key: UnsafeRawBufferPointer, prefixed: UnsafeRawBufferPointer? = nil
    ) throws(Refusal) -> OperationBatch.Record {
        let family = catalog.families[index]
        guard family.keyKind == .integer, family.columns.count > 0 else {
            return try stringRecord(family, key, prefixed: prefixed)
        }
        guard let integer = Decimal.parseUnsigned(key) else { throw notAKey(family, key) }
        return OperationBatch.Record(family: family.number, key: integer)
    }

    private mutating func stringRecord(
        _ family: FamilyCatalog.Family, _ key: UnsafeRawBufferPointer,
        prefixed: UnsafeRawBufferPointer?
    ) throws(Refusal) -> OperationBatch.Record {
        guard family.keyKind != nil else {
            throw Refusal(
                "ERR counter '\(family.name.text)' has no primary key yet: "
                    + "ADD COLUMN \(family.name.text) <name> primarykey")
        }
        guard family.columns.count > 0 else {
            throw Refusal(
                "ERR counter '\(family.name.text)' has no columns yet: "
                    + "ADD COLUMN \(family.name.text) <name>")
        }
        guard key.count <= Limits.keyBytesMax else { throw Self.tooLong(key) }
        let slot: Slot
        if let prefixed {
            // The key without its suffix: what a client of Redis Cluster computes for a hash.
            let byteCount = family.name.count + 1 + key.count
            slot = Slot(of: UnsafeRawBufferPointer(rebasing: prefixed[..<byteCount]))
        } else {
            slot = Slot(of: key, ofFamily: family.name)
        }
        return OperationBatch.Record(family: family.number, key: key, slot: slot)
    }

    /// The record that the argument at `index` names as a hash, and its family.
    mutating func hash(_ index: Int) throws(Refusal) -> (
        OperationBatch.Record, FamilyCatalog.Family
    ) {
        let key = arguments[index]
        guard let (family, restOffset) = catalog.split(key) else { throw noFamily(key) }
        let rest = UnsafeRawBufferPointer(rebasing: key[restOffset...])
        return (try record(family, rest, prefixed: key), catalog.families[family])
    }

    /// The only column of a family, for keys that name none.
    mutating func onlyColumn(
        _ index: Int, _ key: UnsafeRawBufferPointer
    ) throws(Refusal) -> FamilyCatalog.Column {
        let family = catalog.families[index]
        guard family.columns.count == 1 else {
            throw Refusal(
                "ERR '\(key.prefix(64).text)' names a record of counter '\(family.name.text)'; "
                    + "name one of its columns with a suffix: \(Self.suffixes(family))")
        }
        return family.columns[0]
    }

    // MARK: Refusals

    private func familyIsNoKey(_ family: Int) -> Refusal {
        let name = catalog.families[family].name.text
        return Refusal("ERR '\(name)' is a counter; name a record of it, as in \(name):1")
    }

    private mutating func notAKey(
        _ family: FamilyCatalog.Family, _ key: UnsafeRawBufferPointer
    ) -> Refusal {
        if family.keyKind == nil || family.columns.count == 0 {
            do throws(Refusal) {
                _ = try stringRecord(family, key, prefixed: nil)
            } catch {
                return error
            }
        }
        return Refusal(
            "ERR '\(key.prefix(64).text)' is no key of counter '\(family.name.text)': expected an "
                + "integer from 0 to \(UInt64.max), or one with a suffix: \(Self.suffixes(family))")
    }

    private static func suffixes(_ family: FamilyCatalog.Family) -> String {
        let suffixes = family.columns.filter { $0.suffix.count > 0 }.map { ".\($0.suffix.text)" }
        return suffixes.isEmpty ? "none are declared" : suffixes.joined(separator: ", ")
    }

    private func noFamily(_ key: UnsafeRawBufferPointer) -> Refusal {
        let shown = key.prefix(64)
        let name = UnsafeRawBufferPointer(rebasing: shown.prefix { $0 != UInt8(ascii: ":") }).text
        return Refusal(
            "ERR hash commands are for records of a counter, and '\(shown.text)' is of none. "
                + "Declare one: ADD COUNTER \(name), ADD COLUMN \(name) id primarykey, "
                + "ADD COLUMN \(name) <column>; then use \(name):<id>")
    }

    func noColumn(
        _ name: UnsafeRawBufferPointer, _ family: FamilyCatalog.Family
    ) -> Refusal {
        let names = family.columns.map(\.name.text).joined(separator: ", ")
        return Refusal(
            "ERR counter '\(family.name.text)' has no column '\(name.prefix(64).text)', only: "
                + names)
    }

    func outOfBounds(
        _ column: FamilyCatalog.Column, _ value: UnsafeRawBufferPointer
    ) -> Refusal {
        Refusal(
            "ERR \(value.prefix(32).text) is out of column '\(column.name.text)', which takes "
                + "\(column.min) to \(column.max)")
    }

    static func tooLong(_ key: UnsafeRawBufferPointer) -> Refusal {
        Refusal(
            "ERR key of \(key.count) bytes is too long, at most \(Limits.keyBytesMax) are allowed")
    }
}

extension Slice where Base == UnsafeRawBufferPointer {
    /// As text, whatever the bytes are.
    var text: String { UnsafeRawBufferPointer(rebasing: self).text }
}
