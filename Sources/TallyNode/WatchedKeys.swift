import TallyCore
import TallyEngine

/// Keys that one client watches, from `add` on for as long as this lives.
public final class WatchedKeys {
    private let node: Node
    private(set) var watches: [KeyWatch] = []

    /// No keys yet.
    public init(_ node: Node) { self.node = node }

    deinit {
        for watch in watches {
            node.locks[node.lockIndex(watch.partition)].withLock { _ in
                node.partitions.partition(watch.partition).pointee.unwatch(watch)
            }
        }
    }

    /// How many there are.
    public var count: Int { watches.count }

    /// Begins to watch the keys of a batch's operations, which are not executed.
    public func add(_ batch: borrowing OperationBatch) {
        for index in 0..<batch.count {
            let operation = UnsafePointer(batch.operations + index)
            let partition = Int(operation.pointee.partition)
            node.locks[node.lockIndex(partition)].withLock { _ in
                watches.append(node.partitions.partition(partition).pointee.watch(operation))
            }
        }
    }
}
