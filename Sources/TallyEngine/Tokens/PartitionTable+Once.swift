public import TallyCore

/// Requests that are counted once.
extension PartitionTable {
    /// Executes a request if it is what most are: one addition to a plain key that can be read and has no
    /// deadline, with a token that is new at a glance.
    ///
    /// - Parameters:
    ///   - header: The request's transaction, with its operation behind it.
    ///   - outcomes: Room for both of their outcomes.
    ///   - nowMilliseconds: Log time.
    ///   - horizon: Tokens made until then are too old.
    /// - Returns: false if it is not like that; nothing has changed then.
    public borrowing func executeAddition(
        _ header: UnsafePointer<Operation>, _ request: OnceRequest,
        _ outcomes: UnsafeMutablePointer<Outcome>, nowMilliseconds: UInt64, horizon: UInt64,
        _ application: inout Application
    ) -> Bool {
        let operation = header + 1
        let partition = partition(Int(header.pointee.partition))
        guard operation.pointee.kind == .add, operation.pointee.family == 0,
            !application.isJournalFull, !application.isMemoryFull,
            partition.pointee.plain.coldCount == 0, partition.pointee.expiringCount == 0,
            partition.pointee.isNew(
                request.token, hash: header.pointee.hash, nowMilliseconds: nowMilliseconds,
                horizon: horizon)
        else { return false }
        applyWrite(
            operation, IntegerTable.Lookup(key: 0, hash: 0), outcomes + 1, partition, &application)
        OnceWords.encode(outcomes[1], to: request.words)
        remember(header, request, &application)
        outcomes[0] = Outcome(refused: .applied)
        outcomes[0].sequence = partition.pointee.lastSequence
        outcomes[1].sequence = partition.pointee.lastSequence
        return true
    }

    /// Keeps what has become of a request with the data that it changed, in the same commit group.
    ///
    /// - Parameter header: Of the request, whose words are there.
    @inline(__always)
    public borrowing func remember(
        _ header: UnsafePointer<Operation>, _ request: OnceRequest,
        _ application: inout Application
    ) {
        var operation = request.remembering(header)
        let partition = partition(Int(header.pointee.partition))
        let bytesBefore = partition.pointee.tokens.logBytes
        guard partition.pointee.remember(&operation, application.rows).status == .applied else {
            return
        }
        let reserved = partition.pointee.recordRemembered(
            &operation, application.rows, sequence: application.sequence)
        application.note(
            reserved: reserved, allocated: partition.pointee.tokens.logBytes &- bytesBefore)
    }
}
