/// What a node has to do about a log because of who is to hold it.
public enum PlacementStep: Equatable, Sendable {
    /// Nothing.
    case none
    /// It is to hold it, and does not.
    case acquire
    /// It holds it, others are to, and they do.
    case release

    /// The step that is due.
    ///
    /// A log that is to go is held until all who are to have it serve it, so that the number of copies never
    /// falls on the way.
    ///
    /// - Parameters:
    ///   - isHeld: Whether the node holds the log, or is about to.
    public static func due(_ log: Int, isHeld: Bool, _ view: ClusterView) -> PlacementStep {
        guard let holders = view.assignment?.holders[log] else { return .none }
        if holders.contains(view.own) { return isHeld ? .none : .acquire }
        guard isHeld, !holders.isEmpty else { return .none }
        let isServed = holders.allSatisfy { view.nodes[$0]?.logs[log]?.phase == .serving }
        return isServed ? .release : .none
    }
}
