internal import Crypto
internal import CryptoExtras

#if canImport(FoundationEssentials)
    internal import FoundationEssentials
#else
    internal import Foundation
#endif

/// What is kept of a password: scrypt (RFC 7914) of it, with a salt of its own.
///
///     scrypt$16384$8$1$salt$hash         rounds, block size, parallelism; salt and hash in base64
public struct PasswordHash: Sendable, Equatable, CustomStringConvertible {
    private let rounds: Int
    private let blockSize: Int
    private let parallelism: Int
    private let salt: [UInt8]
    private let hash: [UInt8]

    private static let roundsDefault = 16_384
    private static let saltBytes = 16
    private static let hashBytes = 32
    /// Memory that one verification may take, bytes: 128 × rounds × block size.
    private static let memoryBytesMax = 256 << 20

    /// Why a text is no password hash.
    public struct Malformed: Error {}

    /// Hashes a password with a fresh salt.
    ///
    /// - Complexity: Some 40 ms and 16 MiB on purpose, so that guessing is dear.
    public init(of password: [UInt8]) {
        var generator = SystemRandomNumberGenerator()
        let salt = (0..<Self.saltBytes).map { _ in UInt8.random(in: 0 ... .max, using: &generator) }
        rounds = Self.roundsDefault
        blockSize = 8
        parallelism = 1
        self.salt = salt
        hash =
            Self.derive(password, salt, rounds, blockSize, parallelism, byteCount: Self.hashBytes)
            ?? []
        precondition(!hash.isEmpty, "scrypt refuses its own defaults")
    }

    /// Reads what `description` has written.
    ///
    /// - Throws: `Malformed`, also for parameters that would take more than 256 MiB.
    public init(_ text: String) throws(Malformed) {
        let parts = text.split(separator: "$", omittingEmptySubsequences: false)
        guard parts.count == 6, parts[0] == "scrypt", let rounds = Int(parts[1]),
            let blockSize = Int(parts[2]), let parallelism = Int(parts[3]),
            let salt = Data(base64Encoded: String(parts[4])),
            let hash = Data(base64Encoded: String(parts[5]))
        else { throw Malformed() }
        guard rounds >= 2, rounds.nonzeroBitCount == 1, rounds <= 1 << 21,
            (1...64).contains(blockSize), (1...16).contains(parallelism),
            128 * rounds * blockSize <= Self.memoryBytesMax, salt.count >= 8, salt.count <= 64,
            hash.count >= 16, hash.count <= 64
        else { throw Malformed() }
        self.rounds = rounds
        self.blockSize = blockSize
        self.parallelism = parallelism
        self.salt = Array(salt)
        self.hash = Array(hash)
    }

    /// What a users' file keeps.
    public var description: String {
        "scrypt$\(rounds)$\(blockSize)$\(parallelism)$\(Data(salt).base64EncodedString())$"
            + Data(hash).base64EncodedString()
    }

    /// Whether this is of `password`. Takes the same time whether it is or not.
    public func matches(_ password: [UInt8]) -> Bool {
        guard
            let derived = Self.derive(
                password, salt, rounds, blockSize, parallelism, byteCount: hash.count)
        else { return false }
        var difference: UInt8 = 0
        for (left, right) in zip(derived, hash) { difference |= left ^ right }
        return difference == 0
    }

    private static func derive(
        _ password: [UInt8], _ salt: [UInt8], _ rounds: Int, _ blockSize: Int, _ parallelism: Int,
        byteCount: Int
    ) -> [UInt8]? {
        let key = try? KDF.Scrypt.deriveKey(
            from: password, salt: salt, outputByteCount: byteCount, rounds: rounds,
            blockSize: blockSize, parallelism: parallelism, maxMemory: 2 * memoryBytesMax)
        return key?.withUnsafeBytes { Array($0) }
    }
}
