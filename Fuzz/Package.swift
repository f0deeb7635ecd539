// swift-tools-version: 6.2
import PackageDescription

// Fuzzers of what reads bytes that others wrote. A package of its own, so that nobody else builds
// with libFuzzer. The readers' sources are linked in, not depended upon: their instrumentation
// must be built with the fuzzer's flags.
let strict: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
]
let fuzzer: [SwiftSetting] =
    strict + [.unsafeFlags(["-parse-as-library", "-sanitize=fuzzer", "-enable-testing"])]
let linker: [LinkerSetting] = [.unsafeFlags(["-sanitize=fuzzer", "-use-ld=lld"])]
let instrumented: [SwiftSetting] =
    strict + [.unsafeFlags(["-sanitize=fuzzer", "-enable-testing"])]

let package = Package(
    name: "fuzz",
    dependencies: [
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.2")
    ],
    targets: [
        .target(name: "CTallyIntrinsics", path: "Linked/CTallyIntrinsics"),
        .target(
            name: "TallyCore", dependencies: ["CTallyIntrinsics"], path: "Linked/TallyCore",
            swiftSettings: instrumented),
        .target(
            name: "TallyRESP", dependencies: ["TallyCore"], path: "Linked/TallyRESP",
            swiftSettings: instrumented),
        .target(
            name: "TallyEngine", dependencies: ["TallyCore", "CTallyIntrinsics"],
            path: "Linked/TallyEngine", swiftSettings: instrumented),
        .target(
            name: "TallyStorage", dependencies: ["TallyCore"], path: "Linked/TallyStorage",
            swiftSettings: instrumented),
        .target(
            name: "TallyTestSupport", dependencies: ["TallyCore", "TallyStorage"],
            path: "Linked/TallyTestSupport", swiftSettings: instrumented),
        .target(
            name: "TallyNATSProtocol",
            dependencies: [.product(name: "NIOCore", package: "swift-nio")],
            path: "Linked/TallyNATSProtocol", swiftSettings: instrumented),
        .target(name: "FuzzDriver", swiftSettings: strict),
        .executableTarget(
            name: "FuzzRESP", dependencies: ["FuzzDriver", "TallyCore", "TallyRESP"],
            swiftSettings: fuzzer,
            linkerSettings: linker),
        .executableTarget(
            name: "FuzzJournal",
            dependencies: [
                "FuzzDriver", "TallyCore", "TallyEngine", "TallyStorage", "TallyTestSupport",
            ], swiftSettings: fuzzer, linkerSettings: linker),
        .executableTarget(
            name: "FuzzLZ4", dependencies: ["FuzzDriver", "TallyCore"], swiftSettings: fuzzer,
            linkerSettings: linker),
        .executableTarget(
            name: "FuzzNATS",
            dependencies: [
                "FuzzDriver", "TallyNATSProtocol",
                .product(name: "NIOCore", package: "swift-nio"),
            ], swiftSettings: fuzzer, linkerSettings: linker),
    ]
)
