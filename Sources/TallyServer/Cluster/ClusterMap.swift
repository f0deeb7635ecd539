import TallyCluster
import TallyCore

/// Who is asked for which slots, as clients of Redis Cluster are told.
///
/// Every node that is the primary of some log is a master with these logs' slots; a node that only has
/// replicas is a replica of the master of the first of its logs.
struct ClusterMap {
    /// Slots one behind the other that one node is asked for.
    struct Stretch: Equatable {
        let slots: ClosedRange<Int>
        let primary: NodeIdentity
    }

    let view: ClusterView
    /// In order; slots that nobody serves are missing.
    let stretches: [Stretch]
    private let replicas: [NodeIdentity: NodeIdentity]

    init(_ view: ClusterView) {
        self.view = view
        let width = Slot.count / max(1, view.shards.count)
        var stretches: [Stretch] = []
        for (log, shard) in view.shards.enumerated() {
            guard let primary = shard.primary else { continue }
            let slots = (log * width)...((log + 1) * width - 1)
            if let last = stretches.last, last.primary == primary,
                last.slots.upperBound + 1 == slots.lowerBound
            {
                stretches[stretches.count - 1] = Stretch(
                    slots: last.slots.lowerBound...slots.upperBound, primary: primary)
            } else {
                stretches.append(Stretch(slots: slots, primary: primary))
            }
        }
        self.stretches = stretches
        let primaries = Set(stretches.map(\.primary))
        var replicas: [NodeIdentity: NodeIdentity] = [:]
        for shard in view.shards {
            guard let primary = shard.primary else { continue }
            for node in shard.replicas where !primaries.contains(node) && replicas[node] == nil {
                replicas[node] = primary
            }
        }
        self.replicas = replicas
    }

    /// All nodes, by name.
    var nodes: [NodeRecord] { view.nodes.values.sorted { $0.node < $1.node } }

    /// The nodes that are masters.
    var primaries: [NodeRecord] {
        let names = Set(stretches.map(\.primary))
        return nodes.filter { names.contains($0.node) }
    }

    /// The slots of a node.
    func slots(of node: NodeIdentity) -> [ClosedRange<Int>] {
        stretches.filter { $0.primary == node }.map(\.slots)
    }

    /// The master of a node that is none itself; nil if it is one, or has nothing.
    func primary(ofReplica node: NodeIdentity) -> NodeIdentity? { replicas[node] }

    /// The replicas of a master that are none of another's.
    func replicas(of primary: NodeIdentity) -> [NodeRecord] {
        nodes.filter { replicas[$0.node] == primary }
    }

    /// How many slots are served.
    var slotCount: Int { stretches.reduce(0) { $0 + $1.slots.count } }
}
