import TallyCluster
import TallyCore
import TallyTestSupport
import Testing

struct LogMessageTests {
    private let header = LogMessage.Header(
        cluster: LogIdentity(high: 0x0102_0304_0506_0708, low: 9), log: 3, epoch: 2,
        producer: ProducerIdentity(high: 77 << 16 | 5, low: 6), producerSequence: 41)

    private func message(_ sections: [(Int, UInt32, [UInt8])]) -> [UInt8] {
        var writer = LogMessage.Writer(header, capacity: 0)
        for (partition, count, entries) in sections {
            entries.withUnsafeBytes {
                writer.append(partition: partition, operationCount: count, $0)
            }
        }
        return writer.finish()
    }

    @Test func whatIsWrittenIsRead() throws {
        let bytes = message([(4, 2, [1, 2, 3]), (7, 1, [])])
        try bytes.withUnsafeBytes { buffer in
            let read = try LogMessage(buffer)
            #expect(read.header == header)
            let memory = MessageMemory()
            let sections = try read.sections(memory)
            #expect(sections.map(\.partition) == [4, 7])
            #expect(sections.map(\.operationCount) == [2, 1])
            #expect(Array(sections[0].entries) == [1, 2, 3])
        }
        #expect(header.producer.milliseconds == 77)
    }

    @Test func whatRepeatsItselfIsPacked() throws {
        let entries = (0..<2_000).map { UInt8($0 % 50) }
        let bytes = message([(4, 2, entries), (7, 1, [9])])
        #expect(bytes.count < 200)
        try bytes.withUnsafeBytes { buffer in
            let memory = MessageMemory()
            let sections = try LogMessage(buffer).sections(memory)
            #expect(Array(sections[0].entries) == entries && Array(sections[1].entries) == [9])
        }
    }

    @Test func everyChangedBitAndEveryMissingByteIsFound() {
        let bytes = message([(4, 2, [1, 2, 3]), (7, 1, [9])])
        for count in 0..<bytes.count {
            _ = bytes[..<count].withUnsafeBytes { buffer in
                #expect(throws: LogMessage.ReadError.self) { _ = try LogMessage(buffer) }
            }
        }
        for bit in 0..<(bytes.count * 8) {
            var damaged = bytes
            damaged[bit / 8] ^= 1 << UInt8(bit % 8)
            _ = damaged.withUnsafeBytes { buffer in
                #expect(throws: LogMessage.ReadError.self) { _ = try LogMessage(buffer) }
            }
        }
    }
}
