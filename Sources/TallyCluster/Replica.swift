internal import Synchronization
import TallyCore
public import TallyNode

/// One node's part in a cluster: its partitions, and the logs that order what is asked of them.
public final class Replica: Sendable {
    /// Holds the partitions.
    public let node: Node
    /// The logs, by their numbers.
    public let logs: [ReplicatedLog]
    /// The same as others have them.
    public let remotes: [RemoteLog]
    private let shares: LogShares

    /// - Parameters:
    ///   - logs: Between them they order every partition of `node`.
    ///   - remotes: The same as others have them; none if this node has all.
    public init(node: Node, logs: [ReplicatedLog], remotes: [RemoteLog] = []) {
        self.node = node
        self.logs = logs
        self.remotes = remotes
        shares = LogShares(partitionCount: node.partitionCount, logCount: logs.count)
        precondition(logs.count <= Limits.logsMax, "too many logs")
    }

    /// Who serves what, as this node sees it; nil before it has looked. Any thread.
    public var view: ClusterView? { sharedView.withLock { $0 } }
    private let sharedView = Locked<ClusterView?>(nil)

    /// This node sees who serves what.
    public func setView(_ view: ClusterView) { sharedView.withLock { $0 = view } }

    /// Which stream holds a log, and what it began with, as the cluster says; nil before that is known. Any thread.
    public func history(ofLog number: Int) -> LogHistory? { histories.withLock { $0[number] } }
    private let histories = Locked<[Int: LogHistory]>([:])

    /// The cluster says which stream holds a log.
    public func setHistory(_ history: LogHistory, ofLog number: Int) {
        histories.withLock { $0[number] = history }
    }

    /// How long nothing has been heard by way of the broker. Any thread.
    ///
    /// - Parameter now: Monotonic nanoseconds.
    public func silenceMilliseconds(now: UInt64) -> UInt64 {
        (now - min(now, contact.load(ordering: .relaxed))) / 1_000_000
    }
    /// When something was last heard, monotonic nanoseconds; 0 for never.
    private let contact = Atomic<UInt64>(0)

    /// Something was heard.
    public func noteContact(now: UInt64) { contact.store(now, ordering: .relaxed) }

    /// How many messages behind the node that has come furthest this one is; 0 for a log that it does not hold. Any
    /// thread.
    public func lag(_ log: Int) -> UInt64 {
        guard logs[log].isHeld else { return 0 }
        let furthest = view?.nodes.values.lazy.compactMap { $0.logs[log]?.sequence }.max() ?? 0
        let own = logs[log].appliedSequence
        return furthest > own ? furthest - own : 0
    }

    /// How far this node has come with its logs. On the logs' thread.
    public var progress: [Int: NodeRecord.Progress] {
        let durable = node.durableSequences
        var progress: [Int: NodeRecord.Progress] = [:]
        for log in logs where log.isHeld {
            let durableSequence = durable[log.number] ?? 0
            progress[log.number] = NodeRecord.Progress(
                phase: log.halt != nil || log.isStranded
                    ? .halted : log.isCaughtUp ? .serving : .following,
                epoch: log.state.epoch,
                sequence: log.isIncomplete ? durableSequence : log.state.sequence,
                durableSequence: durableSequence)
        }
        return progress
    }

    /// The log that orders a partition.
    @inline(__always)
    public func log(of partition: Int) -> Int { shares.log(of: partition) }

    /// Sets aside what has changed for a checkpoint that is wanted. Between two messages, on the logs' thread.
    public func takeCutIfWanted() {
        guard node.wantsCut else { return }
        node.takeCut {
            Dictionary(
                uniqueKeysWithValues: logs.lazy.filter(\.isHeld).map {
                    ($0.number, $0.isIncomplete ? nil : $0.state)
                })
        }
    }

    /// The logs whose partitions can be asked here, a bit for each.
    private var served: UInt64 {
        logs.reduce(0) { $0 | ($1.isServing ? 1 &<< UInt64($1.number) : 0) }
    }

    /// Whether all partitions can be asked here.
    public var servesAll: Bool { logs.allSatisfy(\.isServing) }

    /// Whether a partition can be asked here.
    @inline(__always)
    public func serves(_ partition: Int) -> Bool { logs[log(of: partition)].isServing }

    /// Hands a submission's operations, but those that were executed at once, to their logs.
    ///
    /// - Parameter now: Monotonic nanoseconds.
    /// - Returns: false if nothing was handed over because a log has too much to do.
    public func submit(_ submission: Submission, now: UInt64) -> Bool {
        submit(submission, to: logs(of: submission), now: now)
    }

    /// The logs of a submission's operations, a bit for each.
    func logs(of submission: Submission) -> UInt64 {
        var needed: UInt64 = 0
        for index in 0..<submission.batch.count where !submission.isLocal[index] {
            needed |= 1 &<< UInt64(log(of: Int(submission.batch.operations[index].partition)))
        }
        return needed
    }

    /// The same for logs that are known, a bit for each; those without operations bring a barrier.
    public func submit(_ submission: Submission, to needed: UInt64, now: UInt64) -> Bool {
        // Chosen once: what is served may change at any time.
        let here = remotes.isEmpty ? .max : served
        for number in logs.indices where needed & 1 &<< UInt64(number) != 0 {
            let isHere = here & 1 &<< UInt64(number) != 0
            if isHere ? logs[number].isFull : remotes[number].isFull {
                isRoomAwaited.store(true, ordering: .sequentiallyConsistent)
                return false
            }
        }
        var awaited = needed
        for number in logs.indices where needed & 1 &<< UInt64(number) != 0 {
            if here & 1 &<< UInt64(number) != 0 {
                if !logs[number].submit(submission, now: now) { awaited &= ~(1 &<< UInt64(number)) }
            } else {
                remotes[number].submit(submission, now: now)
            }
        }
        submission.logs = awaited
        return true
    }

    // MARK: Room

    /// Whether somebody was told that a log has too much to do.
    private let isRoomAwaited = Atomic<Bool>(false)
    private let onRoom = Locked<(@Sendable () -> Void)?>(nil)

    /// Has `body` called, on the logs' thread, when those who were refused may try again.
    public func setOnRoom(_ body: @escaping @Sendable () -> Void) { onRoom.withLock { $0 = body } }

    /// Messages have left, or time has passed: whoever was refused may try again. On the logs' thread.
    public func noteRoom() {
        guard isRoomAwaited.load(ordering: .relaxed),
            isRoomAwaited.exchange(false, ordering: .sequentiallyConsistent)
        else { return }
        onRoom.withLock { $0 }?()
    }
}
