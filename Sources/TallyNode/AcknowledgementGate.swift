import TallyCore
internal import Synchronization

/// Decides whether a reply may leave, given the commit group that it reflects.
public final class AcknowledgementGate: Sendable {
    private let durability: Durability
    private let clock: any Clock
    private let durable = Atomic<UInt64>(0)
    /// When acknowledging must stop for the open group and for the one on its way to the disk,
    /// monotonic nanoseconds; `never` when it holds nothing.
    private let openDeadline = Atomic<UInt64>(never)
    private let inFlightDeadline = Atomic<UInt64>(never)

    private static let never = UInt64.max

    init(durability: Durability, clock: any Clock, durableSequence: UInt64) {
        self.durability = durability
        self.clock = clock
        durable.store(durableSequence, ordering: .relaxed)
    }

    /// The last group known to be on disk, with all before it.
    public var durableSequence: UInt64 { durable.load(ordering: .acquiring) }

    /// Whether a reply that reflects everything up to group `sequence` may leave now.
    @inline(__always)
    public func admits(_ sequence: UInt64) -> Bool {
        if sequence <= durable.load(ordering: .acquiring) { return true }
        switch durability {
        case .always: return false
        case .none: return true
        case .interval:
            // The open one first: when it moves on it is in flight before it is open no more.
            let open = openDeadline.load(ordering: .sequentiallyConsistent)
            let deadline = min(open, inFlightDeadline.load(ordering: .sequentiallyConsistent))
            return deadline == Self.never || clock.monotonicNanoseconds() < deadline
        }
    }

    // MARK: The writing side

    /// The open group has received an operation. Called under a partition's lock, so that
    /// the group cannot close meanwhile.
    @inline(__always)
    func didChange() {
        guard case .interval(let milliseconds) = durability,
            openDeadline.load(ordering: .relaxed) == Self.never
        else { return }
        let deadline = clock.monotonicNanoseconds() + UInt64(milliseconds) * 1_000_000
        _ = openDeadline.compareExchange(
            expected: Self.never, desired: deadline, ordering: .relaxed)
    }

    /// The open group has been closed and goes to the disk. Called under all partitions' locks.
    func didClose() {
        inFlightDeadline.store(
            openDeadline.load(ordering: .relaxed), ordering: .sequentiallyConsistent)
        openDeadline.store(Self.never, ordering: .sequentiallyConsistent)
    }

    /// Everything up to group `sequence` is on disk.
    func didSync(_ sequence: UInt64) {
        inFlightDeadline.store(Self.never, ordering: .relaxed)
        durable.store(sequence, ordering: .sequentiallyConsistent)
    }
}
