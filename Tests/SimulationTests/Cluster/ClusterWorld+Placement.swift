import TallyCluster
import TallyCore
import TallyNode
import TallyTestSupport

/// Nodes that lose their places and get others, and logs that begin anew.
extension ClusterWorld {
    /// The name of the node `index`.
    static func identity(_ index: Int) -> NodeIdentity {
        var word = UInt64(index)
        return NodeIdentity {
            word += 1
            return word
        }
    }

    /// What the nodes say of themselves.
    private func view(from index: Int) -> ClusterView {
        var membership = Membership(
            own: Self.identity(index), logCount: Self.logCount, now: 0)
        for (number, node) in nodes.enumerated() {
            membership.hear(
                NodeRecord(
                    node: Self.identity(number), startedMilliseconds: UInt64(node.sender.life),
                    address: NodeAddress(host: "", port: nil, tlsPort: nil), zone: "", version: "",
                    logs: node.replica.progress), now: 0)
        }
        return membership.view(now: 0, silenceMaxNanoseconds: 1)
    }

    /// A log goes to others.
    mutating func leave(_ index: Int) {
        let log = Int.random(in: 0..<Self.logCount, using: &random)
        guard isLent(log, but: index) else { return }
        nodes[index].replica.logs[log].leave()
        // What it has next may be behind.
        clients.forgetEarlyAnswers()
    }

    /// Has a node get what it does not have, or go on with what it cannot follow.
    mutating func place(_ index: Int) {
        let view = view(from: index)
        for (number, log) in nodes[index].replica.logs.enumerated() {
            let history = histories[number]
            if log.isHeld {
                guard let halt = log.halt else { continue }
                switch history.step(number, halt, log.state, view) {
                case .none: continue
                case .begin:
                    log.begin(
                        epoch: history.epoch, streamNanoseconds: history.streamNanoseconds)
                    log.isCaughtUp = true
                case .copy: copy(number, to: index)
                }
            } else {
                let stream = broker.streams[number]
                let isWhole = history.canBeginAnew(
                    number, streamNanoseconds: stream.nanoseconds, first: stream.first,
                    last: stream.last, view)
                if isWhole, random.once(in: 2) {
                    log.begin(
                        LogState(
                            epoch: history.epoch, streamNanoseconds: history.streamNanoseconds))
                    log.isCaughtUp = true
                } else {
                    copy(number, to: index)
                }
            }
        }
    }

    /// Whether some other node has a checkpoint of a log's present epoch.
    func isLent(_ log: Int, but index: Int) -> Bool {
        nodes.enumerated().contains { number, node in
            number != index && node.lends(log, of: histories[log].epoch)
        }
    }

    private mutating func copy(_ log: Int, to index: Int) {
        let lenders = nodes.indices.filter {
            $0 != index && nodes[$0].lends(log, of: histories[log].epoch)
        }
        guard let lender = lenders.randomElement(using: &random) else {
            // Whoever is to lend makes a checkpoint soon.
            for other in nodes.indices where other != index {
                checkpoints += nodes[other].stepCheckpoint(&random)
            }
            return
        }
        // Files are taken in between two checkpoints.
        guard nodes[index].isBetweenCheckpoints else {
            checkpoints += nodes[index].stepCheckpoint(&random)
            return
        }
        if nodes[index].copy(log, from: nodes[lender]) { copies += 1 }
    }

    /// A log's stream is lost, and it goes on from the node that has come furthest.
    mutating func recover() {
        let log = Int.random(in: 0..<Self.logCount, using: &random)
        let holders = nodes.indices.filter { nodes[$0].replica.logs[log].isHeld }
        func order(_ index: Int) -> (UInt32, UInt64) {
            let state = nodes[index].replica.logs[log].state
            return (state.epoch, state.sequence)
        }
        guard let origin = holders.max(by: { order($0) < order($1) }) else { return }
        let state = nodes[origin].replica.logs[log].state
        // Nothing is lost only if somebody has all of it, in a checkpoint.
        guard state.sequence == broker.streams[log].last, state.epoch == histories[log].epoch,
            nodes[origin].replica.logs[log].halt == nil,
            nodes[origin].node.durableSequences[log] == state.sequence
        else { return }
        recoveries += 1
        clients.forgetEarlyAnswers()
        broker.replace(log, first: state.sequence + 1)
        histories[log] = LogHistory(
            epoch: state.epoch + 1, streamNanoseconds: broker.streams[log].nanoseconds,
            startSequence: state.sequence, origin: Self.identity(origin))
        for node in nodes where node.replica.logs[log].isHeld {
            node.replica.logs[log].stop(.newerEpoch(histories[log].epoch))
        }
    }
}
