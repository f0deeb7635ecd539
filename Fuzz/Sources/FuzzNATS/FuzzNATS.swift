import FuzzDriver
import NIOCore

@testable import TallyNATSProtocol

/// One input: a byte that says how the rest is cut into pieces, and the rest.
///
/// Whatever the bytes are, the parser must not trap, must not read beyond them, and must find the
/// same operations however they arrive.
private func fuzz(_ start: UnsafePointer<UInt8>, _ count: Int) -> CInt {
    guard count > 1 else { return 0 }
    let bytes = Array(UnsafeBufferPointer(start: start + 1, count: count - 1))
    let whole = parse(bytes, pieceBytes: bytes.count)
    let pieces = parse(bytes, pieceBytes: 1 + Int(start[0] & 31))
    precondition(whole == pieces, "pieces change what is found")
    return 0
}

/// Everything that is found in `bytes`, arriving in pieces, hashed.
private func parse(_ bytes: [UInt8], pieceBytes: Int) -> Int {
    var parser = NATSParser(messageBytesMax: 1 << 10)
    var buffer = ByteBuffer()
    var found = Hasher()
    var position = 0
    do throws(NATSProtocolError) {
        while position < bytes.count {
            let end = min(bytes.count, position + pieceBytes)
            // A buffer of its own, so that bytes behind the last one are not read unnoticed.
            var next = ByteBufferAllocator().buffer(
                capacity: buffer.readableBytes + end - position)
            next.writeBuffer(&buffer)
            next.writeBytes(bytes[position..<end])
            buffer = next
            position = end
            while let operation = try parser.next(&buffer) { add(operation, to: &found) }
        }
    } catch {
        found.combine("\(error)")
    }
    return found.finalize()
}

private func add(_ operation: NATSServerOperation, to found: inout Hasher) {
    switch operation {
    case .info(let json): found.combine(json)
    case .message(let message):
        found.combine(message.subscription)
        found.combine(message.subject)
        found.combine(message.replyTo)
        found.combine(message.payload)
        guard let headers = message.headers else { return }
        found.combine(headers.status)
        found.combine(headers.statusDescription)
        for (name, value) in headers.all {
            // What is not UTF-8 is listed with its bytes replaced.
            if name.utf8.allSatisfy({ $0 < 0x80 }) {
                precondition(headers[name] != nil, "a header is listed but not found")
            }
            found.combine(name)
            found.combine(value)
        }
    case .ping: found.combine(1)
    case .pong: found.combine(2)
    case .ok: found.combine(3)
    case .error(let text): found.combine(text)
    }
}

@main
private struct FuzzNATS {
    static func main() {
        runFuzzer { fuzz($0, $1) }
    }
}
