/// Why something was not sent. It has surely not left this process.
public enum NATSNotSent: Error, Equatable, Sendable {
    /// There is no connection; the client is looking for one.
    case notConnected
    /// The server is going to stop and the client moves to another one.
    case moving
    /// The client has been closed.
    case closed
    /// Too much is waiting for the network to take it.
    case pendingBytesFull(bytesMax: Int)
    /// With its headers it is longer than the server allows.
    case messageTooLarge(bytes: Int, bytesMax: Int)
    /// The subject cannot be published to.
    case subjectInvalid(String, NATSSubject.Problem)
    /// A header cannot be sent.
    case headerInvalid(NATSHeaders.Problem)
}

/// Why a connection ended, or could not be made.
public enum NATSDisconnectReason: Error, Equatable, Sendable {
    /// `close()` was called.
    case closedByUser
    /// The server closed the connection without saying why.
    case closedByServer
    /// The server said why: the text of its `-ERR`.
    case serverError(String)
    /// The server does not know the user or the secret.
    case authenticationFailed(String)
    /// The credentials cannot be used.
    case credentials(NATSCredentialError)
    /// The server does not answer pings.
    case unresponsive
    /// The server did not accept the connection in time.
    case connectTimedOut
    /// The server is going to stop.
    case serverStopping
    /// TLS is demanded and the server does not offer it.
    case tlsNotOffered
    /// TLS could not be set up, for example because a certificate is not trusted.
    case tlsFailed(String)
    /// The server cannot do what is needed: headers are off.
    case serverUnsuitable(String)
    /// What the server sent is not the protocol.
    case protocolViolation(NATSProtocolError)
    /// The network's or the system's error.
    case network(String)
}

/// Why a request has no answer.
public enum NATSRequestError: Error, Equatable, Sendable {
    /// It has not been sent.
    case notSent(NATSNotSent)
    /// Nobody listens to the subject; nobody has got the request.
    case noResponders
    /// No answer came in time. Somebody may have got the request.
    case timedOut
    /// The connection ended before an answer came. Somebody may have got the request.
    case disconnected(NATSDisconnectReason)

    /// Whether somebody may have got the request and acted on it.
    public var isOutcomeUnknown: Bool {
        switch self {
        case .notSent, .noResponders: false
        case .timedOut, .disconnected: true
        }
    }
}

/// Why a subject cannot be subscribed to.
public enum NATSSubscribeError: Error, Equatable, Sendable {
    /// The subject, or the queue's name, is not one.
    case subjectInvalid(String, NATSSubject.Problem)
    /// The client has been closed.
    case closed
}
