import TallyCore

/// What is to be counted, and on what.
struct CapacityDemand: Codable, Sendable {
    /// Keys of records that have a count, and plain keys.
    var records = 0.0
    var columns = 2
    var plainKeys = 0.0
    /// Bytes of a plain key that its neighbours do not share.
    var plainKeyRandomBytes = 0.0
    /// A second.
    var increments = 0.0
    /// Keys read, a second, and how many a command reads.
    var reads = 0.0
    var readBatch = 20.0
    /// Commands that a connection sends together.
    var pipeline = 16.0
    /// Records that change between two checkpoints, each once or often.
    var changedRecords = 0.0
    /// How much of the records is kept in memory.
    var hotShare = 1.0
    /// Copies of every partition.
    var copies = 3
    /// Seconds between checkpoints.
    var checkpointSeconds = 300.0
    /// How much of a machine is used at most; the rest is for peaks, and for the load of a machine that has failed.
    var load = 0.6
    /// One machine.
    var machineCores = 16.0
    var machineMemoryBytes = 128e9
    var machineDiskBytes = 2e12
    /// Bytes a second, each way.
    var machineNetworkBytes = 1.25e9
}

/// How many machines a demand takes, and why.
struct CapacityPlan: Codable, Sendable {
    /// One resource of all nodes together.
    struct Resource: Codable, Sendable {
        let name: String
        /// In all, in the unit of `perMachine`.
        let needed: Double
        /// What of a machine is used at most.
        let perMachine: Double
        let unit: String

        var machines: Int { max(1, Int((needed / perMachine).rounded(.up))) }
    }

    /// Of the nodes.
    let nodes: [Resource]
    /// Of the NATS servers.
    let brokers: [Resource]
    /// Logs of the cluster.
    let logs: Int
    /// Messages a second of all logs, and increments in each.
    let messages: Double
    let incrementsPerMessage: Double
    /// Bytes a second that go into all logs.
    let logBytes: Double
    /// What must be known of it.
    let remarks: [String]

    /// Machines with nodes: no fewer than there are copies.
    let nodeMachines: Int
    /// Machines with NATS servers: three, five, …
    let brokerMachines: Int

    init(_ demand: CapacityDemand, _ costs: UnitCosts) {
        let copies = Double(demand.copies)
        let storedBytes =
            demand.records
            * (costs.recordBytes + costs.columnBytes * Double(max(0, demand.columns - 2)))
            + demand.plainKeys
            * (costs.plainKeyBytes + costs.randomKeyByteBytes * demand.plainKeyRandomBytes)
        let keys = demand.records + demand.plainKeys
        let changedRecords = min(demand.changedRecords, keys)
        let changed =
            changedRecords
            * (costs.changedRecordBytes
                + (demand.plainKeys > 0 ? 16 + demand.plainKeyRandomBytes : 0))
        let memory =
            copies
            * (storedBytes * demand.hotShare + 2 * changed
                + keys * (1 - demand.hotShare) * costs.coldRecordBytes)
        let usableMemory = demand.machineMemoryBytes * 0.8 - costs.processBytes
        let messages = Self.messages(demand, costs, machines: memory / usableMemory)
        self.messages = messages.count
        logs = messages.logs
        let messageCount = messages.count
        incrementsPerMessage = messageCount > 0 ? demand.increments / messageCount : 0
        logBytes =
            demand.increments * costs.incrementBytes + messageCount * costs.messageBytes
        // What a command costs beyond its keys is shared by a pipeline.
        let commands = demand.increments + demand.reads / demand.readBatch
        let changes = changedRecords / demand.checkpointSeconds
        let microseconds =
            demand.increments * (costs.acceptMicroseconds + copies * costs.applyMicroseconds)
            + messageCount * costs.nodeMessageMicroseconds * copies / 3
            + demand.reads * costs.readMicroseconds
            + commands / demand.pipeline * costs.unpipelinedMicroseconds
            + changes * copies * costs.mergeMicroseconds
        // Commands and replies in, messages out and back.
        let clientBytes = demand.increments * 45 + demand.reads * (25 + 12)
        let nodeNetwork = clientBytes + logBytes * (1 + copies)
        nodes = [
            Resource(
                name: "processors", needed: microseconds / 1e6,
                perMachine: demand.machineCores * demand.load, unit: "cores"),
            Resource(
                name: "memory", needed: memory, perMachine: usableMemory, unit: "bytes"),
            Resource(
                // While a checkpoint is made the old one is still there.
                name: "disk", needed: copies * storedBytes * 2,
                perMachine: demand.machineDiskBytes * 0.8, unit: "bytes"),
            Resource(
                name: "network", needed: nodeNetwork,
                perMachine: demand.machineNetworkBytes * demand.load, unit: "bytes/s"),
        ]
        let brokerMicroseconds =
            messageCount * costs.messageMicroseconds + logBytes * costs.brokerByteMicroseconds
        brokers = [
            Resource(
                name: "processors", needed: brokerMicroseconds / 1e6,
                perMachine: demand.machineCores * demand.load, unit: "cores"),
            Resource(
                // A log is kept until two checkpoints of every replica hold it, at three servers.
                name: "disk", needed: logBytes * 3 * 3 * demand.checkpointSeconds,
                perMachine: demand.machineDiskBytes * 0.8, unit: "bytes"),
            Resource(
                // In, to two others, and out to the replicas.
                name: "network", needed: logBytes * (3 + copies),
                perMachine: demand.machineNetworkBytes * demand.load, unit: "bytes/s"),
        ]
        nodeMachines = max(demand.copies, nodes.map(\.machines).max() ?? 1)
        let wanted = max(3, brokers.map(\.machines).max() ?? 1)
        brokerMachines = wanted % 2 == 0 ? wanted + 1 : wanted
        remarks = Self.remarks(demand, nodeMachines, logs, incrementsPerMessage)
    }

    /// So many logs that every node is the primary of some, and how many messages they take: one is on its way at a
    /// time for each log, if clients ask its primary.
    ///
    /// - Parameter machines: For memory.
    private static func messages(
        _ demand: CapacityDemand, _ costs: UnitCosts, machines: Double
    ) -> (logs: Int, count: Double) {
        let microseconds =
            demand.increments
            * (costs.acceptMicroseconds + Double(demand.copies) * costs.applyMicroseconds)
        let busy = microseconds / 1e6 / (demand.machineCores * demand.load)
        var logs = 1
        while Double(logs) < max(busy, machines) * 2, logs < Limits.logsMax { logs *= 2 }
        logs = max(logs, demand.copies > 1 ? 4 : 1)
        let most = Double(logs) * 1000 / costs.messageMilliseconds
        return (logs, min(demand.increments, most))
    }

    private static func remarks(
        _ demand: CapacityDemand, _ nodes: Int, _ logs: Int, _ incrementsPerMessage: Double
    ) -> [String] {
        var remarks: [String] = []
        if nodes > logs * demand.copies {
            remarks.append(
                "a log is held as a whole: \(logs) logs in \(demand.copies) copies have work for "
                    + "\(logs * demand.copies) machines, so use larger ones, or several clusters")
        }
        if nodes == demand.copies, demand.copies > 1 {
            remarks.append(
                "every node holds everything: one that fails leaves \(nodes - 1) copies until it is back"
            )
        }
        if incrementsPerMessage > Double(Limits.logMessageBytesMax) / 8 {
            remarks.append(
                "messages reach their greatest size: more logs than there may be are needed")
        }
        if demand.increments > 0, incrementsPerMessage < 20 {
            remarks.append(
                "messages are small, and the NATS servers' time goes into their number: fewer logs cost less"
            )
        }
        if demand.machineDiskBytes < 4 * demand.machineMemoryBytes, demand.hotShare < 1 {
            remarks.append("records that are cold need disk: this machine has little")
        }
        return remarks
    }
}
