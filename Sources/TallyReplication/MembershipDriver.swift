import Logging
import NIOCore
import NIOFoundationCompat
import Synchronization
import TallyCluster
import TallyCore
import TallyNATS

#if canImport(FoundationEssentials)
    import FoundationEssentials
#else
    import Foundation
#endif

/// Tells the other nodes of this one, listens to them, and sees to it that a map of who is to hold what is
/// published.
///
/// On the client's loop.
final class MembershipDriver: @unchecked Sendable {
    // Sendable because it is touched only on the loop.
    private let client: NATSClient
    private let settings: ClusterSettings
    private let bucket: KeyValueBucket
    private let clock: any Clock
    private let logger: Logger
    private var membership: Membership
    /// What this node says of itself, but for its logs.
    private var own: NodeRecord
    private let progress: () -> (logs: [Int: NodeRecord.Progress], schemaChanges: UInt64)
    private let onView: (ClusterView) -> Void
    private let onContact: () -> Void
    private let onEntry: (KeyValueEntry) -> Void
    private let onCurrent: () -> Void
    private var watch: KeyValueWatch?
    private var subscription: NATSSubscription?
    private var revision: UInt64 = 0
    private var isPublishing = false
    private var lastSpoken: UInt64 = 0
    /// What ought to be published, and since when it has been the same.
    private var wanted: (assignment: Assignment, since: UInt64)?
    /// Whether an operator has given this node's places away.
    private var isSaidAbsent = false
    private var knownNodes: Set<NodeIdentity> = []

    private static let silenceMaxNanoseconds = Limits.nodeSilenceMilliseconds * 1_000_000
    private static let speechNanoseconds: UInt64 = 200_000_000
    /// A wish for another assignment must hold for so long, so that nodes that start together are one wish.
    private static let wishNanoseconds: UInt64 = 1_000_000_000

    /// - Parameters:
    ///   - progress: How far this node has come with its logs, and with the schema.
    ///   - onEntry: Called with what is put into the cluster's bucket.
    ///   - onCurrent: Called when all that was in the bucket has been told.
    ///   - onContact: Called when a node is heard, this one too: then the broker can be reached.
    ///   - onView: Called with who serves what, several times a second.
    init(
        _ settings: ClusterSettings, _ client: NATSClient, own: NodeRecord, clock: any Clock,
        logger: Logger,
        progress: @escaping () -> (logs: [Int: NodeRecord.Progress], schemaChanges: UInt64),
        onContact: @escaping () -> Void, onEntry: @escaping (KeyValueEntry) -> Void,
        onCurrent: @escaping () -> Void,
        onView: @escaping (ClusterView) -> Void
    ) {
        self.onContact = onContact
        self.onEntry = onEntry
        self.onCurrent = onCurrent
        self.settings = settings
        self.client = client
        self.own = own
        self.clock = clock
        self.logger = logger
        self.progress = progress
        self.onView = onView
        membership = Membership(
            own: own.node, logCount: settings.logs, now: clock.monotonicNanoseconds())
        bucket = settings.bucket(client)
        membership.hear(own, now: clock.monotonicNanoseconds())
    }

    /// What is known at the moment.
    var view: ClusterView {
        membership.view(
            now: clock.monotonicNanoseconds(), silenceMaxNanoseconds: Self.silenceMaxNanoseconds)
    }

    func start() {
        do {
            subscription = try client.subscribe(settings.nodesSubject) { [weak self] in
                self?.onContact()
                self?.hear($0)
            }
            watch = try KeyValueWatch(bucket) { [weak self] in self?.receive($0) }
        } catch {
            logger.error("cannot listen to the other nodes", metadata: ["error": "\(error)"])
        }
        speak()
    }

    func stop() {
        watch?.stop()
        watch = nil
        if let subscription { client.unsubscribe(subscription) }
        subscription = nil
    }

    /// Tells the others that this node goes.
    func sayGoodbye() {
        say(
            NodeSpeech(
                goodbye: Goodbye(node: own.node, startedMilliseconds: own.startedMilliseconds)))
    }

    /// Its logs are to go to others, or may come back.
    private func setDraining(_ isDraining: Bool) {
        guard own.isDraining != isDraining else { return }
        logger.notice(isDraining ? "this node's logs go to others" : "this node takes logs again")
        own.isDraining = isDraining
        speak()
    }

    func tick() {
        let now = clock.monotonicNanoseconds()
        if now - lastSpoken >= Self.speechNanoseconds {
            speak()
            if isSaidAbsent { denyAbsence() }
        }
        let view = view
        report(view)
        onView(view)
        // One asks for it, so that not all do; any may.
        if view.nodes.keys.min() == own.node { considerAssignment(now) }
    }

    private func report(_ view: ClusterView) {
        let nodes = Set(view.nodes.keys)
        guard nodes != knownNodes else { return }
        for node in nodes.subtracting(knownNodes) {
            let address = view.nodes[node]?.address
            logger.notice(
                "a node is there",
                metadata: [
                    "node": "\(node)",
                    "address": "\(address?.host ?? ""):\(address?.port ?? address?.tlsPort ?? 0)",
                ])
        }
        for node in knownNodes.subtracting(nodes) {
            logger.notice("a node is silent", metadata: ["node": "\(node)"])
        }
        knownNodes = nodes
    }

    // MARK: Speaking and hearing

    private func speak() {
        (own.logs, own.schemaChanges) = progress()
        let now = clock.monotonicNanoseconds()
        lastSpoken = now
        membership.hear(own, now: now)
        say(NodeSpeech(record: own))
    }

    private func say(_ speech: NodeSpeech) {
        guard let bytes = try? JSONEncoder().encodeAsByteBuffer(speech, allocator: .init()) else {
            preconditionFailure("a node's record has no JSON")
        }
        // Without servers nobody hears it, and it is said again soon.
        try? client.publish(bytes, to: settings.nodesSubject)
    }

    private func hear(_ message: NATSMessage) {
        let decoded = try? JSONDecoder().decode(NodeSpeech.self, from: message.payload)
        guard let speech = decoded else { return }
        let now = clock.monotonicNanoseconds()
        if let record = speech.record, record.node != own.node {
            membership.hear(record, now: now)
        }
        if let goodbye = speech.goodbye, goodbye.node != own.node {
            membership.forget(goodbye.node, startedMilliseconds: goodbye.startedMilliseconds)
        }
    }

    // MARK: The assignment

    private func receive(_ event: KeyValueWatchEvent) {
        switch event {
        case .entry(let entry) where entry.key == ClusterSettings.drainKey(of: own.node):
            setDraining(entry.isPresent)
        case .entry(let entry) where ClusterSettings.node(ofAbsentKey: entry.key) != nil:
            setAbsent(entry.key, entry.isPresent)
        case .entry(let entry):
            guard entry.key == ClusterSettings.assignmentKey else { return onEntry(entry) }
            revision = max(revision, entry.revision)
            guard entry.isPresent else { return }
            do {
                let assignment = try JSONDecoder().decode(Assignment.self, from: entry.value)
                membership.publish(assignment, version: entry.revision)
                logger.info(
                    "who is to hold what has been published",
                    metadata: ["revision": "\(entry.revision)"])
            } catch {
                logger.error(
                    "the published assignment cannot be read", metadata: ["error": "\(error)"])
            }
        case .vanished(let key):
            if key == ClusterSettings.drainKey(of: own.node) { setDraining(false) }
            setAbsent(key, false)
        case .current: onCurrent()
        case .interrupted: return
        case .ended(let end):
            logger.error("the cluster's bucket is another one", metadata: ["reason": "\(end)"])
        }
    }

    private func setAbsent(_ key: String, _ isAbsent: Bool) {
        guard let node = ClusterSettings.node(ofAbsentKey: key) else { return }
        membership.setAbsent(node, isAbsent)
        if node == own.node { isSaidAbsent = isAbsent }
    }

    /// It is here: so it says until everybody knows.
    private func denyAbsence() {
        bucket.write(.delete, to: ClusterSettings.absentKey(of: own.node)) { _ in }
    }

    private func considerAssignment(_ now: UInt64) {
        guard !isPublishing,
            let assignment = membership.wantedAssignment(
                copies: settings.copies, now: now,
                silenceMaxNanoseconds: Self.silenceMaxNanoseconds,
                absenceMaxNanoseconds: UInt64(settings.absenceSecondsMax) * 1_000_000_000)
        else {
            wanted = nil
            return
        }
        guard let since = wanted?.since, wanted?.assignment == assignment else {
            wanted = (assignment, now)
            return
        }
        guard now - since >= Self.wishNanoseconds else { return }
        publish(assignment)
    }

    private func publish(_ assignment: Assignment) {
        guard let bytes = try? ClusterDirectory.encoded(assignment) else {
            preconditionFailure("an assignment has no JSON")
        }
        isPublishing = true
        bucket.write(
            .put(bytes), to: ClusterSettings.assignmentKey, revision: revision
        ) { [weak self] result in
            self?.isPublishing = false
            self?.wanted = nil
            if case .failure(let error) = result {
                // Somebody was faster, or there is no leader: the next wish sees.
                self?.logger.debug("not published", metadata: ["reason": "\(error)"])
            }
        }
    }
}

/// What nodes say on the cluster's subject.
struct NodeSpeech: Codable {
    var record: NodeRecord?
    var goodbye: Goodbye?
}

/// A node goes.
struct Goodbye: Codable {
    var node: NodeIdentity
    var startedMilliseconds: UInt64
}
