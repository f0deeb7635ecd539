import TallyCluster
import TallyCore
import TallyNode
import TallyRESP

/// A change of a cluster's schema on its way to all logs.
final class PendingSchemaChange: Sendable {
    private let ended = Locked<SchemaAnswer?>(nil)

    /// What became of it, nil while that is open.
    var answer: SchemaAnswer? { ended.withLock { $0 } }

    func end(_ answer: SchemaAnswer) { ended.withLock { $0 = answer } }
}

extension CommandProcessor {
    /// Has `ADD`, `ALTER` or `DROP` made everywhere, and replies when it is.
    mutating func dispatchSchemaChange(
        _ cluster: ClusterAccess, _ owner: Int, _ session: inout Session
    ) -> Dispatch {
        let pending: PendingSchemaChange
        if let begun = session.schemaChange {
            pending = begun
        } else {
            let change: SchemaChange
            do throws(SchemaChange.TextError) {
                change = try SchemaChange((0..<arguments.count).map { arguments[$0].text })
            } catch {
                return Dispatch(reject(owner, Refusal("ERR \(error)"), &session))
            }
            pending = PendingSchemaChange()
            cluster.changeSchema(change) { [pending] in pending.end($0) }
            session.schemaChange = pending
        }
        guard let answer = pending.answer else { return .waiting }
        session.schemaChange = nil
        switch answer {
        case .done:
            guard session.takeReplyMode() == .on else { return .done }
            return Dispatch(replyAtOnce(owner) { $0.replies.simple("OK") })
        case .refused(let reason):
            return Dispatch(reject(owner, Refusal("ERR \(reason)"), &session))
        case .delayed:
            return Dispatch(
                reject(
                    owner,
                    Refusal(
                        "UNAVAILABLE the change is decided, and is made in some logs when they can be reached"
                    ), &session))
        case .unknown:
            return Dispatch(
                reject(
                    owner, Refusal("UNKNOWN whether the change will be made is not known"),
                    &session))
        }
    }
}
