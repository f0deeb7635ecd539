import TallyAccess
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
        for index in stride(from: 2, to: arguments.count, by: 2) {
            guard index + 1 < arguments.count else { return replies.error("ERR syntax error") }
            do throws(Refusal) {
                let filter = try killFilter(arguments[index], arguments[index + 1])
                if case .skipsSelf(let isOn) = filter { skipsSelf = isOn }
                victims.removeAll { !filter.admits($0) }
            } catch {
                return replies.error(bytes: error.message)
            }
        }
        if skipsSelf {
            let own = session.client.id
            victims.removeAll { $0.id == own }
        }
        for victim in victims { kill(victim, &session) }
        replies.integer(Int64(victims.count))
    }

    /// Which connections to end.
    private enum KillFilter {
        case id(UInt64)
        case address(String)
        case localAddress(String)
        case user(String)
        /// All connections, or none: there is one type of client.
        case all(Bool)
        /// Those that have been there at least so long.
        case createdSeconds(upTo: UInt64)
        case skipsSelf(Bool)

        func admits(_ client: ClientInfo) -> Bool {
            switch self {
            case .id(let id): client.id == id
            case .address(let address): client.address == address
            case .localAddress(let address): client.localAddress == address
            case .user(let name): client.current.user == name
            case .all(let isAll): isAll
            case .createdSeconds(let seconds): client.createdSeconds <= seconds
            case .skipsSelf: true
            }
        }
    }

    private func killFilter(
        _ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer
    ) throws(Refusal) -> KillFilter {
        if name.equalsIgnoringCase("id") {
            guard let id = Decimal.parse(value), id > 0 else {
                throw Refusal("ERR client-id should be greater than 0")
            }
            return .id(UInt64(id))
        }
        if name.equalsIgnoringCase("addr") { return .address(value.text) }
        if name.equalsIgnoringCase("laddr") { return .localAddress(value.text) }
        if name.equalsIgnoringCase("user") {
            guard server.access.users.current.users.find(value.text) != nil else {
                throw Refusal("ERR No such user '\(value.prefixText(128))'")
            }
            return .user(value.text)
        }
        if name.equalsIgnoringCase("type") {
            guard let isNormal = Self.isNormalType(value) else {
                throw Refusal("ERR Unknown client type '\(value.prefixText(128))'")
            }
            return .all(isNormal)
        }
        if name.equalsIgnoringCase("maxage") {
            guard let seconds = Decimal.parse(value), seconds > 0 else {
                throw Refusal("ERR maxage is not an integer or out of range")
            }
            let uptime = server.uptimeSeconds
            guard uptime >= UInt64(seconds) else { return .all(false) }
            return .createdSeconds(upTo: uptime - UInt64(seconds))
        }
        if name.equalsIgnoringCase("skipme") {
            if value.equalsIgnoringCase("yes") { return .skipsSelf(true) }
            if value.equalsIgnoringCase("no") { return .skipsSelf(false) }
        }
        throw Refusal("ERR syntax error")
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
