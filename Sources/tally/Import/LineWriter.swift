internal import Glibc
import TallyCore
import TallyEngine

/// Writes lines of fields to a file, many at once.
struct LineWriter: ~Copyable {
    private let file: Int32
    private let buffer: UnsafeMutableRawPointer
    private var used = 0
    private var isFirst = true
    /// Why the lines are not all there.
    private var failure: ImportFailure?

    private static let bufferBytes = 1 << 20

    init(_ file: Int32) {
        self.file = file
        buffer = .allocate(byteCount: Self.bufferBytes, alignment: 16)
    }

    deinit { buffer.deallocate() }

    /// Begins a line with a record's key.
    mutating func begin(_ key: RecordKey) {
        if !isFirst { append(UInt8(ascii: "\n")) }
        isFirst = false
        switch key {
        case .integer(let key): append(Array(String(key).utf8))
        case .string(let key): append(quoting: key)
        }
    }

    /// A key that a reader could take for several fields is quoted, as RFC 4180 has it.
    private mutating func append(quoting key: UnsafeRawBufferPointer) {
        guard key.contains(where: { [34, 44, 9, 10, 13].contains($0) }) else {
            return append(Array(key))
        }
        if key.contains(where: { $0 == 10 || $0 == 13 }) {
            failure = ImportFailure("a key has a line break, so lines cannot hold it")
        }
        append(UInt8(ascii: "\""))
        for byte in key {
            if byte == UInt8(ascii: "\"") { append(byte) }
            append(byte)
        }
        append(UInt8(ascii: "\""))
    }

    mutating func append(_ bytes: [UInt8]) {
        isFirst = false
        for byte in bytes { append(byte) }
    }

    @inline(__always)
    mutating func append(_ byte: UInt8) {
        if used == Self.bufferBytes { flush() }
        buffer.storeBytes(of: byte, toByteOffset: used, as: UInt8.self)
        used += 1
    }

    mutating func append(_ value: Int64) {
        if used + Decimal.bytesMax > Self.bufferBytes { flush() }
        used += Decimal.write(value, to: buffer + used)
    }

    private mutating func flush() {
        var done = 0
        while done < used, failure == nil {
            let count = write(file, buffer + done, used - done)
            if count < 0, errno == EINTR { continue }
            if count <= 0 {
                failure = ImportFailure("cannot write: \(String(cString: strerror(errno)))")
            }
            done += max(0, count)
        }
        used = 0
    }

    /// Writes what is left.
    mutating func finish() throws(ImportFailure) {
        append(UInt8(ascii: "\n"))
        flush()
        if let failure { throw failure }
    }
}
