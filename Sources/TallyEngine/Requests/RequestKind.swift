public import TallyCore

/// The kinds of entries that only requests have, beside those of the journal: what is to be judged
/// when it is applied, and reads whose place among writes matters. Their numbers are part of the format.
enum RequestKind: UInt8 {
    /// offset of an earlier entry · delta · count, four bytes: read what that entry adds to, then add
    /// to it so many times. Two operations.
    case run = 64
    /// record · column · value: if the column is not at its default.
    case columnSetIfPresent = 65
    /// record · column · value: if the column is at its default.
    case columnSetIfAbsent = 66
    /// key.
    case get = 67
    /// record · column.
    case columnGet = 68
    /// record · version · columns: read so many.
    case recordRead = 69
    /// key: read its deadline.
    case expiryRead = 70
    /// key · an `ExtendedSet`'s words: read what is to be moved.
    case moveRead = 71
    /// key: set it to what the latest `moveRead` has found.
    case moveSet = 72
    /// key: remove it if the latest `moveSet` took effect.
    case moveDelete = 73
    /// condition · count: the next so many operations are one unit.
    case unit = 74
    /// count: the next so many operations are one transaction.
    case transaction = 75
    /// token · fingerprint · count: the same, to be executed once.
    case once = 76
}

/// One thing that a request's entry asks for.
public enum RequestItem {
    /// An operation. What it has in rows is at the reader's rows.
    case operation(Operation)
    /// Additions to one key, before which its number is to be read.
    case run(Operation)
    /// A move's operation, whose words are those of the latest `readForMove`.
    case move(Operation)
    /// The next so many operations are one unit.
    case unit(count: Int, Operation.UnitCondition)
    /// The next so many operations are one transaction.
    case transaction(count: Int)
    /// The next so many operations are one request that is executed once.
    case once(RequestToken, fingerprint: UInt64, count: Int)
}
