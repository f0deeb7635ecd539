import TallyCore
import TallyNode
import TallyRESP

/// The commands that look at all keys, and those that move one.
extension CommandProcessor {
    // MARK: SCAN

    /// What SCAN's options ask for.
    private struct ScanOptions {
        var pattern: GlobPattern?
        var count = 10
        /// nil for kinds that there are none of.
        var kinds: Node.WalkedKinds? = .all
        var namesOnly = false
    }

    private func scanOptions(from first: Int, isHash: Bool) throws(Refusal) -> ScanOptions {
        var options = ScanOptions()
        var index = first
        while index < arguments.count {
            let option = arguments[index]
            if isHash, option.equalsIgnoringCase("novalues") {
                options.namesOnly = true
                index += 1
                continue
            }
            guard index + 1 < arguments.count else { throw Self.syntaxError }
            let value = arguments[index + 1]
            if option.equalsIgnoringCase("match") {
                options.pattern =
                    value.elementsEqual([UInt8(ascii: "*")])
                    ? nil : GlobPattern(bytes: Array(value))
            } else if option.equalsIgnoringCase("count") {
                guard let count = Decimal.parse(value) else { throw Self.notAnInteger }
                guard count > 0 else { throw Self.syntaxError }
                options.count = Int(min(count, Int64(Limits.scanCountMax)))
            } else if option.equalsIgnoringCase("type"), !isHash {
                options.kinds =
                    value.equalsIgnoringCase("string")
                    ? .plain : value.equalsIgnoringCase("hash") ? .records : nil
            } else {
                throw Self.syntaxError
            }
            index += 2
        }
        return options
    }

    private func cursor(_ index: Int) throws(Refusal) -> UInt64 {
        guard let cursor = Decimal.parseUnsigned(arguments[index]) else {
            throw Refusal("ERR invalid cursor")
        }
        return cursor
    }

    /// `SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]`
    mutating func scan() {
        do throws(Refusal) {
            let number = try cursor(1)
            let options = try scanOptions(from: 2, isHash: false)
            var place: Node.KeyspacePlace? = Node.KeyspacePlace()
            if number > 0 {
                place = server.cursors.find(number)
                guard place != nil else {
                    throw Refusal(
                        "ERR cursor \(number) is not known any more: begin again with 0")
                }
            }
            guard let kinds = options.kinds else { return replyScanned([], 0) }
            let walked = server.node.walk(&place, kinds, limit: options.count)
            if let missing = walked.missing, walked.keys.isEmpty {
                return missingBlocks.append(missing)
            }
            noteSequence(walked.sequence)
            let names = walked.keys.compactMap { name(of: $0) }.filter {
                options.pattern?.matches(bytes: $0) ?? true
            }
            replyScanned(names, place.map { server.cursors.keep($0) } ?? 0)
        } catch {
            replies.error(bytes: error.message)
        }
    }

    private mutating func replyScanned(_ names: [[UInt8]], _ cursor: UInt64) {
        replies.array(2)
        replies.bulk("\(cursor)")
        replies.array(names.count)
        for name in names { name.withUnsafeBytes { replies.bulk($0) } }
    }

    /// A key as clients name it; nil for a record of a family that has just gone.
    private func name(of key: Node.WalkedKey) -> [UInt8]? {
        switch key {
        case .plain(let key): return key
        case .integer(let number, let key):
            return catalog.family(number: number).map {
                Array($0.name) + Array(":\(key)".utf8)
            }
        case .string(let number, let key):
            return catalog.family(number: number).map {
                Array($0.name) + [UInt8(ascii: ":")] + key
            }
        }
    }

    /// `KEYS pattern`: only where there are not too many.
    mutating func keys() {
        let all = server.node.countAll()
        noteSequence(all.sequence)
        guard all.count <= Limits.keysCommandMax else {
            return replies.error(
                "ERR there are \(all.count) keys, and KEYS looks at \(Limits.keysCommandMax): use SCAN"
            )
        }
        let pattern = GlobPattern(bytes: Array(arguments[1]))
        var place: Node.KeyspacePlace? = Node.KeyspacePlace()
        var names: Set<[UInt8]> = []
        while place != nil {
            let walked = server.node.walk(&place, .all, limit: 1024)
            guard walked.missing == nil else {
                return replies.error("ERR some keys are on disk only: use SCAN")
            }
            noteSequence(walked.sequence)
            for key in walked.keys {
                if let name = name(of: key), pattern.matches(bytes: name) { names.insert(name) }
            }
        }
        replies.array(names.count)
        for name in names { name.withUnsafeBytes { replies.bulk($0) } }
    }

    /// `RANDOMKEY`
    mutating func randomKey(_ version: RESPVersion) {
        for _ in 0..<16 {
            var place = server.node.randomPlace(.random(in: 0 ... .max))
            guard place != nil else { return replies.null(version) }
            if replyKey(from: &place) { return }
        }
        // Few keys, or all of them before those places: the first that there is.
        var place: Node.KeyspacePlace? = Node.KeyspacePlace()
        while place != nil {
            if replyKey(from: &place) { return }
        }
        replies.null(version)
    }

    /// Replies with a key behind a place, or asks for the block that it needs.
    ///
    /// - Returns: false if there is no key nearby.
    private mutating func replyKey(from place: inout Node.KeyspacePlace?) -> Bool {
        // Not always the first of a block.
        let walked = server.node.walk(&place, .all, limit: .random(in: 1...64))
        noteSequence(walked.sequence)
        if walked.keys.isEmpty, let missing = walked.missing {
            missingBlocks.append(missing)
            return true
        }
        for key in walked.keys.reversed() {
            guard let name = name(of: key) else { continue }
            name.withUnsafeBytes { replies.bulk($0) }
            return true
        }
        return false
    }

    /// `HSCAN key cursor [MATCH pattern] [COUNT count] [NOVALUES]`: everything at once.
    mutating func hashScan() throws(Refusal) -> ReplyPlan {
        _ = try cursor(2)
        let options = try scanOptions(from: 3, isHash: true)
        let (record, family) = try hash(1)
        batch.appendRead(record, version: family.version, columnCount: family.columns.count)
        var chosen: UInt64 = 0
        for (column, description) in family.columns.enumerated()
        where options.pattern?.matches(bytes: Array(description.name)) ?? true {
            chosen |= 1 << UInt64(column)
        }
        batch.appendWord(Int64(bitPattern: chosen))
        return plan(options.namesOnly ? .hashScanNames : .hashScan)
    }

    // MARK: COPY, RENAME

    /// `COPY source destination [DB 0] [REPLACE]`
    mutating func copy() throws(Refusal) -> ReplyPlan {
        var replaces = false
        var index = 3
        while index < arguments.count {
            if arguments[index].equalsIgnoringCase("replace") {
                replaces = true
                index += 1
            } else if arguments[index].equalsIgnoringCase("db"), index + 1 < arguments.count {
                guard let database = Decimal.parse(arguments[index + 1]) else {
                    throw Self.notAnInteger
                }
                guard database == 0 else { throw Refusal("ERR DB index is out of range") }
                index += 2
            } else {
                throw Self.syntaxError
            }
        }
        let (source, target) = try movedKeys()
        guard !source.elementsEqual(target) else {
            throw Refusal("ERR source and destination objects are the same")
        }
        return try unit(.copied) { (processor) throws(Refusal) in
            processor.batch.appendCopy(source, to: target, replaces: replaces)
        }
    }

    /// `RENAME key newkey`, `RENAMENX key newkey`
    mutating func rename(replaces: Bool) throws(Refusal) -> ReplyPlan {
        let (source, target) = try movedKeys()
        let shape: ReplyPlan.Shape = replaces ? .renamed : .renamedIfAbsent
        if source.elementsEqual(target) {
            batch.append(.get, key: source)
            return plan(shape)
        }
        return try unit(shape) { (processor) throws(Refusal) in
            processor.batch.appendMove(source, to: target, replaces: replaces)
        }
    }

    private mutating func movedKeys() throws(Refusal) -> (
        UnsafeRawBufferPointer, UnsafeRawBufferPointer
    ) {
        guard case .plain(let source) = try target(1), case .plain(let target) = try target(2)
        else {
            throw Refusal(
                "ERR records of a counter cannot be copied or renamed; only plain keys can")
        }
        return (source, target)
    }

    // MARK: MEMORY

    /// `MEMORY USAGE key [SAMPLES count]`: what the key takes while it is among what changed lately.
    mutating func memoryUsage() throws(Refusal) -> ReplyPlan? {
        guard arguments.count >= 3, arguments[1].equalsIgnoringCase("usage") else { return nil }
        if arguments.count > 3 {
            guard arguments.count == 5, arguments[3].equalsIgnoringCase("samples") else {
                throw Self.syntaxError
            }
            guard let samples = Decimal.parse(arguments[4]) else { throw Self.notAnInteger }
            guard samples >= 0 else { throw Self.syntaxError }
        }
        append(.get, .readRecord, try target(2))
        return plan(.memoryUsage)
    }
}
