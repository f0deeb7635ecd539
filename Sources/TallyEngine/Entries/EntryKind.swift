public import TallyCore

/// The kinds of journal entries; their numbers are part of the file format.
enum EntryKind: UInt8 {
    /// key: add 1.
    case increment = 1
    /// key · delta: add it.
    case add = 2
    /// key · delta · count: add it so many times.
    case addRun = 3
    /// offset of an earlier entry · delta · count: add it so many times to that entry's key.
    case again = 4
    /// key · value.
    case set = 5
    /// key · value: unless the key exists.
    case setIfAbsent = 6
    /// key · value: if the key exists.
    case setIfPresent = 7
    /// key.
    case delete = 8
    /// Nothing: remove every key and every record of the partition.
    case clear = 9
    /// record · column: add 1.
    case columnIncrement = 10
    /// record · column · delta: add it.
    case columnAdd = 11
    /// record · column · delta · count: add it so many times.
    case columnAddRun = 12
    /// record · column · value.
    case columnSet = 13
    /// record · column: set it to its default.
    case columnDelete = 14
    /// record · pairs of column and value: set them.
    case recordSetColumns = 15
    /// record · pairs of column and value: set them, and all others to their defaults.
    case recordSet = 16
    /// record: set all columns to their defaults.
    case recordDelete = 17
    /// text: change the schema.
    case schemaChange = 18
    /// family · import: put the import's records over those that there are.
    case importRuns = 19
    /// key · deadline · condition: give it the deadline.
    case expire = 20
    /// key: take its deadline away.
    case persist = 21
    /// key · an `ExtendedSet`'s words: set it.
    case extendedSet = 22
    /// key · an `ExtendedAdd`'s words: add.
    case extendedAdd = 23
    /// record · column · an `ExtendedAdd`'s words: add.
    case columnExtendedAdd = 24
    /// token · fingerprint · words: what became of the request before this.
    case remember = 25
    /// milliseconds: what is remembered of tokens made until then goes.
    case raiseFloor = 26

    /// Whether `again` may follow it.
    var isAdd: Bool {
        switch self {
        case .increment, .add, .addRun, .columnIncrement, .columnAdd, .columnAddRun: true
        default: false
        }
    }
}

extension Partition {
    /// Most bytes that an operation adds to the journal.
    @inlinable @inline(__always)
    public static func journalBytesMax(_ operation: Operation) -> Int {
        // An entry of its own, or a run that points back to one.
        if operation.kind == .add {
            return Int(operation.keyByteCount) &+ (operation.family == 0 ? 24 : 36)
        }
        return journalBytesMax(ofOther: operation)
    }

    @usableFromInline @inline(never)
    static func journalBytesMax(ofOther operation: Operation) -> Int {
        let key = Int(operation.keyByteCount)
        switch operation.kind {
        case .set, .setIfAbsent, .setIfPresent, .delete, .deleteMoved:
            return key &+ (operation.family == 0 ? 13 : 31)
        case .setColumns, .setRecord: return key &+ 17 &+ Int(operation.count) &* 15
        case .deleteRecord: return key &+ 16
        case .importRuns: return 16
        case .clear, .changeSchema: return key &+ 3
        case .expire: return key &+ 15
        case .persist: return key &+ 3
        case .remember: return rememberedBytesMax(wordCount: Int(operation.count))
        case .raiseFloor: return 11
        case .extendedSet, .setMoved: return key &+ 3 &+ ExtendedSet.wordCount &* 10
        case .extendedAdd: return key &+ 21 &+ ExtendedAdd.wordCount &* 10
        case .get, .readRecord, .readExpiry, .readForMove, .transaction, .countKeys, .add: return 0
        }
    }
}

extension Partition {
    /// Most bytes that remembering a request of so many words adds to the journal.
    @inline(__always)
    public static func rememberedBytesMax(wordCount: Int) -> Int {
        1 &+ RequestToken.byteCount &+ 8 &+ (1 &+ wordCount) &* Varint.bytesMax
    }

    /// Most bytes that removing an operation's plain key adds to the journal.
    @inline(__always)
    public static func journalBytesMax(ofRemoving operation: Operation) -> Int {
        Int(operation.keyByteCount) &+ 13
    }
}
