import ArgumentParser
import TallyRESP

/// `tally incr`
struct IncrementCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "incr", abstract: "Add to a counter and print what it is then.",
        discussion: "With --token a request is counted once, however often it is sent.")

    @OptionGroup var options: ConnectionOptions
    @Option(help: "A UUID of version 7 or a ULID.")
    var token: String?
    @Argument(help: "The counter's key.")
    var counter: String
    @Argument(help: "What to add.")
    var delta: Int64 = 1

    func run() async throws {
        try await options.withServer { server in
            let words = ["INCRBY", counter, "\(delta)"]
            let reply = try await server.call((token.map { ["ONCE", $0] } ?? []) + words)
            printCounter(counter, reply.integer, options)
        }
    }
}

/// `tally get`
struct GetCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "get", abstract: "Print a counter; exit with 1 if there is none.")

    @OptionGroup var options: ConnectionOptions
    @Argument(help: "The counter's key.")
    var counter: String

    func run() async throws {
        try await options.withServer { server in
            let value = try await server.call(["GET", counter]).integer
            printCounter(counter, value, options)
            if value == nil { throw ClientExit.absent }
        }
    }
}

/// `tally mget`
struct GetManyCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "mget", abstract: "Print several counters, all at one moment.")

    @OptionGroup var options: ConnectionOptions
    @Argument(help: "The counters' keys.")
    var counters: [String]

    func run() async throws {
        try await options.withServer { server in
            let values = try await server.call(["MGET"] + counters).elements.map(\.integer)
            guard options.printsJSON else {
                let width = counters.map(\.count).max() ?? 0
                for (counter, value) in zip(counters, values) {
                    let padding = String(repeating: " ", count: width - counter.count)
                    print("\(counter)\(padding)  \(value.map(String.init) ?? "-")")
                }
                return
            }
            let fields = zip(counters, values).map {
                "\(quotedJSON($0)): \($1.map(String.init) ?? "null")"
            }
            print("{\(fields.joined(separator: ", "))}")
        }
    }
}

/// `tally describe`
struct DescribeCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "describe",
        abstract: "Print the counter families, or how one of them was declared.")

    @OptionGroup var options: ConnectionOptions
    @Argument(help: "A family.")
    var family: String?

    func run() async throws {
        try await options.withServer { server in
            let lines = try await server.call(["DESCRIBE"] + (family.map { [$0] } ?? []))
                .elements.compactMap(\.text)
            if options.printsJSON {
                print("[\(lines.map(quotedJSON).joined(separator: ", "))]")
            } else {
                for line in lines { print(line) }
            }
        }
    }
}

private func printCounter(_ counter: String, _ value: Int64?, _ options: ConnectionOptions) {
    let text = value.map(String.init)
    if options.printsJSON {
        print("{\"key\": \(quotedJSON(counter)), \"value\": \(text ?? "null")}")
    } else if let text {
        print(text)
    }
}
