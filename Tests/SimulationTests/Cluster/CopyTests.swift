import NIOCore
import TallyCluster
import TallyCore
import TallyStorage
import TallyTestSupport
import Testing

@testable import TallyNode
@testable import TallyReplication

/// Copies of another node's checkpoint that are interrupted.
struct CopyTests {
    private struct Interrupted: Error {}

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

    /// What was fetched by an attempt that failed is not fetched again, and everything is there in the end.
    @Test func aCopyGoesOnWithWhatAnEarlierAttemptHasBrought() async throws {
        var world = ClusterWorld(seed: 3)
        world.run(steps: 3000)
        let log = 0
        let lender = try #require(
            world.nodes.first { $0.lends(log, of: world.histories[log].epoch) })
        let (loan, manifest) = try #require(lender.copies.lend(log: log))
        let fileCount = manifest.partitions.joined().reduce(0) { $0 + $1.segments.count }
        try #require(fileCount >= 4)
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
                if count == last { throw Interrupted() }
                fetched.append(file)
                let bytes = try lender.copies.read(
                    loan: loan, file: file, offset: offset, byteCount: byteCount)
                return ByteBuffer(bytes: bytes ?? [])
            }
        }
        for _ in 0..<2 {
            await #expect(throws: Interrupted.self) { _ = try await take(failingAt: 2) }
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
