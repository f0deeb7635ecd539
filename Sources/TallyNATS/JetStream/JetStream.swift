import NIOCore

#if canImport(FoundationEssentials)
    import FoundationEssentials
#else
    import Foundation
#endif

/// JetStream's administration through one client. Costs nothing to make.
///
/// The `async` functions may be called from any thread; those with a completion, on the client's loop.
public struct JetStream: Sendable {
    /// The client it goes through.
    public let client: NATSClient
    /// Longest wait for an answer.
    public var timeout = Duration.seconds(5)

    static let prefix = "$JS.API."

    /// JetStream through `client`.
    public init(_ client: NATSClient) { self.client = client }

    /// What the account uses.
    public func account() async throws(JetStreamError) -> JetStreamAccount {
        try await call("INFO", Nothing())
    }

    // MARK: Streams

    /// Creates a stream; one that exists with the same settings is left as it is.
    public func createStream(
        _ configuration: StreamConfiguration
    ) async throws(JetStreamError) -> StreamInfo {
        try await call("STREAM.CREATE.\(named(configuration.name))", configuration)
    }

    /// Changes a stream's settings.
    public func updateStream(
        _ configuration: StreamConfiguration
    ) async throws(JetStreamError) -> StreamInfo {
        try await call("STREAM.UPDATE.\(named(configuration.name))", configuration)
    }

    /// What a stream is and holds.
    public func stream(_ name: String) async throws(JetStreamError) -> StreamInfo {
        try await call("STREAM.INFO.\(named(name))", Nothing())
    }

    /// The same, on the loop.
    public func stream(
        _ name: String, completion: @escaping (Result<StreamInfo, JetStreamError>) -> Void
    ) {
        do throws(JetStreamError) {
            call("STREAM.INFO.\(try named(name))", Nothing(), completion: completion)
        } catch {
            completion(.failure(error))
        }
    }

    /// Deletes a stream with all its messages.
    public func deleteStream(_ name: String) async throws(JetStreamError) {
        let _: Success = try await call("STREAM.DELETE.\(named(name))", Nothing())
    }

    /// Removes messages for good.
    ///
    /// - Parameters:
    ///   - name: The stream.
    ///   - sequence: Those below it; nil for all.
    ///   - subject: Those of it, with or without wildcards; nil for all.
    /// - Returns: how many were removed.
    @discardableResult
    public func purgeStream(
        _ name: String, below sequence: UInt64? = nil, subject: String? = nil
    ) async throws(JetStreamError) -> UInt64 {
        let request = PurgeRequest(seq: sequence, filter: subject)
        let done: Purged = try await call("STREAM.PURGE.\(named(name))", request)
        return done.purged
    }

    /// The same, on the loop.
    public func purgeStream(
        _ name: String, below sequence: UInt64,
        completion: @escaping (Result<UInt64, JetStreamError>) -> Void
    ) {
        do throws(JetStreamError) {
            call(
                "STREAM.PURGE.\(try named(name))", PurgeRequest(seq: sequence, filter: nil)
            ) { (result: Result<Purged, JetStreamError>) in completion(result.map(\.purged)) }
        } catch {
            completion(.failure(error))
        }
    }

    /// Lets another replica lead the stream.
    public func stepDownLeader(ofStream name: String) async throws(JetStreamError) {
        let _: Success = try await call("STREAM.LEADER.STEPDOWN.\(named(name))", Nothing())
    }

    // MARK: Calls

    /// `name`, if it may be a stream's.
    func named(_ name: String) throws(JetStreamError) -> String {
        guard NATSSubject.isName(name) else { throw .nameInvalid(name) }
        return name
    }

    private func call<Reply: Decodable & Sendable>(
        _ subject: @autoclosure () throws(JetStreamError) -> String,
        _ request: some Encodable & Sendable
    ) async throws(JetStreamError) -> Reply {
        let subject = try subject()
        let result: Result<Reply, JetStreamError> = await client.onLoop { complete in
            call(subject, request, completion: complete)
        }
        return try result.get()
    }

    /// Asks and reads the answer, on the loop.
    func call<Reply: Decodable>(
        _ subject: String, _ request: some Encodable,
        completion: @escaping (Result<Reply, JetStreamError>) -> Void
    ) {
        do {
            var payload = ByteBuffer()
            if !(request is Nothing) {
                payload.writeBytes(try JSONEncoder().encode(request))
            }
            try client.request(payload, to: Self.prefix + subject, timeout: timeout) { result in
                completion(
                    result.mapError { .request($0) }.flatMap { Self.read($0.payload) })
            }
        } catch let error as NATSNotSent {
            completion(.failure(.request(.notSent(error))))
        } catch {
            completion(.failure(.replyInvalid("\(error)")))
        }
    }

    /// Reads an answer: the error that it has, or `Reply`.
    static func read<Reply: Decodable>(_ payload: ByteBuffer) -> Result<Reply, JetStreamError> {
        do {
            let envelope = try JSONDecoder().decode(
                Envelope<Reply>.self, from: Data(payload.readableBytesView))
            return envelope.result.mapError { .api($0) }
        } catch {
            return .failure(.replyInvalid("\(error)"))
        }
    }
}

/// A request without contents.
struct Nothing: Encodable, Sendable {}

/// An answer that says no more than that it has been done.
struct Success: Decodable, Sendable {}

private struct PurgeRequest: Encodable, Sendable {
    var seq: UInt64?
    var filter: String?
}

private struct Purged: Decodable, Sendable {
    var purged: UInt64
}

/// Any answer of JetStream: an error or what was asked for.
private struct Envelope<Reply: Decodable>: Decodable {
    var result: Result<Reply, JetStreamAPIError>

    private enum CodingKeys: CodingKey {
        case error
    }

    init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        if let error = try fields.decodeIfPresent(JetStreamAPIError.self, forKey: .error) {
            result = .failure(error)
        } else {
            result = .success(try Reply(from: decoder))
        }
    }
}
