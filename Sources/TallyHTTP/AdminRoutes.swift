internal import Hummingbird
internal import TallyAccess
internal import TallyRESP
internal import TallyServer

/// What administrators need.
struct AdminRoutes {
    let commands: CommandService
    let server: RESPServer

    struct Backup: Decodable {
        let path: String
    }

    struct BackupStatus: Encodable, Sendable {
        let status: String
    }

    struct Checkpoint: Encodable, Sendable {
        let status: String
    }

    /// A value of INFO: a number if it is one.
    enum Field: Encodable, Sendable {
        case number(Int64)
        case text(String)

        func encode(to encoder: any Encoder) throws {
            var container = encoder.singleValueContainer()
            switch self {
            case .number(let number): try container.encode(number)
            case .text(let text): try container.encode(text)
            }
        }
    }

    struct Partitions: Encodable, Sendable {
        let partitions: [PartitionStatus]
    }

    func add(to router: RouterGroup<TallyContext>) {
        router.get("admin/status", use: status)
        router.get("admin/partitions", use: partitions)
        router.post("admin/checkpoint", use: checkpoint)
        router.get("admin/backup", use: backupStatus)
        router.post("admin/backup", use: backup)
    }

    @Sendable private func status(
        _ request: Request, _ context: TallyContext
    ) async throws -> JSONReply<[String: [String: Field]]> {
        try commands.require(.admin, context)
        let replies = await commands.run(
            [[Array("INFO".utf8)]], as: User(name: context.user?.name ?? ""),
            address: context.address)
        let text = try commands.value(replies.first).text ?? ""
        var sections: [String: [String: Field]] = [:]
        var section = ""
        for line in text.split(whereSeparator: \.isNewline) {
            if line.hasPrefix("# ") {
                section = line.dropFirst(2).lowercased()
                sections[section] = [:]
            } else if let colon = line.firstIndex(of: ":") {
                let value = String(line[line.index(after: colon)...])
                sections[section]?[String(line[..<colon])] =
                    Int64(value).map { .number($0) } ?? .text(value)
            }
        }
        return JSONReply(sections)
    }

    @Sendable private func partitions(
        _ request: Request, _ context: TallyContext
    ) async throws -> JSONReply<Partitions> {
        try commands.require(.admin, context)
        return JSONReply(Partitions(partitions: server.partitions))
    }

    @Sendable private func checkpoint(
        _ request: Request, _ context: TallyContext
    ) async throws -> JSONReply<Checkpoint> {
        let reply = try await commands.run(["BGSAVE"], context).text ?? ""
        return JSONReply(
            Checkpoint(status: reply.hasSuffix("started") ? "started" : "scheduled"),
            status: .accepted)
    }

    @Sendable private func backup(
        _ request: Request, _ context: TallyContext
    ) async throws -> JSONReply<BackupStatus> {
        try commands.require(.admin, context)
        let path = try await request.json(Backup.self, context).path
        do {
            _ = try await commands.run(["BACKUP", "START", path], context)
        } catch let problem as Problem where problem.detail.contains("another backup") {
            throw Problem(status: .conflict, title: "Busy", detail: problem.detail)
        }
        return JSONReply(BackupStatus(status: "working"), status: .accepted)
    }

    @Sendable private func backupStatus(
        _ request: Request, _ context: TallyContext
    ) async throws -> JSONReply<BackupStatus> {
        let status = try await commands.run(["BACKUP", "STATUS"], context).text ?? ""
        return JSONReply(BackupStatus(status: status))
    }
}
