import TallyCore
import TallyEngine
import TallyStorage
internal import Glibc
internal import Synchronization

/// What is in memory, all partitions together.
public struct ResidencyStatistics: Sendable {
    /// Segments in memory, and the bytes that they take.
    public var hot = (count: 0, byteCount: 0)
    /// Segments of which the index is in memory, and what they have on disk, bytes.
    public var cold = (count: 0, diskBytes: 0)
    /// Memory that the indexes of cold segments take, bytes.
    public var indexBytes = 0
    /// Memory that the filters of cold segments take, bytes.
    public var filterBytes = 0

    mutating func add(_ segment: Segment) {
        if segment.isCold {
            cold.count += 1
            cold.diskBytes += Int(segment.header.byteCount)
            indexBytes += segment.allocatedBytes - segment.filterBytes
            filterBytes += segment.filterBytes
        } else {
            hot.count += 1
            hot.byteCount += segment.allocatedBytes
        }
    }
}

/// Decides which segments are in memory, and takes them in and out.
///
/// From time to time it looks at all segments. Those most asked for stay, or come, as many as
/// `memory-limit` has room for; of those that nobody asks for, the newest keys. One thread drives it
/// (`ResidencyThread`); a simulation drives it step by step.
public final class Residency: @unchecked Sendable {
    // Sendable because only the driving thread calls it.
    private let node: Node
    private let clock: any Clock
    private let hasher: KeyHasher
    /// Bits of the fingerprints of cold segments' filters; 0 for none.
    private let filterBits: Int
    private var actions: [Action] = []
    /// When files that could not be read may be tried again, seconds.
    private var notBefore: [UInt64: UInt32] = [:]
    private var lastPlanSeconds: Double?

    private struct Action {
        let kind: Kind
        let partition: Int
        let segment: Segment
    }

    private enum Kind {
        case cool
        case warm
        /// A cold segment gets its filter.
        case filter
    }

    /// What a step came to.
    public enum Step: Equatable, Sendable {
        /// All is as it should be.
        case idle
        /// Something was done, and there may be more.
        case working
        /// A file is damaged; its intact blocks go on being served.
        case damaged(String)
    }

    /// Bytes that are taken in and out before everything is looked at again.
    private static var roundBytes: Int { 64 << 20 }
    /// How much more a cold segment must be asked for than a hot one to take its place, and how often
    /// at least: moving one costs a read of all of it.
    private static var swapFactor: Double { 2 }
    private static var swapUsesMin: Double { 32 }
    /// Wait before a file that could not be read is tried again, seconds.
    private static var retrySeconds: UInt32 { 60 }

    init(node: Node, clock: any Clock, hasher: KeyHasher, filterBits: Int) {
        self.node = node
        self.clock = clock
        self.hasher = hasher
        self.filterBits = filterBits
    }

    /// Does the next thing, after looking at everything if nothing is planned.
    public func step() -> Step {
        if actions.isEmpty { plan() }
        guard let action = actions.popLast() else { return .idle }
        switch action.kind {
        case .cool:
            guard action.segment.stored?.isDamaged == false else { return .working }
            replace(action, with: action.segment.cooled(filterBits: filterBits, hasher: hasher))
            return .working
        case .warm, .filter: return load(action)
        }
    }

    private func replace(_ action: Action, with twin: Segment) {
        // If it is not there any more, so be it.
        _ = node.replace(action.segment, with: twin, partition: action.partition)
    }

    private func load(_ action: Action) -> Step {
        do throws(SegmentFileError) {
            let warm = try action.segment.warmed()
            do throws(SegmentError) {
                try warm.verifyBlocks()
            } catch {
                throw .damaged(file: warm.file?.number ?? 0, reason: "\(error)")
            }
            replace(
                action,
                with: action.kind == .warm
                    ? warm : warm.cooled(filterBits: filterBits, hasher: hasher))
            return .working
        } catch {
            // A merge may have replaced it meanwhile.
            guard node.contains(action.segment, partition: action.partition) else {
                return .working
            }
            if case .damaged(let file, _) = error { node.noteDamaged(file, action.partition) }
            notBefore[action.segment.file?.number ?? 0] = seconds + Self.retrySeconds
            return .damaged("\(error)")
        }
    }

    private var seconds: UInt32 {
        UInt32(truncatingIfNeeded: clock.monotonicNanoseconds() / 1_000_000_000)
    }

    /// Whether a segment's file is worth reading.
    private func isReadable(_ segment: Segment) -> Bool {
        guard let stored = segment.stored, !stored.isDamaged else { return false }
        return notBefore[stored.number].map { seconds >= $0 } ?? true
    }

    // MARK: Planning

    private struct Candidate {
        let partition: Int
        let segment: Segment
        /// Uses a byte.
        let demand: Double
        let isStale: Bool

        /// Whether this one should rather be in memory than `other`.
        func precedes(_ other: Candidate) -> Bool {
            if isStale != other.isStale { return !isStale }
            if demand != other.demand { return demand > other.demand }
            return segment.header.firstKey > other.segment.header.firstKey
        }
    }

    private func plan() {
        var hotBytes = 0
        var candidates: [Candidate] = []
        let staleness = Staleness(
            node.schema.schema, nowMilliseconds: clock.wallMilliseconds())
        let now = Double(clock.monotonicNanoseconds()) / 1e9
        // Demand halves in a second.
        let decay = lastPlanSeconds.map { exp2($0 - now) } ?? 1
        lastPlanSeconds = now
        notBefore = notBefore.filter { seconds < $0.value }
        for partition in 0..<node.partitionCount {
            for resident in node.survey(partition, seconds: seconds, decay: decay) {
                let segment = resident.segment
                if !segment.isCold { hotBytes += segment.allocatedBytes }
                candidates.append(
                    Candidate(
                        partition: partition, segment: segment,
                        demand: resident.demand / Double(segment.header.byteCount),
                        isStale: staleness.isStale(segment.header)))
            }
        }
        candidates.sort { $0.precedes($1) }
        let room = node.hotBytesMax
        // Popped from the end: first what must go, then what may come.
        actions = warming(candidates, room - hotBytes)
        actions += cooling(candidates, hotBytes - room)
        if actions.isEmpty { actions = filtering(candidates) }
    }

    /// What must go because there is no room, or because it is old; the least wanted last.
    private func cooling(_ candidates: [Candidate], _ excess: Int) -> [Action] {
        var excess = excess
        var cooled: [Action] = []
        for candidate in candidates.reversed() where !candidate.segment.isCold {
            guard excess > 0 || candidate.isStale else { break }
            guard candidate.segment.stored?.isDamaged == false else { continue }
            excess -= candidate.segment.allocatedBytes
            cooled.append(action(.cool, candidate))
        }
        return cooled.reversed()
    }

    /// What may come because there is room, and what takes others' places.
    private func warming(_ candidates: [Candidate], _ room: Int) -> [Action] {
        var room = room
        var moved = 0
        var actions: [Action] = []
        var leaving = candidates.filter {
            !$0.segment.isCold && !$0.isStale && $0.segment.stored?.isDamaged == false
        }
        for candidate in candidates where candidate.segment.isCold && !candidate.isStale {
            // With what is made beside it in memory.
            let byteCount = Int(candidate.segment.header.byteCount) * 9 / 8
            guard isReadable(candidate.segment) else { continue }
            guard moved < Self.roundBytes else { break }
            var replaced: [Candidate] = []
            while room < byteCount, let last = leaving.last,
                candidate.demand > Self.swapFactor * last.demand,
                (candidate.demand - last.demand) * Double(byteCount) > Self.swapUsesMin
            {
                room += last.segment.allocatedBytes
                replaced.append(last)
                leaving.removeLast()
            }
            guard room >= byteCount else { break }
            room -= byteCount
            moved += byteCount
            actions.append(action(.warm, candidate))
            actions += replaced.map { action(.cool, $0) }
        }
        return actions.reversed()
    }

    private func filtering(_ candidates: [Candidate]) -> [Action] {
        guard filterBits > 0 else { return [] }
        return candidates.lazy
            .filter { $0.segment.lacksFilter && self.isReadable($0.segment) }
            .prefix(64).map { self.action(.filter, $0) }
    }

    private func action(_ kind: Kind, _ candidate: Candidate) -> Action {
        Action(kind: kind, partition: candidate.partition, segment: candidate.segment)
    }
}

/// Which segments are older than their family wants in memory.
private struct Staleness {
    /// By family: keys below are old.
    private var floors: [UInt32: UInt64] = [:]

    init(_ schema: Schema, nowMilliseconds: UInt64) {
        for family in schema.families {
            floors[family.number] = family.age?.coldBelow(nowMilliseconds: nowMilliseconds)
        }
    }

    func isStale(_ header: SegmentHeader) -> Bool {
        guard let floor = floors[header.family], header.kind == .integer else { return false }
        return header.place.expand(header.lastKey) < floor
    }
}
