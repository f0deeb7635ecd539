extension CommandTable {
    static let clusterCommands: [CommandSpec] = [
        CommandSpec(
            "cluster", .cluster, arity: -2, [], .cluster, since: "3.0.0",
            "A container for Redis Cluster commands.", complexity: "Depends on subcommand.",
            subcommands: [
                cluster("info", .clusterInfo, 2, "Returns how the cluster is."),
                cluster("myid", .clusterMyID, 2, "Returns this node's name."),
                cluster(
                    "myshardid", .clusterMyShardID, 2, "Returns this node's name.", "7.2.0"),
                cluster(
                    "nodes", .clusterNodes, 2, "Returns the nodes and their slots, one a line."),
                cluster(
                    "slots", .clusterSlots, 2, "Returns which node is asked for which slots."),
                cluster(
                    "shards", .clusterShards, 2, "Returns the nodes and their slots.", "7.0.0"),
                cluster("replicas", .clusterReplicas, 3, "Returns an empty list.", "5.0.0"),
                cluster("slaves", .clusterReplicas, 3, "Returns an empty list."),
                cluster("links", .clusterLinks, 2, "Returns an empty list.", "7.0.0"),
                cluster("keyslot", .clusterKeySlot, 3, "Returns the slot of a key."),
                cluster(
                    "countkeysinslot", .clusterCountKeys, 3,
                    "Returns how many string keys of a slot this node holds."),
                cluster(
                    "getkeysinslot", .clusterGetKeys, 4,
                    "Returns string keys of a slot that this node holds."),
                cluster("count-failure-reports", .clusterFailureReports, 3, "Returns 0."),
                cluster(
                    "help", .clusterHelp, 2,
                    "Returns helpful text about the different subcommands.", "5.0.0"),
            ]),
        CommandSpec(
            "readonly", .readOnly, arity: 1, [.loading, .stale, .fast], .cluster, since: "3.0.0",
            "Marks the connection as one of a cluster's client; every node that has a key reads it."
        ),
        CommandSpec(
            "readwrite", .readWrite, arity: 1, [.loading, .stale, .fast], .cluster,
            since: "3.0.0", "Undoes READONLY."),
        CommandSpec(
            "asking", .asking, arity: 1, [.fast], .cluster, since: "3.0.0",
            "Accepted for compatibility: no slot is ever in between two nodes."),
    ]

    private static func cluster(
        _ name: String, _ id: CommandID, _ arity: Int32, _ summary: String,
        _ since: String = "3.0.0"
    ) -> CommandSpec {
        CommandSpec(
            name, id, arity: arity, [.loading, .stale], .cluster, since: since, summary,
            complexity: "O(N) where N is the total number of Cluster nodes", container: "cluster")
    }
}
