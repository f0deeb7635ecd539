extension String {
    /// Calls `body` with the UTF-8 bytes, which have an address even when there are none.
    package func withBytes<Value>(_ body: (UnsafeRawBufferPointer) throws -> Value) rethrows
        -> Value
    {
        var bytes = Array(utf8)
        bytes.append(0)
        return try bytes.withUnsafeBytes {
            try body(UnsafeRawBufferPointer(rebasing: $0[..<($0.count - 1)]))
        }
    }
}
