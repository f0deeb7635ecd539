internal import Glibc
import TallyCore

/// A blocking connection to a server, for a few commands of a tool.
final class ControlConnection {
    /// Why a server did not do what it was asked.
    enum Failure: Error, CustomStringConvertible {
        case unreachable(String)
        case refused(String)
        case closed

        var description: String {
            switch self {
            case .unreachable(let reason): "cannot reach the server: \(reason)"
            case .refused(let reason): "the server refused: \(reason)"
            case .closed: "the server closed the connection"
            }
        }
    }

    /// A reply, with everything as text.
    indirect enum Reply {
        case text(String)
        case array([Reply])

        /// The text, empty for an array.
        var text: String { if case .text(let text) = self { text } else { "" } }
        /// The elements, none for a text.
        var elements: [Reply] { if case .array(let elements) = self { elements } else { [] } }
    }

    private let socket: Int32
    private var received: [UInt8] = []
    private var offset = 0

    init(host: String, port: Int) throws(Failure) {
        var hints = addrinfo()
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        var found: UnsafeMutablePointer<addrinfo>?
        let code = getaddrinfo(host, String(port), &hints, &found)
        guard code == 0, let first = found else {
            throw .unreachable(String(cString: gai_strerror(code)))
        }
        defer { freeaddrinfo(first) }
        var candidate: UnsafeMutablePointer<addrinfo>? = first
        var connected: Int32 = -1
        while let address = candidate, connected < 0 {
            let attempt = Glibc.socket(
                address.pointee.ai_family, address.pointee.ai_socktype,
                address.pointee.ai_protocol)
            if attempt >= 0 {
                if connect(attempt, address.pointee.ai_addr, address.pointee.ai_addrlen) == 0 {
                    connected = attempt
                } else {
                    close(attempt)
                }
            }
            candidate = address.pointee.ai_next
        }
        guard connected >= 0 else {
            throw .unreachable("\(host):\(port): \(String(cString: strerror(errno)))")
        }
        socket = connected
    }

    deinit { close(socket) }

    /// Sends a command and returns its reply.
    ///
    /// - Throws: `refused` for an error reply.
    func call(_ words: String...) throws(Failure) -> Reply {
        var command = "*\(words.count)\r\n"
        for word in words { command += "$\(word.utf8.count)\r\n\(word)\r\n" }
        let bytes = Array(command.utf8)
        var sent = 0
        while sent < bytes.count {
            let count = bytes[sent...].withUnsafeBytes {
                send(socket, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
            }
            guard count > 0 else { throw .closed }
            sent += count
        }
        received.removeAll(keepingCapacity: true)
        offset = 0
        return try reply()
    }

    private func reply() throws(Failure) -> Reply {
        let line = try line()
        let rest = String(decoding: line.dropFirst(), as: UTF8.self)
        switch line.first {
        case UInt8(ascii: "-"): throw .refused(rest)
        case UInt8(ascii: "$"):
            guard let count = Int(rest), count >= 0 else { return .text("") }
            return .text(String(decoding: try take(count + 2).dropLast(2), as: UTF8.self))
        case UInt8(ascii: "*"):
            var elements: [Reply] = []
            for _ in 0..<(Int(rest) ?? 0) { elements.append(try reply()) }
            return .array(elements)
        default: return .text(rest)
        }
    }

    private func line() throws(Failure) -> [UInt8] {
        var end = offset
        while true {
            while end < received.count, received[end] != UInt8(ascii: "\n") { end += 1 }
            if end < received.count { break }
            try fill()
        }
        defer { offset = end + 1 }
        return Array(received[offset..<max(offset, end - 1)])
    }

    private func take(_ count: Int) throws(Failure) -> ArraySlice<UInt8> {
        while received.count < offset + count { try fill() }
        defer { offset += count }
        return received[offset..<(offset + count)]
    }

    private func fill() throws(Failure) {
        var buffer = [UInt8](repeating: 0, count: 4096)
        let count = recv(socket, &buffer, buffer.count, 0)
        guard count > 0 else { throw .closed }
        received += buffer[..<count]
    }
}
