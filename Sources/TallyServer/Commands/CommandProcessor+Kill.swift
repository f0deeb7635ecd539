import TallyCore
import TallyRESP

/// CLIENT KILL in its two forms.
extension CommandProcessor {
    mutating func killClients(_ session: inout Session) {
        if arguments.count == 3 {
            killByAddress(&session)
        } else {
            killByFilters(&session)
        }
    }

    /// `CLIENT KILL address`, the old form, which fails if there is nobody.
    private mutating func killByAddress(_ session: inout Session) {
        let address = arguments[2].text
        guard let victim = server.clients.all.first(where: { $0.address == address }) else {
            return replies.error("ERR No such client")
        }
        kill(victim, &session)
        replies.simple("OK")
    }

    /// `CLIENT KILL filter value …`, which counts.
    private mutating func killByFilters(_ session: inout Session) {
        var victims = server.clients.all
        var skipsSelf = true
        var index = 2
        while index < arguments.count {
            guard index + 1 < arguments.count else {
                return replies.error("ERR syntax error")
            }
            let filter = arguments[index]
            let value = arguments[index + 1]
            if filter.equalsIgnoringCase("id") {
                guard let id = Decimal.parse(value), id > 0 else {
                    return replies.error("ERR client-id should be greater than 0")
                }
                victims.removeAll { $0.id != UInt64(id) }
            } else if filter.equalsIgnoringCase("addr") {
                victims.removeAll { $0.address != value.text }
            } else if filter.equalsIgnoringCase("laddr") {
                victims.removeAll { $0.localAddress != value.text }
            } else if filter.equalsIgnoringCase("user") {
                victims.removeAll { _ in value.text != "default" }
            } else if filter.equalsIgnoringCase("type") {
                if value.equalsIgnoringCase("normal") {
                } else if ["master", "replica", "slave", "pubsub"]
                    .contains(where: value.equalsIgnoringCase)
                {
                    victims = []
                } else {
                    return replies.error("ERR Unknown client type '\(value.prefixText(128))'")
                }
            } else if filter.equalsIgnoringCase("skipme") {
                guard value.equalsIgnoringCase("yes") || value.equalsIgnoringCase("no") else {
                    return replies.error("ERR syntax error")
                }
                skipsSelf = value.equalsIgnoringCase("yes")
            } else {
                return replies.error("ERR syntax error")
            }
            index += 2
        }
        if skipsSelf {
            let own = session.client.id
            victims.removeAll { $0.id == own }
        }
        for victim in victims { kill(victim, &session) }
        replies.integer(Int64(victims.count))
    }

    private func kill(_ victim: ClientInfo, _ session: inout Session) {
        if victim.id == session.client.id {
            // Its own replies still leave.
            session.isClosing = true
        } else {
            victim.close()
        }
    }
}
