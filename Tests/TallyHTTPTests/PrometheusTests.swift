import CoreMetrics
import TallyHTTP
import Testing

struct PrometheusTests {
    @Test func showsCountersGaugesAndHistograms() {
        let registry = PrometheusRegistry(help: ["a_total": "Things."])
        registry.makeCounter(label: "a", dimensions: [("kind", "x\"y\\z\n")]).increment(by: 3)
        registry.makeCounter(label: "a", dimensions: [("kind", "x\"y\\z\n")]).increment(by: 4)
        registry.makeFloatingPointCounter(label: "b.c", dimensions: []).increment(by: 0.5)
        registry.makeMeter(label: "d", dimensions: []).set(Int64(-2))
        let timer = registry.makeTimer(label: "e", dimensions: [])
        timer.recordNanoseconds(10_000)
        timer.recordNanoseconds(10_001)
        timer.recordNanoseconds(20_000_000_000)
        let text = registry.text()
        #expect(
            text.contains(
                "# HELP a_total Things.\n# TYPE a_total counter\na_total{kind=\"x\\\"y\\\\z\\n\"} 7\n"
            ))
        #expect(text.contains("\nb_c_total 0.5\n"))
        #expect(text.contains("# TYPE d gauge\nd -2\n"))
        #expect(text.contains("e_seconds_bucket{le=\"1e-05\"} 1\n"))
        #expect(text.contains("e_seconds_bucket{le=\"2.5e-05\"} 2\n"))
        #expect(text.contains("e_seconds_bucket{le=\"10\"} 2\n"))
        #expect(text.contains("e_seconds_bucket{le=\"+Inf\"} 3\n"))
        #expect(text.contains("e_seconds_count 3\n"))
        #expect(text.contains("e_seconds_sum 20.000020001\n"))
    }
}
