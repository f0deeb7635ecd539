/// What the server calls itself.
public enum ServerIdentity {
    /// The version of this program.
    public static let version = "0.1.0"
    /// The version of Redis whose behaviour is offered; clients choose their habits by it.
    public static let redisVersion = "7.2.4"
}
