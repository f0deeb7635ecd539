/// How much of a log nobody needs any more.
public enum TrimRule {
    /// The message up to which a log may go, nil if none may.
    ///
    /// All nodes that are to hold the log must be there and hold it in checkpoints up to that message: who copies
    /// one, or is late, keeps what it needs. They must be two at least, unless one copy is all that is wanted.
    public static func floor(_ log: Int, copies: Int, _ view: ClusterView) -> UInt64? {
        guard let holders = view.assignment?.holders[log], holders.count >= min(2, copies) else {
            return nil
        }
        var floor = UInt64.max
        let epoch = view.nodes.values.compactMap { $0.logs[log]?.epoch }.max()
        for holder in holders {
            // What is of an earlier epoch, or cannot go on, is no copy that counts.
            guard let progress = view.nodes[holder]?.logs[log], progress.epoch == epoch,
                progress.phase != .halted
            else { return nil }
            floor = min(floor, progress.durableSequence)
        }
        return floor > 0 && floor < .max ? floor : nil
    }
}
