import Synchronization
import TallyCore

/// The latest commands that took long, as SLOWLOG shows them.
///
/// Commands are executed many at a time. A batch that took too long is noted with the command in it that had
/// most keys, and the time of the whole batch.
final class SlowLog: Sendable {
    struct Entry: Sendable {
        let id: UInt64
        let seconds: UInt64
        let microseconds: UInt64
        let arguments: [[UInt8]]
        let address: String
        let clientName: String
    }

    private let entries = Locked<(latest: [Entry], nextID: UInt64)>(([], 0))
    /// Duration from which on a command is noted, microseconds; negative for none.
    let thresholdMicroseconds = Atomic<Int>(10_000)
    /// How many are kept.
    let countMax = Atomic<Int>(128)

    /// Most arguments of a command that are kept, and most bytes of each, as in Redis.
    private static let argumentsMax = 32
    private static let argumentBytesMax = 128

    var count: Int { entries.withLock { $0.latest.count } }

    func add(
        _ arguments: [[UInt8]], microseconds: UInt64, seconds: UInt64, address: String,
        clientName: String
    ) {
        let countMax = max(0, countMax.load(ordering: .relaxed))
        entries.withLock { entries in
            entries.latest.insert(
                Entry(
                    id: entries.nextID, seconds: seconds, microseconds: microseconds,
                    arguments: arguments, address: address, clientName: clientName), at: 0)
            entries.nextID += 1
            if entries.latest.count > countMax {
                entries.latest.removeLast(entries.latest.count - countMax)
            }
        }
    }

    /// The latest `count` entries, newest first; all if it is nil.
    func latest(_ count: Int?) -> [Entry] {
        entries.withLock { Array($0.latest.prefix(count ?? .max)) }
    }

    func removeAll() { entries.withLock { $0.latest = [] } }

    /// Arguments as they are kept.
    static func shorten(_ count: Int, _ argument: (Int) -> UnsafeRawBufferPointer) -> [[UInt8]] {
        shorten(count) { shorten(argument($0)) }
    }

    /// Arguments as they are kept.
    static func shorten(_ arguments: [[UInt8]]) -> [[UInt8]] {
        shorten(arguments.count) { index in arguments[index].withUnsafeBytes { shorten($0) } }
    }

    private static func shorten(_ count: Int, _ shortened: (Int) -> [UInt8]) -> [[UInt8]] {
        let shown = count > argumentsMax ? argumentsMax - 1 : count
        var arguments = (0..<shown).map(shortened)
        if shown < count { arguments.append(Array("... (\(count - shown) more arguments)".utf8)) }
        return arguments
    }

    private static func shorten(_ bytes: UnsafeRawBufferPointer) -> [UInt8] {
        guard bytes.count > argumentBytesMax else { return Array(bytes) }
        return Array(bytes.prefix(argumentBytesMax))
            + Array("... (\(bytes.count - argumentBytesMax) more bytes)".utf8)
    }
}

/// The latest times that something took long, as LATENCY shows them.
final class LatencyMonitor: Sendable {
    /// What may take long.
    enum Event: String, CaseIterable, Sendable {
        /// Executing a batch of commands, or one that runs alone.
        case command
        /// Writing a commit group, and syncing it.
        case journal
    }

    struct Sample: Sendable {
        let seconds: UInt64
        let milliseconds: UInt64
    }

    /// Duration from which on it is noted, milliseconds; 0 for never.
    let thresholdMilliseconds = Atomic<Int>(0)
    private let samples = Locked<[Event: [Sample]]>([:])
    private let longest = Locked<[Event: UInt64]>([:])

    private static let samplesMax = 160

    @inline(__always)
    func note(_ event: Event, nanoseconds: UInt64, seconds: @autoclosure () -> UInt64) {
        let threshold = thresholdMilliseconds.load(ordering: .relaxed)
        guard threshold > 0, nanoseconds >= UInt64(threshold) * 1_000_000 else { return }
        add(event, Sample(seconds: seconds(), milliseconds: nanoseconds / 1_000_000))
    }

    private func add(_ event: Event, _ sample: Sample) {
        samples.withLock { samples in
            var all = samples[event] ?? []
            if let last = all.last, last.seconds == sample.seconds {
                // One a second, the longest.
                if last.milliseconds < sample.milliseconds { all[all.count - 1] = sample }
            } else {
                all.append(sample)
            }
            samples[event] = all.suffix(Self.samplesMax)
        }
        longest.withLock { $0[event] = max($0[event] ?? 0, sample.milliseconds) }
    }

    func history(_ event: Event) -> [Sample] { samples.withLock { $0[event] ?? [] } }

    func longestMilliseconds(_ event: Event) -> UInt64 { longest.withLock { $0[event] ?? 0 } }

    /// Forgets events.
    ///
    /// - Returns: how many of them there were.
    func reset(_ events: [Event]) -> Int {
        samples.withLock { samples in
            longest.withLock { longest in
                events.count { event in
                    longest[event] = nil
                    return samples.removeValue(forKey: event) != nil
                }
            }
        }
    }
}

/// How often each command was called, and how long it took: one loop's, which alone counts.
final class CommandStatistics: @unchecked Sendable {
    // Sendable because the counts are atomic, and the pointer to them does not change.
    private let counts: UnsafeMutablePointer<Atomic<UInt64>>
    private let commandCount: Int

    init(commandCount: Int) {
        self.commandCount = commandCount
        counts = .allocate(capacity: 2 * commandCount)
        for index in 0..<(2 * commandCount) { (counts + index).initialize(to: Atomic(0)) }
    }

    deinit {
        counts.deinitialize(count: 2 * commandCount)
        counts.deallocate()
    }

    /// Counts a call. Only one thread may.
    @inline(__always)
    func note(_ command: Int, nanoseconds: UInt64) {
        let calls = counts + 2 &* command
        calls.pointee.store(
            calls.pointee.load(ordering: .relaxed) &+ 1, ordering: .relaxed)
        let time = calls + 1
        time.pointee.store(
            time.pointee.load(ordering: .relaxed) &+ nanoseconds, ordering: .relaxed)
    }

    /// Calls of a command, and the time that they took, nanoseconds.
    func read(_ command: Int) -> (calls: UInt64, nanoseconds: UInt64) {
        (
            counts[2 * command].load(ordering: .relaxed),
            counts[2 * command + 1].load(ordering: .relaxed)
        )
    }

    func reset() {
        for index in 0..<(2 * commandCount) { counts[index].store(0, ordering: .relaxed) }
    }
}

/// Errors that clients were told, by their first word.
final class ErrorStatistics: Sendable {
    private let counts = Locked<[String: UInt64]>([:])
    private static let kindsMax = 64

    func note(_ message: [UInt8]) {
        let word = String(
            decoding: message.prefix { $0 != UInt8(ascii: " ") }.prefix(32), as: UTF8.self)
        counts.withLock { counts in
            guard counts[word] != nil || counts.count < Self.kindsMax else { return }
            counts[word, default: 0] += 1
        }
    }

    var all: [(String, UInt64)] { counts.withLock { $0.sorted { $0.key < $1.key } } }

    func reset() { counts.withLock { $0 = [:] } }
}
