import FuzzDriver
import TallyCore

/// One input: two bytes that say how long what a block stands for is taken to be, and the rest.
///
/// Whatever the bytes are, reading them as a block must not trap and not touch anything else; and what they are
/// compressed to must stand for them.
private func fuzz(_ start: UnsafePointer<UInt8>, _ count: Int) -> CInt {
    guard count > 2 else { return 0 }
    let bytes = copy(UnsafeRawBufferPointer(start: start + 2, count: count - 2))
    defer { bytes.deallocate() }
    let source = UnsafeRawBufferPointer(bytes)
    // Memory of exactly that size, so that nothing behind it is touched unnoticed.
    let claimed = UnsafeMutableRawBufferPointer.allocate(
        byteCount: Int(start[0]) | Int(start[1] & 15) << 8, alignment: 1)
    defer { claimed.deallocate() }
    _ = LZ4Block.decompress(source, into: claimed)
    let packed = UnsafeMutableRawBufferPointer.allocate(
        byteCount: bytes.count + bytes.count / 200 + 16, alignment: 1)
    defer { packed.deallocate() }
    guard let packedCount = LZ4Block.compress(source, into: packed) else {
        preconditionFailure("there was room")
    }
    let unpacked = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 1)
    defer { unpacked.deallocate() }
    let block = copy(UnsafeRawBufferPointer(rebasing: packed[..<packedCount]))
    defer { block.deallocate() }
    precondition(
        LZ4Block.decompress(UnsafeRawBufferPointer(block), into: unpacked)
            && source.elementsEqual(unpacked), "what was packed does not come back")
    return 0
}

private func copy(_ bytes: UnsafeRawBufferPointer) -> UnsafeMutableRawBufferPointer {
    let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 1)
    copy.copyMemory(from: bytes)
    return copy
}

@main
private struct FuzzLZ4 {
    static func main() {
        runFuzzer { fuzz($0, $1) }
    }
}
