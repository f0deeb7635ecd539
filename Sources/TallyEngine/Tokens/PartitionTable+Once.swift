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
            let place = partition.pointee.placeAtAGlance(
                for: request.token, hash: header.pointee.hash, nowMilliseconds: nowMilliseconds,
                horizon: horizon)
        else { return false }
        addToPlain(operation, outcomes + 1, partition, &application)
        let bytesBefore = partition.pointee.tokens.logBytes
        let reserved = partition.pointee.remember(
            request, outcomes[1], at: place, sequence: application.sequence)
        application.note(
            reserved: reserved, allocated: partition.pointee.tokens.logBytes &- bytesBefore)
        outcomes[0] = Outcome(refused: .applied)
        outcomes[0].sequence = partition.pointee.lastSequence
        outcomes[1].sequence = partition.pointee.lastSequence
        return true
    }

    /// Keeps what has become of a request with the data that it changed, in the same commit group.
    ///
    /// - Parameter header: Of the request, which is new, and whose words are there.
    public borrowing func remember(
        _ header: UnsafePointer<Operation>, _ request: OnceRequest,
        _ application: inout Application
    ) {
        let partition = partition(Int(header.pointee.partition))
        guard
            let place = partition.pointee.tokens.place(
                for: request.token, hash: header.pointee.hash)
        else { preconditionFailure("a request that is remembered already") }
        let bytesBefore = partition.pointee.tokens.logBytes
        let reserved = partition.pointee.remember(
            request, at: place, sequence: application.sequence)
        application.note(
            reserved: reserved, allocated: partition.pointee.tokens.logBytes &- bytesBefore)
    }
}
