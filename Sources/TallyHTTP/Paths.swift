#if canImport(FoundationEssentials)
    internal import FoundationEssentials
#else
    internal import Foundation
#endif

/// The paths of the interface and their methods, as its document has them.
enum Paths {
    private static let all: [(parts: [Substring], methods: [String])] = {
        guard
            let document = try? JSONDecoder().decode(
                Document.self, from: Data(OpenAPI.document.utf8))
        else { preconditionFailure("the interface's document is no JSON") }
        return document.paths.map { path, operations in
            let methods = operations.keys.filter { $0 != "parameters" }
            return (path.split(separator: "/"), methods.map { $0.uppercased() }.sorted())
        }
    }()

    private struct Document: Decodable {
        let paths: [String: [String: Anything]]
    }

    private struct Anything: Decodable {
        init(from decoder: any Decoder) {}
    }

    /// The methods of a path; nil if there is no such path.
    static func methods(_ path: String) -> [String]? {
        let parts = path.split(separator: "/")
        return all.first { template in
            template.parts.count == parts.count
                && zip(template.parts, parts).allSatisfy { $0.hasPrefix("{") || $0 == $1 }
        }?.methods
    }
}
