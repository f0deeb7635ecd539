/// Codes rows of values as `RowCodes` reads them.
///
/// Holds scratch memory, so one is kept for many blocks.
struct RowEncoder: ~Copyable {
    private let columnCount: Int
    private let hasZeroRows: Bool
    private let orders: UnsafeMutablePointer<Int>
    /// Zero but while rows are coded; so are `mantissas`, which fill from their end.
    private let lengths: UnsafeMutablePointer<UInt64>
    private let mantissas: UnsafeMutablePointer<UInt64>
    /// The bit behind the last mantissa.
    private let endBit: Int

    /// Most bytes that so many rows take.
    static func bytesMax(rows: Int, columnCount: Int) -> Int { (rows * columnCount + 2) * 16 }

    /// For at most `rowsMax` rows at once.
    init(columnCount: Int, rowsMax: Int, hasZeroRows: Bool) {
        self.columnCount = columnCount
        self.hasZeroRows = hasZeroRows
        orders = .allocate(capacity: columnCount)
        orders.initialize(repeating: 0, count: columnCount)
        // 64 bits in the lengths and 64 in the mantissas for each value.
        let words = rowsMax * columnCount + 2
        lengths = .allocate(capacity: words)
        lengths.initialize(repeating: 0, count: words)
        mantissas = .allocate(capacity: words)
        mantissas.initialize(repeating: 0, count: words)
        endBit = (words - 1) * 64
    }

    deinit {
        orders.deallocate()
        lengths.deallocate()
        mantissas.deallocate()
    }

    /// Chooses the columns' orders for `count` rows and writes them, a byte each, to `output`.
    func writeOrders(
        _ values: UnsafePointer<UInt64>, _ count: Int, to output: UnsafeMutableRawPointer
    ) {
        chooseOrders(values, count)
        for column in 0..<columnCount {
            output.storeBytes(of: UInt8(orders[column]), toByteOffset: column, as: UInt8.self)
        }
    }

    /// What is coded for the value in the last column.
    @inline(__always)
    private func lastCoded(_ value: UInt64, _ others: UInt64) -> UInt64 {
        others == 0 && !hasZeroRows ? value &- 1 : value
    }

    /// Chooses each column's order by an estimate of what each possible one would cost.
    private func chooseOrders(_ values: UnsafePointer<UInt64>, _ count: Int) {
        for column in 0..<columnCount {
            var lengths = InlineArray<65, Int>(repeating: 0)
            var lengthMax = 0
            var greatest: UInt64 = 0
            for index in 0..<count {
                let row = values + index &* columnCount
                var value = row[column]
                if column &+ 1 == columnCount {
                    var others: UInt64 = 0
                    for other in 0..<column { others |= row[other] }
                    value = lastCoded(value, others)
                }
                let length = Bits.length(value)
                lengths[length] &+= 1
                lengthMax = max(lengthMax, length)
                greatest = max(greatest, value)
            }
            // Few of the lengths occur.
            var present = InlineArray<65, Int>(repeating: 0)
            var presentCount = 0
            for length in 0...lengthMax where lengths[length] > 0 {
                present[presentCount] = length
                presentCount &+= 1
            }
            var best = Int.max
            // A greater order could only code the greatest value in more bits.
            for order in 0...min(lengthMax, 63) {
                var tenths = 0
                for index in 0..<presentCount {
                    let length = present[index]
                    tenths &+= lengths[length] &* Self.cost(length, order)
                }
                if tenths < best {
                    best = tenths
                    orders[column] = order
                }
            }
            // One more than the greatest value of all has no 64-bit form.
            if greatest == .max { orders[column] = max(orders[column], 1) }
        }
    }

    /// Tenths of a bit that a value of `length` bits takes on average.
    @inline(__always)
    private static func cost(_ length: Int, _ order: Int) -> Int {
        let excess = length &- order
        let doubled = excess <= 0 ? 0 : excess == 1 ? 20 : excess == 2 ? 28 : 20 &* excess &- 18
        return order &* 10 &+ 10 &+ doubled
    }

    /// Codes the rows whose orders were chosen last: writes the lengths to `output`, and the mantissas
    /// behind them.
    ///
    /// - Returns: how many bytes those are together.
    func writeRows(
        _ values: UnsafePointer<UInt64>, _ count: Int, to output: UnsafeMutableRawPointer
    ) -> Int {
        var end = End(bit: 0, mantissaBit: endBit)
        for index in 0..<count { writeRow(values + index &* columnCount, &end) }
        return flush(end, to: output)
    }

    /// What has been coded so far.
    private struct End {
        var bit: Int
        var mantissaBit: Int
    }

    @inline(__always)
    private func writeRow(_ row: UnsafePointer<UInt64>, _ end: inout End) {
        var others: UInt64 = 0
        for column in 0..<columnCount {
            var value = row[column]
            if column &+ 1 == columnCount {
                precondition(hasZeroRows || value | others != 0, "a row of zeros only")
                value = lastCoded(value, others)
            }
            others |= value
            let order = orders[column]
            let upper = value &>> UInt64(order) &+ 1
            let zeros = 63 &- upper.leadingZeroBitCount
            end.bit &+= zeros
            Bits.set(lengths, end.bit)
            end.bit &+= 1
            let width = zeros &+ order
            let mantissa = (upper & Bits.mask(zeros)) &<< UInt64(order) | value & Bits.mask(order)
            end.mantissaBit &-= width
            Bits.write(mantissas, end.mantissaBit, width, mantissa)
        }
    }

    private func flush(_ end: End, to output: UnsafeMutableRawPointer) -> Int {
        let lengthBytes = Bits.flush(lengths, bits: end.bit, to: output)
        let mantissaBytes = (endBit - end.mantissaBit + 7) >> 3
        let first = end.mantissaBit >> 6
        let last = endBit >> 6
        for index in first..<last { mantissas[index] = mantissas[index].littleEndian }
        (output + lengthBytes).copyMemory(
            from: UnsafeRawPointer(mantissas) + last * 8 - mantissaBytes,
            byteCount: mantissaBytes)
        (mantissas + first).update(repeating: 0, count: last - first)
        return lengthBytes + mantissaBytes
    }

    // MARK: Rewriting

    /// Copies the codes of `count` rows, but codes those of the ascending `ranks` anew; the columns'
    /// orders stay.
    ///
    /// - Parameter rows: A row for each rank.
    /// - Returns: how many bytes were written to `output`; nil if a value cannot be coded.
    /// - Complexity: O(bits / 64 + ranks × columns).
    func rewriteRows(
        _ old: RowCodes, _ count: Int, ranks: UnsafeBufferPointer<Int>,
        rows: UnsafePointer<UInt64>, to output: UnsafeMutableRawPointer
    ) -> Int? {
        for column in 0..<columnCount { orders[column] = old.order(column) }
        for index in 0..<(ranks.count * columnCount) where rows[index] == .max { return nil }
        var end = End(bit: 0, mantissaBit: endBit)
        var next = 0
        for (index, rank) in ranks.enumerated() {
            copy(old, next..<rank, &end)
            writeRow(rows + index &* columnCount, &end)
            next = rank &+ 1
        }
        copy(old, next..<count, &end)
        return flush(end, to: output)
    }

    /// Copies the codes of some rows as they are.
    @inline(__always)
    private func copy(_ old: RowCodes, _ ranks: Range<Int>, _ end: inout End) {
        guard !ranks.isEmpty else { return }
        let first = old.start(of: ranks.lowerBound)
        let last = old.start(of: ranks.upperBound)
        let bits = last.bit &- first.bit
        Bits.copy(old.block + old.lengthsOffset, first.bit, bits, to: lengths, end.bit)
        end.bit &+= bits
        let mantissaBits = first.mantissaBit &- last.mantissaBit
        end.mantissaBit &-= mantissaBits
        Bits.copy(old.block, last.mantissaBit, mantissaBits, to: mantissas, end.mantissaBit)
    }
}
