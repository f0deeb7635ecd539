import NIOCore
import TallyCluster
import TallyCore
import TallyNATS
import TallyStorage
import TallyTestSupport
import Testing

@testable import TallyNode
@testable import TallyReplication

/// Copies of another node's checkpoint that are interrupted.
struct CopyTests {
    private static let interruption = NATSRequestError.timedOut

    /// Takes in what has come.
    private struct CheckpointsThread: @unchecked Sendable {
        // Sendable because nobody else touches the checkpointer meanwhile.
        private let node: Node
        private let checkpointer: Checkpointer<SimulatedDisk>

        init(_ replica: SimulatedReplica) {
            node = replica.node
            checkpointer = replica.checkpointer
        }

        func run() async throws {
            while true {
                while let arrival = node.checkpoints.takeArrival() { checkpointer.land(arrival) }
                try await Task.sleep(for: .milliseconds(1))
            }
        }
    }

    private static func fileCount(_ manifest: Manifest) -> Int {
        manifest.partitions.joined().reduce(0) { $0 + $1.segments.count }
    }

    /// A life in which some node has a checkpoint of a log with several files.
    private func lifeWithFiles(
        _ log: Int
    ) -> (ClusterWorld, lender: SimulatedReplica, loan: UInt64, Manifest)? {
        for seed in 1...UInt64(50) {
            var world = ClusterWorld(seed: seed)
            world.run(steps: 1500)
            for node in world.nodes where node.lends(log, of: world.histories[log].epoch) {
                guard let (loan, manifest) = node.copies.lend(log: log) else { continue }
                if Self.fileCount(manifest) >= 4 { return (world, node, loan, manifest) }
                node.copies.giveBack(loan: loan)
            }
        }
        return nil
    }

    /// What was fetched by an attempt that failed is not fetched again, and everything is there in the end.
    @Test func aCopyGoesOnWithWhatAnEarlierAttemptHasBrought() async throws {
        let log = 0
        let (world, lender, loan, manifest) = try #require(lifeWithFiles(log))
        let fileCount = Self.fileCount(manifest)
        let borrower = SimulatedReplica(
            number: 7, life: 0, seed: 3, clock: world.clock, disk: SimulatedDisk(seed: 7), nil,
            world.histories, isGuest: true)
        let (taking, copied) = (CheckpointTaking(borrower.copies), CopiedFiles())
        var fetched: [UInt64] = []
        func take(failingAt last: Int?) async throws -> LandedLog {
            var count = 0
            return try await taking.take(log: log, manifest, from: "lender", copied) {
                file, offset, byteCount in
                count += 1
                if count == last { throw Self.interruption }
                fetched.append(file)
                let bytes = try lender.copies.read(
                    loan: loan, file: file, offset: offset, byteCount: byteCount)
                return ByteBuffer(bytes: bytes ?? [])
            }
        }
        for _ in 0..<2 {
            await #expect(throws: NATSRequestError.self) { _ = try await take(failingAt: 2) }
        }
        #expect(copied.count == 2)
        let thread = CheckpointsThread(borrower)
        let pump = Task { try await thread.run() }
        let landed = try await take(failingAt: nil)
        pump.cancel()
        #expect(fetched.count == fileCount && Set(fetched).count == fileCount)
        #expect(copied.count == 0)
        borrower.replica.logs[log].begin(landed.state, landed.partitions)
        landed.end()
        #expect(landed.state.sequence == manifest.logs[log]?.state.sequence)
        lender.copies.giveBack(loan: loan)
    }
}
