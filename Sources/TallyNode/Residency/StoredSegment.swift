import TallyEngine
import TallyStorage
internal import Synchronization

/// A segment's file, as the manifest names it.
class StoredSegment: SegmentFile, @unchecked Sendable {
    // Sendable because nothing changes but an atomic flag.
    let reference: Manifest.Segment
    private let damaged = Atomic<Bool>(false)

    fileprivate init(_ reference: Manifest.Segment) { self.reference = reference }

    var number: UInt64 { reference.number }
    var name: String { CheckpointFiles.segmentName(reference.number) }

    /// Whether something in the file was found to be damaged.
    var isDamaged: Bool {
        get { damaged.load(ordering: .relaxed) }
        set { damaged.store(newValue, ordering: .relaxed) }
    }

    func read(
        at offset: Int, into buffer: UnsafeMutableRawBufferPointer
    ) throws(SegmentFileError) {
        preconditionFailure("a file on no disk")
    }

    func readCached(at offset: Int, into buffer: UnsafeMutableRawBufferPointer) -> Bool {
        preconditionFailure("a file on no disk")
    }
}

/// A segment's file on a disk. It is opened for every read: that costs little beside the read, and a
/// large data set has more segments than a process may have files open.
final class SegmentOnDisk<D: Disk>: StoredSegment, @unchecked Sendable {
    private let disk: D

    init(_ reference: Manifest.Segment, _ disk: D) {
        self.disk = disk
        super.init(reference)
    }

    override func read(
        at offset: Int, into buffer: UnsafeMutableRawBufferPointer
    ) throws(SegmentFileError) {
        do throws(DiskError) {
            let file = try disk.open(name)
            guard try file.read(at: offset, into: buffer) == buffer.count else {
                throw DiskError(.system(0), operation: "read all of", file: name)
            }
        } catch {
            throw error.kind == .notFound
                ? .missing(file: number) : .unreadable(file: number, reason: "\(error)")
        }
    }

    override func readCached(at offset: Int, into buffer: UnsafeMutableRawBufferPointer) -> Bool {
        disk.readCached(name, at: offset, into: buffer)
    }
}

extension Segment {
    /// The file that holds this segment, as far as the node wrote or read it.
    var stored: StoredSegment? { file as? StoredSegment }
}
