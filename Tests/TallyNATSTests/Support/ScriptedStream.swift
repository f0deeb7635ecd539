import TallyCore

/// The server's side of one stream `S` of a few messages, which loses some of its deliveries.
final class ScriptedStream: Sendable {
    private let state: Locked<State>

    fileprivate struct State {
        var lastSequence: UInt64
        var lost: [UInt64]
        var input = ""
        var subscriptions: [(prefix: String, number: String)] = []
        /// Of each consumer the next sequences, of the stream and its own.
        var consumers: [String: (stream: UInt64, own: UInt64)] = [:]
    }

    /// - Parameters:
    ///   - lastSequence: Number of messages.
    ///   - lost: Sequences that are lost when they are delivered for the first time.
    init(lastSequence: UInt64, lost: [UInt64]) {
        state = Locked(State(lastSequence: lastSequence, lost: lost))
    }

    /// What the server says when somebody connects or says `piece`.
    func answer(_ piece: String?) -> String {
        state.withLock { state in
            guard let piece else {
                return "INFO {\"headers\":true,\"jetstream\":true,\"max_payload\":1048576}\r\n"
            }
            state.input += piece
            var output = ""
            while let line = state.takeLine() { output += state.answer(line) }
            return output
        }
    }
}

extension ScriptedStream.State {
    /// The next operation: a line, and the payload behind it if it has one.
    fileprivate mutating func takeLine() -> (words: [String], payload: String)? {
        guard let end = input.firstRange(of: "\r\n") else { return nil }
        let words = input[..<end.lowerBound].split(separator: " ").map(String.init)
        guard words.first == "PUB", let count = words.last.flatMap({ Int($0) }) else {
            input = String(input[end.upperBound...])
            return (words, "")
        }
        guard input[end.upperBound...].utf8.count >= count + 2 else { return nil }
        let payload = input[end.upperBound...].utf8.prefix(count)
        input = String(input[end.upperBound...].utf8.dropFirst(count + 2)) ?? ""
        return (words, String(payload) ?? "")
    }

    fileprivate mutating func answer(_ line: (words: [String], payload: String)) -> String {
        let words = line.words
        switch words.first {
        case "PING": return "PONG\r\n"
        case "SUB":
            subscriptions.append((String(words[1].dropLast()), words[words.count - 1]))
            return ""
        case "PUB" where words.count == 4: break
        default: return ""
        }
        let (subject, reply) = (words[1], words[2])
        let name = subject.split(separator: ".").last.map(String.init) ?? ""
        if subject.hasPrefix("$JS.API.CONSUMER.CREATE.") {
            let start = line.payload.firstRange(of: "\"opt_start_seq\":").flatMap {
                UInt64(line.payload[$0.upperBound...].prefix { $0.isNumber })
            }
            consumers[name] = (start ?? 1, 1)
            return message(reply, "{\"num_pending\":1}")
        }
        if subject.hasPrefix("$JS.API.STREAM.INFO.") {
            return message(
                reply,
                """
                {"config":{"name":"S","storage":"file","num_replicas":1,"discard":"old"},\
                "created":"2026-01-01T00:00:00Z","state":{"messages":\(lastSequence),"bytes":1,\
                "first_seq":1,"last_seq":\(lastSequence),"consumer_count":1}}
                """)
        }
        guard subject.hasPrefix("$JS.API.CONSUMER.MSG.NEXT.") else { return "" }
        let isOne = line.payload.contains("\"batch\":1,")
        return deliver(to: name, reply, countMax: isOne ? 1 : .max)
    }

    private mutating func deliver(to name: String, _ reply: String, countMax: UInt64) -> String {
        guard var next = consumers[name] else { return "" }
        var output = ""
        var count: UInt64 = 0
        while next.stream <= lastSequence, count < countMax {
            if let index = lost.firstIndex(of: next.stream) {
                lost.remove(at: index)
            } else {
                let place =
                    "$JS.ACK.S.\(name).1.\(next.stream).\(next.own).\(next.stream * 1_000)"
                    + ".\(lastSequence - next.stream)"
                let text = "\(next.stream)"
                output +=
                    "MSG s \(subscription(reply)) \(place) \(text.utf8.count)\r\n\(text)\r\n"
            }
            next = (next.stream + 1, next.own + 1)
            count += 1
        }
        consumers[name] = next
        let heartbeat =
            "NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: \(next.own - 1)\r\n"
            + "Nats-Last-Stream: \(next.stream - 1)\r\n\r\n"
        let bytes = heartbeat.utf8.count
        return output + "HMSG \(reply) \(subscription(reply)) \(bytes) \(bytes)\r\n\(heartbeat)\r\n"
    }

    private func message(_ subject: String, _ payload: String) -> String {
        "MSG \(subject) \(subscription(subject)) \(payload.utf8.count)\r\n\(payload)\r\n"
    }

    /// The newest subscription that is one word longer than its prefix.
    private func subscription(_ subject: String) -> String {
        subscriptions.last {
            subject.hasPrefix($0.prefix) && !subject.dropFirst($0.prefix.count).contains(".")
        }?.number ?? "0"
    }
}
