public import NIOCore

/// Settings of a bucket of keys and values.
public struct KeyValueConfiguration: Equatable, Sendable {
    /// Name of the bucket.
    public var bucket: String
    /// What it is for, in words.
    public var description: String?
    /// Values kept of each key, 1...64.
    public var history = 1
    /// Age at which values go; nil for never.
    public var ageMax: Duration?
    /// Most bytes; nil for no limit. Beyond it nothing can be written.
    public var bytesMax: Int?
    /// Longest value with its headers, bytes; nil for the server's limit.
    public var valueBytesMax: Int?
    /// Where values are kept.
    public var storage = StreamConfiguration.Storage.file
    /// Replicas, 1, 3 or 5.
    public var replicas = 1
    /// How long a marker tells watchers that a value went by age, from a second. With it values may have
    /// lifetimes of their own; without it watchers are not told.
    public var deleteMarkerLifetime: Duration?
    /// Where the replicas may be.
    public var placement: StreamConfiguration.Placement?
    /// Anything that belongs to the bucket.
    public var metadata: [String: String] = [:]

    /// A bucket with the defaults.
    public init(bucket: String) { self.bucket = bucket }

    /// The stream that the bucket is.
    var stream: StreamConfiguration {
        var stream = StreamConfiguration(name: "KV_\(bucket)", subjects: ["$KV.\(bucket).>"])
        stream.description = description
        stream.messagesPerSubjectMax = history
        stream.ageMax = ageMax
        stream.bytesMax = bytesMax
        stream.messageBytesMax = valueBytesMax
        stream.storage = storage
        stream.replicas = replicas
        stream.discard = .new
        stream.allowsRollup = true
        stream.deniesDelete = true
        stream.allowsDirect = true
        stream.allowsMessageLifetime = deleteMarkerLifetime != nil
        stream.deleteMarkerLifetime = deleteMarkerLifetime
        stream.placement = placement
        stream.metadata = metadata
        return stream
    }
}

/// Why something was not done with a key.
public enum KeyValueError: Error, Equatable, Sendable {
    /// A bucket's name has other characters than letters, digits, `_` and `-`.
    case bucketInvalid(String)
    /// A key has other characters than letters, digits, `-/_=.`, or starts or ends with a dot.
    case keyInvalid(String)
    /// The key has another revision than expected, or is just being written. Nothing has changed.
    case conflict
    /// Nothing has been sent.
    case notSent(NATSNotSent)
    /// The bucket refuses it. Nothing has changed.
    case refused(PublishOutcome.Refusal)
    /// It may have been done, now or later: read the key to know.
    case outcomeUnknown(PublishOutcome.Uncertainty)
    /// The bucket could not be read or made.
    case jetStream(JetStreamError)
}

/// One value of a key.
public struct KeyValueEntry: Equatable, Sendable {
    /// What was done with the key.
    public enum Operation: Equatable, Sendable {
        /// It got a value.
        case put
        /// Its value was deleted.
        case delete
        /// Its value was deleted with its history.
        case purge
        /// Its value was removed because of its age.
        case expire
    }

    /// The key.
    public var key: String
    /// Its value; empty unless it was put.
    public var value: ByteBuffer
    /// Revision: a number that grows with every change in the bucket.
    public var revision: UInt64
    /// When it was written, by the stream's leader's clock.
    public var created: NATSTime
    /// What was done.
    public var operation: Operation

    /// Whether the key has a value now.
    public var isPresent: Bool { operation == .put }

    /// What a message of the bucket's stream says; nil if its subject is not below `prefix`.
    init?(
        subject: String, prefix: String, headers: NATSHeaders?, payload: ByteBuffer,
        sequence: UInt64, time: NATSTime
    ) {
        guard subject.hasPrefix(prefix) else { return nil }
        key = String(subject.dropFirst(prefix.count))
        value = payload
        revision = sequence
        created = time
        operation =
            switch (headers?["KV-Operation"], headers?["Nats-Marker-Reason"]) {
            case ("DEL", _): .delete
            case ("PURGE", _): .purge
            case (_, "MaxAge"): .expire
            case (_, "Purge"): .purge
            case (_, .some): .delete
            default: .put
            }
    }
}
