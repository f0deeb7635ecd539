import Logging
import TallyCore
import TallyNode
import TallyRESP
import TallyStorage
import TallyTestSupport
import Testing

@testable import TallyServer

/// A server without sockets: bytes in, bytes out.
final class Conversation {
    let server: ServerContext
    private let committer: Committer<SimulatedDisk>
    private var processor: CommandProcessor
    private var session: Session
    private var input: [UInt8] = []
    /// Bytes that gathered commands may point into.
    private var memories: [UnsafeMutableRawBufferPointer] = []

    init(_ change: (inout NodeConfiguration) -> Void = { _ in }) throws {
        var configuration = NodeConfiguration()
        configuration.durability = .none
        change(&configuration)
        let clock = SimulatedClock()
        let opening = try NodeOpening(
            disk: SimulatedDisk(seed: 1), clock: clock, configuration: configuration)
        committer = opening.committer
        server = ServerContext(
            node: opening.node, access: .open, configuration: ServerConfiguration(), clock: clock,
            logger: Logger(label: "test"))
        processor = CommandProcessor(server: server)
        session = Session(
            client: ClientInfo(
                id: server.clients.makeID(), address: "127.0.0.1:1", localAddress: "127.0.0.1:2",
                createdSeconds: 0, channel: nil), users: server.access.users)
        _ = server.clients.add(session.client, countMax: 10)
    }

    deinit { for memory in memories { memory.deallocate() } }

    /// What the server answers to `text`, where a line's end stands for CR LF.
    func send(_ text: String) -> String {
        sendBytes(Array(text.replacing("\n", with: "\r\n").utf8))
    }

    func sendBytes(_ bytes: [UInt8]) -> String {
        input += bytes
        return goOn()
    }

    /// What the server answers to what it has received, as far as the journal has room.
    func goOn() -> String {
        defer { processor.removeDeliveries() }
        var progress: CommandProcessor.Progress
        repeat {
            guard processor.flush() else { break }
            let memory = UnsafeMutableRawBufferPointer.allocate(
                byteCount: max(1, input.count), alignment: 1)
            memories.append(memory)
            memory.copyBytes(from: input)
            progress = processor.process(
                UnsafeRawBufferPointer(rebasing: memory[..<input.count]), of: 0, &session)
            input.removeFirst(progress.consumedBytes)
        } while progress.stop == .repliesLong
        _ = processor.flush()
        return String(decoding: processor.replies.encoded, as: UTF8.self)
            .replacing("\r\n", with: "\n")
    }

    /// Writes what waits for the journal.
    func commit() throws {
        _ = try committer.prepareSpace()
        _ = try committer.commit()
    }

    var isClosing: Bool { session.isClosing }
}

struct CommandProcessorTests {
    @Test(
        arguments: [
            (
                "INCR a\nINCR a\nINCRBY a 40\nDECR a\nDECRBY a 2\nGET a\n",
                ":1\n:2\n:42\n:41\n:39\n$2\n39\n"
            ),
            ("incr A\nInCr A\nGET a\n", ":1\n:2\n$-1\n"),
            (
                "SET a 5\nGET a\nGETSET a 6\nGETDEL a\nGET a\nGETDEL a\n",
                "+OK\n$1\n5\n$1\n5\n$1\n6\n$-1\n$-1\n"
            ),
            (
                "SET a 1 NX\nSET a 2 NX\nSET a 3 XX\nSET b 1 XX\nGET a\n",
                "+OK\n$-1\n+OK\n$-1\n$1\n3\n"
            ),
            (
                "SET a 1 GET\nSET a 2 GET\nSET a 3 NX GET\nSET a 4 xx get\nGET a\n",
                "$-1\n$1\n1\n$1\n2\n$1\n2\n$1\n4\n"
            ),
            (
                "SET a 1 NX XX\nSET a x\nSET a 1 FOO\n",
                "-ERR syntax error\n-ERR value is not an integer or out of range\n-ERR syntax error\n"
            ),
            ("SETNX a 1\nSETNX a 2\n", ":1\n:0\n"),
            (
                "MSET a 1 b 2\nMGET a x b\nMSETNX b 9 c 9\nMSETNX c 3 d 4\nMGET b c d\n",
                "+OK\n*3\n$1\n1\n$-1\n$1\n2\n:0\n:1\n*3\n$1\n2\n$1\n3\n$1\n4\n"
            ),
            ("MSET a 1 b\n", "-ERR wrong number of arguments for 'mset' command\n"),
            ("MSET a 1 b x\nEXISTS a b\n", "-ERR value is not an integer or out of range\n:0\n"),
            ("MSET a 1 b 2\nDEL a a b c\nEXISTS a\n", "+OK\n:2\n:0\n"),
            (
                "SET a 0\nEXISTS a a b\nTYPE a\nTYPE b\nSTRLEN a\nSTRLEN b\n",
                "+OK\n:2\n+string\n+none\n:1\n:0\n"
            ),
            (
                "SET a -17\nSTRLEN a\nOBJECT ENCODING a\nOBJECT ENCODING b\n",
                "+OK\n:3\n$3\nint\n$-1\n"
            ),
            (
                "SET a 9223372036854775807\nINCR a\nGET a\n",
                "+OK\n-ERR increment or decrement would overflow\n$19\n9223372036854775807\n"
            ),
            (
                "DECRBY a -9223372036854775808\nINCRBY a 1x\n",
                "-ERR decrement would overflow\n-ERR value is not an integer or out of range\n"
            ),
            (
                "INCR a\nDBSIZE\nFLUSHALL\nDBSIZE\nFLUSHDB ASYNC\nFLUSHALL NOW\n",
                ":1\n:1\n+OK\n:0\n+OK\n-ERR syntax error\n"
            ),
            (
                "GET\nFOO a b\n",
                "-ERR wrong number of arguments for 'get' command\n-ERR unknown command 'FOO', with args beginning with: 'a' 'b' \n"
            ),
            (
                "CLIENT FOO\nCLIENT SETNAME\n",
                "-ERR unknown subcommand 'FOO'. Try CLIENT HELP.\n-ERR wrong number of arguments for 'client|setname' command\n"
            ),
            (
                "PING\nPING hi\nECHO yo\nSELECT 0\nSELECT 1\n",
                "+PONG\n$2\nhi\n$2\nyo\n+OK\n-ERR DB index is out of range\n"
            ),
            ("INCR a\nCLIENT REPLY OFF\nINCR a\nPING\nCLIENT REPLY ON\nINCR a\n", ":1\n+OK\n:3\n"),
            ("CLIENT REPLY SKIP\nINCR a\nINCR a\n", ":2\n"),
            (
                "CLIENT SETNAME me\nCLIENT GETNAME\nRESET\nCLIENT GETNAME\n",
                "+OK\n$2\nme\n+RESET\n$-1\n"
            ),
            (
                "HELLO 4\nHELLO x\n",
                "-NOPROTO unsupported protocol version\n-ERR Protocol version is not an integer or out of range\n"
            ),
            (
                "COMMAND GETKEYS MSET a 1 b 2\nCOMMAND GETKEYS PING\n",
                "*2\n$1\na\n$1\nb\n-ERR The command has no key arguments\n"
            ),
            ("SET a 1 EX 5\nTTL a\nSET a 1\nTTL a\n", "+OK\n:5\n+OK\n:-1\n"),
            (
                "INCREX a UBOUND 3 BYINT 5\nINCREX a UBOUND 3 BYINT 5 SATURATE\nINCREX a BYFLOAT 1\n",
                "*2\n:0\n:0\n*2\n:3\n:3\n-ERR counters are integers: BYFLOAT is not supported\n"
            ),
            (
                "INCREX a ENX\nINCREX a LBOUND 2 UBOUND 1\nINCREX a EX 0\nINCREX a EX 9 ENX\nTTL a\n",
                "-ERR ENX needs one of EX, PX, EXAT and PXAT\n-ERR LBOUND is greater than UBOUND\n"
                    + "-ERR invalid expire time in 'increx' command\n*2\n:1\n:1\n:9\n"
            ),
            ("MULTI\nINCR a\nGET a\nEXEC\n", "+OK\n+QUEUED\n+QUEUED\n*2\n:1\n$1\n1\n"),
        ] as [(String, String)])
    func answersAsRedisDoes(request: String, reply: String) throws {
        #expect(try Conversation().send(request) == reply)
    }

    @Test func resp3HasItsOwnNull() throws {
        let conversation = try Conversation()
        #expect(conversation.send("HELLO 3\n").hasPrefix("%7\n"))
        #expect(conversation.send("GET a\nMGET a b\n") == "_\n*2\n_\n_\n")
    }

    @Test func quitAndProtocolErrorsCloseAfterTheirReply() throws {
        let quitting = try Conversation()
        #expect(quitting.send("INCR a\nQUIT\nINCR a\n") == ":1\n+OK\n")
        #expect(quitting.isClosing)
        let broken = try Conversation()
        #expect(
            broken.send("INCR a\n*1\n:1\n")
                == ":1\n-ERR Protocol error: expected '$', got ':'\n")
        #expect(broken.isClosing)
    }

    @Test func anUnfinishedCommandWaitsForItsRest() throws {
        let conversation = try Conversation()
        #expect(conversation.send("INCR a\n*2\n$4\nIN") == ":1\n")
        #expect(conversation.send("CR\n$1\n") == "")
        #expect(conversation.send("a\n") == ":2\n")
    }

    @Test func keysAreBounded() throws {
        let conversation = try Conversation()
        let longest = String(repeating: "k", count: Limits.keyBytesMax)
        #expect(conversation.send("INCR \(longest)\n") == ":1\n")
        for command in ["INCR \(longest)k", "MGET a \(longest)k", "MSET a 1 \(longest)k 2"] {
            #expect(conversation.send("\(command)\n").hasPrefix("-ERR key of 4097 bytes"))
        }
        #expect(conversation.send("DBSIZE\n") == ":1\n")
    }

    @Test func aFullMemoryRefusesWhatGrows() throws {
        let conversation = try Conversation()
        #expect(conversation.send("INCR old\nCONFIG SET maxmemory 1\n") == ":1\n+OK\n")
        #expect(
            conversation.send("INCR new\nINCR old\nGET new\nMSET a 1 b 2\n")
                == "-OOM command not allowed when used memory > 'maxmemory'.\n:2\n$-1\n"
                + "-OOM command not allowed when used memory > 'maxmemory'.\n")
        #expect(conversation.send("CONFIG SET maxmemory 0\nINCR new\n") == "+OK\n:1\n")
    }

    /// What the journal has no room for is executed, once and in order, when it has.
    @Test(arguments: [
        "INCR key:%\nPING\n", "INCR key:%\n", "CLIENT REPLY SKIP\nGET a\nINCR key:%\n",
    ])
    func aBusyJournalLosesNothing(commands: String) throws {
        let conversation = try Conversation {
            $0.journal.fileBytes = 256 << 10
            $0.journal.groupBytesMax = 32 << 10
        }
        var request = ""
        for number in 0..<3000 { request += commands.replacing("%", with: "\(number)") }
        var reply = conversation.send(request)
        let expected = String(
            repeating: commands.contains("PING") ? ":1\n+PONG\n" : ":1\n", count: 3000)
        #expect(reply.utf8.count < expected.utf8.count, "it never was busy")
        var rounds = 0
        while reply.utf8.count < expected.utf8.count, rounds < 3000 {
            try conversation.commit()
            reply += conversation.goOn()
            rounds += 1
        }
        #expect(reply == expected)
        #expect(conversation.server.node.countAll().count == 3000)
    }

    @Test func manyKeysInOneCommand() throws {
        let conversation = try Conversation()
        let keys = (0..<5000).map { "k\($0)" }
        #expect(
            conversation.sendBytes(
                Array(
                    ("*10001\r\n$4\r\nMSET\r\n"
                        + keys.map { "$\($0.utf8.count)\r\n\($0)\r\n$1\r\n7\r\n" }.joined()).utf8))
                == "+OK\n")
        let reply = conversation.sendBytes(
            Array(
                ("*5001\r\n$4\r\nMGET\r\n"
                    + keys.map { "$\($0.utf8.count)\r\n\($0)\r\n" }.joined()).utf8))
        #expect(reply == "*5000\n" + String(repeating: "$1\n7\n", count: 5000))
    }
}
