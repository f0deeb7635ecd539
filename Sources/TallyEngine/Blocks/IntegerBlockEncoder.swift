import TallyCore

/// Compresses records of integer-keyed families into blocks.
///
/// Holds scratch memory, so one is kept for many blocks.
struct IntegerBlockEncoder: ~Copyable {
    private let columnCount: Int
    private let rows: RowEncoder
    /// Zero but while a block is encoded.
    private let words: UnsafeMutablePointer<UInt64>
    private let output: UnsafeMutableRawPointer

    /// Most records that a block of so many columns holds.
    static func recordsMax(columnCount: Int) -> Int {
        min(IntegerBlock.recordsMax, IntegerBlock.valuesMax / columnCount)
    }

    init(columnCount: Int) {
        self.columnCount = columnCount
        let records = Self.recordsMax(columnCount: columnCount)
        rows = RowEncoder(columnCount: columnCount, rowsMax: records, hasZeroRows: false)
        // A run's start and end, or a key's two parts.
        let wordCount = records * 3 + 16
        words = .allocate(capacity: wordCount)
        words.initialize(repeating: 0, count: wordCount)
        output = .allocate(
            byteCount: IntegerBlock.headerBytes + columnCount + 2 * wordCount * 8
                + RowEncoder.bytesMax(rows: records, columnCount: columnCount),
            alignment: 16)
    }

    deinit {
        words.deallocate()
        output.deallocate()
    }

    /// Compresses `count` records with ascending keys; `values` has a row of columns for each, none
    /// with zeros only.
    ///
    /// - Returns: the block, valid until the next call.
    /// - Complexity: O(records × columns).
    mutating func encode(
        keys: UnsafePointer<UInt64>, values: UnsafePointer<UInt64>, count: Int
    ) -> UnsafeRawBufferPointer {
        precondition(
            count >= 1 && count <= Self.recordsMax(columnCount: columnCount),
            "a block of \(count) records")
        let plan = KeyPlan(keys, count)
        output.storeBytes(of: UInt8(count - 1), toByteOffset: 4, as: UInt8.self)
        output.storeBytes(
            of: plan.coding.rawValue << 6 | UInt8(plan.lowWidth), toByteOffset: 5, as: UInt8.self)
        output.storeBytes(of: UInt8(plan.runCount - 1), toByteOffset: 6, as: UInt8.self)
        output.storeBytes(of: UInt8(plan.startWidth), toByteOffset: 7, as: UInt8.self)
        output.storeBytes(of: UInt8(plan.endWidth), toByteOffset: 8, as: UInt8.self)
        rows.writeOrders(values, count, to: output + IntegerBlock.headerBytes)
        var offset = IntegerBlock.headerBytes + columnCount
        offset = writeKeys(plan, keys, count, offset)
        output.storeBytes(of: UInt16(offset).littleEndian, toByteOffset: 9, as: UInt16.self)
        offset += rows.writeRows(values, count, to: output + offset)
        writeChecksum(offset)
        return UnsafeRawBufferPointer(start: output, count: offset)
    }

    /// Copies a block, but gives the records of the ascending `ranks` other values.
    ///
    /// - Parameter rows: A row for each rank.
    /// - Returns: the block, valid until the next call; nil if it must be made anew, because a value
    ///   cannot be coded with the columns' orders or they have become a bad choice.
    /// - Complexity: O(bytes + ranks × columns).
    mutating func rewrite(
        _ block: UnsafeRawBufferPointer, _ layout: IntegerBlock.Layout,
        ranks: UnsafeBufferPointer<Int>, rows: UnsafePointer<UInt64>
    ) -> UnsafeRawBufferPointer? {
        let lengthsOffset = layout.rows.lengthsOffset
        let base = block.baseAddress.unsafelyUnwrapped
        let rowBytes = self.rows.rewriteRows(
            layout.rows, layout.recordCount, ranks: ranks, rows: rows, to: output + lengthsOffset)
        guard let rowBytes else { return nil }
        let byteCount = lengthsOffset + rowBytes
        guard byteCount <= block.count + block.count / 8 + ranks.count else { return nil }
        output.copyMemory(from: base, byteCount: lengthsOffset)
        writeChecksum(byteCount)
        return UnsafeRawBufferPointer(start: output, count: byteCount)
    }

    private func writeChecksum(_ byteCount: Int) {
        let checked = UnsafeRawBufferPointer(start: output + 4, count: byteCount - 4)
        output.storeBytes(of: CRC32C.checksum(checked).littleEndian, as: UInt32.self)
    }

    // MARK: Keys

    /// Moves the first `bits` bits of the scratch words to the output.
    ///
    /// - Returns: the offset behind them.
    private func flush(_ bits: Int, to offset: Int) -> Int {
        offset + Bits.flush(words, bits: bits, to: output + offset)
    }

    private func writeKeys(
        _ plan: KeyPlan, _ keys: UnsafePointer<UInt64>, _ count: Int, _ start: Int
    ) -> Int {
        var offset = flush(writeRuns(plan, keys, count), to: start)
        guard plan.coding != .dense else { return offset }
        // Places are found again rather than kept: a running sum without the gaps between runs.
        var place: UInt64 = 0
        if plan.coding == .bitmap {
            Bits.set(words, 0)
            for index in 1..<max(1, count) {
                place &+= plan.step(keys[index] &- keys[index &- 1])
                Bits.set(words, Int(place))
            }
            return flush(Int(place) + 1, to: offset)
        }
        let lowWidth = plan.lowWidth
        for index in 0..<count {
            if index > 0 { place &+= plan.step(keys[index] &- keys[index &- 1]) }
            Bits.write(words, index &* lowWidth, lowWidth, place & Bits.mask(lowWidth))
        }
        offset = flush(count * lowWidth, to: offset)
        place = 0
        for index in 0..<count {
            if index > 0 { place &+= plan.step(keys[index] &- keys[index &- 1]) }
            Bits.set(words, Int(place &>> UInt64(lowWidth)) &+ index)
        }
        return flush(count + Int(place >> UInt64(lowWidth)) + 1, to: offset)
    }

    /// - Returns: the number of bits.
    private func writeRuns(
        _ plan: KeyPlan, _ keys: UnsafePointer<UInt64>, _ count: Int
    ) -> Int {
        let endsBit = (plan.runCount - 1) * plan.startWidth
        var run = 0
        var place: UInt64 = 0
        for index in 1..<max(1, count) {
            let gap = keys[index] &- keys[index &- 1]
            if plan.isBreak(gap) {
                Bits.write(
                    words, endsBit &+ run &* plan.endWidth, plan.endWidth, place)
                Bits.write(
                    words, run &* plan.startWidth, plan.startWidth, keys[index] &- keys[0])
                run &+= 1
            }
            place &+= plan.step(gap)
        }
        Bits.write(words, endsBit &+ run &* plan.endWidth, plan.endWidth, place)
        return endsBit + plan.runCount * plan.endWidth
    }
}
