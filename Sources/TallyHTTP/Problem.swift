internal import Hummingbird
internal import NIOCore
internal import TallyRESP

#if canImport(FoundationEssentials)
    internal import FoundationEssentials
#else
    internal import Foundation
#endif

/// An error as RFC 9457 has it.
struct Problem: Error, HTTPResponseError {
    let status: HTTPResponse.Status
    let title: String
    let detail: String
    var headers: HTTPFields = [:]

    private struct Body: Encodable {
        let type = "about:blank"
        let title: String
        let status: Int
        let detail: String
    }

    func response(from request: Request, context: some RequestContext) -> Response {
        var fields = headers
        fields[.contentType] = "application/problem+json"
        let body = Body(title: title, status: Int(status.code), detail: detail)
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.withoutEscapingSlashes, .sortedKeys]
        let bytes = (try? encoder.encode(body)).map { Array($0) } ?? []
        return Response(
            status: status, headers: fields,
            body: ResponseBody(byteBuffer: ByteBuffer(bytes: bytes)))
    }

    static func badRequest(_ detail: String) -> Problem {
        Problem(status: .badRequest, title: "Bad request", detail: detail)
    }

    static func notFound(_ detail: String) -> Problem {
        Problem(status: .notFound, title: "Not found", detail: detail)
    }

    /// What an error reply means here.
    init(reply: String) {
        let code = reply.prefix { $0 != " " }
        let words = reply.dropFirst(code.count).drop { $0 == " " }
        var headers: HTTPFields = [:]
        let status: HTTPResponse.Status
        let title: String
        switch code {
        case "NOAUTH", "WRONGPASS":
            (status, title) = (.unauthorized, "Not logged in")
            headers[.wwwAuthenticate] = "Basic realm=\"tally\", charset=\"UTF-8\""
        case "NOPERM": (status, title) = (.forbidden, "Not permitted")
        case "OOM", "MISCONF": (status, title) = (.init(code: 507), "No room")
        case "TOKENREUSED": (status, title) = (.unprocessableContent, "Key of another request")
        case "TOKENOLD", "TOKENFUTURE", "TOKENLOST":
            (status, title) = (.conflict, "Cannot tell whether this was counted")
        case "EXECABORT": (status, title) = (.badRequest, "Bad request")
        case "TRYAGAIN": (status, title) = (.serviceUnavailable, "Try again")
        case _
        where reply.contains("overflow") || reply.contains("leave its range")
            || reply.contains("out of its column's range") || reply.contains("are final"):
            (status, title) = (.conflict, "Out of range")
        case _ where reply.contains("is no key of counter") || reply.contains("has no column"):
            (status, title) = (.notFound, "Not found")
        case _ where reply.contains("cannot be read"):
            (status, title) = (.internalServerError, "Unreadable")
        default: (status, title) = (.badRequest, "Bad request")
        }
        self.init(
            status: status, title: title, detail: String(code == "ERR" ? words : reply[...]),
            headers: headers)
    }

    init(
        status: HTTPResponse.Status, title: String, detail: String, headers: HTTPFields = [:]
    ) {
        self.status = status
        self.title = title
        self.detail = detail
        self.headers = headers
    }
}

/// Turns every error into a problem.
struct ProblemMiddleware<Context: RequestContext>: RouterMiddleware {
    func handle(
        _ request: Request, context: Context,
        next: (Request, Context) async throws -> Response
    ) async throws -> Response {
        do {
            return try await next(request, context)
        } catch let problem as Problem {
            return problem.response(from: request, context: context)
        } catch let error as HTTPError where error.status == .notFound {
            let path = request.uri.path
            guard let methods = Paths.methods(path), !methods.contains(request.method.rawValue)
            else {
                return Problem.notFound("there is no \(path)")
                    .response(from: request, context: context)
            }
            var fields: HTTPFields = [:]
            fields[.allow] = methods.joined(separator: ", ")
            return Problem(
                status: .methodNotAllowed, title: "Method not allowed",
                detail: "\(path) has: \(methods.joined(separator: ", "))", headers: fields
            ).response(from: request, context: context)
        } catch let error as HTTPError {
            let title = error.status.reasonPhrase
            return Problem(
                status: error.status, title: title.isEmpty ? "Error" : title,
                detail: error.body ?? "\(request.method) \(request.uri.path)"
            ).response(from: request, context: context)
        } catch let error as any HTTPResponseError {
            return Problem(
                status: error.status, title: error.status.reasonPhrase,
                detail: "\(request.method) \(request.uri.path)"
            ).response(from: request, context: context)
        }
    }
}
