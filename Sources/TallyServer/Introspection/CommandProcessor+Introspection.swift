import Synchronization
import TallyAccess
import TallyCore
import TallyNode
import TallyRESP

/// SLOWLOG, LATENCY, MONITOR, MEMORY and what else tells how the server is doing.
extension CommandProcessor {
    // MARK: Spying

    /// Holds a command back while clients are paused, and shows it to those who monitor.
    ///
    /// - Returns: nil if it is to go on.
    @inline(never)
    mutating func dispatchSpied(_ index: Int, _ session: borrowing Session) -> Dispatch? {
        let command = server.commands[index]
        switch command.id {
        case .client, .authenticate, .hello: break
        default:
            let now = server.clock.monotonicNanoseconds()
            if server.pause.holds(command.isWrite, nowNanoseconds: now) { return .waiting }
        }
        guard server.monitors.isActive, !session.isPresentedAgain, !command.isAdministration
        else { return nil }
        switch command.id {
        case .authenticate, .hello, .monitor: return nil
        default: break
        }
        server.monitors.show(
            (0..<arguments.count).map { Array(arguments[$0]) }, of: session.client,
            milliseconds: server.clock.wallMilliseconds())
        return nil
    }

    /// Notes what took long.
    ///
    /// - Parameter describe: What it was.
    @inline(__always)
    func noteDuration(
        _ nanoseconds: UInt64, _ describe: () -> (arguments: [[UInt8]], client: ClientInfo?)
    ) {
        let threshold = server.slowLog.thresholdMicroseconds.load(ordering: .relaxed)
        if threshold >= 0, nanoseconds / 1000 >= UInt64(threshold) {
            noteSlow(nanoseconds, describe())
        }
        server.latency.note(
            .command, nanoseconds: nanoseconds, seconds: server.clock.wallMilliseconds() / 1000)
    }

    @inline(never)
    private func noteSlow(
        _ nanoseconds: UInt64, _ what: (arguments: [[UInt8]], client: ClientInfo?)
    ) {
        server.slowLog.add(
            what.arguments, microseconds: nanoseconds / 1000,
            seconds: server.clock.wallMilliseconds() / 1000, address: what.client?.address ?? "",
            clientName: what.client?.current.name ?? "")
    }

    // MARK: Commands

    mutating func runIntrospection(_ id: CommandID, _ session: inout Session) {
        switch id {
        case .slowLogGet: slowLogGet()
        case .slowLogLength: replies.integer(Int64(server.slowLog.count))
        case .slowLogReset:
            server.slowLog.removeAll()
            replies.simple("OK")
        case .hotKeysGet: hotKeysGet(session.version)
        case .hotKeysReset:
            server.resetHotKeys()
            replies.simple("OK")
        case .hotKeysTracking:
            replies.error("ERR hot keys are always tracked: see HOTKEYS GET")
        case .latencyLatest: latencyLatest()
        case .latencyHistory: latencyHistory()
        case .latencyReset: latencyReset()
        case .latencyDoctor: latencyDoctor(session.version)
        case .monitor:
            server.monitors.add(session.client)
            replies.simple("OK")
        case .memoryStatistics: memoryStatistics(session.version)
        case .memoryDoctor: memoryDoctor(session.version)
        case .memoryPurge: replies.simple("OK")
        case .role:
            replies.array(3)
            replies.bulk("master")
            replies.integer(0)
            replies.array(0)
        case .clientPause: pauseClients()
        case .clientUnpause:
            server.pause.end()
            replies.simple("OK")
        case .clientUnblock:
            guard Decimal.parse(arguments[2]) != nil else {
                return replies.error("ERR value is not an integer or out of range")
            }
            let isReason =
                arguments.count == 3 || arguments[3].equalsIgnoringCase("timeout")
                || arguments[3].equalsIgnoringCase("error")
            guard arguments.count <= 4, isReason else {
                return replies.error("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR")
            }
            replies.integer(0)
        case .clientTracking: setTracking()
        case .clientTrackingInfo:
            replies.map(3, session.version)
            replies.bulk("flags")
            replies.set(1, session.version)
            replies.bulk("off")
            replies.bulk("redirect")
            replies.integer(-1)
            replies.bulk("prefixes")
            replies.array(0)
        case .clientGetRedirection: replies.integer(-1)
        case .lolwut: replies.verbatim("Tally ver. \(ServerIdentity.version)\n", session.version)
        default: replies.error("ERR syntax error")
        }
    }

    private mutating func slowLogGet() {
        var count: Int? = 10
        if arguments.count == 3 {
            guard let wanted = Decimal.parse(arguments[2]), wanted >= -1 else {
                return replies.error("ERR count should be greater than or equal to -1")
            }
            count = wanted == -1 ? nil : Int(wanted)
        } else if arguments.count > 3 {
            return replies.error(Self.wrongArity("slowlog|get"))
        }
        let entries = server.slowLog.latest(count)
        replies.array(entries.count)
        for entry in entries {
            replies.array(6)
            replies.integer(Int64(entry.id))
            replies.integer(Int64(entry.seconds))
            replies.integer(Int64(entry.microseconds))
            replies.array(entry.arguments.count)
            for argument in entry.arguments {
                argument.withUnsafeBytes { replies.bulk($0) }
            }
            replies.bulk(entry.address)
            replies.bulk(entry.clientName)
        }
    }

    private mutating func latencyLatest() {
        let events = LatencyMonitor.Event.allCases.compactMap { event in
            server.latency.history(event).last.map { (event, $0) }
        }
        replies.array(events.count)
        for (event, sample) in events {
            replies.array(4)
            replies.bulk(event.rawValue)
            replies.integer(Int64(sample.seconds))
            replies.integer(Int64(sample.milliseconds))
            replies.integer(Int64(server.latency.longestMilliseconds(event)))
        }
    }

    private mutating func latencyHistory() {
        let event = LatencyMonitor.Event(rawValue: arguments[2].text.lowercased())
        let samples = event.map(server.latency.history) ?? []
        replies.array(samples.count)
        for sample in samples {
            replies.array(2)
            replies.integer(Int64(sample.seconds))
            replies.integer(Int64(sample.milliseconds))
        }
    }

    private mutating func latencyReset() {
        let named = (2..<max(2, arguments.count)).compactMap {
            LatencyMonitor.Event(rawValue: arguments[$0].text.lowercased())
        }
        let events = arguments.count > 2 ? named : LatencyMonitor.Event.allCases
        replies.integer(Int64(server.latency.reset(events)))
    }

    private mutating func latencyDoctor(_ version: RESPVersion) {
        guard server.latency.thresholdMilliseconds.load(ordering: .relaxed) > 0 else {
            return replies.verbatim(
                "Latency is not being monitored: CONFIG SET latency-monitor-threshold "
                    + "<milliseconds> begins.\n", version)
        }
        let lines = LatencyMonitor.Event.allCases.map { event in
            let samples = server.latency.history(event)
            let sum = samples.reduce(0) { $0 + $1.milliseconds }
            return samples.isEmpty
                ? "\(event.rawValue): never too long\n"
                : "\(event.rawValue): \(samples.count) times, \(sum / UInt64(samples.count)) ms on "
                    + "average, \(server.latency.longestMilliseconds(event)) ms at most\n"
        }
        replies.verbatim(lines.joined(), version)
    }

    private mutating func memoryStatistics(_ version: RESPVersion) {
        let node = server.node
        let all = node.countAll()
        noteSequence(all.sequence)
        let fields: [(String, Int)] = [
            ("total.allocated", node.countersBytes), ("dataset.bytes", node.countersBytes),
            ("keys.count", all.count),
            ("keys.bytes-per-key", all.count == 0 ? 0 : node.countersBytes / all.count),
            ("changed.bytes", node.changedBytes), ("once.bytes", node.onceStatistics.byteCount),
            ("connections.bytes", server.connectionBytes.load(ordering: .relaxed)),
            ("journal.pending.bytes", node.pendingJournalBytes),
            ("limit.bytes", node.memoryBytesMax ?? 0),
        ]
        replies.map(fields.count, version)
        for (name, value) in fields {
            replies.bulk(name)
            replies.integer(Int64(value))
        }
    }

    private mutating func memoryDoctor(_ version: RESPVersion) {
        let node = server.node
        let limit = node.memoryBytesMax ?? 0
        if limit > 0, node.changedBytes > limit / 2 {
            replies.verbatim(
                "Changes since the last merge take more than half of memory-limit: new keys may be "
                    + "refused until a checkpoint is made (BGSAVE), or the limit is raised.\n",
                version)
        } else {
            replies.verbatim("Nothing to worry about.\n", version)
        }
    }

    private mutating func pauseClients() {
        guard arguments.count <= 4 else { return replies.error("ERR syntax error") }
        guard let timeout = Decimal.parse(arguments[2]) else {
            return replies.error("ERR timeout is not an integer or out of range")
        }
        guard timeout >= 0 else { return replies.error("ERR timeout is negative") }
        var isForAll = true
        if arguments.count == 4 {
            if arguments[3].equalsIgnoringCase("write") {
                isForAll = false
            } else if !arguments[3].equalsIgnoringCase("all") {
                return replies.error("ERR CLIENT PAUSE mode must be WRITE or ALL")
            }
        }
        let milliseconds = min(UInt64(timeout), Limits.pauseMillisecondsMax)
        server.pause.begin(
            untilNanoseconds: server.clock.monotonicNanoseconds() + milliseconds * 1_000_000,
            forAll: isForAll)
        replies.simple("OK")
    }

    private mutating func setTracking() {
        if arguments[2].equalsIgnoringCase("off") {
            replies.simple("OK")
        } else if arguments[2].equalsIgnoringCase("on") {
            replies.error("ERR CLIENT TRACKING is not offered: counters change too often to cache")
        } else {
            replies.error("ERR syntax error")
        }
    }
}
