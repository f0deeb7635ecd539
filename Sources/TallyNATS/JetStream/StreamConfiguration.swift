/// Settings of a stream: those that are used here. Others get the server's defaults, also in an update.
public struct StreamConfiguration: Equatable, Sendable {
    /// Where a stream keeps its messages.
    public enum Storage: String, Codable, Sendable {
        /// On disk.
        case file
        /// In memory.
        case memory
    }

    /// What happens at a limit.
    public enum Discard: String, Codable, Sendable {
        /// The oldest messages go.
        case old
        /// New messages are refused.
        case new
    }

    /// Where a stream's replicas may be.
    public struct Placement: Equatable, Codable, Sendable {
        /// Name of the cluster.
        public var cluster: String?
        /// Tags that the servers must have.
        public var tags: [String]?

        /// A placement.
        public init(cluster: String? = nil, tags: [String]? = nil) {
            self.cluster = cluster
            self.tags = tags
        }
    }

    /// Name of the stream.
    public var name: String
    /// What it is for, in words.
    public var description: String?
    /// Subjects that it stores.
    public var subjects: [String]
    /// Where messages are kept.
    public var storage = Storage.file
    /// Replicas, 1, 3 or 5.
    public var replicas = 1
    /// Most messages; nil for no limit.
    public var messagesMax: Int?
    /// Most messages of one subject; nil for no limit.
    public var messagesPerSubjectMax: Int?
    /// Most bytes; nil for no limit.
    public var bytesMax: Int?
    /// Age at which messages go; nil for never.
    public var ageMax: Duration?
    /// Longest message with its headers, bytes; nil for the server's limit.
    public var messageBytesMax: Int?
    /// Most consumers; nil for no limit.
    public var consumersMax: Int?
    /// What happens at a limit.
    public var discard = Discard.old
    /// Whether a subject at its limit refuses new messages.
    public var discardsNewPerSubject = false
    /// How long message ids are remembered; nil for the server's two minutes.
    public var duplicateWindow: Duration?
    /// Whether any replica may be asked for single messages.
    public var allowsDirect = false
    /// Whether single messages may not be deleted.
    public var deniesDelete = false
    /// Whether it may not be purged.
    public var deniesPurge = false
    /// Whether a message may replace all earlier ones of its subject.
    public var allowsRollup = false
    /// Whether messages may have lifetimes of their own.
    public var allowsMessageLifetime = false
    /// How long a marker stays where a subject's last message has gone by age; nil for no marker.
    public var deleteMarkerLifetime: Duration?
    /// The sequence that its first message gets.
    public var firstSequence: UInt64 = 1
    /// Where the replicas may be.
    public var placement: Placement?
    /// Anything that belongs to the stream.
    public var metadata: [String: String] = [:]

    /// A stream with the defaults.
    public init(name: String, subjects: [String]) {
        self.name = name
        self.subjects = subjects
    }
}

extension StreamConfiguration: Codable {
    private enum CodingKeys: String, CodingKey {
        case name, description, subjects, retention, storage, discard, placement, metadata
        case replicas = "num_replicas"
        case messagesMax = "max_msgs"
        case messagesPerSubjectMax = "max_msgs_per_subject"
        case bytesMax = "max_bytes"
        case ageMax = "max_age"
        case messageBytesMax = "max_msg_size"
        case consumersMax = "max_consumers"
        case discardsNewPerSubject = "discard_new_per_subject"
        case duplicateWindow = "duplicate_window"
        case allowsDirect = "allow_direct"
        case deniesDelete = "deny_delete"
        case deniesPurge = "deny_purge"
        case allowsRollup = "allow_rollup_hdrs"
        case allowsMessageLifetime = "allow_msg_ttl"
        case deleteMarkerLifetime = "subject_delete_marker_ttl"
        case firstSequence = "first_seq"
    }

    /// Reads it from JSON.
    public init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        func flag(_ key: CodingKeys) throws -> Bool {
            try fields.decodeIfPresent(Bool.self, forKey: key) ?? false
        }
        /// Servers write no limit as -1 or 0.
        func limit(_ key: CodingKeys) throws -> Int? {
            try fields.decodeIfPresent(Int.self, forKey: key).flatMap { $0 > 0 ? $0 : nil }
        }
        func duration(_ key: CodingKeys) throws -> Duration? {
            try fields.decodeIfPresent(Int64.self, forKey: key)
                .flatMap { $0 > 0 ? .nanoseconds($0) : nil }
        }
        name = try fields.decode(String.self, forKey: .name)
        description = try fields.decodeIfPresent(String.self, forKey: .description)
        subjects = try fields.decodeIfPresent([String].self, forKey: .subjects) ?? []
        storage = try fields.decode(Storage.self, forKey: .storage)
        replicas = try fields.decode(Int.self, forKey: .replicas)
        messagesMax = try limit(.messagesMax)
        messagesPerSubjectMax = try limit(.messagesPerSubjectMax)
        bytesMax = try limit(.bytesMax)
        ageMax = try duration(.ageMax)
        messageBytesMax = try limit(.messageBytesMax)
        consumersMax = try limit(.consumersMax)
        discard = try fields.decode(Discard.self, forKey: .discard)
        discardsNewPerSubject = try flag(.discardsNewPerSubject)
        duplicateWindow = try duration(.duplicateWindow)
        allowsDirect = try flag(.allowsDirect)
        deniesDelete = try flag(.deniesDelete)
        deniesPurge = try flag(.deniesPurge)
        allowsRollup = try flag(.allowsRollup)
        allowsMessageLifetime = try flag(.allowsMessageLifetime)
        deleteMarkerLifetime = try duration(.deleteMarkerLifetime)
        firstSequence = max(1, try fields.decodeIfPresent(UInt64.self, forKey: .firstSequence) ?? 1)
        placement = try fields.decodeIfPresent(Placement.self, forKey: .placement)
        metadata = try fields.decodeIfPresent([String: String].self, forKey: .metadata) ?? [:]
    }

    /// Writes it as JSON; what is at its default is left out where the server's default is the same.
    public func encode(to encoder: any Encoder) throws {
        var fields = encoder.container(keyedBy: CodingKeys.self)
        func flag(_ value: Bool, _ key: CodingKeys) throws {
            if value { try fields.encode(true, forKey: key) }
        }
        try fields.encode(name, forKey: .name)
        try fields.encodeIfPresent(description, forKey: .description)
        try fields.encode(subjects, forKey: .subjects)
        try fields.encode("limits", forKey: .retention)
        try fields.encode(storage, forKey: .storage)
        try fields.encode(replicas, forKey: .replicas)
        try fields.encode(messagesMax ?? -1, forKey: .messagesMax)
        try fields.encode(messagesPerSubjectMax ?? -1, forKey: .messagesPerSubjectMax)
        try fields.encode(bytesMax ?? -1, forKey: .bytesMax)
        try fields.encode(ageMax?.nanoseconds ?? 0, forKey: .ageMax)
        try fields.encode(messageBytesMax ?? -1, forKey: .messageBytesMax)
        try fields.encode(consumersMax ?? -1, forKey: .consumersMax)
        try fields.encode(discard, forKey: .discard)
        try flag(discardsNewPerSubject, .discardsNewPerSubject)
        try fields.encodeIfPresent(duplicateWindow?.nanoseconds, forKey: .duplicateWindow)
        try flag(allowsDirect, .allowsDirect)
        try flag(deniesDelete, .deniesDelete)
        try flag(deniesPurge, .deniesPurge)
        try flag(allowsRollup, .allowsRollup)
        try flag(allowsMessageLifetime, .allowsMessageLifetime)
        try fields.encodeIfPresent(
            deleteMarkerLifetime?.nanoseconds, forKey: .deleteMarkerLifetime)
        if firstSequence > 1 { try fields.encode(firstSequence, forKey: .firstSequence) }
        try fields.encodeIfPresent(placement, forKey: .placement)
        if !metadata.isEmpty { try fields.encode(metadata, forKey: .metadata) }
    }
}
