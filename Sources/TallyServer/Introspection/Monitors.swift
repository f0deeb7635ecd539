import Synchronization
import TallyCore

/// Connections that are shown every command.
final class Monitors: Sendable {
    private let clients = Locked<[ClientInfo]>([])
    private let count = Atomic<Int>(0)

    /// Whether there are any.
    @inline(__always)
    var isActive: Bool { count.load(ordering: .relaxed) > 0 }

    func add(_ client: ClientInfo) {
        clients.withLock { clients in
            guard !clients.contains(where: { $0 === client }) else { return }
            clients.append(client)
            count.store(clients.count, ordering: .relaxed)
        }
    }

    func remove(_ client: ClientInfo) {
        guard isActive else { return }
        clients.withLock { clients in
            clients.removeAll { $0 === client }
            count.store(clients.count, ordering: .relaxed)
        }
    }

    /// Shows a command to all of them.
    func show(_ arguments: [[UInt8]], of client: ClientInfo, milliseconds: UInt64) {
        let fraction = String(milliseconds % 1000 * 1000)
        var line = Array(
            "+\(milliseconds / 1000).\(String(repeating: "0", count: 6 - fraction.count))\(fraction) [0 \(client.address)]"
                .utf8)
        for argument in arguments {
            line.append(UInt8(ascii: " "))
            Self.appendQuoted(argument, to: &line)
        }
        line += [UInt8(ascii: "\r"), UInt8(ascii: "\n")]
        for monitor in clients.withLock({ $0 }) { monitor.push(line) }
    }

    /// Appends text in quotes, as Redis prints it.
    private static func appendQuoted(_ text: [UInt8], to line: inout [UInt8]) {
        line.append(UInt8(ascii: "\""))
        for byte in text {
            switch byte {
            case UInt8(ascii: "\""), UInt8(ascii: "\\"): line += [UInt8(ascii: "\\"), byte]
            case UInt8(ascii: "\n"): line += Array("\\n".utf8)
            case UInt8(ascii: "\r"): line += Array("\\r".utf8)
            case UInt8(ascii: "\t"): line += Array("\\t".utf8)
            case 32..<127: line.append(byte)
            default:
                let digits = String(byte, radix: 16)
                line += Array("\\x\(digits.count == 1 ? "0" : "")\(digits)".utf8)
            }
        }
        line.append(UInt8(ascii: "\""))
    }
}

/// A time during which commands wait, as CLIENT PAUSE asks for.
final class Pause: Sendable {
    private let untilNanoseconds = Atomic<UInt64>(0)
    private let isForAll = Atomic<Bool>(false)

    /// Whether there may be one.
    @inline(__always)
    var isSet: Bool { untilNanoseconds.load(ordering: .relaxed) != 0 }

    func begin(untilNanoseconds: UInt64, forAll: Bool) {
        // Of two the longer one counts, and the stricter one, as in Redis.
        let before = self.untilNanoseconds.load(ordering: .relaxed)
        let staysForAll = before != 0 && isForAll.load(ordering: .relaxed)
        isForAll.store(forAll || staysForAll, ordering: .relaxed)
        self.untilNanoseconds.store(max(before, untilNanoseconds), ordering: .releasing)
    }

    func end() { untilNanoseconds.store(0, ordering: .releasing) }

    /// Whether a command has to wait.
    func holds(_ isWrite: Bool, nowNanoseconds: UInt64) -> Bool {
        let until = untilNanoseconds.load(ordering: .acquiring)
        guard until != 0 else { return false }
        if nowNanoseconds >= until {
            _ = untilNanoseconds.compareExchange(
                expected: until, desired: 0, ordering: .relaxed)
            return false
        }
        return isWrite || isForAll.load(ordering: .relaxed)
    }
}
