/// The files of imports: segments that an import has written beside those of the checkpoint.
///
///     import-number-run-index, of ten, six and eight digits
///
/// They stay until a checkpoint holds their records.
public enum ImportFiles {
    /// The name of a file of an import.
    public static func name(_ number: UInt64, run: Int, index: Int) -> String {
        "import-\(padded(number, 10))-\(padded(UInt64(run), 6))-\(padded(UInt64(index), 8))"
    }

    private static func padded(_ number: UInt64, _ count: Int) -> String {
        let digits = String(number)
        return String(repeating: "0", count: max(0, count - digits.count)) + digits
    }

    /// What a file's name says, nil for the name of another file.
    public static func parse(_ name: String) -> (number: UInt64, run: Int, index: Int)? {
        let parts = name.split(separator: "-")
        guard parts.count == 4, parts[0] == "import", let number = UInt64(parts[1]),
            let run = Int(parts[2]), let index = Int(parts[3]),
            self.name(number, run: run, index: index) == name
        else { return nil }
        return (number, run, index)
    }

    /// The names of an import's files, in order of runs, and in a run as they were written.
    public static func names<D: Disk>(
        of number: UInt64, on disk: D
    ) throws(DiskError) -> [String] {
        try disk.list().filter { parse($0)?.number == number }.sorted()
    }

    /// Removes the files of all imports but those of `kept`.
    public static func remove<D: Disk>(
        except kept: Set<UInt64>, on disk: D
    ) throws(DiskError) {
        for name in try disk.list() {
            guard let file = parse(name), !kept.contains(file.number) else { continue }
            try disk.remove(name)
        }
    }

    /// Removes the files of an import.
    public static func remove<D: Disk>(_ number: UInt64, on disk: D) throws(DiskError) {
        for name in try names(of: number, on: disk) { try disk.remove(name) }
    }

    /// Reads a whole file into memory that `allocate` makes and the caller owns.
    public static func read<D: Disk>(
        _ name: String, on disk: D, allocate: (Int) -> UnsafeMutableRawBufferPointer
    ) throws(StorageError) -> UnsafeMutableRawBufferPointer {
        try CheckpointFiles.read(name, on: disk, allocate: allocate)
    }
}
