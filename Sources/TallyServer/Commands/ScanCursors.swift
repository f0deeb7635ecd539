import TallyCore
import TallyNode

/// Where clients' scans stand, by the numbers that they were given.
///
/// A cursor is a key, or what stands for one, and does not fit into the 64 bits that clients take a
/// cursor for; so the server keeps it. Those that have been used give way before those that have not.
final class ScanCursors: Sendable {
    private struct Cursor {
        let place: Node.KeyspacePlace
        var isUsed: Bool
    }

    private struct State {
        var cursors: [UInt64: Cursor] = [:]
        var unused = Queue()
        var used = Queue()
        var next: UInt64 = 1
    }

    /// Numbers in the order in which they came.
    private struct Queue {
        private var numbers: [UInt64] = []
        private var head = 0

        mutating func append(_ number: UInt64) { numbers.append(number) }

        mutating func popFirst() -> UInt64? {
            guard head < numbers.count else { return nil }
            defer {
                head += 1
                if head > 4096, head * 2 > numbers.count {
                    numbers.removeFirst(head)
                    head = 0
                }
            }
            return numbers[head]
        }
    }

    private let state = Locked(State())

    /// Keeps a place, under a number that is not 0.
    func keep(_ place: Node.KeyspacePlace) -> UInt64 {
        state.withLock { state in
            if state.cursors.count >= Limits.scanCursorsMax { Self.forgetOne(&state) }
            let number = state.next
            state.next += 1
            state.cursors[number] = Cursor(place: place, isUsed: false)
            state.unused.append(number)
            return number
        }
    }

    /// The place of a number, nil if it is not known, or not any more.
    func find(_ number: UInt64) -> Node.KeyspacePlace? {
        state.withLock { state in
            guard let cursor = state.cursors[number] else { return nil }
            if !cursor.isUsed {
                state.cursors[number]?.isUsed = true
                state.used.append(number)
            }
            return cursor.place
        }
    }

    private static func forgetOne(_ state: inout State) {
        while let number = state.used.popFirst() {
            if state.cursors.removeValue(forKey: number) != nil { return }
        }
        while let number = state.unused.popFirst() {
            if state.cursors.removeValue(forKey: number) != nil { return }
        }
    }
}
