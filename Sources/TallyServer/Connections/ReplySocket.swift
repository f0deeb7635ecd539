internal import Glibc
import NIOCore

/// The system's socket of a connection, to which replies go without passing through the channel.
///
/// The channel owns it: this may be used only on the channel's event loop, until `channelInactive`,
/// and only while the channel itself has nothing to write. Why: `docs/decisions`, 0008.
struct ReplySocket {
    private let handle: NIOBSDSocket.Handle

    /// The socket of a channel whose bytes nothing transforms on their way; nil if it has none.
    init?(_ channel: any Channel) {
        let found = try? channel.pipeline.syncOperations.withUnsafeTransportIfAvailable(
            of: NIOBSDSocket.Handle.self
        ) { $0 }
        guard let found else { return nil }
        handle = found
    }

    /// Gives the system as many of `bytes` as it takes now.
    ///
    /// - Returns: how many those were; nil if the connection is broken.
    @inline(__always)
    func send(_ bytes: UnsafeRawBufferPointer) -> Int? {
        while true {
            let count = Glibc.send(
                handle, bytes.baseAddress, bytes.count, Int32(MSG_NOSIGNAL))
            if count >= 0 { return count }
            switch errno {
            case EINTR: continue
            case EAGAIN, EWOULDBLOCK: return 0
            default: return nil
            }
        }
    }
}
