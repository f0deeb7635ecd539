internal import CoreMetrics
internal import HTTPTypes
internal import Hummingbird
internal import TallyCore

/// Measures requests: how long they take, by route, method and status, and how many there are at a time.
///
/// Until there is a reply, not until it has been written: a body that tells of its end goes out apart from
/// its head, which costs the server and the client twice the system calls.
final class RequestMetrics: RouterMiddleware {
    typealias Context = TallyContext

    private struct Kind: Hashable {
        let route: String
        let method: HTTPRequest.Method
        let status: Int
    }

    private let active = Meter(label: "tally_http_active_requests")
    private let timers = Locked<[Kind: Timer]>([:])

    func handle(
        _ request: Request, context: TallyContext,
        next: (Request, TallyContext) async throws -> Response
    ) async throws -> Response {
        let begun = ContinuousClock.now
        active.increment()
        defer { active.decrement() }
        do {
            let response = try await next(request, context)
            note(request, context, response.status, begun)
            return response
        } catch {
            note(
                request, context, (error as? any HTTPResponseError)?.status ?? .internalServerError,
                begun)
            throw error
        }
    }

    private func note(
        _ request: Request, _ context: TallyContext, _ status: HTTPResponse.Status,
        _ begun: ContinuousClock.Instant
    ) {
        let kind = Kind(
            route: context.endpointPath ?? "NotFound", method: request.method, status: status.code)
        timers.withLock { timers in
            timers[kind] ?? Self.make(kind, &timers)
        }.recordNanoseconds(Int64((ContinuousClock.now - begun) / .nanoseconds(1)))
    }

    private static func make(_ kind: Kind, _ timers: inout [Kind: Timer]) -> Timer {
        let timer = Timer(
            label: "tally_http_request",
            dimensions: [
                ("route", kind.route), ("method", kind.method.rawValue),
                ("status", "\(kind.status)"),
            ], preferredDisplayUnit: .seconds)
        timers[kind] = timer
        return timer
    }
}
