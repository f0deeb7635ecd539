internal import HTTPTypes
internal import Hummingbird
internal import NIOCore
internal import TallyAccess
internal import TallyCore
internal import TallyRESP
internal import TallyServer

#if canImport(FoundationEssentials)
    internal import FoundationEssentials
#else
    internal import Foundation
#endif

/// What is known of a request: where it comes from, and who sends it.
struct TallyContext: RequestContext, RemoteAddressRequestContext {
    var coreContext: CoreRequestContextStorage
    let remoteAddress: SocketAddress?
    var user: User?

    init(source: ApplicationRequestContextSource) {
        coreContext = .init(source: source)
        remoteAddress = source.channel.remoteAddress
    }

    var maxUploadSize: Int { Limits.requestBodyBytesMax }

    /// The address without the port.
    var host: String { remoteAddress?.ipAddress ?? "?" }
    var address: String { "\(host):\(remoteAddress?.port ?? 0)" }
}

/// Finds out who sends a request, by HTTP Basic authentication.
struct AuthenticationMiddleware: RouterMiddleware {
    typealias Context = TallyContext

    let access: AccessControl

    func handle(
        _ request: Request, context: TallyContext,
        next: (Request, TallyContext) async throws -> Response
    ) async throws -> Response {
        var context = context
        if let header = request.headers[.authorization] {
            guard let (name, password) = Self.credentials(header) else {
                throw Problem(reply: "WRONGPASS expected Basic authentication")
            }
            let host = context.host
            let result = await withCheckedContinuation { continuation in
                access.authenticator.check(name, password: password, address: host) {
                    continuation.resume(returning: $0)
                }
            }
            switch result {
            case .admitted(let user): context.user = user
            case .refused:
                access.onFailedLogin(name, context.address)
                throw Problem(reply: "WRONGPASS invalid username-password pair or user is disabled")
            case .busy:
                throw Problem(
                    status: .tooManyRequests, title: "Too many logins",
                    detail: "too many passwords are being checked; try again")
            }
        } else {
            context.user = access.users.current.users.initial
        }
        return try await next(request, context)
    }

    private static func credentials(_ header: String) -> (String, [UInt8])? {
        let parts = header.split(separator: " ", maxSplits: 1)
        guard parts.count == 2, parts[0].lowercased() == "basic",
            let data = Data(base64Encoded: String(parts[1])),
            let colon = data.firstIndex(of: UInt8(ascii: ":"))
        else { return nil }
        return (
            String(decoding: data[..<colon], as: UTF8.self), Array(data[(colon + 1)...])
        )
    }
}

extension CommandService {
    /// Executes one command for a request.
    ///
    /// - Throws: `Problem` for an error reply.
    func run(_ words: [String], _ context: TallyContext) async throws -> RESPValue {
        let replies = await run(
            [words.map { Array($0.utf8) }], as: context.user, address: context.address)
        return try value(replies.first)
    }

    func value(_ reply: RESPValue?) throws -> RESPValue {
        guard let reply else {
            throw Problem(
                status: .internalServerError, title: "No reply", detail: "the command had no reply")
        }
        if case .error(let text) = reply { throw Problem(reply: text) }
        return reply
    }

    /// Requires a permission for what is no command.
    ///
    /// - Throws: `Problem`.
    func require(_ permission: Permission, _ context: TallyContext) throws {
        guard let user = context.user else {
            throw Problem(reply: "NOAUTH Authentication required")
        }
        guard user.permissions.isSuperset(of: permission) else {
            throw Problem(reply: "NOPERM User \(user.name) has no permission for this")
        }
    }
}

extension Request {
    /// Reads a body of JSON.
    ///
    /// - Throws: `Problem`, which says what is wrong with it.
    func json<Body: Decodable>(_ type: Body.Type, _ context: TallyContext) async throws -> Body {
        let buffer: ByteBuffer
        do {
            buffer = try await body.collect(upTo: context.maxUploadSize)
        } catch {
            throw Problem(
                status: .contentTooLarge, title: "Too large",
                detail: "a body may have \(context.maxUploadSize) bytes")
        }
        do {
            return try JSONDecoder().decode(type, from: Data(buffer.readableBytesView))
        } catch let error as DecodingError {
            throw Problem.badRequest("the body is not what is expected: \(Self.words(error))")
        }
    }

    private static func words(_ error: DecodingError) -> String {
        switch error {
        case .keyNotFound(let key, _): "'\(key.stringValue)' is missing"
        case .typeMismatch(_, let context), .valueNotFound(_, let context):
            "'\(context.codingPath.map(\.stringValue).joined(separator: "."))' has another type"
        case .dataCorrupted(let context) where !context.codingPath.isEmpty:
            "'\(context.codingPath.map(\.stringValue).joined(separator: "."))' has another type"
        default: "it is no JSON"
        }
    }

    /// The token under which it is counted once, if there is one.
    func idempotencyKey() throws -> String? {
        guard let name = HTTPField.Name("Idempotency-Key"), let value = headers[name] else {
            return nil
        }
        // Written as a string of structured fields, or bare.
        let bare =
            value.hasPrefix("\"") && value.hasSuffix("\"")
            ? String(value.dropFirst().dropLast()) : value
        let isToken = Array(bare.utf8).withUnsafeBytes { RequestToken($0) != nil }
        guard isToken else {
            throw Problem.badRequest("Idempotency-Key must be a UUID of version 7 or a ULID")
        }
        return bare
    }
}

extension TallyContext {
    /// A part of the path, without percent signs.
    func text(_ name: String) throws -> String {
        guard let raw = parameters.get(name), let bytes = Self.decode(raw.utf8),
            let text = String(validating: bytes, as: UTF8.self), !text.isEmpty
        else { throw Problem.badRequest("the path's \(name) must be UTF-8 in percent-encoding") }
        return text
    }

    /// What percent-encoding stands for; nil if it is broken.
    private static func decode(_ text: some Sequence<UInt8>) -> [UInt8]? {
        var bytes: [UInt8] = []
        var iterator = text.makeIterator()
        while let byte = iterator.next() {
            guard byte == UInt8(ascii: "%") else {
                bytes.append(byte)
                continue
            }
            guard let high = iterator.next().flatMap(digit),
                let low = iterator.next().flatMap(digit)
            else { return nil }
            bytes.append(high << 4 | low)
        }
        return bytes
    }

    private static func digit(_ byte: UInt8) -> UInt8? {
        Character(Unicode.Scalar(byte)).hexDigitValue.map { UInt8($0) }
    }
}

/// A step that is 1 if it is missing, and nothing but an integer if it is there.
struct Step: Decodable {
    let value: Int64

    static let one = Step(value: 1)

    private init(value: Int64) { self.value = value }

    init(from decoder: any Decoder) throws {
        value = try decoder.singleValueContainer().decode(Int64.self)
    }
}

extension KeyedDecodingContainer {
    /// The step under a key, 1 if there is no such key.
    func decodeStep(_ key: Key) throws -> Step {
        contains(key) ? try decode(Step.self, forKey: key) : .one
    }
}

/// A reply of JSON.
struct JSONReply<Body: Encodable & Sendable>: ResponseGenerator {
    let body: Body
    var status: HTTPResponse.Status = .ok

    init(_ body: Body, status: HTTPResponse.Status = .ok) {
        self.body = body
        self.status = status
    }

    func response(from request: Request, context: some RequestContext) throws -> Response {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.withoutEscapingSlashes, .sortedKeys]
        let bytes = try encoder.encode(body)
        return Response(
            status: status, headers: [.contentType: "application/json"],
            body: ResponseBody(byteBuffer: ByteBuffer(bytes: Array(bytes))))
    }
}
