import Crypto

#if canImport(FoundationEssentials)
    import FoundationEssentials
#else
    import Foundation
#endif

/// A user's key pair: Ed25519, made from a seed as NATS writes it (`SU…`).
///
/// A seed is base32 of two bytes that say what it is for, 32 secret bytes and their CRC-16.
public struct NKey: Sendable {
    private let key: Curve25519.Signing.PrivateKey
    /// The public key, `U…`.
    public let publicKey: String

    private static let seedPrefix: UInt8 = 18 << 3
    private static let userPrefix: UInt8 = 20 << 3

    /// Reads a user's seed.
    ///
    /// - Throws: `NATSCredentialError`, which never contains any of the seed.
    public init(seed: String) throws(NATSCredentialError) {
        guard let bytes = Base32.decode(seed), bytes.count == 36 else { throw .seedInvalid }
        let checksum = UInt16(bytes[34]) | UInt16(bytes[35]) << 8
        guard CRC16.checksum(bytes[..<34]) == checksum else { throw .seedChecksumWrong }
        let purpose = (bytes[0] & 7) << 5 | bytes[1] >> 3
        guard bytes[0] & 0xf8 == Self.seedPrefix, purpose == Self.userPrefix else {
            throw .seedNotOfUser
        }
        guard let key = try? Curve25519.Signing.PrivateKey(rawRepresentation: bytes[2..<34])
        else { throw .seedInvalid }
        self.key = key
        var encoded = [Self.userPrefix] + Array(key.publicKey.rawRepresentation)
        let encodedChecksum = CRC16.checksum(encoded[...])
        encoded += [UInt8(encodedChecksum & 0xff), UInt8(encodedChecksum >> 8)]
        publicKey = Base32.encode(encoded)
    }

    /// The signature of what a server asks to be signed, base64 for URLs without padding.
    func signature(of nonce: String) throws(NATSCredentialError) -> String {
        guard let signature = try? key.signature(for: Array(nonce.utf8)) else {
            throw .signingFailed
        }
        return Data(signature).base64EncodedString().replacing("+", with: "-")
            .replacing("/", with: "_").replacing("=", with: "")
    }
}

/// Base32 (RFC 4648) without padding.
enum Base32 {
    private static let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".utf8)

    static func encode(_ bytes: [UInt8]) -> String {
        var text: [UInt8] = []
        var bits: UInt32 = 0
        var bitCount = 0
        for byte in bytes {
            bits = bits << 8 | UInt32(byte)
            bitCount += 8
            while bitCount >= 5 {
                bitCount -= 5
                text.append(alphabet[Int(bits >> UInt32(bitCount) & 31)])
            }
        }
        if bitCount > 0 { text.append(alphabet[Int(bits << UInt32(5 - bitCount) & 31)]) }
        return String(decoding: text, as: UTF8.self)
    }

    /// The bytes, or nil if `text` has other characters. Bits beyond the last byte are ignored.
    static func decode(_ text: String) -> [UInt8]? {
        var bytes: [UInt8] = []
        var bits: UInt32 = 0
        var bitCount = 0
        for character in text.utf8 {
            let value: UInt8
            switch character {
            case 0x41...0x5a: value = character - 0x41
            case 0x32...0x37: value = character - 0x32 + 26
            default: return nil
            }
            bits = bits << 5 | UInt32(value)
            bitCount += 5
            if bitCount >= 8 {
                bitCount -= 8
                bytes.append(UInt8(truncatingIfNeeded: bits >> UInt32(bitCount)))
            }
        }
        return bytes
    }
}

/// CRC-16 with polynomial 0x1021 and nothing else (XMODEM), as keys are checked with.
enum CRC16 {
    static func checksum(_ bytes: ArraySlice<UInt8>) -> UInt16 {
        var checksum: UInt16 = 0
        for byte in bytes {
            checksum ^= UInt16(byte) << 8
            for _ in 0..<8 {
                checksum = checksum & 0x8000 != 0 ? checksum << 1 ^ 0x1021 : checksum << 1
            }
        }
        return checksum
    }
}
