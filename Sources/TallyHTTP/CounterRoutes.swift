internal import Hummingbird
internal import TallyCore
internal import TallyRESP
internal import TallyServer

/// One counter, and many at a time.
struct CounterRoutes {
    let commands: CommandService

    struct Counter: Encodable, Sendable {
        let key: String
        let value: Int64?

        private enum CodingKeys: CodingKey {
            case key, value
        }

        func encode(to encoder: any Encoder) throws {
            var container = encoder.container(keyedBy: CodingKeys.self)
            try container.encode(key, forKey: .key)
            // What is not there is null.
            try container.encode(value, forKey: .value)
        }
    }

    struct Increment: Decodable {
        let delta: Step

        private enum CodingKeys: CodingKey {
            case delta
        }

        init(from decoder: any Decoder) throws {
            delta = try decoder.container(keyedBy: CodingKeys.self).decodeStep(.delta)
        }
    }

    struct Value: Decodable {
        let value: Int64
    }

    struct Keys: Decodable {
        let keys: [String]
    }

    struct Increments: Decodable {
        struct One: Decodable {
            let key: String
            let delta: Step

            private enum CodingKeys: CodingKey {
                case key, delta
            }

            init(from decoder: any Decoder) throws {
                let container = try decoder.container(keyedBy: CodingKeys.self)
                key = try container.decode(String.self, forKey: .key)
                delta = try container.decodeStep(.delta)
            }
        }

        let increments: [One]
    }

    struct Counters: Encodable, Sendable {
        let counters: [Counter]
    }

    func add(to router: RouterGroup<TallyContext>) {
        router.get("counters/{key}", use: get)
        router.put("counters/{key}", use: set)
        router.delete("counters/{key}", use: delete)
        router.post("counters/{key}/increment", use: increment)
        router.post("batch/get", use: getMany)
        router.post("batch/increment", use: incrementMany)
    }

    @Sendable private func get(
        _ request: Request, _ context: TallyContext
    ) async throws -> JSONReply<Counter> {
        let key = try context.text("key")
        guard let value = try await commands.run(["GET", key], context).integer else {
            throw Problem.notFound("there is no counter '\(key)'")
        }
        return JSONReply(Counter(key: key, value: value))
    }

    @Sendable private func set(
        _ request: Request, _ context: TallyContext
    ) async throws -> JSONReply<Counter> {
        let key = try context.text("key")
        let value = try await request.json(Value.self, context).value
        _ = try await commands.run(
            try request.once(["SET", key, "\(value)"]), context)
        return JSONReply(Counter(key: key, value: value))
    }

    @Sendable private func delete(
        _ request: Request, _ context: TallyContext
    ) async throws -> Response {
        let key = try context.text("key")
        let removed = try await commands.run(try request.once(["DEL", key]), context)
        guard removed.integer == 1 else {
            throw Problem.notFound("there is no counter '\(key)'")
        }
        return Response(status: .noContent)
    }

    @Sendable private func increment(
        _ request: Request, _ context: TallyContext
    ) async throws -> JSONReply<Counter> {
        let key = try context.text("key")
        let delta = try await request.json(Increment.self, context).delta.value
        let value = try await commands.run(
            try request.once(["INCRBY", key, "\(delta)"]), context)
        return JSONReply(Counter(key: key, value: value.integer))
    }

    @Sendable private func getMany(
        _ request: Request, _ context: TallyContext
    ) async throws -> JSONReply<Counters> {
        let keys = try await request.json(Keys.self, context).keys
        try Self.check(keys.count, Limits.requestKeysMax)
        let values = try await commands.run(["MGET"] + keys, context).elements
        return JSONReply(
            Counters(counters: zip(keys, values).map { Counter(key: $0, value: $1.integer) }))
    }

    /// All of them, or none: a transaction.
    @Sendable private func incrementMany(
        _ request: Request, _ context: TallyContext
    ) async throws -> JSONReply<Counters> {
        let increments = try await request.json(Increments.self, context).increments
        try Self.check(increments.count, Limits.requestIncrementsMax)
        var sent = [["MULTI"]]
        sent += increments.map { ["INCRBY", $0.key, "\($0.delta.value)"] }
        sent.append(try request.once(["EXEC"]))
        let replies = await commands.run(
            sent.map { $0.map { Array($0.utf8) } }, as: context.user, address: context.address)
        for reply in replies.dropLast() { _ = try commands.value(reply) }
        let values = try commands.value(replies.last).elements
        // What leaves its range is not counted; the others are, as in Redis.
        for value in values { _ = try commands.value(value) }
        return JSONReply(
            Counters(
                counters: zip(increments, values).map { Counter(key: $0.key, value: $1.integer) }))
    }

    private static func check(_ count: Int, _ countMax: Int) throws {
        guard (1...countMax).contains(count) else {
            throw Problem.badRequest("1 to \(countMax) keys can be named at a time")
        }
    }
}

extension Request {
    /// A command, to be counted once if the request says so.
    func once(_ words: [String]) throws -> [String] {
        guard let token = try idempotencyKey() else { return words }
        return ["ONCE", token] + words
    }
}
