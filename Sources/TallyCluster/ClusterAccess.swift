public import TallyCore

/// What became of a change of a cluster's schema.
public enum SchemaAnswer: Equatable, Sendable {
    /// Every log has it.
    case done
    /// It is not made, and why.
    case refused(String)
    /// It is decided, and reaches some logs later: they cannot be reached now.
    case delayed
    /// Whether it will be made is not known.
    case unknown
}

/// A node's cluster, as whoever serves clients sees it.
public struct ClusterAccess: Sendable {
    /// This node's part.
    public let replica: Replica
    /// Tells whoever drives the logs that there is something to send.
    public let wakeUp: @Sendable () -> Void
    /// Has the schema changed everywhere, and tells what became of that, on some thread.
    public let changeSchema:
        @Sendable (SchemaChange, @escaping @Sendable (SchemaAnswer) -> Void) -> Void

    /// A cluster in all its parts.
    public init(
        replica: Replica, wakeUp: @escaping @Sendable () -> Void,
        changeSchema:
            @escaping @Sendable (SchemaChange, @escaping @Sendable (SchemaAnswer) -> Void) -> Void
    ) {
        self.replica = replica
        self.wakeUp = wakeUp
        self.changeSchema = changeSchema
    }
}
