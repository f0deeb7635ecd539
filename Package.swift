// swift-tools-version: 6.2
import PackageDescription

/// What every target is compiled with: Swift 6 mode, no implicit existentials, no leaked imports.
let strict: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .treatAllWarnings(as: .error),
]

let package = Package(
    name: "tally",
    products: [
        .executable(name: "tally", targets: ["tally"])
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-configuration", from: "1.4.0"),
        .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
        .package(url: "https://github.com/apple/swift-http-types", from: "1.8.0"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-metrics", from: "2.13.0"),
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
        .package(url: "https://github.com/apple/swift-nio-ssl", from: "2.37.6"),
        .package(url: "https://github.com/hummingbird-project/hummingbird", from: "2.28.1"),
        .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
        .package(
            url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
    ],
    targets: [
        // Arrows go up this list only.
        .target(name: "CTallyIntrinsics"),
        .target(name: "TallyCore", dependencies: ["CTallyIntrinsics"], swiftSettings: strict),
        .target(
            name: "TallyEngine", dependencies: ["TallyCore", "CTallyIntrinsics"],
            swiftSettings: strict),
        .target(
            name: "TallyStorage", dependencies: ["CTallyIntrinsics", "TallyCore"],
            swiftSettings: strict),
        .target(
            name: "TallyAccess",
            dependencies: [
                "TallyCore",
                .product(name: "Crypto", package: "swift-crypto"),
                .product(name: "CryptoExtras", package: "swift-crypto"),
            ], swiftSettings: strict),
        .target(name: "TallyRESP", dependencies: ["TallyCore"], swiftSettings: strict),
        .target(
            name: "TallyNode",
            dependencies: ["CTallyIntrinsics", "TallyCore", "TallyEngine", "TallyStorage"],
            swiftSettings: strict),
        .target(
            name: "TallyCluster", dependencies: ["TallyCore", "TallyEngine", "TallyNode"],
            swiftSettings: strict),
        .target(
            name: "TallyNATS",
            dependencies: [
                .product(name: "Crypto", package: "swift-crypto"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "NIOSSL", package: "swift-nio-ssl"),
                .product(name: "NIOTLS", package: "swift-nio"),
            ], swiftSettings: strict),
        .target(
            name: "TallyReplication",
            dependencies: [
                "TallyCore", "TallyStorage", "TallyNode", "TallyCluster", "TallyNATS",
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOFoundationCompat", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
            ], swiftSettings: strict),
        .target(
            name: "TallyServer",
            dependencies: [
                "TallyCore", "TallyRESP", "TallyAccess", "TallyNode", "TallyCluster",
                .product(name: "Logging", package: "swift-log"),
                .product(name: "CoreMetrics", package: "swift-metrics"),
                .product(name: "Metrics", package: "swift-metrics"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "NIOSSL", package: "swift-nio-ssl"),
                .product(name: "NIOTLS", package: "swift-nio"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
            ], swiftSettings: strict),
        .target(
            name: "TallyHTTP",
            dependencies: [
                "TallyCore", "TallyRESP", "TallyAccess", "TallyServer",
                .product(name: "CoreMetrics", package: "swift-metrics"),
                .product(name: "HTTPTypes", package: "swift-http-types"),
                .product(name: "Hummingbird", package: "hummingbird"),
                .product(name: "HummingbirdCore", package: "hummingbird"),
                .product(name: "HummingbirdTLS", package: "hummingbird"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "NIOSSL", package: "swift-nio-ssl"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
            ], swiftSettings: strict),
        .executableTarget(
            name: "tally",
            dependencies: [
                "CTallyIntrinsics", "TallyCore", "TallyEngine", "TallyStorage", "TallyAccess",
                "TallyNode", "TallyCluster", "TallyNATS", "TallyReplication", "TallyRESP",
                "TallyServer", "TallyHTTP",
                .product(name: "NIOSSL", package: "swift-nio-ssl"),
                .product(name: "CoreMetrics", package: "swift-metrics"),
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Configuration", package: "swift-configuration"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
                .product(name: "UnixSignals", package: "swift-service-lifecycle"),
                .product(name: "Yams", package: "Yams"),
            ], swiftSettings: strict),

        .executableTarget(
            name: "EngineBenchmark", dependencies: ["TallyCore", "TallyEngine"],
            path: "Benchmarks/Engine", swiftSettings: strict),
        .executableTarget(
            name: "NATSBenchmark",
            dependencies: [
                "TallyNATS",
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
            ],
            path: "Benchmarks/NATS", swiftSettings: strict),

        .target(
            name: "TallyTestSupport", dependencies: ["TallyCore", "TallyStorage"],
            path: "Tests/TallyTestSupport", swiftSettings: strict),
        test("TallyCoreTests", ["TallyCore"]),
        test("TallyEngineTests", ["TallyCore", "TallyEngine"]),
        test("TallyStorageTests", ["TallyCore", "TallyStorage"]),
        test("TallyAccessTests", ["TallyCore", "TallyAccess"]),
        test("TallyRESPTests", ["TallyCore", "TallyRESP"]),
        test(
            "TallyHTTPTests", ["TallyCore", "TallyHTTP"],
            products: [.product(name: "CoreMetrics", package: "swift-metrics")]),
        test("TallyNodeTests", ["TallyCore", "TallyEngine", "TallyStorage", "TallyNode"]),
        test(
            "TallyServerTests",
            ["TallyCore", "TallyRESP", "TallyAccess", "TallyStorage", "TallyNode", "TallyServer"],
            products: [
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: "swift-nio"),
            ]),
        test("TallyClusterTests", ["TallyCore", "TallyEngine", "TallyNode", "TallyCluster"]),
        test(
            "SimulationTests",
            [
                "TallyCore", "TallyEngine", "TallyStorage", "TallyNode", "TallyCluster",
                "TallyNATS", "TallyReplication",
            ], products: [.product(name: "NIOCore", package: "swift-nio")]),
        test(
            "TallyNATSTests", ["TallyCore", "TallyNATS"],
            products: [
                .product(name: "Crypto", package: "swift-crypto"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
            ]),
    ]
)

/// Tests of the modules in `modules`, with the simulated parts at hand.
func test(
    _ name: String, _ modules: [String], products: [Target.Dependency] = []
) -> Target {
    .testTarget(
        name: name,
        dependencies: (modules + ["TallyTestSupport"]).map { .target(name: $0) } + products,
        swiftSettings: strict)
}
