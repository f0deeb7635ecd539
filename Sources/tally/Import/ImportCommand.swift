import ArgumentParser
internal import Glibc
import TallyCore

/// `tally import`: many records at once into a counter family of a running server.
struct ImportCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "import",
        abstract: "Set many records of a counter family at once, all or none, while it serves.",
        discussion: """
            CSV or TSV: a header names the key first and then columns; every further line is a \
            record. Columns that the header does not name get their defaults. Records: binary, a \
            little-endian u64 and a u32 for each column. A record replaces the one that is there; \
            of several lines with one key the last counts; a line of defaults only is left out.

            Segments are written straight into the server's data directory, so this runs on the \
            server's machine, as a user who may write there. Lines that are no records are counted \
            and listed with their numbers; all others are imported.
            """)

    enum Format: String, ExpressibleByArgument, CaseIterable {
        case csv, tsv, records
    }

    @Option(help: "The counter family.")
    var family: String
    @Option(help: "csv, tsv or records (default: by the file's name, else csv).")
    var format: Format?
    @OptionGroup var server: ServerAddress
    @Option(help: "Rejected lines that are listed.")
    var rejectsMax = 20
    @Flag(help: "Import nothing if any line is rejected.")
    var strict = false
    @Argument(help: "A file, - for standard input.")
    var file: String

    func run() throws {
        try givingUp { try importAll() }
    }

    private func importAll() throws {
        let connection = try server.connect()
        let plan = try ImportPlan(connection.call("IMPORT", "START", family))
        let input = try InputFile(file)
        var writer = ImportWriter(plan)
        do {
            var source = RecordSource(input, plan.family, format ?? guessedFormat)
            try source.readAll { key, values throws(ImportFailure) in
                try writer.append(key, values)
            }
            for rejection in source.rejections.prefix(rejectsMax) { complain(rejection) }
            if source.rejectedCount > rejectsMax {
                complain("… \(source.rejectedCount) lines rejected in all")
            }
            if strict, source.rejectedCount > 0 {
                throw ImportFailure("\(source.rejectedCount) lines rejected: nothing is imported")
            }
            try writer.finish()
            try Self.commit(connection, plan, fileCount: writer.fileCount)
            print(
                "imported \(writer.recordCount) records, \(writer.byteCount) bytes in segments; "
                    + "\(source.defaultCount) lines of defaults, \(source.rejectedCount) rejected")
        } catch {
            writer.removeFiles()
            throw error
        }
    }

    private var guessedFormat: Format {
        if file.hasSuffix(".tsv") { return .tsv }
        return file.hasSuffix(".bin") ? .records : .csv
    }

    /// Has the records of written files taken over, and waits for that.
    static func commit(
        _ connection: ControlConnection, _ plan: ImportPlan, fileCount: Int
    ) throws {
        _ = try connection.call(
            "IMPORT", "COMMIT", "\(plan.number)", "\(plan.family.number)", "\(fileCount)")
        while true {
            let status = try connection.call("IMPORT", "STATUS", "\(plan.number)").text
            if status.hasPrefix("done") { return }
            guard status == "working" else { throw ImportFailure(status) }
            usleep(5000)
        }
    }

    private func complain(_ text: String) { writeError(text + "\n") }
}

/// Writes to standard error.
func writeError(_ text: String) {
    var text = text
    text.withUTF8 { _ = write(2, $0.baseAddress, $0.count) }
}

/// Why nothing was imported.
struct ImportFailure: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}

/// What a server says about an import that may begin.
struct ImportPlan {
    let directory: String
    let number: UInt64
    let partitionCount: Int
    let identity: LogIdentity
    /// As it is declared, with the server's numbers.
    let family: Family

    init(_ reply: ControlConnection.Reply) throws(ImportFailure) {
        let parts = reply.elements
        guard parts.count == 2, parts[0].elements.count > 6 else {
            throw ImportFailure("the server does not speak as this program does")
        }
        let facts = parts[0].elements.map(\.text)
        let numbers = facts.dropFirst().compactMap { UInt64($0) }
        var schema = Schema()
        do {
            for line in parts[1].elements {
                let words = line.text.split(separator: " ").map(String.init)
                try schema.apply(try SchemaChange(words))
            }
        } catch {
            throw ImportFailure("the server's declaration is strange: \(error)")
        }
        guard numbers.count == facts.count - 1, let declared = schema.families.first,
            numbers.count == 5 + declared.columns.count
        else { throw ImportFailure("the server does not speak as this program does") }
        directory = facts[0]
        number = numbers[0]
        partitionCount = Int(numbers[1])
        identity = LogIdentity(high: numbers[2], low: numbers[3])
        var family = Family(
            number: UInt32(numbers[4]), name: declared.name, isKnownOnly: declared.isKnownOnly,
            isDeletedFinal: declared.isDeletedFinal)
        family.key = declared.key
        family.columns = zip(declared.columns, numbers[5...]).map { column, number in
            Column(
                number: UInt32(number), name: column.name, suffix: column.suffix,
                hintBits: column.hintBits, maxBits: column.maxBits, min: column.min,
                defaultValue: column.defaultValue, bound: column.bound)
        }
        self.family = family
    }
}
