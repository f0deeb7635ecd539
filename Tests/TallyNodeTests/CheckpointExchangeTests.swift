import Testing

@testable import TallyNode

struct CheckpointExchangeTests {
    /// A sync is asked for while the group before is on its way to the disk: it is not forgotten with that.
    @Test func aSyncIsAskedForUntilItsGroupHasBeenWritten() {
        let exchange = CheckpointExchange()
        exchange.requestSync(to: 5)
        #expect(exchange.hasRequest)
        #expect(exchange.wantsSync(to: 4))
        #expect(exchange.hasRequest)
        #expect(!exchange.wantsSync(to: 4))
        #expect(exchange.wantsSync(to: 5))
        #expect(!exchange.hasRequest && !exchange.wantsSync(to: 6))
    }
}
