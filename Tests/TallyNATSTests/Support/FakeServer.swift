import NIOCore
import NIOPosix

/// A listener that says one thing to everyone who connects, and then what `answer` says to each piece that
/// arrives.
final class FakeServer: Sendable {
    private let channel: any Channel

    var port: Int { channel.localAddress?.port ?? 0 }

    init(_ answer: @escaping @Sendable (_ piece: String?) -> String?) async throws {
        channel = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(Handler(answer))
                }
            }
            .bind(host: "127.0.0.1", port: 0).get()
    }

    func close() async throws { try await channel.close().get() }

    private final class Handler: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer
        typealias OutboundOut = ByteBuffer

        private let answer: @Sendable (String?) -> String?

        init(_ answer: @escaping @Sendable (String?) -> String?) { self.answer = answer }

        func channelActive(context: ChannelHandlerContext) { say(answer(nil), context) }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            say(answer(String(buffer: unwrapInboundIn(data))), context)
        }

        private func say(_ text: String?, _ context: ChannelHandlerContext) {
            guard let text else { return context.close(promise: nil) }
            if !text.isEmpty {
                context.writeAndFlush(wrapOutboundOut(ByteBuffer(string: text)), promise: nil)
            }
        }
    }
}
