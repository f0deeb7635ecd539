public import CoreMetrics
internal import Synchronization
internal import TallyCore

/// Metrics as Prometheus reads them, behind the interface of swift-metrics.
///
/// Names are those of the labels, in letters that Prometheus allows; counters end in `_total`, durations are
/// histograms in seconds. There are at most `seriesMax` series: what comes beyond is not kept.
public final class PrometheusRegistry: MetricsFactory {
    private let help: [String: String]
    private let series = Locked<[Identity: Series]>([:])

    private static let seriesMax = 20_000

    private struct Identity: Hashable {
        let name: String
        let labels: [String]
    }

    fileprivate enum Series {
        case counter(CounterSeries)
        case gauge(GaugeSeries)
        case histogram(HistogramSeries)

        var type: String {
            switch self {
            case .counter: "counter"
            case .gauge: "gauge"
            case .histogram: "histogram"
            }
        }
    }

    /// - Parameter help: What there is to know of metrics, by their whole names.
    public init(help: [String: String] = [:]) { self.help = help }

    // MARK: Making

    /// A counter; of the same label and dimensions the same.
    public func makeCounter(label: String, dimensions: [(String, String)]) -> any CounterHandler {
        counter(label, dimensions)
    }

    /// The same for amounts that are no integers.
    public func makeFloatingPointCounter(
        label: String, dimensions: [(String, String)]
    ) -> any FloatingPointCounterHandler {
        counter(label, dimensions)
    }

    private func counter(_ label: String, _ dimensions: [(String, String)]) -> CounterSeries {
        let name = Self.name(label)
        let made = find(name.hasSuffix("_total") ? name : name + "_total", dimensions) {
            .counter(CounterSeries())
        }
        if case .counter(let counter) = made { return counter }
        return CounterSeries()
    }

    /// A gauge.
    public func makeMeter(label: String, dimensions: [(String, String)]) -> any MeterHandler {
        gauge(label, dimensions)
    }

    /// A histogram of values, or a gauge where nothing is aggregated.
    public func makeRecorder(
        label: String, dimensions: [(String, String)], aggregate: Bool
    ) -> any RecorderHandler {
        aggregate ? histogram(Self.name(label), dimensions, .values) : gauge(label, dimensions)
    }

    private func gauge(_ label: String, _ dimensions: [(String, String)]) -> GaugeSeries {
        if case .gauge(let gauge) = find(Self.name(label), dimensions, { .gauge(GaugeSeries()) }) {
            return gauge
        }
        return GaugeSeries()
    }

    /// A histogram of seconds.
    public func makeTimer(label: String, dimensions: [(String, String)]) -> any TimerHandler {
        let name = Self.name(label)
        return histogram(
            name.hasSuffix("_seconds") ? name : name + "_seconds", dimensions, .seconds)
    }

    private func histogram(
        _ name: String, _ dimensions: [(String, String)], _ scale: HistogramSeries.Scale
    ) -> HistogramSeries {
        let made = find(name, dimensions) { .histogram(HistogramSeries(scale)) }
        if case .histogram(let histogram) = made { return histogram }
        return HistogramSeries(scale)
    }

    private func find(
        _ name: String, _ dimensions: [(String, String)], _ make: () -> Series
    ) -> Series {
        let labels = dimensions.map { "\(Self.name($0.0))=\"\(Self.escape($0.1))\"" }
        let identity = Identity(name: name, labels: labels)
        return series.withLock { series in
            if let known = series[identity] { return known }
            let made = make()
            // One name has one type, whatever its labels.
            if series.count < Self.seriesMax { series[identity] = made }
            return made
        }
    }

    /// Nothing: series stay, and a name that is used again goes on from where it was.
    public func destroyCounter(_ handler: any CounterHandler) {}
    /// Nothing, as for counters.
    public func destroyFloatingPointCounter(_ handler: any FloatingPointCounterHandler) {}
    /// Nothing, as for counters.
    public func destroyMeter(_ handler: any MeterHandler) {}
    /// Nothing, as for counters.
    public func destroyRecorder(_ handler: any RecorderHandler) {}
    /// Nothing, as for counters.
    public func destroyTimer(_ handler: any TimerHandler) {}

    private static func name(_ label: String) -> String {
        let letters = label.unicodeScalars.map { scalar -> Character in
            let isAllowed =
                scalar == "_" || scalar == ":" || ("a"..."z").contains(scalar)
                || ("A"..."Z").contains(scalar) || ("0"..."9").contains(scalar)
            return isAllowed ? Character(scalar) : "_"
        }
        let name = String(letters)
        return name.first?.isNumber == false ? name : "_" + name
    }

    private static func escape(_ value: String) -> String {
        value.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"")
            .replacing("\n", with: "\\n")
    }

    // MARK: Showing

    /// All metrics in Prometheus's text format, version 0.0.4.
    ///
    /// - Complexity: O(series).
    public func text() -> String {
        let all = series.withLock { $0 }
        var lines: [String] = []
        let byName = Dictionary(grouping: all) { $0.key.name }
        for (name, members) in byName.sorted(by: { $0.key < $1.key }) {
            let type = members[0].value.type
            lines.append("# HELP \(name) \(help[name] ?? Self.words(name))")
            lines.append("# TYPE \(name) \(type)")
            for (identity, member) in members.sorted(by: {
                $0.key.labels.lexicographicallyPrecedes($1.key.labels)
            }) where member.type == type {
                Self.append(name, identity.labels, member, to: &lines)
            }
        }
        return lines.joined(separator: "\n") + "\n"
    }

    private static func words(_ name: String) -> String {
        name.replacing("_", with: " ") + "."
    }

    private static func append(
        _ name: String, _ labels: [String], _ series: Series, to lines: inout [String]
    ) {
        switch series {
        case .counter(let counter): lines.append(line(name, labels, text(counter.value)))
        case .gauge(let gauge): lines.append(line(name, labels, text(gauge.value)))
        case .histogram(let histogram):
            let (buckets, sum, count) = histogram.read()
            var below: UInt64 = 0
            for (bound, inBucket) in zip(histogram.bounds, buckets) {
                below += inBucket
                lines.append(
                    line("\(name)_bucket", labels + ["le=\"\(text(bound))\""], "\(below)"))
            }
            lines.append(line("\(name)_bucket", labels + ["le=\"+Inf\""], "\(count)"))
            lines.append(line("\(name)_sum", labels, text(sum)))
            lines.append(line("\(name)_count", labels, "\(count)"))
        }
    }

    private static func line(_ name: String, _ labels: [String], _ value: String) -> String {
        labels.isEmpty ? "\(name) \(value)" : "\(name){\(labels.joined(separator: ","))} \(value)"
    }

    private static func text(_ value: Double) -> String {
        value == value.rounded() && abs(value) < 1e15 ? String(Int64(value)) : String(value)
    }
}

/// A number that several threads may change.
private struct AtomicDouble: ~Copyable, Sendable {
    private let bits = Atomic<UInt64>(0)

    var value: Double { Double(bitPattern: bits.load(ordering: .relaxed)) }

    func set(_ value: Double) { bits.store(value.bitPattern, ordering: .relaxed) }

    func add(_ amount: Double) {
        var before = bits.load(ordering: .relaxed)
        while true {
            let (exchanged, original) = bits.weakCompareExchange(
                expected: before, desired: (Double(bitPattern: before) + amount).bitPattern,
                ordering: .relaxed)
            if exchanged { return }
            before = original
        }
    }
}

/// A sum that grows.
private final class CounterSeries: CounterHandler, FloatingPointCounterHandler {
    private let sum = AtomicDouble()

    var value: Double { sum.value }

    func increment(by amount: Int64) { sum.add(Double(amount)) }
    func increment(by amount: Double) { sum.add(amount) }
    func reset() { sum.set(0) }
}

/// A value that goes up and down.
private final class GaugeSeries: MeterHandler, RecorderHandler {
    private let level = AtomicDouble()

    var value: Double { level.value }

    func set(_ value: Int64) { level.set(Double(value)) }
    func set(_ value: Double) { level.set(value) }
    func record(_ value: Int64) { set(value) }
    func record(_ value: Double) { set(value) }
    func increment(by amount: Double) { level.add(amount) }
    func decrement(by amount: Double) { level.add(-amount) }
}

/// How many values lie between bounds.
private final class HistogramSeries: TimerHandler, RecorderHandler {
    enum Scale {
        case seconds, values
    }

    /// Upper bounds, that of the last bucket, infinity, excepted.
    let bounds: [Double]
    private let scaledBounds: [Int64]
    private let counts: [CounterCell]
    private let sum = Atomic<Int64>(0)
    /// Nanoseconds are recorded where seconds are shown.
    private let recordedPerUnit: Double

    private final class CounterCell: Sendable {
        let value = Atomic<UInt64>(0)
    }

    init(_ scale: Scale) {
        let steps: [Double] = [1, 2.5, 5]
        switch scale {
        case .seconds:
            // From 10 microseconds to 10 seconds.
            bounds = (-5...0).flatMap { power in steps.map { $0 * Self.power(power) } } + [10]
            recordedPerUnit = 1e9
        case .values:
            bounds = (0...9).flatMap { power in steps.map { $0 * Self.power(power) } }
            recordedPerUnit = 1
        }
        scaledBounds = bounds.map { [recordedPerUnit] in Int64(($0 * recordedPerUnit).rounded()) }
        counts = (0...bounds.count).map { _ in CounterCell() }
    }

    private static func power(_ exponent: Int) -> Double {
        var power = 1.0
        for _ in 0..<abs(exponent) { power *= 10 }
        return exponent < 0 ? 1 / power : power
    }

    func recordNanoseconds(_ duration: Int64) { record(duration) }
    func record(_ value: Double) { record(Int64(value)) }

    func record(_ value: Int64) {
        var low = 0
        var high = scaledBounds.count
        while low < high {
            let middle = (low + high) / 2
            if scaledBounds[middle] < value { low = middle + 1 } else { high = middle }
        }
        counts[low].value.wrappingAdd(1, ordering: .relaxed)
        sum.wrappingAdd(value, ordering: .relaxed)
    }

    func read() -> (buckets: [UInt64], sum: Double, count: UInt64) {
        let buckets = counts.map { $0.value.load(ordering: .relaxed) }
        return (
            Array(buckets.dropLast()), Double(sum.load(ordering: .relaxed)) / recordedPerUnit,
            buckets.reduce(0, +)
        )
    }
}
