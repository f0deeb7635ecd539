/// The values of a block's records, a row of columns each.
///
/// Values are exponential Golomb codes of a column's order, all columns together. Each is
/// value >> order plus one, in binary: how many bits follow the first is coded in unary in `lengths`,
/// those bits and the lowest `order` ones are its mantissa. The mantissas grow backwards from the
/// block's end. So the *n*-th value is found by selecting in `lengths`: the bits before it that are
/// clear are the mantissa bits before it.
///
/// Where no row has only zeros, the last column of one whose other columns are all zero holds one
/// less.
struct RowCodes {
    let block: UnsafeRawPointer
    let byteCount: Int
    let columnCount: Int
    /// Where the columns' orders are, a byte each.
    let ordersOffset: Int
    /// Where the lengths start.
    let lengthsOffset: Int
    /// Whether there may be rows of zeros only.
    let hasZeroRows: Bool

    /// A place in the values.
    private struct Cursor {
        /// The next bit of the lengths.
        var bit: Int
        /// The end of the next mantissa; it grows downwards.
        var mantissaBit: Int
    }

    @inline(__always)
    func order(_ column: Int) -> Int {
        Int(block.load(fromByteOffset: ordersOffset &+ column, as: UInt8.self))
    }

    /// Where the codes of the record of rank `rank` are: the first bit of its lengths, and the end of
    /// its mantissas. The number of records leads behind the last.
    @inline(__always)
    func start(of rank: Int) -> (bit: Int, mantissaBit: Int) {
        let index = rank &* columnCount
        let bit = index == 0 ? 0 : Bits.selectOne(block + lengthsOffset, index &- 1) &+ 1
        var orders = 0
        for column in 0..<columnCount { orders &+= order(column) }
        return (bit, byteCount &* 8 &- (bit &- index) &- rank &* orders)
    }

    /// Writes the values of the record of rank `rank`, one a column, to `values`.
    ///
    /// - Complexity: O(bits of the block's lengths / 64 + columns).
    @inline(__always)
    func read(_ rank: Int, _ values: UnsafeMutablePointer<UInt64>) {
        if columnCount == 2 { return readPair(rank, values) }
        let lengths = block + lengthsOffset
        let (bit, mantissaBit) = start(of: rank)
        var orders = 0
        for column in 0..<columnCount { orders &+= order(column) }
        let window = Bits.window(lengths, bit) & Bits.mask(Bits.windowBits)
        if window.nonzeroBitCount >= columnCount {
            let zeros = Bits.select(window, columnCount &- 1) &- (columnCount &- 1)
            let width = zeros &+ orders
            if width <= Bits.windowBits {
                let mantissas = Bits.window(block, mantissaBit &- width)
                return readShortRow(window, mantissas, width, values)
            }
        }
        var cursor = Cursor(bit: bit, mantissaBit: mantissaBit)
        readRow(&cursor, values)
    }

    /// The same for two columns, as most records have.
    @inline(__always)
    private func readPair(_ rank: Int, _ values: UnsafeMutablePointer<UInt64>) {
        let orders = UInt16(
            littleEndian: block.loadUnaligned(fromByteOffset: ordersOffset, as: UInt16.self))
        let first = UInt64(orders & 0xff)
        let second = UInt64(orders &>> 8)
        let bit = rank == 0 ? 0 : Bits.selectOne(block + lengthsOffset, 2 &* rank &- 1) &+ 1
        let orderSum = Int(truncatingIfNeeded: first &+ second)
        let mantissaBit = byteCount &* 8 &- (bit &- 2 &* rank) &- rank &* orderSum
        let window = Bits.window(block + lengthsOffset, bit)
        let firstZeros = UInt64(truncatingIfNeeded: window.trailingZeroBitCount)
        let rest = (window &>> firstZeros) &>> 1
        let secondZeros = UInt64(truncatingIfNeeded: rest.trailingZeroBitCount)
        let width = Int(truncatingIfNeeded: firstZeros &+ secondZeros) &+ orderSum
        // Zeros above what the window has are seen as longer codes than there can be here.
        guard firstZeros &+ secondZeros &+ 2 <= UInt64(Bits.windowBits), width <= Bits.windowBits
        else {
            var cursor = Cursor(bit: bit, mantissaBit: mantissaBit)
            return readRow(&cursor, values)
        }
        let mantissas = Bits.window(block, mantissaBit &- width)
        let lower = mantissas & ((1 &<< (secondZeros &+ second)) &- 1)
        let upper =
            mantissas &>> (secondZeros &+ second) & ((1 &<< (firstZeros &+ first)) &- 1)
        // A code's bits above the order have lost their leading one, which stands for 2 to the zeros.
        let one = upper &+ (((1 &<< firstZeros) &- 1) &<< first)
        let other = lower &+ (((1 &<< secondZeros) &- 1) &<< second)
        values[0] = one
        values[1] = other &+ (one == 0 && !hasZeroRows ? 1 : 0)
    }

    /// Reads a record whose lengths and mantissas are at hand.
    ///
    /// - Parameter width: Bits of all the mantissas, the first column's uppermost.
    @inline(__always)
    private func readShortRow(
        _ lengths: UInt64, _ mantissas: UInt64, _ width: Int,
        _ values: UnsafeMutablePointer<UInt64>
    ) {
        var lengths = lengths
        var rest = width
        var others: UInt64 = 0
        for column in 0..<columnCount {
            let order = UInt64(truncatingIfNeeded: order(column))
            let zeros = UInt64(truncatingIfNeeded: lengths.trailingZeroBitCount)
            lengths = (lengths &>> zeros) &>> 1
            rest &-= Int(truncatingIfNeeded: zeros &+ order)
            // What is above belongs to the columns before.
            let mantissa = mantissas &>> UInt64(truncatingIfNeeded: rest)
            let upper = (1 &<< zeros) | (mantissa &>> order) & ((1 &<< zeros) &- 1)
            var value = ((upper &- 1) &<< order) | mantissa & ((1 &<< order) &- 1)
            if column &+ 1 == columnCount, others == 0, !hasZeroRows { value &+= 1 }
            others |= value
            values[column] = value
        }
    }

    /// Reads one record's values and moves the cursor behind them.
    @inline(__always)
    private func readRow(_ cursor: inout Cursor, _ values: UnsafeMutablePointer<UInt64>) {
        var others: UInt64 = 0
        for column in 0..<columnCount {
            let order = order(column)
            let zeros = Bits.zerosFrom(block + lengthsOffset, cursor.bit)
            cursor.bit &+= zeros &+ 1
            let width = zeros &+ order
            cursor.mantissaBit &-= width
            let mantissa = Bits.read(block, cursor.mantissaBit, width)
            let upper = (1 &<< UInt64(zeros)) | mantissa &>> UInt64(order)
            var value = ((upper &- 1) &<< UInt64(order)) | mantissa & Bits.mask(order)
            if column &+ 1 == columnCount, others == 0, !hasZeroRows { value &+= 1 }
            others |= value
            values[column] = value
        }
    }

    /// Writes the rows of the first `count` records, one behind the other.
    ///
    /// - Complexity: O(count × columns).
    func decode(_ count: Int, _ values: UnsafeMutablePointer<UInt64>) {
        var cursor = Cursor(bit: 0, mantissaBit: byteCount &* 8)
        for index in 0..<count { readRow(&cursor, values + index &* columnCount) }
    }
}
