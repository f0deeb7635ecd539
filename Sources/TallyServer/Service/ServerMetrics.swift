import CoreMetrics
internal import Glibc
import Metrics
import Synchronization
import TallyCluster
import TallyCore
import TallyNode

/// What a server tells a metrics system. Totals that are kept elsewhere are taken over when somebody asks.
final class ServerMetrics: Sendable {
    /// From the turn that reads a command until its reply leaves.
    let replies = Timer(label: "tally_reply", preferredDisplayUnit: .seconds)
    /// Writing a commit group, and syncing it.
    let journal = Timer(label: "tally_journal_write", preferredDisplayUnit: .seconds)
    let checkpoints = Timer(label: "tally_checkpoint", preferredDisplayUnit: .seconds)
    let checkpointBytes = Counter(label: "tally_checkpoint_bytes")
    private let taken = Locked<[String: Int64]>([:])

    /// What there is to know of each metric, for whoever reads them.
    static let help: [String: String] = [
        "tally_reply_seconds": "Time from reading commands to sending their replies.",
        "tally_http_request_seconds":
            "Time from an HTTP request's head to its reply, by route, method and status.",
        "tally_http_active_requests": "HTTP requests that have no reply yet.",
        "tally_journal_write_seconds": "Time to write a commit group and to sync it.",
        "tally_checkpoint_seconds": "Time that checkpoints, which merge changes, took.",
        "tally_checkpoint_bytes_total": "Bytes of segments that checkpoints have written.",
        "tally_commands_total": "Commands that were dealt with.",
        "tally_command_calls_total": "Calls of each command.",
        "tally_command_seconds_total": "Time that the calls of each command took.",
        "tally_errors_total": "Error replies by their code.",
        "tally_connections": "Connections that are open.",
        "tally_connections_total": "Connections that were accepted.",
        "tally_connections_refused_total": "Connections that were one too many.",
        "tally_input_bytes_total": "Bytes that clients have sent.",
        "tally_output_bytes_total": "Bytes of replies.",
        "tally_protocol_errors_total": "Connections that sent what is no command.",
        "tally_failed_logins_total": "Passwords that were wrong.",
        "tally_keys": "Plain keys and records.",
        "tally_expiring_keys": "Plain keys that have a deadline.",
        "tally_expired_keys_total": "Keys that were removed because their deadline had come.",
        "tally_memory_bytes": "Memory that counters take, by what for.",
        "tally_memory_limit_bytes": "The memory-limit, 0 for none.",
        "tally_journal_groups_total": "Commit groups that were written.",
        "tally_journal_pending_bytes": "Bytes that wait to be written.",
        "tally_journal_full": "Whether writes are refused because the disk is full.",
        "tally_durable_sequence": "The latest commit group that is on disk.",
        "tally_checkpoint_sequence":
            "The commit group up to which the last checkpoint holds everything.",
        "tally_checkpoint_timestamp_seconds":
            "When the last checkpoint was made, seconds since 1970.",
        "tally_segments": "Segments in memory and on disk only.",
        "tally_cold_disk_bytes": "Bytes of segments that are on disk only.",
        "tally_cold_reads_total": "Blocks that were read from the disk.",
        "tally_cold_read_bytes_total": "Bytes of those blocks.",
        "tally_cold_late_reads_total": "Blocks that a command had to wait for under a lock.",
        "tally_cached_blocks": "Blocks of segments on disk that are in memory.",
        "tally_once_records": "Records that remember requests with a token.",
        "tally_damaged_segments": "Segment files found damaged.",
        "tally_cluster_nodes": "Nodes of the cluster that are heard.",
        "tally_cluster_silence_milliseconds":
            "Time since any node was heard by way of the NATS servers: how old reads may be.",
        "tally_log_held": "Whether this node has a replica of the log's partitions.",
        "tally_log_serving": "Whether that can be asked.",
        "tally_log_primary": "Whether clients that look for the log's keys are sent here.",
        "tally_log_sequence": "The last message of the log that was applied.",
        "tally_log_lag_messages": "Messages that another node has applied and this one has not.",
        "tally_log_flight_milliseconds": "For how long a message has been on its way; 0 for none.",
        "tally_log_messages_total": "Messages that this node has sent.",
        "tally_log_repetitions_total": "Attempts to send them beyond the first.",
        "tally_log_message_bytes_total": "Bytes of those messages.",
        "tally_log_refused_batches_total":
            "Batches of commands that were told that nothing was changed: the log is away.",
        "tally_log_unknown_batches_total":
            "Batches of commands that were told that the outcome is not known.",
        "tally_log_early_answers_total":
            "Additions that were answered before they were in the log, as ack=memory allows.",
        "tally_log_early_lost_total":
            "Those of them that are lost, because this node could follow the log no further.",
        "process_cpu_seconds_total": "Processor time of the process.",
        "process_resident_memory_bytes": "Memory that the process has in RAM.",
        "process_open_fds": "Open files and connections.",
        "process_start_time_seconds": "When the process started, seconds since 1970.",
    ]

    /// Takes over all that is kept elsewhere.
    func update(_ server: ServerContext) {
        let node = server.node
        let statistics = server.statistics
        total("tally_commands", statistics.commands.load(ordering: .relaxed))
        total(
            "tally_connections_accepted", statistics.connectionsAccepted.load(ordering: .relaxed),
            as: "tally_connections")
        total("tally_connections_refused", statistics.connectionsRefused.load(ordering: .relaxed))
        total("tally_input_bytes", statistics.inputBytes.load(ordering: .relaxed))
        total("tally_output_bytes", statistics.outputBytes.load(ordering: .relaxed))
        total("tally_protocol_errors", statistics.protocolErrors.load(ordering: .relaxed))
        total("tally_journal_groups", statistics.commitGroups.load(ordering: .relaxed))
        total("tally_failed_logins", UInt64(server.failedLogins.count))
        total("tally_expired_keys", UInt64(node.expiredCount))
        for (name, calls, nanoseconds) in server.commandStatistics {
            total("tally_command_calls", calls, [("command", name)])
            totalSeconds("tally_command_seconds", nanoseconds, [("command", name)])
        }
        for (code, count) in server.errors.all { total("tally_errors", count, [("code", code)]) }
        set("tally_connections", server.clients.count)
        set("tally_keys", node.countAll().count)
        set("tally_expiring_keys", node.deadlineCount)
        set("tally_memory_bytes", node.changedBytes, [("kind", "changed")])
        set("tally_memory_bytes", node.countersBytes - node.changedBytes, [("kind", "segments")])
        set("tally_memory_bytes", node.blockCache.byteCount, [("kind", "cached_blocks")])
        set("tally_memory_bytes", node.onceStatistics.byteCount, [("kind", "once")])
        set(
            "tally_memory_bytes", server.connectionBytes.load(ordering: .relaxed),
            [("kind", "connections")])
        set("tally_memory_limit_bytes", node.memoryBytesMax ?? 0)
        set("tally_journal_pending_bytes", node.pendingJournalBytes)
        set("tally_journal_full", node.isJournalFull ? 1 : 0)
        set("tally_durable_sequence", Int(clamping: node.gate.durableSequence))
        set("tally_checkpoint_sequence", Int(clamping: node.checkpoint.sequence))
        set("tally_checkpoint_timestamp_seconds", Int(server.savedMilliseconds / 1000))
        let residency = node.residency
        set("tally_segments", residency.hot.count, [("state", "hot")])
        set("tally_segments", residency.cold.count, [("state", "cold")])
        set("tally_cold_disk_bytes", residency.cold.diskBytes)
        let reads = node.blockReads
        total("tally_cold_reads", UInt64(reads.reads))
        total("tally_cold_read_bytes", UInt64(reads.byteCount))
        total("tally_cold_late_reads", UInt64(node.blockCache.lateReads))
        set("tally_cached_blocks", node.blockCache.blocks)
        set("tally_once_records", node.onceStatistics.records)
        set("tally_damaged_segments", Int(node.scrubs.damaged))
        if let replica = server.replica { updateCluster(replica, server) }
        updateProcess(server)
    }

    private func updateCluster(_ replica: Replica, _ server: ServerContext) {
        let now = server.clock.monotonicNanoseconds()
        set("tally_cluster_nodes", replica.view?.nodes.count ?? 0)
        set(
            "tally_cluster_silence_milliseconds",
            Int(clamping: replica.silenceMilliseconds(now: now)))
        for log in replica.logs {
            let label = [("log", "\(log.number)")]
            set("tally_log_held", log.isHeld ? 1 : 0, label)
            set("tally_log_serving", log.isServing ? 1 : 0, label)
            set("tally_log_primary", replica.view?.isPrimary(log.number) == true ? 1 : 0, label)
            set("tally_log_sequence", Int(clamping: log.appliedSequence), label)
            set("tally_log_lag_messages", Int(clamping: replica.lag(log.number)), label)
            let counts = log.counts
            let begun = counts.flightBegun.load(ordering: .relaxed)
            set(
                "tally_log_flight_milliseconds",
                begun == 0 ? 0 : Int((now - min(now, begun)) / 1_000_000), label)
            let messages = counts.messages.load(ordering: .relaxed)
            let attempts = counts.attempts.load(ordering: .relaxed)
            total("tally_log_messages", messages, label)
            total("tally_log_repetitions", attempts - min(attempts, messages), label)
            total("tally_log_message_bytes", counts.bytes.load(ordering: .relaxed), label)
            total("tally_log_refused_batches", counts.refused.load(ordering: .relaxed), label)
            total("tally_log_unknown_batches", counts.unknown.load(ordering: .relaxed), label)
            total("tally_log_early_answers", counts.early.load(ordering: .relaxed), label)
            total("tally_log_early_lost", counts.earlyLost.load(ordering: .relaxed), label)
        }
    }

    private func updateProcess(_ server: ServerContext) {
        var usage = rusage()
        getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
        var nanoseconds: UInt64 = 0
        for time in [usage.ru_utime, usage.ru_stime] {
            nanoseconds += UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_usec) * 1000
        }
        totalSeconds("process_cpu_seconds", nanoseconds)
        set("process_resident_memory_bytes", InfoReport.residentBytes)
        set("process_open_fds", InfoReport.openFiles)
        set("process_start_time_seconds", Int(server.startedMilliseconds / 1000))
    }

    private func set(_ label: String, _ value: Int, _ dimensions: [(String, String)] = []) {
        Gauge(label: label, dimensions: dimensions).record(value)
    }

    /// Raises a counter to `value`; a total that has been reset goes on from there.
    private func total(
        _ key: String, _ value: UInt64, _ dimensions: [(String, String)] = [],
        as label: String? = nil
    ) {
        let difference = take(key, dimensions, Int64(clamping: value))
        Counter(label: label ?? key, dimensions: dimensions).increment(by: difference)
    }

    private func totalSeconds(
        _ label: String, _ nanoseconds: UInt64, _ dimensions: [(String, String)] = []
    ) {
        let difference = take(label, dimensions, Int64(clamping: nanoseconds))
        FloatingPointCounter(label: label, dimensions: dimensions)
            .increment(by: Double(difference) / 1e9)
    }

    private func take(
        _ label: String, _ dimensions: [(String, String)], _ value: Int64
    ) -> Int64 {
        taken.withLock { taken in
            let key = label + dimensions.map { "|\($0.1)" }.joined()
            let before = taken.updateValue(value, forKey: key) ?? 0
            return value >= before ? value - before : value
        }
    }
}
