internal import Synchronization
public import TallyCore

/// The thread that takes segments in and out of memory, and the threads that read blocks of cold ones.
public final class ResidencyThread: Sendable {
    private let residency: Residency
    private let node: Node
    private let clock: any Clock
    private let onDamage: @Sendable (String) -> Void
    private let isStopping = Atomic<Bool>(false)
    private let thread = Locked<DedicatedThread?>(nil)
    private let wakeUp = WakeUp()

    /// How often everything is looked at when there is nothing to do, nanoseconds.
    private static var pollNanoseconds: Int { 1_000_000_000 }

    /// - Parameter onDamage: Called with what is wrong with which file; must not block.
    public init(
        _ residency: Residency, node: Node, clock: any Clock,
        onDamage: @escaping @Sendable (String) -> Void
    ) {
        self.residency = residency
        self.node = node
        self.clock = clock
        self.onDamage = onDamage
    }

    /// Starts all of them.
    public func start() {
        node.reader.start { [node] in node.insert($0, $1) }
        thread.withLock { thread in
            precondition(thread == nil, "started twice")
            thread = DedicatedThread(named: "residency") { self.run() }
        }
    }

    /// Ends all of them. Call when no more clients come.
    public func stop() {
        isStopping.store(true, ordering: .sequentiallyConsistent)
        wakeUp.signal()
        thread.withLock { $0.take() }?.join()
        node.reader.stop()
    }

    private var mustStop: Bool { isStopping.load(ordering: .sequentiallyConsistent) }

    private func run() {
        while !mustStop {
            let started = clock.monotonicNanoseconds()
            switch residency.step() {
            case .idle: wakeUp.sleep(nanoseconds: Self.pollNanoseconds) { mustStop }
            case .damaged(let damage): onDamage(damage)
            case .working:
                // Half of one core at most.
                let worked = Int(clock.monotonicNanoseconds() - started)
                wakeUp.sleep(nanoseconds: worked) { mustStop }
            }
        }
    }
}
