import TallyCluster
import TallyCore
import Testing

struct LogHistoryTests {
    private static let own = NodeIdentity { 1 }
    private static let other = NodeIdentity { 2 }
    private static let third = NodeIdentity { 3 }

    /// A membership that has heard how nodes stand with log 0.
    private static func membership(
        _ heard: [(node: NodeIdentity, progress: NodeRecord.Progress?)]
    ) -> Membership {
        var membership = Membership(own: own, logCount: 1, now: 0)
        for (node, progress) in heard {
            membership.hear(
                NodeRecord(
                    node: node, startedMilliseconds: 1,
                    address: NodeAddress(host: "h", port: 1, tlsPort: nil), zone: "", version: "1",
                    logs: progress.map { [0: $0] } ?? [:]), now: 0)
        }
        return membership
    }

    private static func view(_ membership: Membership) -> ClusterView {
        membership.view(now: 0, silenceMaxNanoseconds: 1)
    }

    /// How another node stands with log 0.
    private static func view(_ progress: NodeRecord.Progress?) -> ClusterView {
        view(membership([(other, progress)]))
    }

    private static func progress(
        _ phase: NodeRecord.Phase, epoch: UInt32, sequence: UInt64
    ) -> NodeRecord.Progress {
        NodeRecord.Progress(
            phase: phase, epoch: epoch, sequence: sequence, durableSequence: sequence)
    }

    private static func state(epoch: UInt32, sequence: UInt64) -> LogState {
        var state = LogState(epoch: epoch, streamNanoseconds: 5)
        state.sequence = sequence
        return state
    }

    private static let second = LogHistory(
        epoch: 2, streamNanoseconds: 6, startSequence: 10, origin: own)

    @Test func theOriginGoesOnWithWhatItHas() {
        let halt = LogFollower.Halt.newerEpoch(2)
        #expect(
            Self.second.step(0, halt, Self.state(epoch: 1, sequence: 10), Self.view(nil)) == .begin)
        // It has lost some of it since: whoever has copied it is asked.
        let behind = Self.state(epoch: 1, sequence: 9)
        #expect(Self.second.step(0, halt, behind, Self.view(nil)) == .none)
        let served = Self.view(Self.progress(.serving, epoch: 2, sequence: 10))
        #expect(Self.second.step(0, halt, behind, served) == .copy)
    }

    @Test func othersWaitUntilTheNewEpochIsServed() {
        let history = LogHistory(
            epoch: 2, streamNanoseconds: 6, startSequence: 10, origin: Self.other)
        let halt = LogFollower.Halt.otherHistory("")
        let state = Self.state(epoch: 1, sequence: 10)
        for progress in [
            nil, Self.progress(.serving, epoch: 1, sequence: 10),
            Self.progress(.halted, epoch: 2, sequence: 10),
            Self.progress(.following, epoch: 2, sequence: 10),
        ] {
            #expect(history.step(0, halt, state, Self.view(progress)) == .none)
        }
        let served = Self.view(Self.progress(.serving, epoch: 2, sequence: 10))
        #expect(history.step(0, halt, state, served) == .copy)
    }

    /// Within an epoch, only what this node's disk is to blame for is mended by itself.
    @Test func whatAnOperatorMustSeeIsLeft() {
        let state = Self.state(epoch: 2, sequence: 12)
        let ahead = Self.view(Self.progress(.serving, epoch: 2, sequence: 12))
        #expect(Self.second.step(0, .notApplied(""), state, ahead) == .copy)
        #expect(Self.second.step(0, .otherHistory(""), state, ahead) == .none)
        #expect(Self.second.step(0, .missing(expected: 1, found: 2), state, ahead) == .none)
        let behind = Self.view(Self.progress(.serving, epoch: 2, sequence: 11))
        #expect(Self.second.step(0, .notApplied(""), state, behind) == .none)
        let newer = Self.state(epoch: 3, sequence: 12)
        #expect(Self.second.step(0, .notApplied(""), newer, ahead) == .none)
    }

    /// Two other nodes whose checkpoints hold log 0 up to a message each; the second's is of another epoch if it says.
    private static func view(_ first: UInt64, _ second: UInt64, secondEpoch: UInt32) -> ClusterView
    {
        view(
            membership([
                (other, progress(.serving, epoch: 2, sequence: first)),
                (third, progress(.serving, epoch: secondEpoch, sequence: second)),
            ]))
    }

    @Test func theLatestCheckpointIsCopied() {
        func lender(
            _ first: UInt64, _ second: UInt64, secondEpoch: UInt32 = 2, log: UInt64 = 1,
            canFollow: Bool = false, failed: NodeIdentity? = nil
        ) -> NodeIdentity? {
            Self.second.lender(
                0, first: log, canFollow: canFollow, failed: failed,
                Self.view(first, second, secondEpoch: secondEpoch))
        }
        #expect(lender(40, 50) == Self.third)
        #expect(lender(60, 50) == Self.other)
        #expect(lender(50, 50) == Self.other)
        // Not who has just failed, unless there is nobody else; not another epoch's.
        #expect(lender(40, 50, failed: Self.third) == Self.other)
        #expect(lender(40, 50, secondEpoch: 1) == Self.other)
        #expect(lender(40, 50, secondEpoch: 1, failed: Self.other) == Self.other)
        // It must reach the log.
        #expect(lender(40, 50, log: 51) == Self.third)
        #expect(lender(40, 50, log: 52) == nil)
        // A short log is followed.
        #expect(lender(40, 1_000, canFollow: true) == nil)
        #expect(lender(40, 1_001, canFollow: true) == Self.third)
    }

    @Test func whatWasTrimmedAwayIsCopied() {
        let state = Self.state(epoch: 2, sequence: 12)
        let served = Self.view(Self.progress(.serving, epoch: 2, sequence: 40))
        #expect(Self.second.step(0, .trimmed(first: 30), state, served) == .copy)
        // It may be all there is.
        #expect(Self.second.step(0, .trimmed(first: 30), state, Self.view(nil)) == .none)
    }

    @Test func nothingIsDoneBeforeTheStreamIsThere() {
        var history = Self.second
        history.streamNanoseconds = 0
        let state = Self.state(epoch: 1, sequence: 10)
        #expect(history.step(0, .newerEpoch(2), state, Self.view(nil)) == .none)
        #expect(Self.second.follows(history) && !history.follows(Self.second))
        #expect(history.follows(nil) && !history.follows(history))
    }

    @Test func onlyCopiesOfThePresentEpochLetALogBeTrimmed() {
        func floor(_ second: NodeRecord.Progress) -> UInt64? {
            var membership = Self.membership([
                (Self.own, Self.progress(.serving, epoch: 2, sequence: 50)), (Self.other, second),
            ])
            membership.publish(
                Assignment(holders: [[Self.own, Self.other]], zones: [:]), version: 1)
            return TrimRule.floor(0, copies: 2, Self.view(membership))
        }
        #expect(floor(Self.progress(.serving, epoch: 2, sequence: 40)) == 40)
        #expect(floor(Self.progress(.halted, epoch: 2, sequence: 40)) == nil)
        #expect(floor(Self.progress(.following, epoch: 1, sequence: 40)) == nil)
    }

    @Test func aLogIsBegunAnewOnlyWhereNothingIsMissing() {
        let first = LogHistory(epoch: 1, streamNanoseconds: 5, startSequence: 0, origin: nil)
        let nobody = Self.view(nil)
        func canBegin(
            _ history: LogHistory = first, stream: UInt64 = 5, first: UInt64 = 1, last: UInt64 = 7,
            view: ClusterView = nobody
        ) -> Bool {
            history.canBeginAnew(0, streamNanoseconds: stream, first: first, last: last, view)
        }
        #expect(canBegin())
        #expect(canBegin(view: Self.view(Self.progress(.serving, epoch: 1, sequence: 7))))
        #expect(!canBegin(stream: 6))
        #expect(!canBegin(first: 2))
        #expect(!canBegin(Self.second, stream: 6, first: 1))
        // Somebody has followed it further than it goes.
        #expect(!canBegin(view: Self.view(Self.progress(.halted, epoch: 1, sequence: 8))))
    }
}
