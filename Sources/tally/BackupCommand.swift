import ArgumentParser
internal import Glibc
import TallyCore
import TallyEngine
import TallyNode
import TallyStorage

#if canImport(FoundationEssentials)
    import FoundationEssentials
#else
    import Foundation
#endif

/// Where a tool finds a server.
struct ServerAddress: ParsableArguments {
    @Option(help: "The server's address.")
    var host = "127.0.0.1"
    @Option(help: "The server's port.")
    var port = 7379

    func connect() throws -> ControlConnection {
        try ControlConnection(host: host, port: port)
    }
}

/// Prints why a tool gives up, and ends it.
func givingUp<Value>(_ body: () throws -> Value) throws -> Value {
    do {
        return try body()
    } catch let error as ExitCode {
        throw error
    } catch {
        writeError("\(error)\n")
        throw ExitCode.failure
    }
}

/// `tally backup DIR`
struct BackupCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "backup",
        abstract: "Make a backup of a running server's data, without stopping it.",
        discussion: """
            The backup is a data directory: everything that was acknowledged when this began is in \
            it. Files that never change are shared with the server's own where the file system \
            allows it, so it takes little time and space; copy it elsewhere to be safe from a \
            broken disk. Runs on the server's machine.
            """)

    @OptionGroup var server: ServerAddress
    @Argument(help: "A directory that is made, or is empty.")
    var directory: String

    func run() throws {
        try givingUp {
            try Self.make(directory, server)
            print("backup in \(directory)")
        }
    }

    static func make(_ directory: String, _ server: ServerAddress) throws {
        let connection = try server.connect()
        let path =
            directory.hasPrefix("/")
            ? directory : FileManager.default.currentDirectoryPath + "/" + directory
        _ = try connection.call("BACKUP", "START", path)
        while true {
            let status = try connection.call("BACKUP", "STATUS").text
            if status == "done" { return }
            guard status == "working" else { throw ImportFailure(status) }
            usleep(5000)
        }
    }
}

/// `tally restore BACKUP DATA`, or records of a family into a running server.
struct RestoreCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "restore",
        abstract: "Bring back a backup: all of it, or some records of one counter family.",
        discussion: """
            tally restore BACKUP DATA makes a new data directory for a server to start on; its \
            history goes on in a new epoch. tally restore --family NAME BACKUP sets the records of \
            a family of a running server to what the backup has; --from and --to choose a range of \
            integer keys. Records that the backup does not have stay as they are.
            """)

    @OptionGroup var server: ServerAddress
    @Option(help: "The counter family whose records are to be set in a running server.")
    var family: String?
    @Option(help: "The least key.")
    var from: UInt64 = 0
    @Option(help: "The greatest key.")
    var to = UInt64.max
    @Argument(help: "A backup, or a data directory that no server has open.")
    var backup: String
    @Argument(help: "A new data directory, if all is to be restored.")
    var data: String?

    func validate() throws {
        guard (family == nil) != (data == nil) else {
            throw ValidationError("give either a new data directory or --family")
        }
    }

    func run() throws {
        try givingUp {
            let source = try DirectoryDisk(path: backup, isCreated: false)
            if let family {
                try restoreRecords(family, source)
            } else if let data {
                let target = try DirectoryDisk(path: data)
                try BackupFiles.copy(source, to: target, end: nil, isRestored: true)
                print("restored in \(data)")
            }
        }
    }

    private func restoreRecords(_ name: String, _ source: DirectoryDisk) throws {
        let connection = try server.connect()
        let plan = try ImportPlan(connection.call("IMPORT", "START", name))
        let snapshot = try DataSnapshot(on: source)
        guard let family = snapshot.schema.family(named: name) else {
            throw ImportFailure("the backup has no counter '\(name)'")
        }
        guard family.key == plan.family.key else {
            throw ImportFailure("the counter's key is another in the backup")
        }
        let places = plan.family.columns.map { column in
            family.columns.firstIndex { $0.name == column.name }
        }
        var writer = ImportWriter(plan)
        let values = UnsafeMutablePointer<Int64>.allocate(capacity: places.count)
        defer { values.deallocate() }
        var failure: ImportFailure?
        snapshot.forEachRecord(family: family.number) { key, found in
            guard failure == nil else { return }
            for (index, place) in places.enumerated() {
                values[index] = place.map { found[$0] } ?? plan.family.columns[index].defaultValue
            }
            do throws(ImportFailure) {
                switch key {
                case .integer(let key):
                    if key >= from, key <= to { try writer.append(.integer(key), values) }
                case .string(let key): try writer.append(.string(key), values)
                }
            } catch {
                failure = error
            }
        }
        do {
            if let failure { throw failure }
            try writer.finish()
            try ImportCommand.commit(connection, plan, fileCount: writer.fileCount)
        } catch {
            writer.removeFiles()
            throw error
        }
        print("restored \(writer.recordCount) records of \(name)")
    }
}

/// `tally export --family NAME FILE`
struct ExportCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "export",
        abstract: "Write all records of a counter family at one moment, as CSV or TSV.",
        discussion: """
            The server goes on. `tally import` reads the file back. Takes as much memory as the \
            server's data, and runs on its machine.
            """)

    enum Format: String, ExpressibleByArgument, CaseIterable {
        case csv, tsv
    }

    @OptionGroup var server: ServerAddress
    @Option(help: "The counter family.")
    var family: String
    @Option(help: "csv or tsv.")
    var format = Format.csv
    @Argument(help: "A file to write, - for standard output.")
    var file: String

    func run() throws {
        try givingUp {
            let directory = try server.connect().call("CONFIG", "GET", "dir").elements.last?.text
            let backup = "\(directory ?? "")/../tally-export-\(getpid())"
            try BackupCommand.make(backup, server)
            defer { try? FileManager.default.removeItem(atPath: backup) }
            try write(DataSnapshot(on: DirectoryDisk(path: backup, isCreated: false)))
        }
    }

    private func write(_ snapshot: DataSnapshot) throws {
        guard let family = snapshot.schema.family(named: family), let key = family.key else {
            throw ImportFailure("no such counter '\(family)', or it has no key yet")
        }
        let output = file == "-" ? 1 : open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o640)
        guard output >= 0 else { throw ImportFailure("cannot open \(file)") }
        let separator: UInt8 = format == .csv ? UInt8(ascii: ",") : 9
        var lines = LineWriter(output)
        lines.append(
            Array(
                ([key.name] + family.columns.map(\.name)).joined(
                    separator: format == .csv ? "," : "\t"
                ).utf8))
        snapshot.forEachRecord(family: family.number) { key, values in
            lines.begin(key)
            for value in values {
                lines.append(separator)
                lines.append(value)
            }
        }
        try lines.finish()
        if output != 1 {
            guard fsync(output) == 0 || errno == EINVAL else {
                throw ImportFailure("cannot sync \(file)")
            }
            close(output)
        }
    }
}
