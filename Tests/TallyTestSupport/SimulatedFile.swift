import TallyCore
package import TallyStorage

/// A file of a `SimulatedDisk`.
package final class SimulatedFile: DiskFile {
    private let disk: SimulatedDisk
    private let inode: SimulatedDisk.Inode
    private let name: String

    init(disk: SimulatedDisk, inode: SimulatedDisk.Inode, name: String) {
        self.disk = disk
        self.inode = inode
        self.name = name
    }

    package func size() throws(DiskError) -> Int {
        disk.state.withLock { _ in inode.cached.count }
    }

    package func read(
        at offset: Int, into buffer: UnsafeMutableRawBufferPointer
    ) throws(DiskError) -> Int {
        let count: Int? = disk.state.withLock { state in
            if state.random.once(in: state.faults.readFails) { return nil }
            let end = min(inode.cached.count, offset + buffer.count)
            guard offset < end else { return 0 }
            buffer.copyBytes(from: inode.cached[offset..<end])
            return end - offset
        }
        guard let count else { throw DiskError(.system(5), operation: "read", file: name) }
        return count
    }

    package func write(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws(DiskError) {
        let fails = disk.state.withLock { state in
            let isLess = state.random.once(in: state.faults.writeFails)
            let count =
                isLess ? Int.random(in: 0...bytes.count, using: &state.random) : bytes.count
            store(bytes[..<count], at: offset, state)
            return isLess
        }
        if fails { throw DiskError(.system(5), operation: "write", file: name) }
    }

    private func store(
        _ bytes: Slice<UnsafeRawBufferPointer>, at offset: Int, _ state: SimulatedDisk.State
    ) {
        let end = offset + bytes.count
        if state.faults.ignoresEqualWrites, inode.cached.count >= end,
            inode.cached[offset..<end].elementsEqual(bytes)
        {
            return
        }
        if inode.cached.count < end {
            inode.cached += Array(repeating: 0, count: end - inode.cached.count)
        }
        inode.cached.replaceSubrange(offset..<end, with: bytes)
        guard !bytes.isEmpty else { return }
        for sector in (offset / 512)...((end - 1) / 512) { inode.dirtySectors.insert(sector) }
    }

    package func allocate(_ byteCount: Int) throws(DiskError) {
        let isFull = disk.state.withLock { state in
            let others = state.reservedBytes - max(inode.reserved, inode.cached.count)
            guard others + byteCount <= state.capacityBytes else { return true }
            inode.reserved = byteCount
            if inode.cached.count < byteCount {
                let missing = byteCount - inode.cached.count
                var space = [UInt8](repeating: 0, count: missing)
                if state.faults.showsStaleBytes {
                    for index in 0..<min(missing, state.stale.count) {
                        space[index] = state.stale[index]
                    }
                }
                inode.cached += space
                // Old bytes are there without having been written.
                inode.durable = inode.cached
            }
            return false
        }
        if isFull { throw DiskError(.noSpace, operation: "reserve space for", file: name) }
    }

    package func truncate(_ byteCount: Int) throws(DiskError) {
        disk.state.withLock { _ in
            if byteCount < inode.cached.count {
                inode.cached.removeLast(inode.cached.count - byteCount)
            } else {
                inode.cached += Array(repeating: 0, count: byteCount - inode.cached.count)
            }
            inode.reserved = 0
        }
    }

    package func sync() throws(DiskError) {
        let fails = disk.state.withLock { state in
            state.syncCount += 1
            if state.random.once(in: state.faults.syncIsSkipped) { return false }
            let fails = state.random.once(in: state.faults.syncFails)
            let isHidden = state.random.once(in: state.faults.failedSyncIsHidden)
            if fails || isHidden {
                // Some sectors made it; the cache shows all of them, and takes them for written.
                let cached = inode.cached
                state.settle(inode)
                inode.cached = cached
                return fails
            }
            state.writeBack(inode)
            return false
        }
        if fails { throw DiskError(.system(5), operation: "sync", file: name) }
    }
}
