import ArgumentParser
import TallyCore

#if canImport(FoundationEssentials)
    import FoundationEssentials
#else
    import Foundation
#endif

/// `tally capacity`.
struct CapacityCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "capacity",
        abstract: "Compute the machines that so many keys and so many operations take.",
        discussion: """
            From unit costs that were measured on one machine: the result is where to begin, and a trial on your own \
            machines is where to end. Numbers may be written as 1e11, sizes as 256gb.
            """)

    @Option(help: "Records of families that have a count.")
    var records: String = "0"
    @Option(help: "Counts of a record.")
    var columns = 2
    @Option(help: "Plain keys.")
    var keys: String = "0"
    @Option(help: "Bytes of a plain key that those next to it in order do not share.")
    var keyRandomBytes = 0
    @Option(help: "Increments a second.")
    var increments: String = "0"
    @Option(help: "Keys read a second.")
    var reads: String = "0"
    @Option(help: "Keys that one command reads.")
    var readBatch = 20
    @Option(help: "Commands that a connection sends together.")
    var pipeline = 16
    @Option(
        help:
            "Records and keys that change between two checkpoints (default a tenth of the increments)."
    )
    var changed: String?
    @Option(help: "How much of the records is kept in memory, 0 to 1.")
    var hot = 1.0
    @Option(help: "Copies of everything.")
    var copies = 3
    @Option(help: "Seconds between checkpoints.")
    var checkpointSeconds = Limits.checkpointSeconds
    @Option(help: "How much of a machine to use, 0 to 1; the rest is for peaks and failures.")
    var load = 0.6
    @Option(help: "Cores of a machine.")
    var cores = 16
    @Option(help: "Memory of a machine.")
    var memory: String = "128gb"
    @Option(help: "Disk of a machine.")
    var disk: String = "2000gb"
    @Option(help: "Network of a machine, bits a second each way.")
    var network: String = "1e10"
    @Option(help: "A JSON file of unit costs in place of those that were measured.")
    var costs: String?
    @Flag(help: "Print JSON.")
    var json = false

    func run() throws {
        let costs = try unitCosts()
        let demand = try demand()
        let plan = CapacityPlan(demand, costs)
        if json {
            try ClusterCommand.printJSON(
                CapacityReport(demand: demand, costs: costs, plan: plan))
        } else {
            print(Self.text(plan))
        }
    }

    // MARK: Input

    private func unitCosts() throws -> UnitCosts {
        guard let costs else { return UnitCosts() }
        guard let data = FileManager.default.contents(atPath: costs) else {
            throw ValidationError("cannot read \(costs)")
        }
        let given: UnitCosts
        do {
            given = try JSONDecoder().decode(UnitCosts.self, from: data)
        } catch {
            throw ValidationError("\(costs) does not give all unit costs: \(error)")
        }
        guard given.isPlausible else {
            throw ValidationError("\(costs): unit costs are numbers above 0 and below 1e9")
        }
        return given
    }

    private func demand() throws -> CapacityDemand {
        var demand = CapacityDemand()
        demand.records = try number("records", records)
        demand.columns = try whole("columns", columns, 1...Limits.columnsMax)
        demand.plainKeys = try number("keys", keys)
        demand.plainKeyRandomBytes = Double(
            try whole("key-random-bytes", keyRandomBytes, 0...Limits.keyBytesMax))
        demand.increments = try number("increments", increments)
        demand.reads = try number("reads", reads)
        demand.readBatch = Double(try whole("read-batch", readBatch, 1...1_000_000))
        demand.pipeline = Double(try whole("pipeline", pipeline, 1...1_000_000))
        demand.checkpointSeconds = Double(
            try whole("checkpoint-seconds", checkpointSeconds, 1...86_400))
        demand.changedRecords =
            try changed.map { try number("changed", $0) }
            ?? demand.increments * demand.checkpointSeconds / 10
        demand.hotShare = try share("hot", hot, 0...1)
        demand.load = try share("load", load, 0.01...1)
        demand.copies = try whole("copies", copies, 1...64)
        demand.machineCores = Double(try whole("cores", cores, 1...1024))
        demand.machineMemoryBytes = try size("memory", memory)
        demand.machineDiskBytes = try size("disk", disk)
        demand.machineNetworkBytes = try number("network", network) / 8
        guard demand.machineNetworkBytes >= 1000 else {
            throw refusal("network", network, "a number in 8e3...1e15")
        }
        return demand
    }

    private func refusal(_ name: String, _ value: String, _ allowed: String) -> ValidationError {
        ValidationError("--\(name) is '\(value)'; allowed: \(allowed)")
    }

    private func number(_ name: String, _ text: String) throws -> Double {
        guard let number = Double(text), (0...1e15).contains(number) else {
            throw refusal(name, text, "a number in 0...1e15")
        }
        return number
    }

    private func whole(_ name: String, _ value: Int, _ range: ClosedRange<Int>) throws -> Int {
        guard range.contains(value) else {
            throw refusal(name, "\(value)", "\(range.lowerBound)...\(range.upperBound)")
        }
        return value
    }

    private func share(
        _ name: String, _ value: Double, _ range: ClosedRange<Double>
    ) throws -> Double {
        guard range.contains(value) else {
            throw refusal(name, "\(value)", "\(range.lowerBound)...\(range.upperBound)")
        }
        return value
    }

    private func size(_ name: String, _ text: String) throws -> Double {
        guard let size = ByteSize(text), size.bytes >= 1 << 30 else {
            throw refusal(name, text, "a size such as 256gb, at least 1gb")
        }
        return Double(size.bytes)
    }

    // MARK: Output

    private static func text(_ plan: CapacityPlan) -> String {
        var rows = [["", "NEEDED", "OF A MACHINE", "MACHINES"]]
        rows += plan.nodes.map { row("nodes: ", $0) } + plan.brokers.map { row("NATS: ", $0) }
        let lines = [
            TextTable.text(rows), "",
            "machines for nodes         \(plan.nodeMachines)",
            "machines for NATS servers  \(plan.brokerMachines)",
            "logs                       \(plan.logs)",
            "log                        \(amount(plan.logBytes, "bytes/s")), "
                + "\(Int(plan.messages)) messages/s of \(Int(plan.incrementsPerMessage)) increments",
        ]
        return (lines + plan.remarks.map { "note: \($0)" }).joined(separator: "\n")
    }

    private static func row(_ prefix: String, _ resource: CapacityPlan.Resource) -> [String] {
        [
            prefix + resource.name, amount(resource.needed, resource.unit),
            amount(resource.perMachine, resource.unit), "\(resource.machines)",
        ]
    }

    private static func amount(_ value: Double, _ unit: String) -> String {
        guard unit != "cores" else { return "\((value * 10).rounded() / 10) cores" }
        let units = ["", "k", "M", "G", "T", "P"]
        var scaled = value
        var index = 0
        while scaled >= 1000, index < units.count - 1 {
            scaled /= 1000
            index += 1
        }
        return "\((scaled * 10).rounded() / 10) \(units[index])\(unit == "bytes" ? "B" : "B/s")"
    }
}

/// What a script is told.
private struct CapacityReport: Encodable {
    let demand: CapacityDemand
    let costs: UnitCosts
    let plan: CapacityPlan
}
