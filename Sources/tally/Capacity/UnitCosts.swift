/// What one of each thing costs, as measured; `docs/capacity.md` tells how.
struct UnitCosts: Codable, Sendable {
    /// Memory and disk of a stored record of two counts under integer keys that come in bursts, index and checksums
    /// included, bytes.
    var recordBytes = 1.9
    /// The same for each further count of a record, bytes.
    var columnBytes = 0.6
    /// The same for a plain key whose name shares most of its bytes with its neighbours', bytes.
    var plainKeyBytes = 6.0
    /// The same for each byte of a key that no neighbour shares.
    var randomKeyByteBytes = 1.0
    /// Memory of a record that is on disk only: index and filter, bytes.
    var coldRecordBytes = 0.54
    /// Memory of a record that has changed since the last checkpoint, bytes; a plain key's takes its name in addition.
    var changedRecordBytes = 25.0
    /// Memory of the process without anything, bytes.
    var processBytes = 64e6
    /// Processor time of the node that is asked for an increment, for its own part, microseconds.
    var acceptMicroseconds = 0.26
    /// Processor time of every replica that applies one, microseconds.
    var applyMicroseconds = 0.11
    /// Processor time of a node for a command that comes without others, beyond that, microseconds.
    var unpipelinedMicroseconds = 8.0
    /// Processor time of all nodes together for a message that three of them apply, microseconds.
    var nodeMessageMicroseconds = 150.0
    /// Processor time of a node for one key of a read of many, microseconds.
    var readMicroseconds = 0.2
    /// Processor time of the merges that one changed record causes, on every replica, microseconds.
    var mergeMicroseconds = 0.3
    /// Bytes of an increment in the log: packed, in a message of many.
    var incrementBytes = 6.3
    /// Bytes that a message has beside its increments.
    var messageBytes = 150.0
    /// Processor time of all NATS servers together for a message of a log with three replicas, microseconds.
    var messageMicroseconds = 550.0
    /// The same for each byte of it.
    var brokerByteMicroseconds = 0.032
    /// From sending a message to its being applied, where nothing is busy, milliseconds.
    var messageMilliseconds = 1.8

    /// Whether something can be computed with them.
    var isPlausible: Bool {
        [
            recordBytes, columnBytes, plainKeyBytes, randomKeyByteBytes, coldRecordBytes,
            changedRecordBytes, processBytes, acceptMicroseconds, applyMicroseconds,
            unpipelinedMicroseconds, nodeMessageMicroseconds, readMicroseconds, mergeMicroseconds,
            incrementBytes,
            messageBytes, messageMicroseconds, brokerByteMicroseconds, messageMilliseconds,
        ].allSatisfy { $0 > 0 && $0 < 1e9 }
    }
}
