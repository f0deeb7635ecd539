internal import Hummingbird
internal import TallyCore
internal import TallyRESP
internal import TallyServer

/// Families of counters: records of several columns.
struct FamilyRoutes {
    let commands: CommandService

    struct Names: Encodable, Sendable {
        let families: [String]
    }

    struct Family: Encodable, Sendable {
        let name: String
        let declaration: [String]
    }

    struct Record: Encodable, Sendable {
        let family: String
        let key: String
        let columns: [String: Int64]
    }

    struct Records: Encodable, Sendable {
        let records: [Record]
    }

    struct Columns: Decodable {
        let columns: [String: Int64]
    }

    struct Increment: Decodable {
        let column: String
        let delta: Step

        private enum CodingKeys: CodingKey {
            case column, delta
        }

        init(from decoder: any Decoder) throws {
            let container = try decoder.container(keyedBy: CodingKeys.self)
            column = try container.decode(String.self, forKey: .column)
            delta = try container.decodeStep(.delta)
        }
    }

    struct Column: Encodable, Sendable {
        let family: String
        let key: String
        let column: String
        let value: Int64?
    }

    struct Keys: Decodable {
        let keys: [String]
    }

    func add(to router: RouterGroup<TallyContext>) {
        router.get("families", use: list)
        router.get("families/{family}", use: describe)
        router.get("families/{family}/records/{key}", use: get)
        router.put("families/{family}/records/{key}", use: set)
        router.delete("families/{family}/records/{key}", use: delete)
        router.post("families/{family}/records/{key}/increment", use: increment)
        router.post("families/{family}/batch/get", use: getMany)
    }

    @Sendable private func list(
        _ request: Request, _ context: TallyContext
    ) async throws -> JSONReply<Names> {
        let names = try await commands.run(["DESCRIBE"], context).elements
        return JSONReply(Names(families: names.compactMap(\.text)))
    }

    @Sendable private func describe(
        _ request: Request, _ context: TallyContext
    ) async throws -> JSONReply<Family> {
        let name = try await family(context)
        let lines = try await commands.run(["DESCRIBE", name], context).elements
        return JSONReply(Family(name: name, declaration: lines.compactMap(\.text)))
    }

    @Sendable private func get(
        _ request: Request, _ context: TallyContext
    ) async throws -> JSONReply<Record> {
        let (family, key) = (try await family(context), try context.text("key"))
        return JSONReply(try await record(family, key, context))
    }

    @Sendable private func set(
        _ request: Request, _ context: TallyContext
    ) async throws -> JSONReply<Record> {
        let (family, key) = (try await family(context), try context.text("key"))
        let columns = try await request.json(Columns.self, context).columns
        guard !columns.isEmpty else { throw Problem.badRequest("'columns' names none") }
        let words = columns.sorted { $0.key < $1.key }.flatMap { [$0.key, "\($0.value)"] }
        _ = try await commands.run(try request.once(["HSET", "\(family):\(key)"] + words), context)
        return JSONReply(try await record(family, key, context))
    }

    @Sendable private func delete(
        _ request: Request, _ context: TallyContext
    ) async throws -> Response {
        let (family, key) = (try await family(context), try context.text("key"))
        let removed = try await commands.run(
            try request.once(["DEL", "\(family):\(key)"]), context)
        guard removed.integer == 1 else {
            throw Problem.notFound("counter '\(family)' has no record '\(key)'")
        }
        return Response(status: .noContent)
    }

    @Sendable private func increment(
        _ request: Request, _ context: TallyContext
    ) async throws -> JSONReply<Column> {
        let (family, key) = (try await family(context), try context.text("key"))
        let increment = try await request.json(Increment.self, context)
        let value = try await commands.run(
            try request.once(
                ["HINCRBY", "\(family):\(key)", increment.column, "\(increment.delta.value)"]),
            context)
        return JSONReply(
            Column(family: family, key: key, column: increment.column, value: value.integer))
    }

    @Sendable private func getMany(
        _ request: Request, _ context: TallyContext
    ) async throws -> JSONReply<Records> {
        let family = try await family(context)
        let keys = try await request.json(Keys.self, context).keys
        guard (1...Limits.requestKeysMax).contains(keys.count) else {
            throw Problem.badRequest("1 to \(Limits.requestKeysMax) keys can be named at a time")
        }
        let replies = await commands.run(
            keys.map { [Array("HGETALL".utf8), Array("\(family):\($0)".utf8)] },
            as: context.user, address: context.address)
        var records: [Record] = []
        for (key, reply) in zip(keys, replies) {
            records.append(
                Record(family: family, key: key, columns: Self.columns(try commands.value(reply))))
        }
        return JSONReply(Records(records: records))
    }

    /// The family in the path, which must exist.
    private func family(_ context: TallyContext) async throws -> String {
        let name = try context.text("family")
        let names = try await commands.run(["DESCRIBE"], context).elements
        guard names.contains(where: { $0.text == name }) else {
            throw Problem.notFound("there is no counter family '\(name)'")
        }
        return name
    }

    private func record(
        _ family: String, _ key: String, _ context: TallyContext
    ) async throws -> Record {
        let reply = try await commands.run(["HGETALL", "\(family):\(key)"], context)
        return Record(family: family, key: key, columns: Self.columns(reply))
    }

    private static func columns(_ reply: RESPValue) -> [String: Int64] {
        var columns: [String: Int64] = [:]
        let elements = reply.elements
        for index in stride(from: 0, to: elements.count - 1, by: 2) {
            if let name = elements[index].text { columns[name] = elements[index + 1].integer }
        }
        return columns
    }
}
