public import TallyCore
internal import TallyEngine
public import TallyStorage

/// Partitions while the journal is applied to them, group by group.
public struct JournalReplay: ~Copyable {
    private let hasher: KeyHasher
    private var partitions: [PartitionBox?] = []
    private let imports: ImportSource?

    /// Partitions without counters, whose keys are hashed with `hasher`.
    public init(hasher: KeyHasher) {
        self.hasher = hasher
        imports = nil
    }

    /// Partitions as a checkpoint has left them.
    init(hasher: KeyHasher, partitions: [PartitionBox], imports: ImportSource) {
        self.hasher = hasher
        self.imports = imports
        self.partitions = partitions
    }

    /// Applies one group.
    ///
    /// - Returns: nil; or what is wrong with the group, which has then been applied in part.
    public mutating func apply(_ group: JournalGroup, _ sections: [GroupSection]) -> String? {
        var groupEntries = 0
        for section in sections {
            let box = box(
                PartitionPlace(number: section.partition, count: group.partitionCount))
            do throws(EntryError) {
                let entries = try box.partition.replay(
                    section.bytes, sequence: group.position.sequence,
                    imports: { imports?.runs($0, partition: section.partition) })
                guard entries == section.entryCount else {
                    return "partition \(section.partition): \(entries) entries instead of "
                        + "\(section.entryCount)"
                }
                groupEntries += entries
            } catch {
                return "partition \(section.partition): \(error)"
            }
        }
        guard groupEntries == group.entryCount else {
            return "\(groupEntries) entries instead of \(group.entryCount)"
        }
        return nil
    }

    /// Hands over a partition, which no further group may name.
    mutating func takePartition(_ place: PartitionPlace) -> Partition {
        let box = box(place)
        partitions[place.number] = nil
        return box.take()
    }

    private mutating func box(_ place: PartitionPlace) -> PartitionBox {
        while partitions.count <= place.number { partitions.append(nil) }
        if let box = partitions[place.number] { return box }
        let box = PartitionBox(Partition(place: place, hasher: hasher))
        partitions[place.number] = box
        return box
    }
}

/// A partition that moves from hand to hand.
final class PartitionBox {
    private var value: Partition?

    init(_ partition: consuming Partition) {
        value = consume partition
    }

    var partition: Partition {
        _read {
            guard value != nil else { preconditionFailure("partition taken") }
            yield value!
        }
        _modify {
            guard value != nil else { preconditionFailure("partition taken") }
            yield &value!
        }
    }

    func take() -> Partition {
        guard let partition = value.take() else { preconditionFailure("partition taken twice") }
        return partition
    }
}
