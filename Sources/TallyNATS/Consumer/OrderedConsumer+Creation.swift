import NIOCore

extension OrderedConsumer {
    /// Makes a consumer on the server that starts where this one is.
    func create() {
        guard phase == .waiting, client.state.isConnected else { return }
        timer?.cancel()
        timer = nil
        phase = .creating
        incarnation += 1
        let incarnation = incarnation
        let name = client.makeName()
        self.name = name
        let comparedSequence = comparedSequence
        let request = CreateRequest(
            stream_name: stream,
            config: CreateRequest.Configuration(
                name: name, options: options,
                start: lastTime == nil && options.start == .lastPerSubject
                    ? nil : comparedSequence ?? lastSequence + 1),
            action: "create")
        let jetStream = JetStream(client)
        jetStream.call("CONSUMER.CREATE.\(stream).\(name)", request) {
            (result: Result<CreateReply, JetStreamError>) in
            guard self.incarnation == incarnation else { return }
            switch result {
            case .success(let reply):
                self.pendingAtStart = reply.num_pending ?? 0
                // Asked after the consumer was made: if it is the same stream now, it was the same then.
                jetStream.stream(self.stream) { result in
                    guard self.incarnation == incarnation else { return }
                    self.check(result, comparedSequence)
                }
            case .failure(let error): self.failed(error)
            }
        }
    }

    /// The message that is read again to see that the stream is the same; nil if there is none.
    private var comparedSequence: UInt64? {
        let isComparable =
            options.filterSubject == nil && options.start != .lastPerSubject && !isLastGone
        return isComparable && lastTime != nil ? lastSequence : nil
    }

    private func failed(_ error: JetStreamError) {
        if error.isAPIError(JetStreamAPIError.Code.streamNotFound) {
            interrupt(.streamMissing)
        } else {
            interrupt(.failed(error))
        }
    }

    /// Looks whether the stream is the one that was read before and has what was delivered.
    private func check(
        _ result: Result<StreamInfo, JetStreamError>, _ comparedSequence: UInt64?
    ) {
        let info: StreamInfo
        switch result {
        case .success(let stream): info = stream
        case .failure(let error): return failed(error)
        }
        if let created, created != info.created {
            return end(.streamRecreated(created: info.created))
        }
        guard info.state.lastSequence >= lastSequence else {
            return interrupt(.streamBehind(lastSequence: info.state.lastSequence))
        }
        created = info.created
        guard let name else { return }
        do {
            try listen(to: name)
        } catch {
            return interrupt(.failed(.request(.notSent(.closed))))
        }
        let isThere = comparedSequence.map { $0 >= info.state.firstSequence } ?? false
        phase = isThere ? .comparing : .reading
        let incarnation = incarnation
        onEvent(.started(info))
        guard self.incarnation == incarnation else { return }
        if phase == .comparing { pullForComparison() } else { pull() }
    }
}

/// The wish for a consumer.
private struct CreateRequest: Encodable {
    var stream_name: String
    var config: Configuration
    var action: String

    struct Configuration: Encodable {
        var name: String
        var deliver_policy: String
        var opt_start_seq: UInt64?
        var ack_policy = "none"
        var replay_policy = "instant"
        var filter_subject: String?
        var headers_only: Bool?
        var num_replicas = 1
        var mem_storage = true
        var inactive_threshold: Int64

        /// - Parameter start: The first sequence; nil for the last message of each subject.
        init(name: String, options: OrderedConsumerOptions, start: UInt64?) {
            self.name = name
            deliver_policy = start == nil ? "last_per_subject" : "by_start_sequence"
            opt_start_seq = start
            filter_subject = options.filterSubject
            if options.headersOnly { headers_only = true }
            inactive_threshold = options.inactiveMax.nanoseconds
        }
    }
}

private struct CreateReply: Decodable {
    var num_pending: UInt64?
}
