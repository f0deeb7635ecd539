import ArgumentParser
import TallyRESP

/// `tally hotkeys`
struct HotKeysCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "hotkeys", abstract: "Print the keys that are asked for most.",
        discussion: """
            Rates are of the last seconds, found by looking at one operation in 256; of a cluster they are those of \
            the clients of the node that is asked.
            """)

    @OptionGroup var options: ConnectionOptions
    @Option(help: "Most keys to print, 1 to 64.")
    var count = 16

    func run() async throws {
        try await options.withServer { server in
            let reply = try await server.call(["HOTKEYS", "GET", "COUNT", "\(count)"])
            let fields = reply.elements
            guard let place = fields.firstIndex(where: { $0.text == "by-operations" }),
                place + 1 < fields.count
            else { return }
            let rows = fields[place + 1].elements.map { $0.elements }.filter { $0.count == 3 }
            if options.printsJSON {
                let keys = rows.map { row in
                    "{\"key\": \(quotedJSON(row[0].text ?? "")), \"operations_per_second\": "
                        + "\(row[1].integer ?? 0), \"share\": \(quotedJSON(row[2].text ?? ""))}"
                }
                return print("[\(keys.joined(separator: ", "))]")
            }
            let lines = rows.map { row in
                [row[0].text ?? "", "\(row[1].integer ?? 0)", row[2].text ?? ""]
            }
            print(TextTable.text([["KEY", "OPERATIONS/S", "SHARE"]] + lines))
        }
    }
}
