import TallyCore

/// A segment of integer keys.
///
///     index: first key u64 of each block │ offset u32 of each block, and of their end
///
/// Offsets count from the first block.
public final class IntegerSegment: Segment, @unchecked Sendable {
    /// For searching without touching this object.
    let view: IntegerSegmentView

    /// Takes over memory whose content is known to be good.
    init(
        _ header: SegmentHeader, _ memory: UnsafeMutableRawBufferPointer, isCold: Bool = false,
        filter: KeyFilter? = nil
    ) {
        view = IntegerSegmentView(header, memory, isCold: isCold)
        super.init(header, memory: memory, isCold: isCold, filter: filter)
    }

    deinit { view.deallocate() }

    /// Memory taken, bytes.
    public override var allocatedBytes: Int { super.allocatedBytes + view.allocatedBytes }

    override func forEachKey(_ body: (RecordKey) -> Void) {
        forEach { key, _ in body(.integer(key)) }
    }

    override func begins(before other: Segment) -> Bool {
        header.firstKey < other.header.firstKey
    }

    /// As described for all segments.
    public override func verifyBlocks() throws(SegmentError) { try verifyBlocks(view) }

    /// As described for all segments.
    public override func findDamage(placed: (RecordKey) -> Bool) -> [String] {
        let keys = UnsafeMutablePointer<UInt64>.allocate(capacity: IntegerBlock.recordsMax)
        let values = UnsafeMutablePointer<UInt64>.allocate(
            capacity: IntegerBlock.recordsMax * view.columnCount)
        defer {
            keys.deallocate()
            values.deallocate()
        }
        return findDamage(view) { number, records in
            let layout = view.layout(number)
            layout.decode(firstKey: view.firstKeys[number], keys: keys, values: values)
            let end = number + 1 < view.blockCount ? view.firstKeys[number + 1] : UInt64.max
            for index in 0..<layout.recordCount {
                guard index == 0 || keys[index] > keys[index - 1],
                    keys[index] < end || end == .max, keys[index] <= header.lastKey
                else { return "key \(keys[index]) is out of order" }
                guard placed(.integer(keys[index])) else {
                    return "key \(keys[index]) belongs to another partition"
                }
            }
            records += layout.recordCount
            return nil
        }
    }
}

extension IntegerSegment {
    /// Calls `body` with every key and its row of coded values, in order.
    func forEach(_ body: (UInt64, UnsafePointer<UInt64>) -> Void) {
        let keys = UnsafeMutablePointer<UInt64>.allocate(capacity: IntegerBlock.recordsMax)
        let values = UnsafeMutablePointer<UInt64>.allocate(
            capacity: IntegerBlock.recordsMax * view.columnCount)
        defer {
            keys.deallocate()
            values.deallocate()
        }
        for number in 0..<view.blockCount {
            let layout = view.layout(number)
            layout.decode(firstKey: view.firstKeys[number], keys: keys, values: values)
            for record in 0..<layout.recordCount {
                body(keys[record], values + record * view.columnCount)
            }
        }
    }
}
