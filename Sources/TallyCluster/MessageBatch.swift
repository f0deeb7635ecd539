import TallyCore
import TallyEngine
import TallyNode

/// A message's operations, put together to be executed, and then their outcomes.
final class MessageBatch {
    /// The operations, section by section.
    var batch: OperationBatch
    /// The partitions that a message may name.
    let partitions: Range<Int>
    /// Where each partition's operations begin.
    let firsts: UnsafeMutablePointer<Int>
    private let scratch: UnsafeMutablePointer<Int64>
    private let memory = MessageMemory()

    init(node: Node, partitions: Range<Int>) {
        batch = node.makeBatch()
        self.partitions = partitions
        firsts = .allocate(capacity: partitions.count)
        firsts.initialize(repeating: 0, count: partitions.count)
        scratch = .allocate(capacity: EntryReader.rowsCapacity)
    }

    deinit {
        firsts.deallocate()
        scratch.deallocate()
    }

    /// Takes a message's operations, whose keys stay in its bytes, or here until the next message is taken.
    ///
    /// - Throws: `Halt.unreadable`, `Halt.notApplied`; what was taken is of no use then.
    func gather(_ message: LogMessage) throws(LogFollower.Halt) {
        batch.removeAll()
        let sections: [LogMessage.Section]
        do throws(LogMessage.ReadError) {
            sections = try message.sections(memory)
        } catch {
            throw .unreadable(error)
        }
        for section in sections {
            guard partitions.contains(section.partition) else {
                throw .notApplied("partition \(section.partition) is not of this log")
            }
            let first = batch.count
            firsts[section.partition - partitions.lowerBound] = first
            do throws(EntryError) {
                try batch.appendRequests(
                    section.entries, partition: section.partition, scratch: scratch)
            } catch {
                throw .notApplied("partition \(section.partition): \(error)")
            }
            guard batch.count - first == section.operationCount else {
                throw .notApplied(
                    "partition \(section.partition): \(batch.count - first) operations instead of "
                        + "\(section.operationCount)")
            }
        }
    }
}
