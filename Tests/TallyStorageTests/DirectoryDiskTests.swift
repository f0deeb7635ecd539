import Foundation
import TallyStorage
import TallyTestSupport
import Testing

struct DirectoryDiskTests {
    private let path = FileManager.default.temporaryDirectory
        .appending(path: "tally-\(UUID().uuidString)").path

    @Test func aFileIsWrittenReadRenamedAndRemoved() throws {
        defer { try? FileManager.default.removeItem(atPath: path) }
        let disk = try DirectoryDisk(path: path)
        let file = try disk.create("a")
        #expect(throws: DiskError(.exists, operation: "create", file: "a")) { try disk.create("a") }
        try file.allocate(8192)
        #expect(try file.size() == 8192)
        // Not aligned for direct writes.
        try write("hello", to: file, at: 3)
        try file.sync()
        try disk.syncDirectory()
        #expect(try read(file, at: 0) == [0, 0, 0] + Array("hello".utf8) + [0, 0])
        try file.truncate(4)
        #expect(try file.size() == 4)
        #expect(try read(file, at: 3) == Array("h".utf8))
        try disk.rename("a", to: "b")
        #expect(try disk.list() == ["b"])
        #expect(throws: DiskError(.notFound, operation: "open", file: "a")) { try disk.open("a") }
        #expect(try disk.open("b").size() == 4)
        try disk.remove("b")
        #expect(try disk.list() == [])
    }

    private func write(_ text: String, to file: DescriptorFile, at offset: Int) throws {
        let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: text.utf8.count, alignment: 1)
        defer { bytes.deallocate() }
        bytes.copyBytes(from: text.utf8)
        try file.write(UnsafeRawBufferPointer(bytes), at: offset)
    }

    /// Up to ten bytes from `offset` on.
    private func read(_ file: DescriptorFile, at offset: Int) throws -> [UInt8] {
        let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: 10, alignment: 1)
        defer { bytes.deallocate() }
        let count = try file.read(at: offset, into: bytes)
        return Array(bytes[..<count])
    }

    /// Not every system can; what it says that it has read must be so.
    @Test func whatTheSystemHasInMemoryIsReadWithoutWaiting() throws {
        defer { try? FileManager.default.removeItem(atPath: path) }
        let disk = try DirectoryDisk(path: path)
        let file = try disk.create("a")
        try write("hello, there", to: file, at: 0)
        try file.sync()
        _ = try read(file, at: 0)
        let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: 5, alignment: 1)
        defer { bytes.deallocate() }
        if disk.readCached("a", at: 7, into: bytes) { #expect(Array(bytes) == Array("there".utf8)) }
        // Less than was asked for.
        #expect(!disk.readCached("a", at: 8, into: bytes))
        #expect(!disk.readCached("b", at: 0, into: bytes))
    }

    @Test func aDirectoryIsLockedAgainstASecondUser() throws {
        defer { try? FileManager.default.removeItem(atPath: path) }
        do {
            let disk = try DirectoryDisk(path: path)
            #expect(throws: DiskError(.locked, operation: "lock", file: path)) {
                try DirectoryDisk(path: path)
            }
            _ = disk
        }
        _ = try DirectoryDisk(path: path)
    }

    @Test func errorsNameWhatWasTried() {
        let error = #expect(throws: DiskError.self) {
            try DirectoryDisk(path: "/nonexistent/deeper")
        }
        #expect(error?.description.contains("/nonexistent/deeper") == true)
    }
}
