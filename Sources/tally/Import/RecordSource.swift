internal import Glibc
import TallyCore

/// A file that is read from its beginning to its end, and how far that is.
final class InputFile {
    private let descriptor: Int32
    /// Size, bytes; nil where it is not known.
    let byteCount: Int?
    private(set) var bytesRead = 0

    init(_ path: String) throws(ImportFailure) {
        descriptor = path == "-" ? 0 : open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else {
            throw ImportFailure("cannot open \(path): \(String(cString: strerror(errno)))")
        }
        var status = stat()
        let isRegular =
            fstat(descriptor, &status) == 0 && status.st_mode & S_IFMT == S_IFREG
        byteCount = isRegular ? Int(status.st_size) : nil
    }

    deinit { if descriptor > 0 { close(descriptor) } }

    /// Reads on, at most `buffer.count` bytes; 0 at the end.
    func read(into buffer: UnsafeMutableRawBufferPointer) throws(ImportFailure) -> Int {
        while true {
            let count = Glibc.read(descriptor, buffer.baseAddress, buffer.count)
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else {
                throw ImportFailure("cannot read: \(String(cString: strerror(errno)))")
            }
            bytesRead += count
            return count
        }
    }
}

/// A record's key as it stands in a file.
enum SourceKey {
    case integer(UInt64)
    case string(UnsafeRawBufferPointer)
}

/// Takes records out of a file, one line or one binary record after the other.
struct RecordSource {
    private let input: InputFile
    private let family: Family
    private let format: ImportCommand.Format
    /// For each field behind the key its column's place.
    private var places: [Int] = []
    private let values: UnsafeMutablePointer<Int64>
    private var progress: ProgressLine
    /// The key of a line that had it in quotes; one byte more than a key may have.
    private let unquoted = UnsafeMutableRawBufferPointer.allocate(
        byteCount: Limits.keyBytesMax + 1, alignment: 1)
    private var unquotedCount = 0

    /// Lines that are no records, in words.
    private(set) var rejections: [String] = []
    private(set) var rejectedCount = 0
    /// Records whose columns are all at their defaults.
    private(set) var defaultCount = 0

    private static let bufferBytes = 4 << 20
    private static let rejectionsKept = 1000

    init(_ input: InputFile, _ family: Family, _ format: ImportCommand.Format) {
        self.input = input
        self.family = family
        self.format = format
        values = .allocate(capacity: max(1, family.columns.count))
        progress = ProgressLine(byteCount: input.byteCount)
    }

    /// Calls `body` with every record's key and values, one a column.
    mutating func readAll(
        _ body: (SourceKey, UnsafePointer<Int64>) throws(ImportFailure) -> Void
    ) throws(ImportFailure) {
        defer {
            values.deallocate()
            unquoted.deallocate()
            progress.finish()
        }
        let buffer = UnsafeMutableRawBufferPointer.allocate(
            byteCount: Self.bufferBytes, alignment: 16)
        defer { buffer.deallocate() }
        var used = 0
        var line = 0
        while true {
            let count = try input.read(
                into: UnsafeMutableRawBufferPointer(rebasing: buffer[used...]))
            let isLast = count == 0
            used += count
            let bytes = UnsafeRawBufferPointer(rebasing: buffer[..<used])
            let consumed =
                format == .records
                ? try readBinary(bytes, isLast, &line, body)
                : try readLines(bytes, isLast, &line, body)
            if isLast { return }
            used -= consumed
            if used == buffer.count { throw ImportFailure("line \(line + 1) is too long") }
            buffer.copyMemory(
                from: UnsafeRawBufferPointer(rebasing: buffer[consumed..<(consumed + used)]))
            progress.show(input.bytesRead, line)
        }
    }

    private mutating func reject(_ line: Int, _ reason: String) {
        rejectedCount += 1
        if rejections.count < Self.rejectionsKept { rejections.append("line \(line): \(reason)") }
    }

    // MARK: Binary

    private mutating func readBinary(
        _ bytes: UnsafeRawBufferPointer, _ isLast: Bool, _ line: inout Int,
        _ body: (SourceKey, UnsafePointer<Int64>) throws(ImportFailure) -> Void
    ) throws(ImportFailure) -> Int {
        guard family.key?.kind == .integer else {
            throw ImportFailure("binary records have integer keys")
        }
        let columnCount = family.columns.count
        let recordBytes = 8 + 4 * columnCount
        var offset = 0
        while offset + recordBytes <= bytes.count {
            line += 1
            let key = bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
            for column in 0..<columnCount {
                let value = bytes.loadUnaligned(
                    fromByteOffset: offset + 8 + 4 * column, as: UInt32.self)
                values[column] = Int64(UInt32(littleEndian: value))
            }
            try take(.integer(UInt64(littleEndian: key)), line, body)
            offset += recordBytes
        }
        if isLast, offset < bytes.count {
            throw ImportFailure("the file ends in the middle of record \(line + 1)")
        }
        return offset
    }

    /// Hands a record over, unless its values are out of range or all at their defaults.
    @inline(__always)
    private mutating func take(
        _ key: SourceKey, _ line: Int,
        _ body: (SourceKey, UnsafePointer<Int64>) throws(ImportFailure) -> Void
    ) throws(ImportFailure) {
        var isDefault = !family.isKnownOnly
        for index in family.columns.indices {
            let value = values[index]
            guard value >= family.columns[index].min, value <= family.columns[index].max else {
                let column = family.columns[index]
                return reject(
                    line,
                    "\(value) is out of column '\(column.name)', \(column.min) to \(column.max)")
            }
            if value != family.columns[index].defaultValue { isDefault = false }
        }
        if isDefault {
            defaultCount += 1
        } else {
            try body(key, values)
        }
    }

    // MARK: Lines

    private mutating func readLines(
        _ bytes: UnsafeRawBufferPointer, _ isLast: Bool, _ line: inout Int,
        _ body: (SourceKey, UnsafePointer<Int64>) throws(ImportFailure) -> Void
    ) throws(ImportFailure) -> Int {
        var offset = 0
        while offset < bytes.count {
            guard let base = bytes.baseAddress else { break }
            let end = memchr(base + offset, 10, bytes.count - offset).map {
                UnsafeRawPointer($0) - base
            }
            guard let end = end ?? (isLast ? bytes.count : nil) else { break }
            line += 1
            var text = UnsafeRawBufferPointer(rebasing: bytes[offset..<end])
            if text.last == 13 { text = UnsafeRawBufferPointer(rebasing: text.dropLast()) }
            offset = min(end + 1, bytes.count)
            if line == 1 {
                try readHeader(text)
            } else if !text.isEmpty {
                try readLine(text, line, body)
            }
        }
        return offset
    }

    private var separator: UInt8 { format == .tsv ? 9 : UInt8(ascii: ",") }

    private mutating func readHeader(_ text: UnsafeRawBufferPointer) throws(ImportFailure) {
        let names = text.split(separator: separator, omittingEmptySubsequences: false).map {
            String(decoding: $0, as: UTF8.self)
        }
        guard let key = names.first, key == family.key?.name else {
            throw ImportFailure(
                "the header must begin with the key's name, '\(family.key?.name ?? "")', "
                    + "not '\(names.first ?? "")'")
        }
        for name in names.dropFirst() {
            guard let place = family.columns.firstIndex(where: { $0.name == name }) else {
                throw ImportFailure("counter '\(family.name)' has no column '\(name)'")
            }
            guard !places.contains(place) else {
                throw ImportFailure("the header names '\(name)' twice")
            }
            places.append(place)
        }
    }

    private mutating func readLine(
        _ text: UnsafeRawBufferPointer, _ line: Int,
        _ body: (SourceKey, UnsafePointer<Int64>) throws(ImportFailure) -> Void
    ) throws(ImportFailure) {
        for index in family.columns.indices { values[index] = family.columns[index].defaultValue }
        let separator = separator
        var field = -1
        var start = 0
        var key = SourceKey.integer(0)
        while start <= text.count {
            var end = start
            if field < 0, text.first == UInt8(ascii: "\"") {
                guard let closing = unquote(text) else {
                    return reject(line, "a quote is not closed")
                }
                end = closing
                guard end == text.count || text[end] == separator else {
                    return reject(line, "text follows a quoted key")
                }
            }
            while end < text.count, text[end] != separator { end += 1 }
            var bytes = UnsafeRawBufferPointer(rebasing: text[start..<end])
            if field < 0, text.first == UInt8(ascii: "\"") {
                bytes = UnsafeRawBufferPointer(rebasing: unquoted[..<unquotedCount])
            }
            if field < 0 {
                guard let found = sourceKey(bytes) else {
                    return reject(line, "'\(shown(bytes))' is no key")
                }
                key = found
            } else {
                guard field < places.count else {
                    return reject(line, "more than \(places.count + 1) fields")
                }
                guard let value = Decimal.parse(bytes) else {
                    return reject(line, "'\(shown(bytes))' is not a 64-bit integer")
                }
                values[places[field]] = value
            }
            field += 1
            start = end + 1
        }
        guard field == places.count else {
            return reject(line, "\(field + 1) fields instead of \(places.count + 1)")
        }
        try take(key, line, body)
    }

    /// Takes the quotes off a line's first field.
    ///
    /// - Returns: where the field ends; nil if that cannot be told. What it holds is in `unquoted`.
    private mutating func unquote(_ text: UnsafeRawBufferPointer) -> Int? {
        unquotedCount = 0
        var offset = 1
        while offset < text.count {
            if text[offset] == UInt8(ascii: "\"") {
                let isDoubled = offset + 1 < text.count && text[offset + 1] == UInt8(ascii: "\"")
                guard isDoubled else { return offset + 1 }
                offset += 1
            }
            if unquotedCount < unquoted.count {
                unquoted[unquotedCount] = text[offset]
                unquotedCount += 1
            }
            offset += 1
        }
        return nil
    }

    private func sourceKey(_ bytes: UnsafeRawBufferPointer) -> SourceKey? {
        if family.key?.kind == .integer {
            return Decimal.parseUnsigned(bytes).map { .integer($0) }
        }
        return bytes.count <= Limits.keyBytesMax ? .string(bytes) : nil
    }

    private func shown(_ bytes: UnsafeRawBufferPointer) -> String {
        String(decoding: bytes.prefix(40), as: UTF8.self)
    }
}

/// A line on a terminal that says how far a file has been read.
struct ProgressLine {
    private let byteCount: Int?
    private let isShown = isatty(2) == 1
    private var last = 0

    init(byteCount: Int?) { self.byteCount = byteCount }

    mutating func show(_ bytesRead: Int, _ records: Int) {
        guard isShown, bytesRead - last >= 64 << 20 else { return }
        last = bytesRead
        let share = byteCount.map { Double(bytesRead) / Double(max(1, $0)) } ?? 0
        let filled = Int(share * 40)
        let bar = String(repeating: "#", count: filled) + String(repeating: ".", count: 40 - filled)
        writeError("\r[\(bar)] \(Int(share * 100)) %, \(records) lines")
    }

    func finish() { if isShown, last > 0 { writeError("\n") } }
}
