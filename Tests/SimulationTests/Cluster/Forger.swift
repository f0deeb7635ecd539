import TallyCluster
import TallyCore
import TallyTestSupport

/// Messages that a node with a bug would see, or send.
enum Forger {
    /// A repetition as a first message of somebody new.
    static func asFromANewProducer(_ bytes: [UInt8], seen: inout Set<String>) -> [UInt8] {
        bytes.withUnsafeBytes { buffer in
            guard let message = try? LogMessage(buffer) else { return bytes }
            guard !seen.insert(message.header.messageID).inserted else { return bytes }
            var header = message.header
            header.producer = ProducerIdentity(
                high: header.producer.high, low: header.producer.low ^ UInt64(seen.count))
            header.producerSequence = 1
            return rewrite(message, header)
        }
    }

    /// The same message as that of somebody new.
    static func underNewName(
        _ publication: ReplicatedLog.Publication, random: inout SeededGenerator
    ) -> ReplicatedLog.Publication {
        publication.bytes.withUnsafeBytes { buffer in
            guard let message = try? LogMessage(buffer) else { return publication }
            var header = message.header
            header.producer = ProducerIdentity(high: header.producer.high, low: random.next())
            header.producerSequence = 1
            return ReplicatedLog.Publication(
                sequence: publication.sequence, messageID: header.messageID,
                bytes: rewrite(message, header))
        }
    }

    private static func rewrite(_ message: LogMessage, _ header: LogMessage.Header) -> [UInt8] {
        var writer = LogMessage.Writer(header, capacity: 0)
        let memory = MessageMemory()
        guard let sections = try? message.sections(memory) else {
            preconditionFailure("a node has sent what cannot be read")
        }
        for section in sections {
            writer.append(
                partition: section.partition, operationCount: UInt32(section.operationCount),
                section.entries)
        }
        return writer.finish()
    }
}
