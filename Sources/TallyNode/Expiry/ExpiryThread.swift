internal import Synchronization
public import TallyCore

/// The thread that removes keys whose deadline has come.
public final class ExpiryThread: Sendable {
    private let expiry: Expiry
    private let clock: any Clock
    private let isStopping = Atomic<Bool>(false)
    private let thread = Locked<DedicatedThread?>(nil)
    private let wakeUp = WakeUp()

    /// How long it rests once it has looked at everything, nanoseconds.
    private static var restNanoseconds: Int { 100_000_000 }
    /// How long it rests for each nanosecond of work: a twentieth of one core at most.
    private static var restShare: Int { 19 }

    /// A thread that has not started.
    public init(_ expiry: Expiry, clock: any Clock) {
        self.expiry = expiry
        self.clock = clock
    }

    /// Starts it.
    public func start() {
        thread.withLock { thread in
            precondition(thread == nil, "started twice")
            thread = DedicatedThread(named: "expiry") { self.run() }
        }
    }

    /// Ends it.
    public func stop() {
        isStopping.store(true, ordering: .sequentiallyConsistent)
        wakeUp.signal()
        thread.withLock { $0.take() }?.join()
    }

    private var mustStop: Bool { isStopping.load(ordering: .sequentiallyConsistent) }

    private func run() {
        while !mustStop {
            let started = clock.monotonicNanoseconds()
            var rest = 0
            if expiry.step() == .working {
                let worked = Int(clock.monotonicNanoseconds() - started)
                // Sleeping less than this is not worth it.
                rest = max(worked * Self.restShare, 50_000)
            } else {
                rest = Self.restNanoseconds
            }
            wakeUp.sleep(nanoseconds: rest) { mustStop }
        }
    }
}
