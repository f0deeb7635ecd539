import TallyCore
import TallyNode
import TallyRESP

/// What `tally import` asks of a server: it writes segments itself, beside the server's, and has them
/// taken over.
extension CommandProcessor {
    /// `IMPORT START family`: number, directory, partitions, identity, the family's number and its
    /// columns' numbers; then what declares the family.
    mutating func startImport() {
        guard let index = catalog.find(arguments[2]) else {
            return replies.error("ERR no such counter '\(arguments[2].prefix(64).text)'")
        }
        let family = catalog.schema.families[index]
        guard family.key != nil, !family.columns.isEmpty else {
            return replies.error("ERR counter '\(family.name)' has no key or no columns yet")
        }
        let number = server.node.beginImport(nowMilliseconds: server.clock.wallMilliseconds())
        let identity = server.node.identity
        replies.array(2)
        let facts = [
            number, UInt64(server.node.partitionCount), identity.high, identity.low,
            UInt64(family.number),
        ]
        replies.array(1 + facts.count + family.columns.count)
        replies.bulk(server.configuration.dataDirectory)
        for fact in facts { replies.bulk(String(fact)) }
        for column in family.columns { replies.bulk(String(column.number)) }
        let declaration = family.declaration
        replies.array(declaration.count)
        for change in declaration { replies.bulk(change.description) }
    }

    /// `IMPORT COMMIT number family-number files`
    mutating func commitImport() {
        guard let number = Decimal.parseUnsigned(arguments[2]),
            let family = Decimal.parseUnsigned(arguments[3]).flatMap({ UInt32(exactly: $0) }),
            let fileCount = Decimal.parseUnsigned(arguments[4]).flatMap({ Int(exactly: $0) })
        else { return replies.error(bytes: Self.notAnInteger.message) }
        server.node.submitImport(number, family: family, fileCount: fileCount)
        replies.simple("OK")
    }

    /// `IMPORT STATUS number`
    mutating func importStatus() {
        guard let number = Decimal.parseUnsigned(arguments[2]) else {
            return replies.error(bytes: Self.notAnInteger.message)
        }
        switch server.node.importStatus(number) {
        case .unknown: replies.bulk("unknown")
        case .working: replies.bulk("working")
        case .done(let records): replies.bulk("done \(records)")
        case .failed(let reason): replies.bulk("failed \(reason)")
        }
    }
}
