import NIOCore
import Testing

@testable import TallyServer

struct HeldRepliesTests {
    private static func append(
        _ held: inout HeldReplies, _ text: String, sequence: UInt64, count: Int = 1
    ) {
        var text = text
        text.withUTF8 {
            held.append(UnsafeRawBufferPointer($0), sequence: sequence, commandCount: count)
        }
    }

    private static func take(_ held: inout HeldReplies, upTo sequence: UInt64) -> String? {
        defer { held.reclaim() }
        return held.takeAdmitted { $0 <= sequence }.map { String(buffer: $0) }
    }

    @Test func repliesLeaveInOrder() {
        var held = HeldReplies()
        #expect(held.isEmpty)
        Self.append(&held, "a", sequence: 2)
        Self.append(&held, "b", sequence: 1, count: 2)
        Self.append(&held, "c", sequence: 3)
        #expect(held.firstSequence == 2 && held.commandCount == 4 && held.byteCount == 3)
        #expect(Self.take(&held, upTo: 1) == nil)
        #expect(Self.take(&held, upTo: 2) == "ab")
        #expect(held.firstSequence == 3 && held.commandCount == 1 && held.byteCount == 1)
        #expect(Self.take(&held, upTo: 9) == "c")
        #expect(held.isEmpty && held.byteCount == 0)
    }

    /// A connection whose next replies are always there before the last have left.
    @Test func memoryStaysBoundedWithoutAnyPause() {
        var held = HeldReplies()
        let text = String(repeating: "x", count: 4000)
        for sequence in 1...20_000 as ClosedRange<UInt64> {
            Self.append(&held, text, sequence: sequence)
            if sequence > 1 { #expect(Self.take(&held, upTo: sequence - 1)?.utf8.count == 4000) }
            guard held.capacityBytes <= 64 << 10 else {
                Issue.record("\(held.capacityBytes) bytes kept for 4000")
                return
            }
        }
        #expect(held.byteCount == 4000)
    }
}
