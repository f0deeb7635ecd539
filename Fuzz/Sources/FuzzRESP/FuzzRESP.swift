import FuzzDriver
import TallyCore
import TallyRESP

/// One input: a byte that says how the rest is cut into pieces, and the rest.
///
/// Whatever the bytes are, the parser must not trap, must not read beyond them, and must find the
/// same commands however they arrive.
private func fuzz(_ start: UnsafePointer<UInt8>, _ count: Int) -> CInt {
    guard count > 1 else { return 0 }
    let bytes = UnsafeRawBufferPointer(start: start + 1, count: count - 1)
    let whole = parse(bytes, pieceBytes: bytes.count)
    let pieces = parse(bytes, pieceBytes: 1 + Int(start[0] & 31), seed: start[0] >> 5)
    precondition(whole == pieces, "pieces change what is found")
    return 0
}

/// A checksum of all commands and errors that are found in `bytes`, arriving in pieces of at most so many
/// bytes, of all lengths unless `seed` is 0.
private func parse(
    _ bytes: UnsafeRawBufferPointer, pieceBytes: Int, seed: UInt8 = 0
) -> UInt32 {
    var random = UInt32(seed)
    var parser = RESPParser()
    var found = CRC32C()
    var start = 0
    var end = 0
    while end < bytes.count {
        random = random &* 1_664_525 &+ (seed == 0 ? 0 : 1_013_904_223)
        end = min(bytes.count, end + pieceBytes - Int(random >> 16) % pieceBytes)
        while start < end {
            // A copy of its own, so that the sanitizer sees every read beyond its end.
            let piece = UnsafeMutableRawBufferPointer.allocate(
                byteCount: end - start, alignment: 1)
            defer { piece.deallocate() }
            piece.copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[start..<end]))
            do throws(ProtocolError) {
                guard case .command(let byteCount) = try parser.next(UnsafeRawBufferPointer(piece))
                else { break }
                precondition(byteCount > 0 && byteCount <= piece.count, "command too long")
                start += byteCount
            } catch {
                found.update(UInt64(error.message.count))
                return found.value
            }
            let arguments = parser.arguments
            guard arguments.count > 0 else { continue }
            found.update(UInt64(arguments.count))
            for index in 0..<arguments.count {
                found.update(UInt64(arguments[index].count))
                found.update(arguments[index])
            }
        }
    }
    return found.value
}

@main
private struct FuzzRESP {
    static func main() {
        runFuzzer { fuzz($0, $1) }
    }
}
