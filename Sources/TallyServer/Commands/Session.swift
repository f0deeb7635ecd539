import Synchronization
import TallyAccess
import TallyNode
import TallyRESP

/// What one connection has said about itself and is in the middle of saying.
struct Session: ~Copyable {
    /// Whether replies are sent.
    enum ReplyMode: Sendable {
        case on
        /// Not until CLIENT REPLY ON.
        case off
        /// Not for the next command.
        case skipNext
    }

    /// What a connection waits for.
    struct Wait {
        /// The commit group that must be on disk.
        let sequence: UInt64
        /// When to give up, on the monotonic clock.
        let deadlineNanoseconds: UInt64
    }

    let client: ClientInfo
    var parser = RESPParser()
    var version = RESPVersion.two
    var replyMode = ReplyMode.on
    /// Whether the command at hand has just turned replies on, and so gets one.
    var hasTurnedRepliesOn = false
    var lastCommand: CommandID?
    /// What waits for EXEC, once there was MULTI.
    var transaction: QueuedTransaction?
    /// What WATCH has named.
    var watched: WatchedKeys?
    /// What WAITAOF waits for.
    var wait: Wait?
    /// Who this is, and what they may do.
    var access: SessionAccess
    /// An attempt to log in that is being checked.
    var login: Login?
    /// Since when the command at hand waits for a position, on the monotonic clock.
    var demandedSince: UInt64?
    /// A change of a cluster's schema that is being made.
    var schemaChange: PendingSchemaChange?
    /// Whether the command at hand has been presented before, and had to wait.
    var isPresentedAgain = false
    /// Whether its client finds its way in a cluster by itself, and can be sent elsewhere.
    var isClusterClient = false
    /// Whether to close once all replies have left.
    var isClosing = false

    init(client: ClientInfo, users: UserDirectory) {
        self.client = client
        access = SessionAccess(users)
    }

    /// Lets others know what waits for EXEC.
    borrowing func noteQueue() {
        client.queuedCount.store(transaction?.commands.count ?? -1, ordering: .relaxed)
        client.queuedBytes.store(transaction?.byteCount ?? 0, ordering: .relaxed)
        client.watchedCount.store(watched?.count ?? 0, ordering: .relaxed)
    }

    /// Whether the command at hand is replied to.
    @inline(__always)
    mutating func takeReplyMode() -> ReplyMode {
        let mode = replyMode
        if mode == .skipNext { replyMode = .on }
        return mode
    }
}

extension UnsafeRawBufferPointer {
    /// Whether these bytes are `name`, given in lower case, in any case.
    func equalsIgnoringCase(_ name: String) -> Bool {
        var name = name
        return name.withUTF8 { utf8 in
            guard utf8.count == count else { return false }
            for index in indices {
                let byte = self[index]
                let isCapital = byte >= UInt8(ascii: "A") && byte <= UInt8(ascii: "Z")
                if (isCapital ? byte | 0x20 : byte) != utf8[index] { return false }
            }
            return true
        }
    }

    /// The first `count` bytes as text; what is not UTF-8 is replaced.
    func prefixText(_ count: Int) -> String {
        String(decoding: prefix(count), as: UTF8.self)
    }

    /// All bytes as text; what is not UTF-8 is replaced.
    var text: String { String(decoding: self, as: UTF8.self) }
}
