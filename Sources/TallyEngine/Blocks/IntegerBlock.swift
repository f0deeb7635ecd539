/// Some hundred records of an integer-keyed family, sorted by key and compressed.
///
///     crc u32 · records − 1 u8 · key coding u8 · runs − 1 u8 · start width u8 · end width u8 ·
///     lengths' offset u16 · order u8 for each column │ runs │ keys │ lengths → … ← mantissas
///
/// Keys come in bursts, so they are cut into runs where the gaps are wide. A run has its start, its
/// distance from the block's first key, in `start width` bits (the first has none), and its end in
/// `end width` bits; ends count as if runs followed one another without a gap. In these compact
/// places, 0 to the last run's end, the keys are coded by the cheapest of
///
/// * nothing, if every place is taken;
/// * a bitmap;
/// * Elias–Fano (Elias 1974, Fano 1971): the lower bits of each place side by side, the rest as a
///   unary sequence of gaps.
///
/// The values are coded by `RowCodes`. A record never has only zeros; what is zero here is the column's
/// default (`ColumnCoding`).
///
/// Keys, lengths and the block's end are aligned to bytes. The first key stands in the segment's
/// index. All integers are little-endian.
enum IntegerBlock {
    static let headerBytes = 11
    /// Most records of one block.
    static let recordsMax = 256
    /// Most values of one block.
    static let valuesMax = 4096

    /// How the places of keys are coded.
    enum KeyCoding: UInt8 {
        case eliasFano = 0
        case bitmap = 1
        case dense = 2
    }

    /// Where the parts of a block are, in bytes from its start, and what its header says.
    struct Layout {
        let bytes: UnsafeRawPointer
        let recordCount: Int
        let runCount: Int
        let startWidth: Int
        let endWidth: Int
        let keyCoding: KeyCoding
        let lowWidth: Int
        /// The values.
        let rows: RowCodes

        /// Reads a block's header. The block's checksum must have been found right.
        @inline(__always)
        init(_ bytes: UnsafeRawPointer, byteCount: Int, columnCount: Int) {
            self.bytes = bytes
            let header = Bits.word(bytes + 4)
            recordCount = Int(header & 0xff) &+ 1
            let coding = UInt8(truncatingIfNeeded: header &>> 8)
            keyCoding = KeyCoding(rawValue: coding &>> 6).unsafelyUnwrapped
            lowWidth = Int(coding & 63)
            runCount = Int(header &>> 16 & 0xff) &+ 1
            startWidth = Int(header &>> 24 & 0xff)
            endWidth = Int(header &>> 32 & 0xff)
            rows = RowCodes(
                block: bytes, byteCount: byteCount, columnCount: columnCount,
                ordersOffset: IntegerBlock.headerBytes,
                lengthsOffset: Int(header &>> 40 & 0xffff), hasZeroRows: false)
        }

        /// The run table's first bit.
        @inline(__always)
        var runsBit: Int { (IntegerBlock.headerBytes &+ rows.columnCount) &* 8 }

        /// Where the coded keys start.
        @inline(__always)
        var keysOffset: Int {
            let bits = (runCount &- 1) &* startWidth &+ runCount &* endWidth
            return (runsBit &+ bits &+ 7) &>> 3
        }

        /// The distance of run `run`'s first key from the block's.
        @inline(__always)
        func start(_ run: Int) -> UInt64 {
            run == 0 ? 0 : Bits.read(bytes, runsBit &+ (run &- 1) &* startWidth, startWidth)
        }

        /// The compact place of run `run`'s last key.
        @inline(__always)
        func end(_ run: Int) -> UInt64 {
            Bits.read(
                bytes, runsBit &+ (runCount &- 1) &* startWidth &+ run &* endWidth, endWidth)
        }

        /// Where the unary part of the keys starts.
        @inline(__always)
        var upperOffset: Int { keysOffset &+ (recordCount &* lowWidth &+ 7) &>> 3 }

        // MARK: Search

        /// The rank of `distance`, a key's distance from the block's first; nil if it is not there.
        ///
        /// - Complexity: O(runs + places / 64).
        @inline(__always)
        func rank(_ distance: UInt64) -> Int? {
            var run = 0
            var runStart: UInt64 = 0
            while run &+ 1 < runCount {
                let next = start(run &+ 1)
                if next > distance { break }
                runStart = next
                run &+= 1
            }
            let first = run == 0 ? 0 : end(run &- 1) &+ 1
            let place = first &+ (distance &- runStart)
            guard distance &- runStart <= end(run) &- first else { return nil }
            switch keyCoding {
            case .dense: return Int(place)
            case .bitmap: return rankInBitmap(Int(place))
            case .eliasFano: return rankInEliasFano(place)
            }
        }

        @inline(__always)
        private func rankInBitmap(_ place: Int) -> Int? {
            let keys = bytes + keysOffset
            let byte = (keys + place &>> 3).load(as: UInt8.self)
            guard byte &>> UInt8(place & 7) & 1 == 1 else { return nil }
            return Bits.countOnes(keys, place)
        }

        @inline(__always)
        private func rankInEliasFano(_ place: UInt64) -> Int? {
            let upper = bytes + upperOffset
            let bucket = Int(place &>> UInt64(lowWidth))
            let low = place & Bits.mask(lowWidth)
            let bit = bucket == 0 ? 0 : Bits.selectZero(upper, bucket &- 1) &+ 1
            var rank = bit &- bucket
            // As many ones as the bucket has keys.
            var count = (~Bits.window(upper, bit)).trailingZeroBitCount
            if count >= Bits.windowBits { count = Bits.selectZero(upper, bucket) &- bit }
            var lowBit = keysOffset &* 8 &+ rank &* lowWidth
            let end = rank &+ count
            while rank < end {
                let found = Bits.read(bytes, lowBit, lowWidth)
                if found >= low { return found == low ? rank : nil }
                lowBit &+= lowWidth
                rank &+= 1
            }
            return nil
        }

        // MARK: Everything

        /// Writes all keys and all values, record by record, in order of the keys.
        ///
        /// - Complexity: O(records × columns).
        func decode(
            firstKey: UInt64, keys: UnsafeMutablePointer<UInt64>,
            values: UnsafeMutablePointer<UInt64>
        ) {
            decodePlaces(keys)
            var run = 0
            var runEnd = end(0)
            // What to add to a place to make it a key.
            var offset = firstKey
            for index in 0..<recordCount {
                let place = keys[index]
                while place > runEnd {
                    run &+= 1
                    offset = firstKey &+ start(run) &- (runEnd &+ 1)
                    runEnd = end(run)
                }
                keys[index] = place &+ offset
            }
            rows.decode(recordCount, values)
        }

        private func decodePlaces(_ places: UnsafeMutablePointer<UInt64>) {
            switch keyCoding {
            case .dense:
                for index in 0..<recordCount { places[index] = UInt64(index) }
            case .bitmap:
                decodeOnes(bytes + keysOffset, places)
            case .eliasFano:
                decodeOnes(bytes + upperOffset, places)
                let lowBit = keysOffset &* 8
                for index in 0..<recordCount {
                    let low = Bits.read(bytes, lowBit &+ index &* lowWidth, lowWidth)
                    let bucket = places[index] &- UInt64(index)
                    places[index] = bucket &<< UInt64(lowWidth) | low
                }
            }
        }

        /// Writes where the first `recordCount` set bits are.
        @inline(__always)
        private func decodeOnes(_ start: UnsafeRawPointer, _ places: UnsafeMutablePointer<UInt64>) {
            var index = 0
            var base: UInt64 = 0
            while true {
                var word = Bits.word(start + Int(base &>> 3))
                while word != 0 {
                    places[index] = base &+ UInt64(word.trailingZeroBitCount)
                    index &+= 1
                    if index == recordCount { return }
                    word &= word &- 1
                }
                base &+= 64
            }
        }
    }
}
