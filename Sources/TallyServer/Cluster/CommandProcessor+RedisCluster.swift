import TallyCluster
import TallyCore
import TallyNode
import TallyRESP

/// What clients of Redis Cluster ask to find their way.
extension CommandProcessor {
    /// Runs a command of the cluster group.
    mutating func runCluster(_ id: CommandID, _ session: inout Session) {
        switch id {
        case .clusterHelp: return help("cluster")
        case .clusterKeySlot: return replies.integer(Int64(Slot(of: arguments[2]).index))
        default: break
        }
        guard let replica = server.replica else {
            return replies.error("ERR This instance has cluster support disabled")
        }
        guard let view = replica.view else {
            return replies.error("CLUSTERDOWN this node has not heard of the others yet")
        }
        // Who asks for the map can be sent elsewhere.
        session.isClusterClient = true
        switch id {
        case .readOnly, .readWrite, .asking: replies.simple("OK")
        case .clusterMyID, .clusterMyShardID: replies.bulk(view.own.description)
        case .clusterInfo: replies.bulk(clusterInfo(ClusterMap(view)))
        case .clusterNodes: replies.bulk(clusterNodes(ClusterMap(view), session))
        case .clusterSlots: clusterSlots(ClusterMap(view), session)
        case .clusterShards: clusterShards(ClusterMap(view), session)
        case .clusterReplicas, .clusterLinks: replies.array(0)
        case .clusterFailureReports: replies.integer(0)
        case .clusterCountKeys: countKeysInSlot()
        case .clusterGetKeys: getKeysInSlot()
        default: preconditionFailure("no command of the cluster group")
        }
    }

    // MARK: Addresses

    /// The port of a node for clients such as this one.
    private func port(_ node: NodeRecord, _ session: borrowing Session) -> Int {
        let (plain, tls) = (node.address.port ?? 0, node.address.tlsPort ?? 0)
        return session.client.isEncrypted ? (tls != 0 ? tls : plain) : (plain != 0 ? plain : tls)
    }

    /// The error that sends a client of Redis Cluster to the primary of a slot; nil if nobody serves it.
    func redirection(
        _ slot: Int, _ view: ClusterView, _ session: borrowing Session
    ) -> Refusal? {
        let log = slot * view.shards.count / Slot.count
        guard let primary = view.shards[log].primary, let node = view.nodes[primary] else {
            return nil
        }
        return Refusal("MOVED \(slot) \(node.address.host):\(port(node, session))")
    }

    // MARK: Maps

    private func clusterInfo(_ map: ClusterMap) -> String {
        let served = map.slotCount
        let fields: [(String, String)] = [
            ("cluster_state", served == Slot.count ? "ok" : "fail"),
            ("cluster_slots_assigned", "\(Slot.count)"), ("cluster_slots_ok", "\(served)"),
            ("cluster_slots_pfail", "0"), ("cluster_slots_fail", "\(Slot.count - served)"),
            ("cluster_known_nodes", "\(map.nodes.count)"),
            ("cluster_size", "\(map.primaries.count)"),
            ("cluster_current_epoch", "\(map.view.version)"),
            ("cluster_my_epoch", "\(map.view.version)"),
        ]
        return fields.map { "\($0.0):\($0.1)\r\n" }.joined()
    }

    private func clusterNodes(_ map: ClusterMap, _ session: borrowing Session) -> String {
        var lines = ""
        for node in map.nodes {
            let port = port(node, session)
            let primary = map.primary(ofReplica: node.node)
            let flags =
                (node.node == map.view.own ? "myself," : "") + (primary == nil ? "master" : "slave")
            let slots = map.slots(of: node.node).map {
                $0.count == 1 ? " \($0.lowerBound)" : " \($0.lowerBound)-\($0.upperBound)"
            }
            lines +=
                "\(node.node) \(node.address.host):\(port)@\(port) \(flags) "
                + "\(primary?.description ?? "-") 0 \(node.startedMilliseconds) "
                + "\(map.view.version) connected\(slots.joined())\n"
        }
        return lines
    }

    private mutating func clusterSlots(_ map: ClusterMap, _ session: borrowing Session) {
        replies.array(map.stretches.count)
        for stretch in map.stretches {
            let nodes =
                [map.view.nodes[stretch.primary]].compactMap(\.self)
                + map.replicas(of: stretch.primary)
            replies.array(2 + nodes.count)
            replies.integer(Int64(stretch.slots.lowerBound))
            replies.integer(Int64(stretch.slots.upperBound))
            for node in nodes {
                replies.array(4)
                replies.bulk(node.address.host)
                replies.integer(Int64(port(node, session)))
                replies.bulk(node.node.description)
                replies.array(0)
            }
        }
    }

    private mutating func clusterShards(_ map: ClusterMap, _ session: borrowing Session) {
        replies.array(map.primaries.count)
        for primary in map.primaries {
            let slots = map.slots(of: primary.node)
            replies.map(2, session.version)
            replies.bulk("slots")
            replies.array(2 * slots.count)
            for range in slots {
                replies.integer(Int64(range.lowerBound))
                replies.integer(Int64(range.upperBound))
            }
            replies.bulk("nodes")
            let replicas = map.replicas(of: primary.node)
            replies.array(1 + replicas.count)
            clusterShardNode(primary, "master", session)
            for replica in replicas { clusterShardNode(replica, "replica", session) }
        }
    }

    private mutating func clusterShardNode(
        _ node: NodeRecord, _ role: String, _ session: borrowing Session
    ) {
        let applied = node.logs.values.reduce(0) { $0 + $1.sequence }
        let ports = [("port", node.address.port), ("tls-port", node.address.tlsPort)]
            .compactMap { name, port in port.map { (name, $0) } }
        replies.map(6 + ports.count, session.version)
        pair("id", node.node.description)
        for (name, port) in ports {
            replies.bulk(name)
            replies.integer(Int64(port))
        }
        pair("ip", node.address.host)
        pair("endpoint", node.address.host)
        pair("role", role)
        replies.bulk("replication-offset")
        replies.integer(Int64(clamping: applied))
        pair("health", "online")
    }

    private mutating func pair(_ name: String, _ value: String) {
        replies.bulk(name)
        replies.bulk(value)
    }

    // MARK: Keys of a slot

    private mutating func slotArgument() -> Int? {
        guard let slot = Decimal.parse(arguments[2]), (0..<Int64(Slot.count)).contains(slot) else {
            replies.error("ERR Invalid slot")
            return nil
        }
        return Int(slot)
    }

    private mutating func countKeysInSlot() {
        guard let slot = slotArgument(), let keys = keys(inSlot: slot) else { return }
        replies.integer(Int64(keys.count))
    }

    private mutating func getKeysInSlot() {
        guard let slot = slotArgument() else { return }
        guard let most = Decimal.parse(arguments[3]), most >= 0 else {
            return replies.error("ERR Invalid number of keys")
        }
        guard let keys = keys(inSlot: slot) else { return }
        replies.array(min(keys.count, Int(clamping: most)))
        for key in keys.prefix(Int(clamping: most)) {
            key.withUnsafeBytes { replies.bulk($0) }
        }
    }

    private mutating func keys(inSlot slot: Int) -> [[UInt8]]? {
        guard let keys = node.plainKeys(inSlot: slot, lookedAtMax: Limits.slotKeysLookedAt) else {
            replies.error(
                "ERR a slot's keys are not kept apart, and those of its partition are too many to look at, or on "
                    + "disk only: use SCAN")
            return nil
        }
        return keys
    }
}
