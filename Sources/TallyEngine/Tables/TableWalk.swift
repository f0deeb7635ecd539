import TallyCore

/// A key in memory of its own.
public enum StoredKey: Sendable {
    /// An integer.
    case integer(UInt64)
    /// Bytes.
    case string([UInt8])
}

/// Where a walk over a table stands, between two looks at it.
///
/// A walk comes to every record that is there from its beginning to its end, whatever is changed,
/// merged or split meanwhile: it goes from what changed lately down to what is settled, and records
/// move only that way. It shows a record at the oldest place that has it, so only those that a merge
/// overtakes are seen twice.
public enum TablePlace: Sendable {
    /// Among what changed lately: hashes from this one on.
    case changed(hash: UInt64)
    /// In imported runs that wait to be merged: in the one with `left` − 1 older ones, behind a key.
    case run(left: Int, after: StoredKey?)
    /// In segments, behind a key.
    case settled(after: StoredKey?)
    /// At the end.
    case end

    /// The beginning.
    public static let start = TablePlace.changed(hash: 0)
}

/// What a walk needs of a table, whatever its keys are.
protocol WalkedTable: ~Copyable {
    associatedtype Key

    static func stored(_ key: Key) -> StoredKey
    static func unstored(_ key: StoredKey) -> Key?

    /// How many frozen layers there are, newest first.
    var layerCount: Int { get }
    /// Whether a frozen layer is an imported run.
    func isRun(_ layer: Int) -> Bool
    /// Calls `body` with the keys, and their hashes, of records in the leaf that holds `position` of a
    /// memtable: the live one, or a frozen layer.
    ///
    /// - Returns: the first hash behind the leaf, nil behind the last.
    func forEachKey(
        ofLeafAt position: UInt64, layer: Int?, _ body: (Key, _ hash: UInt64) -> Void
    ) -> UInt64?
    /// Whether what lies under a layer, nil for the live memtable, has a record of a key, as far as
    /// can be said without reading the disk.
    func isPresent(_ key: Key, hash: UInt64, under layer: Int?) -> Bool
    /// Calls `body` with a run's next keys.
    ///
    /// - Returns: whether those were the last.
    func forEachKey(ofRun layer: Int, after: Key?, limit: Int, _ body: (Key) -> Void) -> Bool
    /// Calls `body` with the segments' next keys.
    func forEachKey(
        ofSegmentsAfter after: Key?, limit: Int, _ body: (Key) -> Void
    ) -> SegmentWalk
    func hash(of key: Key) -> UInt64
    /// Somewhere in the segments: the beginning of block number `number`, counted through them all.
    func settledPlace(_ number: Int) -> TablePlace
    /// How many blocks the segments have.
    var blockCount: Int { get }
    /// How many records have changed lately.
    var changedCount: Int { get }
    /// How many records there are.
    var recordCount: Int { get }
}

/// How a look at segments' keys ended.
enum SegmentWalk {
    case stopped
    case end
    /// This block must be read first.
    case missing(ColdBlock)
}

extension WalkedTable where Self: ~Copyable {
    /// Somewhere in the table, by a random number.
    borrowing func randomPlace(_ random: UInt64) -> TablePlace {
        let isSettled = blockCount > 0 && Int(random >> 33) % max(1, recordCount) >= changedCount
        return isSettled
            ? settledPlace(Int(truncatingIfNeeded: random & 0xffff_ffff) % blockCount)
            : .changed(hash: random)
    }

    /// Goes on with a walk: calls `body` with some keys, each of which has, or had until lately, a
    /// record.
    ///
    /// - Parameter limit: How many keys, about.
    /// - Returns: a block that must be read before it goes on; the place is then where it was.
    /// - Complexity: O(limit + records of a leaf × log of those).
    borrowing func walk(
        _ place: inout TablePlace, limit: Int, _ body: (Key) -> Void
    ) -> ColdBlock? {
        switch place {
        case .changed(let hash): place = walkChanged(from: hash, limit, body)
        case .run(let left, let after): place = walkRun(left, after, limit, body)
        case .settled(let after):
            var last = after
            let walked = forEachKey(
                ofSegmentsAfter: after.flatMap(Self.unstored), limit: limit
            ) { key in
                last = Self.stored(key)
                body(key)
            }
            switch walked {
            case .stopped: place = .settled(after: last)
            case .end: place = .end
            case .missing(let block): return block
            }
        case .end: break
        }
        return nil
    }

    private borrowing func walkChanged(
        from position: UInt64, _ limit: Int, _ body: (Key) -> Void
    ) -> TablePlace {
        var end: UInt64?
        var found: [(hash: UInt64, key: Key)] = []
        for layer in -1..<layerCount {
            let frozen = layer < 0 ? nil : layer
            if let frozen, isRun(frozen) { continue }
            let leafEnd = forEachKey(ofLeafAt: position, layer: frozen) { key, hash in
                guard hash >= position, !isPresent(key, hash: hash, under: frozen) else { return }
                found.append((hash, key))
            }
            if let leafEnd { end = min(end ?? .max, leafEnd) }
        }
        if let end { found.removeAll { $0.hash >= end } }
        found.sort { $0.hash < $1.hash }
        var shown = 0
        while shown < found.count {
            // Keys of one hash go together.
            if shown >= limit, found[shown].hash != found[shown - 1].hash {
                return .changed(hash: found[shown].hash)
            }
            body(found[shown].key)
            shown += 1
        }
        if let end { return .changed(hash: end) }
        let runs = (0..<layerCount).count { isRun($0) }
        return runs > 0 ? .run(left: runs, after: nil) : .settled(after: nil)
    }

    private borrowing func walkRun(
        _ left: Int, _ after: StoredKey?, _ limit: Int, _ body: (Key) -> Void
    ) -> TablePlace {
        // Runs that were there may have been merged.
        let runs = (0..<layerCount).filter { isRun($0) }
        guard left <= runs.count, left > 0 else {
            return runs.isEmpty || left == 0
                ? .settled(after: nil) : .run(left: runs.count, after: nil)
        }
        let layer = runs[runs.count - left]
        var last = after
        let isEnd = forEachKey(
            ofRun: layer, after: after.flatMap(Self.unstored), limit: limit
        ) { key in
            last = Self.stored(key)
            if !isPresent(key, hash: hash(of: key), under: layer) { body(key) }
        }
        if !isEnd { return .run(left: left, after: last) }
        return left > 1 ? .run(left: left - 1, after: nil) : .settled(after: nil)
    }
}

// MARK: String keys

extension StringTable: WalkedTable {
    typealias Key = [UInt8]

    static func stored(_ key: [UInt8]) -> StoredKey { .string(key) }

    static func unstored(_ key: StoredKey) -> [UInt8]? {
        if case .string(let key) = key { key } else { nil }
    }

    var layerCount: Int { frozen.count }

    borrowing func isRun(_ layer: Int) -> Bool {
        if case .run = frozen[layer].content { true } else { false }
    }

    borrowing func hash(of key: [UInt8]) -> UInt64 { key.withUnsafeBytes { hasher.hash($0) } }

    borrowing func forEachKey(
        ofLeafAt position: UInt64, layer: Int?, _ body: ([UInt8], _ hash: UInt64) -> Void
    ) -> UInt64? {
        guard let layer else {
            return memtable.forEachKey(ofLeafAt: position) { body(Array($0), hasher.hash($0)) }
        }
        guard case .memtable(let frozen) = frozen[layer].content else { return nil }
        return frozen.memtable.forEachKey(ofLeafAt: position) {
            body(Array($0), hasher.hash($0))
        }
    }

    borrowing func isPresent(_ key: [UInt8], hash: UInt64, under layer: Int?) -> Bool {
        key.withUnsafeBytes { bytes in
            guard let start = bytes.baseAddress else { return false }
            let lookup = Lookup(start, count: bytes.count, hash: hash)
            for older in frozen[((layer ?? -1) + 1)...] {
                switch older.content.read(lookup, foundRow) {
                case .unknown: continue
                case .removed: return false
                case .found: return true
                }
            }
            guard let (segment, number) = settledBlock(bytes, hash: hash) else { return false }
            let view = segments[segment].view
            guard let block = blockAtHand(segment, number) else { return false }
            return view.layout(of: block).rank(bytes) != nil
        }
    }

    borrowing func forEachKey(
        ofRun layer: Int, after: [UInt8]?, limit: Int, _ body: ([UInt8]) -> Void
    ) -> Bool {
        guard case .run(let run) = frozen[layer].content else { return true }
        var left = limit
        for segment in run.segments {
            let view = segment.view
            let first = after.map { key in key.withUnsafeBytes { view.blockNumber($0) } } ?? 0
            for number in first..<view.blockCount {
                guard left > 0 else { return false }
                view.layout(number).forEachKey { key in
                    guard left > 0, Self.isBehind(key, after) else { return }
                    left -= 1
                    body(Array(key))
                }
            }
        }
        return left > 0
    }

    borrowing func forEachKey(
        ofSegmentsAfter after: [UInt8]?, limit: Int, _ body: ([UInt8]) -> Void
    ) -> SegmentWalk {
        var left = limit
        let firstSegment =
            after.map { key in key.withUnsafeBytes { segmentIndex($0) ?? 0 } } ?? 0
        for segment in firstSegment..<max(firstSegment, segments.count) {
            let view = segments[segment].view
            let first = after.map { key in key.withUnsafeBytes { view.blockNumber($0) } } ?? 0
            for number in first..<view.blockCount {
                guard left > 0 else { return .stopped }
                if let missing = missingBlock(segment, number) {
                    return left < limit ? .stopped : .missing(missing)
                }
                withBlock(segment, number) { layout in
                    layout.forEachKey { key in
                        guard left > 0, Self.isBehind(key, after) else { return }
                        left -= 1
                        body(Array(key))
                    }
                }
            }
        }
        return left > 0 ? .end : .stopped
    }

    private static func isBehind(_ key: UnsafeRawBufferPointer, _ after: [UInt8]?) -> Bool {
        after.map { after in after.withUnsafeBytes { Bytes.isLess($0, key) } } ?? true
    }

    borrowing func settledPlace(_ number: Int) -> TablePlace {
        var number = number
        for segment in segments {
            if number < segment.view.blockCount {
                return .settled(after: .string(Array(segment.view.separator(number))))
            }
            number -= segment.view.blockCount
        }
        return .settled(after: nil)
    }

    var blockCount: Int { segments.reduce(0) { $0 + $1.view.blockCount } }

    /// The segment and block that may have a key; nil if none has.
    private borrowing func settledBlock(
        _ key: UnsafeRawBufferPointer, hash: UInt64
    ) -> (segment: Int, block: Int)? {
        guard let segment = segmentIndex(key) else { return nil }
        let view = segments[segment].view
        if view.isCold, !segments[segment].mayContain(hash) { return nil }
        return (segment, view.blockNumber(key))
    }

    /// A block's bytes if they are in memory.
    private borrowing func blockAtHand(_ segment: Int, _ number: Int) -> UnsafeRawBufferPointer? {
        missingBlock(segment, number) == nil ? blockBytes(segment, number, hash: nil) : nil
    }

    private borrowing func missingBlock(_ segment: Int, _ number: Int) -> ColdBlock? {
        guard segments[segment].isCold, let block = coldBlock(segment, number, hash: nil),
            !cache.keep(block.address)
        else { return nil }
        return block
    }
}

// MARK: Integer keys

extension IntegerTable: WalkedTable {
    typealias Key = UInt64

    static func stored(_ key: UInt64) -> StoredKey { .integer(key) }

    static func unstored(_ key: StoredKey) -> UInt64? {
        if case .integer(let key) = key { key } else { nil }
    }

    var layerCount: Int { frozen.count }

    borrowing func isRun(_ layer: Int) -> Bool {
        if case .run = frozen[layer].content { true } else { false }
    }

    borrowing func hash(of key: UInt64) -> UInt64 { hasher.hash(key) }

    borrowing func forEachKey(
        ofLeafAt position: UInt64, layer: Int?, _ body: (UInt64, _ hash: UInt64) -> Void
    ) -> UInt64? {
        guard let layer else {
            return memtable.forEachKey(ofLeafAt: position) { body($0, hasher.hash($0)) }
        }
        guard case .memtable(let frozen) = frozen[layer].content else { return nil }
        return frozen.memtable.forEachKey(ofLeafAt: position) { body($0, hasher.hash($0)) }
    }

    borrowing func isPresent(_ key: UInt64, hash: UInt64, under layer: Int?) -> Bool {
        for older in frozen[((layer ?? -1) + 1)...]
        where older.content.read(key, hash: hash, foundRow) {
            return (0..<older.content.columns.count).contains { foundRow[$0] != 0 }
        }
        guard segmentCount > 0 else { return false }
        let segment = Search.lastIndex(firstKeys, segmentCount, notAbove: key)
        let view = views[segment]
        let number = view.blockNumber(key)
        if view.isCold, !segments[segment].mayContain(hash) { return false }
        guard key >= view.firstKeys[number], missingBlock(segment, number) == nil,
            let block = walkedBlock(segment, number)
        else { return false }
        return Self.layout(block, view).rank(key &- view.firstKeys[number]) != nil
    }

    borrowing func forEachKey(
        ofRun layer: Int, after: UInt64?, limit: Int, _ body: (UInt64) -> Void
    ) -> Bool {
        guard case .run(let run) = frozen[layer].content else { return true }
        var left = limit
        for segment in run.segments {
            let view = segment.view
            let first = after.map { view.blockNumber($0) } ?? 0
            for number in first..<view.blockCount {
                guard left > 0 else { return false }
                Self.forEachKey(view.block(number), view, number, after, &left, body)
            }
        }
        return left > 0
    }

    borrowing func forEachKey(
        ofSegmentsAfter after: UInt64?, limit: Int, _ body: (UInt64) -> Void
    ) -> SegmentWalk {
        var left = limit
        guard segmentCount > 0 else { return .end }
        let first = after.map { Search.lastIndex(firstKeys, segmentCount, notAbove: $0) } ?? 0
        for segment in first..<segmentCount {
            let view = views[segment]
            let firstBlock = after.map { view.blockNumber($0) } ?? 0
            for number in firstBlock..<view.blockCount {
                guard left > 0 else { return .stopped }
                if let missing = missingBlock(segment, number) {
                    return left < limit ? .stopped : .missing(missing)
                }
                // What cannot be read is left out.
                guard let block = walkedBlock(segment, number) else { continue }
                Self.forEachKey(block, view, number, after, &left, body)
            }
        }
        return left > 0 ? .end : .stopped
    }

    borrowing func settledPlace(_ number: Int) -> TablePlace {
        var number = number
        for index in 0..<segmentCount {
            if number < views[index].blockCount {
                let key = views[index].firstKeys[number]
                return .settled(after: key == 0 ? nil : .integer(key - 1))
            }
            number -= views[index].blockCount
        }
        return .settled(after: nil)
    }

    var blockCount: Int { (0..<segmentCount).reduce(0) { $0 + views[$1].blockCount } }

    private static func layout(
        _ block: UnsafeRawBufferPointer, _ view: IntegerSegmentView
    ) -> IntegerBlock.Layout {
        IntegerBlock.Layout(
            block.baseAddress.unsafelyUnwrapped, byteCount: block.count,
            columnCount: view.columnCount)
    }

    private static func forEachKey(
        _ block: UnsafeRawBufferPointer, _ view: IntegerSegmentView, _ number: Int,
        _ after: UInt64?, _ left: inout Int, _ body: (UInt64) -> Void
    ) {
        let layout = layout(block, view)
        withUnsafeTemporaryAllocation(
            of: UInt64.self, capacity: layout.recordCount * (1 + view.columnCount)
        ) { words in
            let keys = words.baseAddress.unsafelyUnwrapped
            layout.decode(
                firstKey: view.firstKeys[number], keys: keys, values: keys + layout.recordCount)
            for index in 0..<layout.recordCount
            where left > 0 && (after.map { keys[index] > $0 } ?? true) {
                left -= 1
                body(keys[index])
            }
        }
    }

    private borrowing func missingBlock(_ segment: Int, _ number: Int) -> ColdBlock? {
        let view = views[segment]
        guard view.isCold else { return nil }
        let block = segments[segment].coldBlock(number, view.blockRange(number))
        return cache.keep(block.address) ? nil : block
    }

    private borrowing func walkedBlock(_ segment: Int, _ number: Int) -> UnsafeRawBufferPointer? {
        let view = views[segment]
        guard view.isCold else { return view.block(number) }
        return cache.bytes(of: segments[segment].coldBlock(number, view.blockRange(number)))
    }
}
