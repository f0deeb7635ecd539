import TallyCore

/// The two versions of the reply protocol.
public enum RESPVersion: Int, Sendable {
    /// RESP2, which every client speaks.
    case two = 2
    /// RESP3, which has maps, booleans and a null of its own.
    case three = 3
}

/// Replies, encoded one behind the other into memory that is used again and again.
public struct ReplyWriter: ~Copyable {
    private var bytes: UnsafeMutableRawPointer
    private var capacity: Int

    /// Bytes encoded and not yet removed.
    public private(set) var byteCount = 0

    private static let capacityKept = 64 << 10

    /// An empty writer.
    public init() {
        capacity = Self.capacityKept
        bytes = .allocate(byteCount: capacity, alignment: 16)
    }

    deinit { bytes.deallocate() }

    /// What has been encoded; valid until the next change.
    public var encoded: UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: bytes, count: byteCount)
    }

    /// Forgets everything, and what an unusually large reply needed.
    public mutating func removeAll() {
        byteCount = 0
        if capacity > Self.capacityKept {
            bytes.deallocate()
            capacity = Self.capacityKept
            bytes = .allocate(byteCount: capacity, alignment: 16)
        }
    }

    /// Forgets what was encoded after the first `byteCount` bytes.
    public mutating func truncate(to byteCount: Int) {
        precondition(byteCount <= self.byteCount, "nothing to truncate")
        self.byteCount = byteCount
    }

    // MARK: Counters

    /// `:value`
    @inline(__always)
    public mutating func integer(_ value: Int64) {
        number(UInt8(ascii: ":"), value)
    }

    /// The decimal text of `value` as a bulk string.
    public mutating func bulkInteger(_ value: Int64) {
        let target = reserve(Decimal.bytesMax + 8)
        let digits = Decimal.byteCount(value)
        target.storeBytes(of: UInt8(ascii: "$"), as: UInt8.self)
        var end = target + 1
        end += Decimal.write(Int64(digits), to: end)
        end = Self.lineEnd(end)
        end += Decimal.write(value, to: end)
        end = Self.lineEnd(end)
        byteCount &+= end - target
    }

    // MARK: Everything else

    /// `+text`
    public mutating func simple(_ text: StaticString) {
        line(
            UInt8(ascii: "+"),
            UnsafeRawBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount))
    }

    /// `+text`, of text without line breaks.
    public mutating func simple(text: String) {
        var text = text
        text.withUTF8 { line(UInt8(ascii: "+"), UnsafeRawBufferPointer($0)) }
    }

    /// `-text`; line breaks in it become spaces.
    public mutating func error(_ text: String) {
        error(bytes: Array(text.utf8))
    }

    /// `-text`, of bytes that need not be UTF-8; line breaks in it become spaces.
    public mutating func error(bytes text: [UInt8]) {
        text.withUnsafeBytes { text in
            let start = byteCount
            line(UInt8(ascii: "-"), text)
            for offset in (start + 1)..<(byteCount - 2) {
                let byte = bytes.load(fromByteOffset: offset, as: UInt8.self)
                if byte == UInt8(ascii: "\r") || byte == UInt8(ascii: "\n") {
                    bytes.storeBytes(of: UInt8(ascii: " "), toByteOffset: offset, as: UInt8.self)
                }
            }
        }
    }

    /// `value` as a bulk string.
    public mutating func bulk(_ value: UnsafeRawBufferPointer) {
        number(UInt8(ascii: "$"), Int64(value.count))
        append(value)
        lineEnd()
    }

    /// `value` as a bulk string.
    public mutating func bulk(_ value: String) {
        var value = value
        value.withUTF8 { bulk(UnsafeRawBufferPointer($0)) }
    }

    /// Text for people: a verbatim string where there is one.
    public mutating func verbatim(_ value: String, _ version: RESPVersion) {
        guard version == .three else { return bulk(value) }
        var value = value
        value.withUTF8 { utf8 in
            number(UInt8(ascii: "="), Int64(utf8.count + 4))
            append(UnsafeRawBufferPointer(start: ("txt:" as StaticString).utf8Start, count: 4))
            append(UnsafeRawBufferPointer(utf8))
            lineEnd()
        }
    }

    /// Nothing there.
    public mutating func null(_ version: RESPVersion) {
        let text: StaticString = version == .three ? "_\r\n" : "$-1\r\n"
        append(UnsafeRawBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount))
    }

    /// No array.
    public mutating func nullArray(_ version: RESPVersion) {
        let text: StaticString = version == .three ? "_\r\n" : "*-1\r\n"
        append(UnsafeRawBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount))
    }

    /// What was encoded elsewhere.
    public mutating func raw(_ encoded: [UInt8]) {
        encoded.withUnsafeBytes { append($0) }
    }

    /// Announces an array of `count` elements.
    public mutating func array(_ count: Int) {
        number(UInt8(ascii: "*"), Int64(count))
    }

    /// Announces a map of `count` pairs: in RESP2, an array of twice as many elements.
    public mutating func map(_ count: Int, _ version: RESPVersion) {
        if version == .three {
            number(UInt8(ascii: "%"), Int64(count))
        } else {
            array(count * 2)
        }
    }

    /// Announces a set of `count` elements: in RESP2, an array.
    public mutating func set(_ count: Int, _ version: RESPVersion) {
        number(version == .three ? UInt8(ascii: "~") : UInt8(ascii: "*"), Int64(count))
    }

    // MARK: Bytes

    @inline(__always)
    private mutating func number(_ type: UInt8, _ value: Int64) {
        let target = reserve(Decimal.bytesMax + 3)
        target.storeBytes(of: type, as: UInt8.self)
        var end = target + 1
        end += Decimal.write(value, to: end)
        end = Self.lineEnd(end)
        byteCount &+= end - target
    }

    private mutating func line(_ type: UInt8, _ text: UnsafeRawBufferPointer) {
        let target = reserve(text.count + 3)
        target.storeBytes(of: type, as: UInt8.self)
        if let base = text.baseAddress {
            (target + 1).copyMemory(from: base, byteCount: text.count)
        }
        _ = Self.lineEnd(target + 1 + text.count)
        byteCount += text.count + 3
    }

    private mutating func append(_ value: UnsafeRawBufferPointer) {
        let target = reserve(value.count)
        if let base = value.baseAddress { target.copyMemory(from: base, byteCount: value.count) }
        byteCount += value.count
    }

    private mutating func lineEnd() {
        _ = Self.lineEnd(reserve(2))
        byteCount += 2
    }

    @inline(__always)
    private static func lineEnd(_ target: UnsafeMutableRawPointer) -> UnsafeMutableRawPointer {
        target.storeBytes(of: 0x0a0d, as: UInt16.self)
        return target + 2
    }

    @inline(__always)
    private mutating func reserve(_ wanted: Int) -> UnsafeMutableRawPointer {
        if byteCount &+ wanted > capacity { grow(wanted) }
        return bytes + byteCount
    }

    @inline(never)
    private mutating func grow(_ wanted: Int) {
        capacity = max(capacity * 2, byteCount + wanted)
        let grown = UnsafeMutableRawPointer.allocate(byteCount: capacity, alignment: 16)
        grown.copyMemory(from: bytes, byteCount: byteCount)
        bytes.deallocate()
        bytes = grown
    }
}
