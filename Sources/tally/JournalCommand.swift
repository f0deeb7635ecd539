import ArgumentParser
import TallyCore
import TallyEngine
import TallyNode
import TallyStorage

/// `tally journal`: looks into a data directory that no server has open.
struct JournalCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "journal",
        abstract: "Look into the journal of a data directory that no server has open.",
        subcommands: [Inspect.self, Verify.self])

    /// `tally journal inspect DIR`
    struct Inspect: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Print every file and commit group, and on request every entry.")

        @Flag(help: "Print the entries of each group.")
        var entries = false
        @Argument(help: "A data directory.")
        var directory: String

        func run() throws {
            let hasher = KeyHasher(seed: 0)
            var file = ""
            let scan = try scanJournal(directory) { group, sections in
                if group.file != file {
                    file = group.file
                    print("\(file)  epoch \(group.position.epoch)")
                }
                print(
                    "  \(group.position.sequence)  byte \(group.offset)  \(group.byteCount) bytes"
                        + "  \(sections.count) partitions  \(group.entryCount) entries"
                        + "  time \(group.logTimeMilliseconds)\(group.isSeal ? "  seal" : "")")
                guard entries else { return nil }
                for section in sections {
                    if let reason = printEntries(section, hasher) { return reason }
                }
                return nil
            }
            for file in scan.files where file.groupCount == 0 {
                print("\(file.name)  epoch \(file.epoch)  no groups")
            }
            for name in scan.superseded { print("\(name)  does not count: replaced or empty") }
            for name in scan.unreadable { print("\(name)  does not count: unknown content") }
            print(scan.summary)
        }

        private func printEntries(_ section: GroupSection, _ hasher: KeyHasher) -> String? {
            let rows = UnsafeMutablePointer<Int64>.allocate(capacity: EntryReader.rowsCapacity)
            defer { rows.deallocate() }
            var reader = EntryReader(
                section.bytes,
                place: PartitionPlace(number: section.partition, count: Limits.partitionsMax),
                hasher: hasher, rows: rows)
            do throws(EntryError) {
                while let operation = try reader.next() {
                    print("    \(section.partition)  \(describe(operation, rows))")
                }
                return nil
            } catch {
                return "\(error)"
            }
        }

        private func describe(
            _ operation: Operation, _ rows: UnsafeMutablePointer<Int64>
        ) -> String {
            let key =
                operation.keyKind == .integer
                ? "\(operation.integerKey)" : printable(operation.keyBytes)
            let record = operation.family == 0 ? key : "family \(operation.family)  \(key)"
            switch operation.kind {
            case .clear: return "clear"
            case .changeSchema:
                return String(decoding: operation.keyBytes, as: UTF8.self)
            case .importRuns:
                return "\(operation.kind)  family \(operation.family)  import \(operation.operand)"
            case .deleteRecord: return "\(operation.kind)  \(record)"
            case .setColumns, .setRecord:
                let values = (0..<Int(operation.count)).map {
                    "column \(rows[2 * $0]) = \(rows[2 * $0 + 1])"
                }
                return "\(operation.kind)  \(record)  \(values.joined(separator: ", "))"
            case .expire: return "\(operation.kind)  \(record)  at \(operation.operand)"
            case .persist: return "\(operation.kind)  \(record)"
            case .remember:
                return "\(operation.kind)  \(printable(operation.keyBytes))  \(rows[1]) words"
            case .raiseFloor: return "\(operation.kind)  \(operation.operand)"
            case .extendedSet:
                let request = ExtendedSet(rows + Int(operation.operand))
                return "\(operation.kind)  \(record)  \(request)"
            case .extendedAdd:
                let request = ExtendedAdd(rows + Int(operation.operand))
                return "\(operation.kind)  \(record)  \(request)"
            case .get, .readRecord, .readExpiry, .readForMove, .setMoved, .deleteMoved,
                .transaction, .countKeys, .add, .set, .setIfAbsent,
                .setIfPresent,
                .delete:
                let column = operation.family == 0 ? "" : "  column \(operation.column)"
                let times = operation.count > 1 ? " × \(operation.count)" : ""
                return "\(operation.kind)  \(record)\(column)  \(operation.operand)\(times)"
            }
        }

        private func printable(_ key: UnsafeRawBufferPointer) -> String {
            key.allSatisfy { $0 > 32 && $0 < 127 }
                ? String(decoding: key, as: UTF8.self)
                : "0x"
                    + key.map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()
        }
    }

    /// `tally journal verify DIR`
    struct Verify: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract:
                "Check every checksum and apply every entry; exit with 1 if anything is damaged.",
            discussion: "Takes as much memory as the server that would open the directory.")

        @Argument(help: "A data directory.")
        var directory: String

        func run() throws {
            let check = try checkData(directory)
            if let scan = check.scan { print(scan.summary) }
        }
    }
}

/// `tally check DIR`
struct CheckCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check",
        abstract:
            "Check a data directory that no server has open; exit with 1 if anything is damaged.",
        discussion: """
            Reads the manifest, all segments and the journal: checksums, the order and place of \
            keys, and whether they belong together. Changes nothing. Takes as much memory as the \
            server that would open the directory.
            """)

    @Argument(help: "A data directory.")
    var directory: String

    func run() throws {
        let check = try checkData(directory)
        if let manifest = check.manifest {
            print(
                "OK: checkpoint of group \(manifest.position.sequence), "
                    + "\(check.segments.count) segments, \(check.segments.byteCount) bytes, "
                    + "\(manifest.schema.families.count) counter families")
        } else {
            print("OK: no checkpoint")
        }
        if let scan = check.scan { print(scan.summary) }
    }
}

/// Checks everything and names all damage there is.
private func checkData(_ directory: String) throws -> DataCheck {
    do {
        let check = try DataCheck.run(on: DirectoryDisk(path: directory, isCreated: false))
        for damage in check.damage { print("DAMAGED: \(damage)") }
        if !check.damage.isEmpty { throw ExitCode.failure }
        return check
    } catch let error as DiskError {
        print("cannot read: \(error)")
        throw ExitCode(2)
    }
}

private func scanJournal(
    _ directory: String, visit: (JournalGroup, [GroupSection]) -> String?
) throws -> JournalScan {
    do {
        let disk = try DirectoryDisk(path: directory, isCreated: false)
        let floor = try CheckpointFiles.readManifest(on: disk)?.position.sequence ?? 0
        return try JournalScanner.scan(disk, floor: floor, visit: visit)
    } catch let error as StorageError {
        print("DAMAGED: \(error)")
        throw ExitCode.failure
    } catch let error as DiskError {
        print("cannot read: \(error)")
        throw ExitCode(2)
    }
}

extension JournalScan {
    /// One line for people.
    fileprivate var summary: String {
        let end =
            lastSequence == 0
            ? "empty"
            : isSealed
                ? "sealed by a clean shutdown"
                : isTorn ? "ends in a torn tail, as after a crash" : "not sealed, as after a crash"
        let lost = lostGroups > 0 ? ", \(lostGroups) groups lost that were never synced" : ""
        return
            "OK: \(files.count) files, \(lastSequence) groups, \(entryCount) entries, "
            + "epoch \(epoch), \(end)\(lost)"
    }
}
