internal import Glibc
import Synchronization
import TallyCluster
import TallyCore
import TallyNode

/// What INFO says.
struct InfoReport {
    let server: ServerContext
    let counters: Int

    /// The named sections, or all.
    func text(_ names: [String]) -> String {
        let wantsAll =
            names.isEmpty || !Set(names).isDisjoint(with: ["all", "default", "everything"])
        // As in Redis, what is long comes only if it is asked for.
        let wantsMore = !Set(names).isDisjoint(with: ["all", "everything"])
        let chosen = sections.filter { section in
            names.contains(section.title.lowercased())
                || wantsAll && (wantsMore || section.title != "Commandstats")
        }
        return chosen.map { section in
            "# \(section.title)\r\n"
                + section.fields.map { "\($0.0):\($0.1)\r\n" }.joined()
        }.joined(separator: "\r\n")
    }

    private typealias Section = (title: String, fields: [(String, String)])

    private var sections: [Section] {
        [
            serverSection, clientsSection, memorySection, residencySection, onceSection,
            persistenceSection, statsSection,
            replicationSection, cpuSection, ("Modules", []), commandSection, errorSection,
            clusterSection, keyspaceSection,
        ]
    }

    private var clusterSection: Section {
        guard let replica = server.replica else { return ("Cluster", [("cluster_enabled", "0")]) }
        let silence = replica.silenceMilliseconds(now: server.clock.monotonicNanoseconds())
        return (
            "Cluster",
            [
                ("cluster_enabled", "1"),
                ("cluster_nodes_heard", "\(replica.view?.nodes.count ?? 0)"),
                ("cluster_logs", "\(replica.logs.count)"),
                ("cluster_logs_served", "\(replica.logs.count { $0.isServing })"),
                (
                    "cluster_lag_messages",
                    "\(replica.logs.indices.map { replica.lag($0) }.max() ?? 0)"
                ),
                ("cluster_silence_milliseconds", "\(silence)"),
                ("cluster_early_answers", "\(sum(replica) { $0.early.load(ordering: .relaxed) })"),
                ("cluster_early_owed", "\(replica.logs.reduce(0) { $0 + $1.earlyOwed })"),
                (
                    "cluster_early_lost",
                    "\(sum(replica) { $0.earlyLost.load(ordering: .relaxed) })"
                ),
            ]
        )
    }

    private func sum(_ replica: Replica, _ count: (LogCounts) -> UInt64) -> UInt64 {
        replica.logs.reduce(0) { $0 + count($1.counts) }
    }

    private var serverSection: Section {
        let uptime = server.uptimeSeconds
        return (
            "Server",
            [
                ("redis_version", ServerIdentity.redisVersion),
                ("server_name", "tally"),
                ("tally_version", ServerIdentity.version),
                ("redis_mode", server.replica == nil ? "standalone" : "cluster"),
                ("os", Self.operatingSystem),
                ("arch_bits", "64"),
                ("multiplexing_api", "epoll"),
                ("process_id", "\(getpid())"),
                ("run_id", server.runID),
                ("tcp_port", "\(server.port.load(ordering: .relaxed))"),
                ("server_time_usec", "\(server.clock.wallMilliseconds() * 1000)"),
                ("uptime_in_seconds", "\(uptime)"),
                ("uptime_in_days", "\(uptime / 86_400)"),
                ("io_threads_active", "\(server.configuration.threads)"),
                ("partitions", "\(server.node.partitionCount)"),
            ]
        )
    }

    private var clientsSection: Section {
        (
            "Clients",
            [
                ("connected_clients", "\(server.clients.count)"),
                ("maxclients", "\(server.settings.clientsMax.load(ordering: .relaxed))"),
                ("blocked_clients", "0"),
            ]
        )
    }

    private var memorySection: Section {
        let resident = Self.residentBytes
        let limit = server.node.memoryBytesMax ?? 0
        return (
            "Memory",
            [
                ("used_memory", "\(server.node.countersBytes)"),
                ("used_memory_human", ByteSize.readable(server.node.countersBytes)),
                ("used_memory_rss", "\(resident)"),
                ("used_memory_rss_human", ByteSize.readable(resident)),
                ("used_memory_dataset", "\(server.node.countersBytes)"),
                ("maxmemory", "\(limit)"),
                ("maxmemory_human", ByteSize.readable(limit)),
                ("maxmemory_policy", "noeviction"),
            ]
        )
    }

    private var residencySection: Section {
        let residency = server.node.residency
        let cache = server.node.blockCache
        let reads = server.node.blockReads
        return (
            "Residency",
            [
                ("used_memory_changed", "\(server.node.changedBytes)"),
                ("hot_segments", "\(residency.hot.count)"),
                ("used_memory_hot", "\(residency.hot.byteCount)"),
                ("cold_segments", "\(residency.cold.count)"),
                ("cold_disk_bytes", "\(residency.cold.diskBytes)"),
                ("used_memory_cold_index", "\(residency.indexBytes)"),
                ("used_memory_cold_filter", "\(residency.filterBytes)"),
                ("cached_blocks", "\(cache.blocks)"),
                ("used_memory_cached_blocks", "\(cache.byteCount)"),
                ("cold_reads", "\(reads.reads)"),
                ("cold_read_bytes", "\(reads.byteCount)"),
                ("cold_late_reads", "\(cache.lateReads)"),
            ]
        )
    }

    private var onceSection: Section {
        let once = server.node.onceStatistics
        return (
            "Once",
            [
                ("once_records", "\(once.records)"),
                ("used_memory_once", "\(once.byteCount)"),
                ("once_memory_max", "\(server.node.onceMemoryBytes)"),
                ("once_window_seconds", "\(server.node.onceWindowSeconds)"),
            ]
        )
    }

    private var persistenceSection: Section {
        (
            "Persistence",
            [
                ("loading", "0"),
                ("aof_enabled", "1"),
                ("aof_last_write_status", server.node.isJournalFull ? "err" : "ok"),
                ("durability", server.configuration.durability.description),
                ("durable_sequence", "\(server.node.gate.durableSequence)"),
                ("journal_pending_bytes", "\(server.node.pendingJournalBytes)"),
                ("journal_space", server.node.isJournalFull ? "full" : "ok"),
                ("rdb_bgsave_in_progress", server.node.isMakingCheckpoint ? "1" : "0"),
                ("rdb_last_save_time", "\(server.savedMilliseconds / 1000)"),
                ("scrubbed_segments", "\(server.node.scrubs.files)"),
                ("damaged_segments", "\(server.node.scrubs.damaged)"),
                ("checkpoint_sequence", "\(server.node.checkpoint.sequence)"),
            ]
        )
    }

    private var statsSection: Section {
        let statistics = server.statistics
        return (
            "Stats",
            [
                (
                    "total_connections_received",
                    "\(statistics.connectionsAccepted.load(ordering: .relaxed))"
                ),
                (
                    "total_commands_processed",
                    "\(statistics.commands.load(ordering: .relaxed))"
                ),
                (
                    "total_net_input_bytes",
                    "\(statistics.inputBytes.load(ordering: .relaxed))"
                ),
                (
                    "total_net_output_bytes",
                    "\(statistics.outputBytes.load(ordering: .relaxed))"
                ),
                (
                    "rejected_connections",
                    "\(statistics.connectionsRefused.load(ordering: .relaxed))"
                ),
                (
                    "total_protocol_errors",
                    "\(statistics.protocolErrors.load(ordering: .relaxed))"
                ),
                ("journal_groups", "\(statistics.commitGroups.load(ordering: .relaxed))"),
                ("expired_keys", "\(server.node.expiredCount)"),
                ("evicted_keys", "0"),
                ("acl_access_denied_auth", "\(server.failedLogins.count)"),
            ]
        )
    }

    private var replicationSection: Section {
        (
            "Replication",
            [
                ("role", "master"), ("connected_slaves", "0"), ("master_replid", server.runID),
                ("master_repl_offset", "0"),
            ]
        )
    }

    private var cpuSection: Section {
        var usage = rusage()
        getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
        return (
            "CPU",
            [
                ("used_cpu_sys", Self.seconds(usage.ru_stime)),
                ("used_cpu_user", Self.seconds(usage.ru_utime)),
            ]
        )
    }

    private var commandSection: Section {
        (
            "Commandstats",
            server.commandStatistics.map { name, calls, nanoseconds in
                let microseconds = nanoseconds / 1000
                let hundredths = nanoseconds / 10 / max(1, calls)
                let fraction = hundredths % 100
                return (
                    "cmdstat_\(name)",
                    "calls=\(calls),usec=\(microseconds),usec_per_call=\(hundredths / 100)."
                        + (fraction < 10 ? "0" : "") + "\(fraction)"
                )
            }
        )
    }

    private var errorSection: Section {
        ("Errorstats", server.errors.all.map { ("errorstat_\($0.0)", "count=\($0.1)") })
    }

    private var keyspaceSection: Section {
        (
            "Keyspace",
            counters == 0
                ? [] : [("db0", "keys=\(counters),expires=\(server.node.deadlineCount),avg_ttl=0")]
        )
    }

    private static func seconds(_ time: timeval) -> String {
        let digits = String(time.tv_usec)
        return "\(time.tv_sec).\(String(repeating: "0", count: 6 - digits.count))\(digits)"
    }

    private static var operatingSystem: String {
        var name = utsname()
        guard uname(&name) == 0 else { return "unknown" }
        return "\(text(name.sysname)) \(text(name.release)) \(text(name.machine))"
    }

    private static func text<Characters>(_ characters: Characters) -> String {
        withUnsafeBytes(of: characters) { bytes in
            String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
        }
    }

    /// Memory that the process has in RAM, bytes.
    static var residentBytes: Int {
        guard let file = fopen("/proc/self/statm", "r") else { return 0 }
        defer { fclose(file) }
        var buffer = [UInt8](repeating: 0, count: 128)
        let count = fread(&buffer, 1, buffer.count, file)
        let fields = String(decoding: buffer.prefix(count), as: UTF8.self).split(separator: " ")
        guard fields.count > 1, let pages = Int(fields[1]) else { return 0 }
        return pages * Int(getpagesize())
    }

    /// Files and connections that the process has open.
    static var openFiles: Int {
        guard let directory = opendir("/proc/self/fd") else { return 0 }
        defer { closedir(directory) }
        var count = 0
        while readdir(directory) != nil { count += 1 }
        // Itself, its parent, and the directory that is being read.
        return max(0, count - 3)
    }
}
