import TallyCore

/// A segment of string keys.
///
///     index: offset u32 of each block, and of their end │ offset u32 of each separator, and of their
///     end │ separators
///
/// A block's separator is a prefix of its first key that is greater than the last key of the block
/// before.
public final class StringSegment: Segment, @unchecked Sendable {
    /// For searching without touching this object.
    let view: StringSegmentView

    /// Takes over memory whose content is known to be good.
    init(
        _ header: SegmentHeader, _ memory: UnsafeMutableRawBufferPointer, isCold: Bool = false,
        filter: KeyFilter? = nil
    ) {
        view = StringSegmentView(header, memory, isCold: isCold)
        super.init(header, memory: memory, isCold: isCold, filter: filter)
    }

    deinit { view.deallocate() }

    /// Memory taken, bytes.
    public override var allocatedBytes: Int { super.allocatedBytes + view.allocatedBytes }

    override func forEachKey(_ body: (RecordKey) -> Void) {
        forEach { key, _ in body(.string(key)) }
    }

    override func begins(before other: Segment) -> Bool {
        guard let other = other as? StringSegment else { return false }
        return Bytes.isLess(view.separator(0), other.view.separator(0))
    }

    /// As described for all segments.
    public override func verifyBlocks() throws(SegmentError) { try verifyBlocks(view) }

    /// As described for all segments.
    public override func findDamage(placed: (RecordKey) -> Bool) -> [String] {
        var last: [UInt8]?
        return findDamage(view) { number, records in
            var reason: String?
            let layout = view.layout(number)
            layout.forEachKey { key in
                guard reason == nil else { return }
                let isAbove = last.map { $0.withUnsafeBytes { Bytes.isLess($0, key) } } ?? true
                if !isAbove || number > 0 && Bytes.isLess(key, view.separator(number)) {
                    reason = "a key is out of order"
                } else if !placed(.string(key)) {
                    reason = "a key belongs to another partition"
                }
                last = Array(key)
            }
            records += layout.recordCount
            return reason
        }
    }
}

extension StringSegment {
    /// Calls `body` with every key, valid during the call, and its row of coded values, in order.
    func forEach(_ body: (UnsafeRawBufferPointer, UnsafePointer<UInt64>) -> Void) {
        let values = UnsafeMutablePointer<UInt64>.allocate(
            capacity: StringBlock.recordsMax * view.columnCount)
        defer { values.deallocate() }
        for number in 0..<view.blockCount {
            let layout = view.layout(number)
            layout.rows.decode(layout.recordCount, values)
            var record = 0
            layout.forEachKey { key in
                body(key, values + record * view.columnCount)
                record += 1
            }
        }
    }
}
