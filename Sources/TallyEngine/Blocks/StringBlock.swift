import TallyCore

/// Some records with keys of bytes, sorted by key and compressed.
///
///     crc u32 · records − 1 u8 · lengths' offset u32 · order u8 for each column │ keys │
///     lengths → … ← mantissas
///
/// A key is given by how many bytes it shares with the one before, how many follow, both varints, and
/// those that follow; the first shares none. Keys are any bytes, compared as unsigned. The values are
/// coded by `RowCodes`, where a row may have only zeros. All integers are little-endian.
enum StringBlock {
    static let headerBytes = 9
    /// Most records of one block.
    static let recordsMax = 256

    /// Where the parts of a block are.
    struct Layout {
        let bytes: UnsafeRawPointer
        let recordCount: Int
        /// The values.
        let rows: RowCodes

        /// Reads a block's header. The block's checksum must have been found right.
        @inline(__always)
        init(_ bytes: UnsafeRawPointer, byteCount: Int, columnCount: Int) {
            self.bytes = bytes
            recordCount = Int(bytes.load(fromByteOffset: 4, as: UInt8.self)) &+ 1
            let offset = bytes.loadUnaligned(fromByteOffset: 5, as: UInt32.self)
            rows = RowCodes(
                block: bytes, byteCount: byteCount, columnCount: columnCount,
                ordersOffset: StringBlock.headerBytes,
                lengthsOffset: Int(UInt32(littleEndian: offset)), hasZeroRows: true)
        }

        private var keysOffset: Int { StringBlock.headerBytes &+ rows.columnCount }

        /// The rank of `key`, nil if it is not there.
        ///
        /// No key is put together again: how much of the wanted key the last one shared says how the
        /// next compares, unless both share as much.
        ///
        /// - Complexity: O(records + bytes of the key).
        func rank(_ key: UnsafeRawBufferPointer) -> Int? {
            var cursor = KeyCursor(bytes + keysOffset)
            var matched = 0
            for rank in 0..<recordCount {
                let (shared, suffix) = cursor.next()
                // The last key was below the wanted one; so is one that shares more with it.
                if shared > matched { continue }
                if shared < matched { return nil }
                let rest = UnsafeRawBufferPointer(rebasing: key[matched...])
                let common = Self.commonPrefix(suffix, rest)
                if common == suffix.count {
                    if common == rest.count { return rank }
                } else if common == rest.count || suffix[common] > rest[common] {
                    return nil
                }
                matched &+= common
            }
            return nil
        }

        @inline(__always)
        private static func commonPrefix(
            _ left: UnsafeRawBufferPointer, _ right: UnsafeRawBufferPointer
        ) -> Int {
            let end = min(left.count, right.count)
            var index = 0
            while index < end, left[index] == right[index] { index &+= 1 }
            return index
        }

        /// Calls `body` with every key in order, each valid during the call only.
        func forEachKey(_ body: (UnsafeRawBufferPointer) -> Void) {
            let key = UnsafeMutableRawBufferPointer.allocate(
                byteCount: Limits.keyBytesMax, alignment: 1)
            defer { key.deallocate() }
            var cursor = KeyCursor(bytes + keysOffset)
            for _ in 0..<recordCount {
                let (shared, suffix) = cursor.next()
                UnsafeMutableRawBufferPointer(rebasing: key[shared...]).copyMemory(from: suffix)
                body(UnsafeRawBufferPointer(rebasing: key[..<(shared &+ suffix.count)]))
            }
        }
    }

    /// Walks over coded keys.
    private struct KeyCursor {
        private var place: UnsafeRawPointer

        init(_ start: UnsafeRawPointer) { place = start }

        @inline(__always)
        mutating func next() -> (shared: Int, suffix: UnsafeRawBufferPointer) {
            let shared = varint()
            let count = varint()
            defer { place += count }
            return (shared, UnsafeRawBufferPointer(start: place, count: count))
        }

        /// At most two bytes: keys are no longer than `Limits.keyBytesMax`.
        @inline(__always)
        private mutating func varint() -> Int {
            let first = Int(place.load(as: UInt8.self))
            if first < 0x80 {
                place += 1
                return first
            }
            let second = Int(place.load(fromByteOffset: 1, as: UInt8.self))
            place += 2
            return first & 0x7f | second &<< 7
        }
    }
}

/// Compresses records with keys of bytes into blocks.
struct StringBlockEncoder: ~Copyable {
    private let columnCount: Int
    private let rows: RowEncoder
    private var output: UnsafeMutableRawPointer
    private var capacity: Int

    init(columnCount: Int) {
        self.columnCount = columnCount
        rows = RowEncoder(
            columnCount: columnCount, rowsMax: StringBlock.recordsMax, hasZeroRows: true)
        capacity = 4096
        output = .allocate(byteCount: capacity, alignment: 16)
    }

    deinit { output.deallocate() }

    /// Compresses records with ascending keys; `values` has a row of columns for each.
    ///
    /// - Returns: the block, valid until the next call.
    /// - Complexity: O(bytes of the keys + records × columns).
    mutating func encode(
        keys: [UnsafeRawBufferPointer], values: UnsafePointer<UInt64>
    ) -> UnsafeRawBufferPointer {
        let count = keys.count
        precondition(
            count >= 1 && count <= StringBlock.recordsMax, "a block of \(count) records")
        var offset = StringBlock.headerBytes + columnCount
        makeRoom(
            keys.reduce(offset) { $0 + $1.count + 4 }
                + RowEncoder.bytesMax(rows: count, columnCount: columnCount))
        output.storeBytes(of: UInt8(count - 1), toByteOffset: 4, as: UInt8.self)
        rows.writeOrders(values, count, to: output + StringBlock.headerBytes)
        var previous = UnsafeRawBufferPointer(start: nil, count: 0)
        for (index, key) in keys.enumerated() {
            precondition(key.count <= Limits.keyBytesMax, "a key of \(key.count) bytes")
            var shared = 0
            while shared < min(previous.count, key.count), previous[shared] == key[shared] {
                shared += 1
            }
            precondition(
                index == 0
                    || shared < key.count
                        && (shared == previous.count || previous[shared] < key[shared]),
                "keys out of order")
            putVarint(shared, &offset)
            putVarint(key.count - shared, &offset)
            let suffix = UnsafeRawBufferPointer(rebasing: key[shared...])
            UnsafeMutableRawBufferPointer(start: output + offset, count: suffix.count)
                .copyMemory(from: suffix)
            offset += suffix.count
            previous = key
        }
        output.storeBytes(of: UInt32(offset).littleEndian, toByteOffset: 5, as: UInt32.self)
        offset += rows.writeRows(values, count, to: output + offset)
        let checked = UnsafeRawBufferPointer(start: output + 4, count: offset - 4)
        output.storeBytes(of: CRC32C.checksum(checked).littleEndian, as: UInt32.self)
        return UnsafeRawBufferPointer(start: output, count: offset)
    }

    private mutating func makeRoom(_ byteCount: Int) {
        guard byteCount > capacity else { return }
        output.deallocate()
        capacity = byteCount
        output = .allocate(byteCount: capacity, alignment: 16)
    }

    private func putVarint(_ value: Int, _ offset: inout Int) {
        if value >= 0x80 {
            output.storeBytes(
                of: UInt8(value & 0x7f | 0x80), toByteOffset: offset, as: UInt8.self)
            output.storeBytes(of: UInt8(value >> 7), toByteOffset: offset + 1, as: UInt8.self)
            offset += 2
        } else {
            output.storeBytes(of: UInt8(value), toByteOffset: offset, as: UInt8.self)
            offset += 1
        }
    }
}
