import Logging
import TallyCore
import TallyNode
import TallyRESP
import TallyStorage
import TallyTestSupport
import Testing

@testable import TallyServer

/// Several connections of one loop without sockets, whose commands share a batch.
private final class Crowd: CustomReflectable {
    /// A failed expectation would look into what cannot be copied.
    var customMirror: Mirror { Mirror(self, children: []) }

    private let committer: Committer<SimulatedDisk>
    private var processor: CommandProcessor
    private var sessions: [SessionBox] = []
    private var memories: [UnsafeMutableRawBufferPointer] = []

    private final class SessionBox {
        var session: Session
        init(_ session: consuming Session) { self.session = session }
    }

    init(count: Int, pendingBytesMax: Int = 64 << 10) throws {
        var configuration = NodeConfiguration()
        configuration.journal.fileBytes = 1 << 20
        configuration.journal.groupBytesMax = pendingBytesMax
        let clock = SimulatedClock()
        let opening = try NodeOpening(
            disk: SimulatedDisk(seed: 1), clock: clock, configuration: configuration)
        committer = opening.committer
        let server = ServerContext(
            node: opening.node, access: .open, configuration: ServerConfiguration(), clock: clock,
            logger: Logger(label: "test"))
        processor = CommandProcessor(server: server)
        for index in 0..<count {
            let client = ClientInfo(
                id: server.clients.makeID(), address: "127.0.0.1:\(index)", localAddress: "",
                createdSeconds: 0, channel: nil)
            _ = server.clients.add(client, countMax: count)
            sessions.append(SessionBox(Session(client: client, users: server.access.users)))
        }
    }

    deinit { for memory in memories { memory.deallocate() } }

    /// Sends one command a line, as clients do: inline commands share no batch.
    @discardableResult
    func send(_ owner: Int, _ lines: String) -> CommandProcessor.Progress {
        let commands = lines.split(separator: "\n").map { line in
            let words = line.split(separator: " ")
            return "*\(words.count)\r\n"
                + words.map { "$\($0.utf8.count)\r\n\($0)\r\n" }.joined()
        }
        return sendBytes(owner, Array(commands.joined().utf8))
    }

    func sendBytes(_ owner: Int, _ bytes: [UInt8]) -> CommandProcessor.Progress {
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 1)
        memory.copyBytes(from: bytes)
        memories.append(memory)
        return processor.process(
            UnsafeRawBufferPointer(memory), of: owner, &sessions[owner].session)
    }

    func flush() -> Bool { processor.flush() }
    func hasWork(of owner: Int) -> Bool { processor.hasWork(of: owner) }
    func isClosing(_ owner: Int) -> Bool { sessions[owner].session.isClosing }
    func commit() throws { _ = try committer.commit() }

    /// All replies so far in order, each with its owner and the group it reflects.
    func take() -> [String] {
        var taken: [String] = []
        for delivery in processor.deliveries {
            let bytes = UnsafeRawBufferPointer(rebasing: processor.replies.encoded[delivery.bytes])
            let lines = String(decoding: bytes, as: UTF8.self).split(separator: "\r\n")
            taken.append(
                "\(delivery.owner)@\(delivery.sequence) " + lines.joined(separator: " "))
        }
        processor.removeDeliveries()
        return taken
    }
}

struct SharedBatchTests {
    @Test func eachGetsItsOwnReplies() throws {
        let crowd = try Crowd(count: 3)
        crowd.send(0, "INCR a\nINCR a\n")
        crowd.send(1, "INCR a\nGET b\n")
        crowd.send(2, "INCR b\n")
        crowd.send(0, "GET b\n")
        #expect(crowd.take() == [], "nothing is executed before the turn ends")
        #expect(crowd.flush())
        #expect(crowd.take() == ["0@1 :1 :2", "1@1 :3 $-1", "2@1 :1", "0@1 $1 1"])
    }

    @Test func aReadReflectsNoMoreThanItsKey() throws {
        let crowd = try Crowd(count: 2)
        crowd.send(0, "INCR a\n")
        #expect(crowd.flush())
        try crowd.commit()
        #expect(crowd.take() == ["0@1 :1"])
        crowd.send(0, "INCR a\n")
        crowd.send(1, "PING\n")
        #expect(crowd.flush())
        #expect(crowd.take() == ["0@2 :2", "1@0 +PONG"])
    }

    @Test func silenceAndEndConcernTheirOwnerOnly() throws {
        let crowd = try Crowd(count: 3)
        crowd.send(0, "CLIENT REPLY OFF\n")
        crowd.send(0, "INCR a\nINCR a\n")
        crowd.send(1, "INCR a\nQUIT\nINCR a\n")
        crowd.send(2, "CLIENT REPLY SKIP\nINCR a\nINCR a\n")
        #expect(crowd.flush())
        #expect(crowd.take() == ["1@1 :3 +OK", "2@1 :5"])
        #expect(crowd.isClosing(1) && !crowd.isClosing(0) && !crowd.isClosing(2))
    }

    @Test func whatTheJournalHasNoRoomForIsExecutedLater() throws {
        let crowd = try Crowd(count: 2, pendingBytesMax: 8 << 10)
        let key = String(repeating: "k", count: 3000)
        crowd.send(0, "INCR \(key)\n")
        #expect(crowd.flush())
        #expect(crowd.take() == ["0@1 :1"])
        crowd.send(0, "INCR \(key)\n")
        crowd.send(1, "INCR \(key)\n")
        #expect(!crowd.flush())
        #expect(crowd.take() == [])
        // A command that is no counter operation waits its turn, and is presented again.
        let progress = crowd.send(1, "PING\n")
        #expect(progress.stop == .journalBusy && progress.consumedBytes == 0)
        try crowd.commit()
        #expect(crowd.flush())
        #expect(crowd.take() == ["0@2 :2", "1@2 :3"])
    }

    @Test func onlyWholeCommandsAreWork() throws {
        let crowd = try Crowd(count: 2)
        let progress = crowd.sendBytes(0, Array("*2\r\n$4\r\nINCR\r\n$100\r\nabc".utf8))
        #expect(progress.stop == .inputEnd)
        #expect(!crowd.hasWork(of: 0))
        crowd.send(1, "INCR a\n")
        #expect(crowd.hasWork(of: 1) && !crowd.hasWork(of: 0))
        crowd.send(1, "PING\n")
        #expect(crowd.take() == ["1@1 :1 +PONG"])
    }
}
