import TallyCore
import TallyNode
import TallyRESP

/// The commands that declare counter families, and show them.
extension CommandProcessor {
    /// Plans `ADD`, `ALTER` or `DROP`: as operations of every partition, behind everything before.
    ///
    /// - Parameter isRepeated: Whether it has been made before, and is only to be told of.
    mutating func planSchemaChange(isRepeated: Bool = false) throws(Refusal) -> ReplyPlan {
        guard server.cluster == nil else {
            throw Refusal(
                "ERR in a cluster, counters are declared by themselves: not with a token or in a transaction"
            )
        }
        let words = (0..<arguments.count).map { arguments[$0].text }
        let change: SchemaChange
        var changed = catalog.schema
        do {
            change = try SchemaChange(words)
            if !isRepeated { try changed.apply(change) }
        } catch {
            throw Refusal("ERR \(error)")
        }
        let first = batch.count
        batch.appendChange(change)
        return plan(.ok, from: first)
    }

    /// `DESCRIBE`: the names of all families; `DESCRIBE family`: the changes that make it.
    mutating func describe() {
        guard arguments.count > 1 else {
            replies.array(catalog.schema.families.count)
            for family in catalog.schema.families { replies.bulk(family.name) }
            return
        }
        guard arguments.count == 2 else { return replies.error(Self.wrongArity("describe")) }
        guard let index = catalog.find(arguments[1]) else {
            return replies.error("ERR no such counter '\(arguments[1].prefix(64).text)'")
        }
        let changes = catalog.schema.families[index].declaration
        replies.array(changes.count)
        for change in changes { replies.bulk(change.description) }
    }
}
