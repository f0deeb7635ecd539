internal import Synchronization
import TallyCore

/// A key that somebody watches: told once whatever it stands for has changed.
public final class KeyWatch: Sendable {
    /// What is watched: a plain key, or a record.
    struct Target: Hashable {
        let family: UInt32
        let hash: UInt64

        @inline(__always)
        init(_ operation: UnsafePointer<Operation>) {
            family = operation.pointee.family
            hash = operation.pointee.hash
        }
    }

    let target: Target
    /// Where the key is.
    public let partition: Int
    /// The key's deadline when watching began, milliseconds since 1970; nil for none.
    private let deadline: Int64?
    private let touched = Atomic<Bool>(false)

    init(_ target: Target, partition: Int, deadline: Int64?) {
        self.target = target
        self.partition = partition
        self.deadline = deadline
    }

    func touch() { touched.store(true, ordering: .relaxed) }

    /// Whether the key has changed since; to be asked under its partition's lock.
    ///
    /// - Parameter nowMilliseconds: The time by which deadlines are judged, nil where there are none.
    public func isTouched(nowMilliseconds: Int64?) -> Bool {
        if touched.load(ordering: .relaxed) { return true }
        guard let deadline, let nowMilliseconds else { return false }
        return deadline <= nowMilliseconds
    }
}

/// Who watches what in one partition. Not thread-safe: the partition's lock guards it.
struct KeyWatches {
    private var watches: [KeyWatch.Target: [KeyWatch]] = [:]

    @inline(__always)
    var isEmpty: Bool { watches.isEmpty }

    mutating func add(_ watch: KeyWatch) { watches[watch.target, default: []].append(watch) }

    mutating func remove(_ watch: KeyWatch) {
        watches[watch.target]?.removeAll { $0 === watch }
        if watches[watch.target]?.isEmpty == true { watches[watch.target] = nil }
    }

    /// An operation has taken effect.
    func touch(_ operation: UnsafePointer<Operation>) {
        if operation.pointee.namesKey {
            for watch in watches[KeyWatch.Target(operation)] ?? [] { watch.touch() }
        } else if operation.pointee.changesAllKeys {
            for watch in watches.values.joined() { watch.touch() }
        }
    }
}
