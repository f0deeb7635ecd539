/// What a replica knows of one log: how far it has come, and what every producer has sent.
///
/// Part of the state, the same on every replica at one sequence, and of every checkpoint.
public struct LogState: Equatable, Sendable {
    /// What a producer has sent.
    public struct Window: Equatable, Sendable {
        /// The number of its latest message.
        public var sequence: UInt64
        /// When that was, in log time, milliseconds since 1970.
        public var milliseconds: UInt64

        /// A window in both its parts.
        public init(sequence: UInt64, milliseconds: UInt64) {
            self.sequence = sequence
            self.milliseconds = milliseconds
        }
    }

    /// By which a message is recognised when a replica comes back to it.
    public struct Mark: Equatable, Sendable {
        /// Who has sent it.
        public var producer: ProducerIdentity
        /// Its number among the producer's.
        public var producerSequence: UInt64
        /// Of all its bytes.
        public var checksum: UInt32

        /// A mark in all its parts.
        public init(producer: ProducerIdentity, producerSequence: UInt64, checksum: UInt32) {
            self.producer = producer
            self.producerSequence = producerSequence
            self.checksum = checksum
        }
    }

    /// Which history of the log.
    public var epoch: UInt32
    /// Which stream holds it: when it was created, nanoseconds since 1970.
    public var streamNanoseconds: UInt64
    /// The latest message, 0 before the first.
    public var sequence: UInt64 = 0
    /// That message, nil before the first.
    public var mark: Mark?
    /// Log time: the latest time stamp of any message, milliseconds since 1970.
    public var milliseconds: UInt64 = 0
    /// Producers that have not been silent for long.
    public var windows: [ProducerIdentity: Window] = [:]

    /// A log before its first message.
    public init(epoch: UInt32, streamNanoseconds: UInt64) {
        self.epoch = epoch
        self.streamNanoseconds = streamNanoseconds
    }
}
