import TallyCluster
import Testing

struct AssignmentTests {
    private static func node(_ number: Int) -> NodeIdentity {
        var next = UInt64(number)
        return NodeIdentity {
            next = next &* 0x9e37_79b9_7f4a_7c15 &+ 1
            return next
        }
    }

    private static func candidates(_ count: Int, zones: Int = 0) -> [Assignment.Candidate] {
        (1...count).map {
            Assignment.Candidate(node: node($0), zone: zones == 0 ? "" : "zone\($0 % zones)")
        }
    }

    private static func loads(_ assignment: Assignment) -> [NodeIdentity: Int] {
        assignment.holders.joined().reduce(into: [:]) { $0[$1, default: 0] += 1 }
    }

    private static func primaries(_ assignment: Assignment) -> [NodeIdentity: Int] {
        assignment.holders.compactMap(\.first).reduce(into: [:]) { $0[$1, default: 0] += 1 }
    }

    @Test(arguments: [1, 2, 3, 4, 5, 7, 20], [1, 2, 3])
    func everyLogHasItsCopiesAndEveryNodeItsShare(count: Int, copies: Int) {
        let assignment = Assignment.balanced(
            logCount: 64, copies: copies, candidates: Self.candidates(count), previous: nil)
        let wanted = min(copies, count)
        for holders in assignment.holders {
            #expect(holders.count == wanted && Set(holders).count == wanted)
        }
        let share = (64 * wanted + count - 1) / count
        #expect(Self.loads(assignment).values.allSatisfy { $0 <= share })
        let most = (64 + count - 1) / count
        #expect(Self.primaries(assignment).values.allSatisfy { $0 <= most })
    }

    @Test func aNodeThatJoinsTakesItsShareAndNothingElseMoves() {
        let before = Assignment.balanced(
            logCount: 16, copies: 3, candidates: Self.candidates(3), previous: nil)
        let after = Assignment.balanced(
            logCount: 16, copies: 3, candidates: Self.candidates(4), previous: before)
        #expect(Self.loads(after)[Self.node(4)] == 12)
        for log in 0..<16 {
            let left = Set(before.holders[log]).subtracting(after.holders[log])
            let came = Set(after.holders[log]).subtracting(before.holders[log])
            #expect(left.count == came.count && came.isSubset(of: [Self.node(4)]))
        }
        #expect(Self.primaries(after).values.allSatisfy { $0 == 4 })
    }

    @Test func aNodeThatLeavesIsReplacedAndNothingElseMoves() {
        let before = Assignment.balanced(
            logCount: 16, copies: 3, candidates: Self.candidates(5), previous: nil)
        let after = Assignment.balanced(
            logCount: 16, copies: 3, candidates: Array(Self.candidates(5).dropLast()),
            previous: before)
        for log in 0..<16 {
            let left = Set(before.holders[log]).subtracting(after.holders[log])
            #expect(left.isSubset(of: [Self.node(5)]))
            #expect(after.holders[log].count == 3)
        }
    }

    @Test func nothingMovesWithoutAReason() {
        let first = Assignment.balanced(
            logCount: 32, copies: 3, candidates: Self.candidates(6, zones: 3), previous: nil)
        let second = Assignment.balanced(
            logCount: 32, copies: 3, candidates: Self.candidates(6, zones: 3), previous: first)
        #expect(first == second)
    }

    @Test(arguments: [(6, 3), (7, 3), (4, 2), (9, 4)])
    func copiesAreInDifferentZones(count: Int, zones: Int) {
        let candidates = Self.candidates(count, zones: zones)
        let zone = Dictionary(uniqueKeysWithValues: candidates.map { ($0.node, $0.zone) })
        let assignment = Assignment.balanced(
            logCount: 32, copies: 3, candidates: candidates, previous: nil)
        for holders in assignment.holders {
            #expect(Set(holders.map { zone[$0] }).count == min(3, zones))
        }
    }

    @Test func copiesSpreadWhenAZoneComes() {
        let one = Self.candidates(3).map { Assignment.Candidate(node: $0.node, zone: "a") }
        let before = Assignment.balanced(logCount: 8, copies: 2, candidates: one, previous: nil)
        let both = one + [Assignment.Candidate(node: Self.node(4), zone: "b")]
        let after = Assignment.balanced(logCount: 8, copies: 2, candidates: both, previous: before)
        for holders in after.holders { #expect(holders.contains(Self.node(4))) }
    }

    @Test func withoutNodesNothingIsHeld() {
        let assignment = Assignment.balanced(
            logCount: 4, copies: 3, candidates: [], previous: nil)
        #expect(assignment.holders == [[], [], [], []])
    }
}

struct MembershipTests {
    private static let second: UInt64 = 1_000_000_000

    private static func record(
        _ number: UInt64, life: UInt64 = 1, phase: NodeRecord.Phase = .serving,
        isDraining: Bool = false
    ) -> NodeRecord {
        NodeRecord(
            node: NodeIdentity { number }, startedMilliseconds: life,
            address: NodeAddress(host: "h\(number)", port: 1, tlsPort: nil), zone: "",
            version: "1", isDraining: isDraining,
            logs: [0: .init(phase: phase, epoch: 1, sequence: 1, durableSequence: 0)])
    }

    private static func view(_ membership: Membership, _ now: UInt64) -> ClusterView {
        membership.view(now: now, silenceMaxNanoseconds: second)
    }

    @Test func whoIsSilentIsNotSentTo() {
        var membership = Membership(own: NodeIdentity { 1 }, logCount: 1, now: 0)
        membership.hear(Self.record(1), now: 0)
        membership.hear(Self.record(2), now: 0)
        let nodes = [NodeIdentity { 1 }, NodeIdentity { 2 }]
        membership.publish(Assignment(holders: [nodes.reversed()], zones: [:]), version: 7)
        #expect(Self.view(membership, Self.second).shards[0].primary == nodes[1])
        #expect(Self.view(membership, Self.second).shards[0].replicas == [nodes[0]])
        #expect(Self.view(membership, Self.second + 1).shards[0].primary == nodes[0])
        #expect(Self.view(membership, Self.second + 1).isPrimary(0))
    }

    @Test func whoIsBehindIsNotSentTo() {
        var membership = Membership(own: NodeIdentity { 1 }, logCount: 1, now: 0)
        membership.hear(Self.record(1, phase: .following), now: 0)
        #expect(Self.view(membership, 0).shards[0].primary == nil)
        membership.hear(Self.record(2), now: 0)
        #expect(Self.view(membership, 0).shards[0].primary == NodeIdentity { 2 })
    }

    @Test func whatAnEarlierLifeSaidIsNotHeard() {
        var membership = Membership(own: NodeIdentity { 1 }, logCount: 1, now: 0)
        membership.hear(Self.record(2, life: 5), now: 0)
        membership.hear(Self.record(2, life: 4, phase: .copying), now: 0)
        #expect(Self.view(membership, 0).shards[0].primary == NodeIdentity { 2 })
        membership.forget(NodeIdentity { 2 }, startedMilliseconds: 4)
        #expect(Self.view(membership, 0).nodes.count == 1)
        membership.forget(NodeIdentity { 2 }, startedMilliseconds: 5)
        #expect(Self.view(membership, 0).nodes.isEmpty)
    }

    @Test func aSilentNodeKeepsItsPlaceForAWhile() {
        var membership = Membership(own: NodeIdentity { 1 }, logCount: 1, now: 0)
        for number in 1...3 as ClosedRange<UInt64> { membership.hear(Self.record(number), now: 0) }
        let first = membership.wantedAssignment(
            copies: 2, now: 0, silenceMaxNanoseconds: Self.second,
            absenceMaxNanoseconds: 10 * Self.second)
        guard let first else {
            Issue.record("nothing is wanted")
            return
        }
        membership.publish(first, version: 1)
        for number in 1...3 as ClosedRange<UInt64>
        where NodeIdentity(random: { number }) != first.holders[0][0] {
            membership.hear(Self.record(number), now: 9 * Self.second)
        }
        func wanted(_ seconds: UInt64) -> Assignment? {
            membership.wantedAssignment(
                copies: 2, now: seconds * Self.second, silenceMaxNanoseconds: Self.second,
                absenceMaxNanoseconds: 10 * Self.second)
        }
        #expect(wanted(10) == nil)
        let second = wanted(11)
        #expect(second?.holders[0].contains(first.holders[0][0]) == false)
        #expect(second?.holders[0].contains(first.holders[0][1]) == true)
    }

    /// Its place is given away at once, until it is heard again.
    @Test func whoIsSaidToBeAbsentLosesItsPlace() {
        var membership = Membership(own: NodeIdentity { 1 }, logCount: 1, now: 0)
        for number in 1...2 as ClosedRange<UInt64> { membership.hear(Self.record(number), now: 0) }
        func holders() -> [NodeIdentity]? {
            membership.wantedAssignment(
                copies: 2, now: 5 * Self.second, silenceMaxNanoseconds: Self.second,
                absenceMaxNanoseconds: 10 * Self.second)?.holders[0]
        }
        membership.hear(Self.record(1), now: 5 * Self.second)
        #expect(holders()?.count == 2)
        membership.setAbsent(NodeIdentity { 2 }, true)
        #expect(holders() == [NodeIdentity { 1 }])
        membership.hear(Self.record(2), now: 5 * Self.second)
        #expect(holders()?.count == 2)
    }

    @Test func whatDrainsGoesAtOnce() {
        var membership = Membership(own: NodeIdentity { 1 }, logCount: 1, now: 0)
        membership.hear(Self.record(1, isDraining: true), now: 0)
        membership.hear(Self.record(2), now: 0)
        let wanted = membership.wantedAssignment(
            copies: 2, now: 0, silenceMaxNanoseconds: Self.second,
            absenceMaxNanoseconds: Self.second)
        #expect(wanted?.holders == [[NodeIdentity { 2 }]])
        // It is still there, but asked last.
        #expect(Self.view(membership, 0).shards[0].primary == NodeIdentity { 2 })
        #expect(Self.view(membership, 0).shards[0].replicas == [NodeIdentity { 1 }])
    }

    @Test func aLogIsHeldUntilAllServeItThatAreToHaveIt() {
        var membership = Membership(own: NodeIdentity { 1 }, logCount: 1, now: 0)
        membership.hear(Self.record(1), now: 0)
        membership.hear(Self.record(2, phase: .copying), now: 0)
        #expect(PlacementStep.due(0, isHeld: true, Self.view(membership, 0)) == .none)
        membership.publish(Assignment(holders: [[NodeIdentity { 2 }]], zones: [:]), version: 1)
        #expect(PlacementStep.due(0, isHeld: true, Self.view(membership, 0)) == .none)
        #expect(PlacementStep.due(0, isHeld: false, Self.view(membership, 0)) == .none)
        membership.hear(Self.record(2), now: 0)
        #expect(PlacementStep.due(0, isHeld: true, Self.view(membership, 0)) == .release)
        membership.publish(Assignment(holders: [[NodeIdentity { 1 }]], zones: [:]), version: 2)
        #expect(PlacementStep.due(0, isHeld: false, Self.view(membership, 0)) == .acquire)
    }
}
