import TallyCore
import TallyStorage

/// The checkpoint on disk as others may read it: files that somebody copies stay until they are done.
///
/// Any thread.
final class CheckpointLibrary: Sendable {
    private struct Loan {
        let numbers: Set<UInt64>
        /// When it ends unless it is renewed, monotonic nanoseconds.
        var until: UInt64
    }

    private struct State {
        var manifest: Manifest?
        var loans: [UInt64: Loan] = [:]
        var nextLoan: UInt64 = 1
        var nextSegment: UInt64 = 1
    }

    private let state = Locked(State())

    /// Another manifest is on disk.
    func publish(_ manifest: Manifest) { state.withLock { $0.manifest = manifest } }

    /// Numbers of segment files begin here.
    func setNextSegment(_ number: UInt64) { state.withLock { $0.nextSegment = number } }

    /// The number of the next segment file, nobody else's.
    func takeSegmentNumber() -> UInt64 {
        state.withLock { state in
            defer { state.nextSegment += 1 }
            return state.nextSegment
        }
    }

    /// The number that the next segment file will have.
    var nextSegment: UInt64 { state.withLock { $0.nextSegment } }

    /// Lends the files of a log's partitions.
    ///
    /// - Parameter now: Monotonic nanoseconds.
    /// - Returns: the loan's number and what of the manifest is the log's; nil if no checkpoint holds it.
    func lend(log number: Int, now: UInt64) -> (loan: UInt64, manifest: Manifest)? {
        state.withLock { state in
            guard var manifest = state.manifest, let held = manifest.logs[number] else {
                return nil
            }
            for index in manifest.partitions.indices where manifest.shares.log(of: index) != number
            {
                manifest.partitions[index] = []
                manifest.onceFloors[index] = 0
            }
            manifest.logs = [number: held]
            manifest.schema = Schema()
            manifest.nodeName = ""
            let loan = state.nextLoan
            state.nextLoan += 1
            state.loans[loan] = Loan(
                numbers: Set(manifest.segments.map(\.number)), until: now + Self.loanNanoseconds)
            return (loan, manifest)
        }
    }

    /// Goes on with a loan.
    ///
    /// - Parameter file: One that is read; nil if none is asked about.
    /// - Returns: false if it has ended, or the file is not part of it.
    func renew(_ loan: UInt64, file: UInt64? = nil, now: UInt64) -> Bool {
        state.withLock { state in
            guard let found = state.loans[loan], found.until > now,
                file.map(found.numbers.contains) ?? true
            else { return false }
            state.loans[loan]?.until = now + Self.loanNanoseconds
            return true
        }
    }

    /// Ends a loan.
    func giveBack(_ loan: UInt64) { state.withLock { $0.loans[loan] = nil } }

    /// The files that must stay.
    func lent(now: UInt64) -> Set<UInt64> {
        state.withLock { state in
            state.loans = state.loans.filter { $0.value.until > now }
            return state.loans.values.reduce(into: []) { $0.formUnion($1.numbers) }
        }
    }

    /// Whoever copies asks for something at least so often.
    private static let loanNanoseconds = Limits.copySilenceSeconds * 1_000_000_000
}
