import Synchronization
import TallyCore
import TallyNode
import TallyRESP

/// What identifies a key or a record among all that a node has.
struct HotKey: Hashable, Sendable {
    /// The family's number, 0 for plain keys.
    let family: UInt32
    /// The key's bytes; an integer's digits.
    let key: [UInt8]
}

/// The keys that are asked for most, found among any number of keys in memory that does not grow.
///
/// The algorithm is Space-Saving (Metwally, Agrawal and El Abbadi, 2005): a key that is not among those that are
/// counted takes the place, and the count, of the one that was seen least, so that a key seen more often than one
/// in `capacity` is never missed. Counts fade, so that they tell how things are now.
struct HotKeys {
    struct Entry {
        let key: HotKey
        /// How often it was seen lately, at most.
        let count: Double
        /// By how much that may be too high.
        let error: Double
    }

    // Apart, so that looking for a hash or for the least count is a loop over numbers.
    private var hashes: [UInt64] = []
    private var counts: [Double] = []
    private var errors: [Double] = []
    private var keys: [HotKey] = []
    /// How often any key was seen lately.
    private(set) var total: Double = 0
    private var seconds: UInt64 = 0
    private let capacity: Int

    /// What is left of a count after a second.
    static let fading = 0.875

    init(capacity: Int = Limits.hotKeysCounted) {
        self.capacity = capacity
        hashes.reserveCapacity(capacity)
        counts.reserveCapacity(capacity)
        errors.reserveCapacity(capacity)
        keys.reserveCapacity(capacity)
    }

    /// The keys that are counted.
    var entries: [Entry] {
        keys.indices.map { Entry(key: keys[$0], count: counts[$0], error: errors[$0]) }
    }

    /// Counts one sighting.
    ///
    /// - Parameters:
    ///   - hash: Of the key.
    ///   - seconds: Now.
    ///   - key: Makes the key, if it is not known.
    /// - Complexity: O(capacity).
    mutating func note(hash: UInt64, seconds: UInt64, key: () -> HotKey) {
        if seconds > self.seconds { fade(to: seconds) }
        total += 1
        if let index = hashes.firstIndex(of: hash) {
            counts[index] += 1
            return
        }
        guard hashes.count == capacity else {
            hashes.append(hash)
            counts.append(1)
            errors.append(0)
            return keys.append(key())
        }
        var least = 0
        for index in 1..<capacity where counts[index] < counts[least] { least = index }
        hashes[least] = hash
        errors[least] = counts[least]
        counts[least] += 1
        keys[least] = key()
    }

    /// Time has passed.
    mutating func fade(to seconds: UInt64) {
        guard seconds > self.seconds else { return }
        var left = 1.0
        for _ in 0..<min(200, seconds - self.seconds) { left *= Self.fading }
        self.seconds = seconds
        total *= left
        for index in counts.indices {
            counts[index] *= left
            errors[index] *= left
        }
    }

    mutating func removeAll() { self = HotKeys(capacity: capacity) }
}

/// Looks at one operation of an event loop in so many, and counts its key.
final class HotKeySampler: Sendable {
    private let keys = Locked(HotKeys())

    /// One operation in so many is looked at.
    static let ratio = 256

    /// Operations until the next one that is looked at, by chance, so that no pattern hides a key.
    static func gap(_ state: inout UInt64) -> Int {
        // A linear congruential generator; its upper bits are good enough to throw dice.
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return 1 + Int((state >> 33) % UInt64(2 * ratio - 1))
    }

    func note(_ operation: Operation, seconds: UInt64) {
        guard operation.namesKey else { return }
        let hash =
            operation.hash ^ UInt64(operation.family) &* 0x9e37_79b9_7f4a_7c15
            ^ UInt64(operation.partition) << 48
        keys.withLock {
            $0.note(hash: hash, seconds: seconds) {
                HotKey(
                    family: operation.family,
                    key: operation.keyKind == .integer
                        ? Array("\(operation.integerKey)".utf8) : Array(operation.keyBytes))
            }
        }
    }

    func removeAll() { keys.withLock { $0.removeAll() } }

    /// What it has counted.
    func counted(seconds: UInt64) -> HotKeys {
        keys.withLock { keys in
            keys.fade(to: seconds)
            return keys
        }
    }
}

/// A key that is asked for often.
struct HotKeyReport {
    let key: HotKey
    /// Operations a second, about.
    let rate: Double
    /// Of all operations.
    let share: Double
}

extension ServerContext {
    /// Room for what another loop counts.
    func makeHotKeySampler() -> HotKeySampler {
        let sampler = HotKeySampler()
        hotKeySamplers.withLock { $0.append(sampler) }
        return sampler
    }

    /// The keys that were asked for most lately, and surely so, the first ones first.
    func hotKeys(countMax: Int) -> [HotKeyReport] {
        var sums: [HotKey: Double] = [:]
        var total = 0.0
        for sampler in hotKeySamplers.withLock({ $0 }) {
            let counted = sampler.counted(seconds: uptimeSeconds)
            total += counted.total
            for entry in counted.entries where entry.count - entry.error >= Self.sightingsMin {
                sums[entry.key, default: 0] += entry.count - entry.error
            }
        }
        guard total > 0 else { return [] }
        let perSecond = (1 - HotKeys.fading) * Double(HotKeySampler.ratio)
        return sums.sorted { ($1.value, $0.key.key.count) < ($0.value, $1.key.key.count) }
            .prefix(countMax)
            .map { HotKeyReport(key: $0.key, rate: $0.value * perSecond, share: $0.value / total) }
    }

    /// Sightings below which a key may be there by chance.
    private static var sightingsMin: Double { 4 }

    func resetHotKeys() {
        for sampler in hotKeySamplers.withLock({ $0 }) { sampler.removeAll() }
    }
}

/// HOTKEYS
extension CommandProcessor {
    /// Looks at the keys of some of the batch's operations.
    @inline(__always)
    mutating func sampleKeys() {
        guard untilSample < batch.count else {
            untilSample &-= batch.count
            return
        }
        sampleSomeKeys()
    }

    @inline(never)
    private mutating func sampleSomeKeys() {
        let seconds = server.uptimeSeconds
        var index = untilSample
        while index < batch.count {
            hotKeySampler.note(batch.operations[index], seconds: seconds)
            index &+= HotKeySampler.gap(&dice)
        }
        untilSample = index &- batch.count
    }

    mutating func hotKeysGet(_ version: RESPVersion) {
        var count = 16
        if arguments.count == 4, arguments[2].equalsIgnoringCase("count") {
            guard let wanted = Decimal.parse(arguments[3]), wanted > 0,
                wanted <= Limits.hotKeysCounted
            else {
                return replies.error(
                    "ERR COUNT must be between 1 and \(Limits.hotKeysCounted)")
            }
            count = Int(wanted)
        } else if arguments.count != 2 {
            return replies.error("ERR syntax error: HOTKEYS GET [COUNT count]")
        }
        let found = server.hotKeys(countMax: count)
        replies.map(3, version)
        replies.bulk("tracking-active")
        replies.integer(1)
        replies.bulk("sample-ratio")
        replies.integer(Int64(HotKeySampler.ratio))
        replies.bulk("by-operations")
        replies.array(found.count)
        for report in found {
            replies.array(3)
            name(of: report.key).withUnsafeBytes { replies.bulk($0) }
            replies.integer(Int64(report.rate.rounded()))
            replies.bulk("\(Double(Int(report.share * 10_000)) / 100)%")
        }
    }

    /// A plain key as it is, a record as `family:key`.
    private func name(of key: HotKey) -> [UInt8] {
        guard key.family != 0 else { return key.key }
        let family = catalog.family(number: key.family).map { Array($0.name) }
        return (family ?? Array("\(key.family)".utf8)) + [UInt8(ascii: ":")] + key.key
    }
}
