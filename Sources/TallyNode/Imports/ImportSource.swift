import TallyCore
import TallyEngine
import TallyStorage

/// Finds the records of imports that the journal names, reading each import once.
final class ImportSource {
    private let load: (UInt64) -> [ImportedRuns?]
    private var loaded: [UInt64: [ImportedRuns?]] = [:]

    /// The imports that were asked for.
    var numbers: Set<UInt64> { Set(loaded.keys) }

    init<D: Disk>(disk: D, identity: @escaping () -> LogIdentity?) {
        load = { number in
            do throws(StorageError) {
                return try ImportLoader(disk: disk, identity: identity()).load(number)
            } catch {
                return []
            }
        }
    }

    /// The runs of one partition; nil if they cannot be read.
    func runs(_ number: UInt64, partition: Int) -> ImportedRuns? {
        if loaded[number] == nil { loaded[number] = load(number) }
        guard let runs = loaded[number], partition < runs.count else { return nil }
        return runs[partition]
    }
}

/// Reads the files of an import.
struct ImportLoader<D: Disk> {
    let disk: D
    /// Whose files they must be; nil for anybody's.
    let identity: LogIdentity?

    /// The runs of each partition, nil for those without records.
    ///
    /// - Throws: `StorageError` that names the file and what is wrong with it.
    func load(_ number: UInt64) throws(StorageError) -> [ImportedRuns?] {
        let names = try storage { () throws(DiskError) in
            try ImportFiles.names(of: number, on: disk)
        }
        var runs: [[[Segment]]] = []
        var lastRun: [Int] = []
        for name in names {
            guard let file = ImportFiles.parse(name) else { continue }
            let segment = try open(name)
            let partition = segment.header.place.number
            while runs.count <= partition {
                runs.append([])
                lastRun.append(-1)
            }
            if lastRun[partition] != file.run {
                runs[partition].append([])
                lastRun[partition] = file.run
            }
            runs[partition][runs[partition].count - 1].append(segment)
        }
        return runs.map { $0.isEmpty ? nil : ImportedRuns(runs: $0) }
    }

    private func open(_ name: String) throws(StorageError) -> Segment {
        let memory = try ImportFiles.read(
            name, on: disk, allocate: Segment.allocate(byteCount:))
        do throws(SegmentError) {
            let segment = try Segment.open(adopting: memory)
            guard identity == nil || segment.header.identity == identity else { throw .foreign }
            try segment.verifyBlocks()
            return segment
        } catch {
            throw .damagedFile(name, reason: "\(error)")
        }
    }
}
