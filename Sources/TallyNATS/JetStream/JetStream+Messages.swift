public import NIOCore

#if canImport(FoundationEssentials)
    import FoundationEssentials
#else
    import Foundation
#endif

/// A message as a stream holds it.
public struct StoredMessage: Equatable, Sendable {
    /// Subject it was published to.
    public var subject: String
    /// Its sequence in the stream.
    public var sequence: UInt64
    /// When the stream's leader took it.
    public var time: NATSTime
    /// Its headers, if there are any.
    public var headers: NATSHeaders?
    /// Its payload.
    public var payload: ByteBuffer
}

/// Who is asked for a stored message.
public enum MessageSource: Sendable {
    /// The stream's leader: what has been acknowledged is seen.
    case leader
    /// Any replica, which may be behind. The stream must allow it (`allowsDirect`).
    case anyReplica
}

extension JetStream {
    /// The message at `sequence`; nil if there is none or no more.
    public func message(
        ofStream name: String, sequence: UInt64, from source: MessageSource = .leader
    ) async throws(JetStreamError) -> StoredMessage? {
        try await get(name, GetRequest(seq: sequence), source)
    }

    /// The last message of `subject`, which may have wildcards; nil if there is none.
    public func lastMessage(
        ofStream name: String, subject: String, from source: MessageSource = .leader
    ) async throws(JetStreamError) -> StoredMessage? {
        try await get(name, GetRequest(last_by_subj: subject), source)
    }

    private func get(
        _ name: String, _ request: GetRequest, _ source: MessageSource
    ) async throws(JetStreamError) -> StoredMessage? {
        _ = try named(name)
        let result: Result<StoredMessage?, JetStreamError> = await client.onLoop { complete in
            get(name, request, source, completion: complete)
        }
        return try result.get()
    }

    /// Asks for one message, on the loop.
    func get(
        _ name: String, _ request: GetRequest, _ source: MessageSource,
        completion: @escaping (Result<StoredMessage?, JetStreamError>) -> Void
    ) {
        switch source {
        case .leader:
            call("STREAM.MSG.GET.\(name)", request) { (result: Result<GetReply, JetStreamError>) in
                switch result {
                case .success(let reply): completion(.success(reply.message))
                case .failure(let error)
                where error.isAPIError(JetStreamAPIError.Code.messageNotFound):
                    completion(.success(nil))
                case .failure(let error): completion(.failure(error))
                }
            }
        case .anyReplica:
            do {
                let payload = ByteBuffer(bytes: try JSONEncoder().encode(request))
                try client.request(
                    payload, to: "\(Self.prefix)DIRECT.GET.\(name)", timeout: timeout
                ) { result in
                    completion(result.mapError { .request($0) }.flatMap(Self.readDirect))
                }
            } catch let error as NATSNotSent {
                completion(.failure(.request(.notSent(error))))
            } catch {
                completion(.failure(.replyInvalid("\(error)")))
            }
        }
    }

    /// Reads a message whose place is in its headers.
    static func readDirect(_ message: NATSMessage) -> Result<StoredMessage?, JetStreamError> {
        guard let headers = message.headers else {
            return .failure(.replyInvalid("a direct answer has no headers"))
        }
        if let status = headers.status {
            if status == 404 { return .success(nil) }
            let text = headers.statusDescription
            return .failure(.api(.init(status: status, code: 0, text: text)))
        }
        guard let subject = headers["Nats-Subject"],
            let sequence = headers.integer("Nats-Sequence"),
            let time = headers["Nats-Time-Stamp"].flatMap({ NATSTime($0) })
        else { return .failure(.replyInvalid("a direct answer does not say where it is from")) }
        return .success(
            StoredMessage(
                subject: subject, sequence: sequence, time: time, headers: headers,
                payload: message.payload))
    }
}

/// Which message is wanted: exactly one of these.
struct GetRequest: Encodable, Sendable {
    var seq: UInt64?
    var last_by_subj: String?
}

/// A message as JSON has it, headers and payload in base64.
private struct GetReply: Decodable, Sendable {
    var message: StoredMessage

    private enum CodingKeys: CodingKey {
        case message
    }

    private enum MessageKeys: String, CodingKey {
        case subject, time
        case sequence = "seq"
        case headers = "hdrs"
        case payload = "data"
    }

    init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
            .nestedContainer(keyedBy: MessageKeys.self, forKey: .message)
        let headers = try fields.decodeIfPresent(Data.self, forKey: .headers)
            .map { ByteBuffer(bytes: $0) }
        message = StoredMessage(
            subject: try fields.decode(String.self, forKey: .subject),
            sequence: try fields.decode(UInt64.self, forKey: .sequence),
            time: try fields.decode(NATSTime.self, forKey: .time),
            headers: headers.flatMap {
                NATSHeaders.isValid($0) ? NATSHeaders(received: $0) : nil
            },
            payload: ByteBuffer(
                bytes: try fields.decodeIfPresent(Data.self, forKey: .payload) ?? Data()))
    }
}
