import TallyCore
internal import Synchronization

/// How far an import is.
public enum ImportStatus: Equatable, Sendable {
    /// Its files are being written, or nobody has begun it.
    case unknown
    /// Its files are being read.
    case working
    /// Its records are there, and on disk.
    case done(records: Int)
    /// It was refused; nothing has changed.
    case failed(String)
}

/// How a backup that was asked for went.
public enum BackupStatus: Equatable, Sendable {
    /// Nobody has asked.
    case none
    /// It is being made.
    case working
    /// It is there, on disk.
    case done
    /// It was not made; what there is of it is useless.
    case failed(String)
}

/// Where imports are asked for, and where one hears of them.
final class ImportDesk: Sendable {
    struct Request {
        let number: UInt64
        let family: UInt32
        let fileCount: Int
    }

    private struct State {
        var requests: [Request] = []
        var statuses: [UInt64: ImportStatus] = [:]
        var lastNumber: UInt64 = 0
        /// Imports whose files the journal may still need, and the groups that name them.
        var sequences: [UInt64: UInt64] = [:]
    }

    private let state = Locked<State>(State())

    /// A number for a new import, greater than all before.
    func begin(nowMilliseconds: UInt64) -> UInt64 {
        state.withLock { state in
            state.lastNumber = max(state.lastNumber + 1, nowMilliseconds)
            return state.lastNumber
        }
    }

    func submit(_ request: Request) {
        state.withLock { state in
            state.statuses[request.number] = .working
            state.requests.append(request)
        }
    }

    func status(_ number: UInt64) -> ImportStatus {
        state.withLock { $0.statuses[number] ?? .unknown }
    }

    var hasRequest: Bool { state.withLock { !$0.requests.isEmpty } }

    func takeRequest() -> Request? {
        state.withLock { $0.requests.isEmpty ? nil : $0.requests.removeFirst() }
    }

    func finish(_ number: UInt64, _ status: ImportStatus) {
        state.withLock { $0.statuses[number] = status }
    }

    /// The journal's group `sequence`, or an earlier one, names the import.
    func note(_ number: UInt64, sequence: UInt64) {
        state.withLock { $0.sequences[number] = sequence }
    }

    /// Imports that nobody needs files of once a checkpoint holds everything up to group `sequence`.
    func takeObsolete(_ sequence: UInt64) -> [UInt64] {
        state.withLock { state in
            let obsolete = state.sequences.filter { $0.value <= sequence }.map(\.key)
            for number in obsolete { state.sequences[number] = nil }
            return obsolete.sorted()
        }
    }
}
