import NIOCore

/// Encoded replies of one connection that wait until the commit groups they reflect are on disk.
struct HeldReplies {
    /// Replies up to a byte, and the group that they wait for.
    private struct Mark {
        var sequence: UInt64
        var byteCount: Int
        var commandCount: Int
        /// When the turn that read the commands began, monotonic nanoseconds; 0 if there were none.
        var began: UInt64
    }

    private var bytes = ByteBuffer()
    private var marks: [Mark] = []

    /// Replies that are held.
    private(set) var commandCount = 0

    private static let capacityKept = 64 << 10

    var isEmpty: Bool { marks.isEmpty }
    var byteCount: Int { bytes.readableBytes }
    /// Memory taken, bytes.
    var capacityBytes: Int { bytes.capacity }
    /// The group that the oldest reply waits for.
    var firstSequence: UInt64 { marks.first?.sequence ?? 0 }

    /// Holds replies that reflect everything up to group `sequence`.
    mutating func append(
        _ replies: UnsafeRawBufferPointer, sequence: UInt64, commandCount: Int, began: UInt64 = 0
    ) {
        bytes.writeBytes(replies)
        self.commandCount += commandCount
        // Replies leave in order, so a later one waits at least as long as those before it.
        if let last = marks.indices.last, sequence <= marks[last].sequence {
            marks[last].byteCount += replies.count
            marks[last].commandCount += commandCount
        } else {
            marks.append(
                Mark(
                    sequence: sequence, byteCount: replies.count, commandCount: commandCount,
                    began: began))
        }
    }

    /// Takes out the replies that may leave, nil if there are none.
    ///
    /// They share memory with what stays: let go of them, then call `reclaim`.
    ///
    /// - Parameter onRelease: Called with when each one's turn began.
    mutating func takeAdmitted(
        where admits: (UInt64) -> Bool, _ onRelease: (UInt64) -> Void = { _ in }
    ) -> ByteBuffer? {
        var byteCount = 0
        var released = 0
        for mark in marks {
            guard admits(mark.sequence) else { break }
            if mark.began > 0 { onRelease(mark.began) }
            byteCount += mark.byteCount
            commandCount -= mark.commandCount
            released += 1
        }
        guard released > 0 else { return nil }
        marks.removeFirst(released)
        return bytes.readSlice(length: byteCount)
    }

    /// Uses the memory of replies that have left again, or gives it back.
    ///
    /// - Complexity: O(1) amortised over the bytes held.
    mutating func reclaim() {
        if !marks.isEmpty {
            // A connection that is never quiet must not grow for ever.
            if bytes.readerIndex > max(bytes.readableBytes, Self.capacityKept / 4) {
                bytes.discardReadBytes()
            }
        } else if bytes.capacity > Self.capacityKept {
            bytes = ByteBuffer()
        } else {
            bytes.clear()
        }
    }
}
