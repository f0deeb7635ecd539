import Logging
import NIOCore
import TallyNATS

/// A subject on which other nodes ask this one for something.
///
/// On the client's loop.
final class RequestSubject {
    private let client: NATSClient
    private let subject: String
    private let logger: Logger
    private var subscription: NATSSubscription?

    init(_ client: NATSClient, _ subject: String, _ logger: Logger) {
        self.client = client
        self.subject = subject
        self.logger = logger
    }

    /// Listens.
    ///
    /// - Parameter receive: Called with what is asked, and with what takes the answer, once.
    func start(_ receive: @escaping (ByteBuffer, @escaping (ByteBuffer) -> Void) -> Void) {
        do {
            subscription = try client.subscribe(subject) { [client] message in
                guard let replyTo = message.replyTo else { return }
                receive(message.payload) { answer in
                    // Without servers nobody hears it; whoever asked gives up, or tries again.
                    try? client.publish(answer, to: replyTo)
                }
            }
        } catch {
            logger.error("cannot listen to the other nodes", metadata: ["error": "\(error)"])
        }
    }

    func stop() {
        if let subscription { client.unsubscribe(subscription) }
        subscription = nil
    }
}
