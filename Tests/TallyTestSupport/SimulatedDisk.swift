import TallyCore
package import TallyStorage

/// A disk in memory that does everything a disk may do to a program, from one seed.
///
/// What is written lies in a cache. A power loss keeps of it any subset of sectors, in any state of
/// completion, and any prefix of the unsynced changes of names; a crash of the process alone keeps
/// everything. A failed sync may or may not have written, and leaves the cache looking clean. New
/// space shows what files removed earlier left there.
package final class SimulatedDisk: Disk {
    package typealias File = SimulatedFile

    /// How often things go wrong: once in so many times; 0 for never.
    package struct Faults: Sendable {
        package var writeFails = 0
        package var syncFails = 0
        package var readFails = 0
        /// How often what is asked for is in the system's memory.
        package var readIsCached = 0
        /// A sync that does nothing and says that all is well. No real disk should: a planted bug.
        package var syncIsSkipped = 0
        /// A sync that fails and says that all is well: a planted bug.
        package var failedSyncIsHidden = 0
        /// Writes of what the cache holds already do nothing, as if a program synced a file again
        /// without having written it again: a planted bug.
        package var ignoresEqualWrites = false
        /// Whether new space shows old bytes instead of zeros.
        package var showsStaleBytes = false

        package init() {}
    }

    static let sectorBytes = 512

    struct State {
        var random: SeededGenerator
        var faults = Faults()
        var capacityBytes = Int.max
        /// Names as the running system sees them.
        var names: [String: Inode] = [:]
        /// Names as a power loss would leave them, without the changes below.
        var durableNames: [String: Inode] = [:]
        var nameChanges: [NameChange] = []
        /// What removed files held.
        var stale: [UInt8] = []
        var syncCount = 0
    }

    enum NameChange {
        case set(String, Inode)
        case remove(String)
        case rename(String, String, Inode)
    }

    /// What a file is apart from its names. Guarded by the disk's lock.
    final class Inode: @unchecked Sendable {
        var cached: [UInt8] = []
        var durable: [UInt8] = []
        var dirtySectors: Set<Int> = []
        /// Reserved space, bytes.
        var reserved = 0
    }

    let state: Locked<State>

    package init(seed: UInt64) {
        state = Locked(State(random: SeededGenerator(seed: seed)))
    }

    // MARK: What a test does to it

    /// Changes what goes wrong from now on.
    package func setFaults(_ change: (inout Faults) -> Void) {
        state.withLock { change(&$0.faults) }
    }

    /// Total size from which on nothing can be reserved.
    package func setCapacity(bytes: Int) {
        state.withLock { $0.capacityBytes = bytes }
    }

    /// How many syncs there have been.
    package var syncCount: Int { state.withLock { $0.syncCount } }

    /// The machine loses power and starts again.
    package func losePower() {
        state.withLock { state in
            let kept = Int.random(in: 0...state.nameChanges.count, using: &state.random)
            for change in state.nameChanges.prefix(kept) { state.apply(change) }
            state.nameChanges = []
            // In the order of their names, so that a seed replays exactly.
            for name in state.durableNames.keys.sorted() {
                guard let inode = state.durableNames[name] else { continue }
                state.settle(inode)
            }
            state.names = state.durableNames
        }
    }

    /// The bytes of a file as the running system sees them.
    package func contents(of name: String) -> [UInt8]? {
        state.withLock { $0.names[name]?.cached }
    }

    /// Replaces a file's bytes, on the disk and in the cache.
    package func replace(_ name: String, with bytes: [UInt8]) {
        state.withLock { state in
            let inode = state.names[name] ?? Inode()
            inode.cached = bytes
            inode.durable = bytes
            inode.dirtySectors = []
            state.names[name] = inode
            state.durableNames[name] = inode
        }
    }

    // MARK: Disk

    package func list() throws(DiskError) -> [String] {
        state.withLock { $0.names.keys.sorted() }
    }

    package func create(_ name: String) throws(DiskError) -> SimulatedFile {
        let inode = state.withLock { state -> Inode? in
            guard state.names[name] == nil else { return nil }
            let inode = Inode()
            state.names[name] = inode
            state.nameChanges.append(.set(name, inode))
            return inode
        }
        guard let inode else { throw DiskError(.exists, operation: "create", file: name) }
        return SimulatedFile(disk: self, inode: inode, name: name)
    }

    package func open(_ name: String) throws(DiskError) -> SimulatedFile {
        guard let inode = state.withLock({ $0.names[name] }) else {
            throw DiskError(.notFound, operation: "open", file: name)
        }
        return SimulatedFile(disk: self, inode: inode, name: name)
    }

    package func readCached(
        _ name: String, at offset: Int, into buffer: UnsafeMutableRawBufferPointer
    ) -> Bool {
        guard state.withLock({ $0.random.once(in: $0.faults.readIsCached) }),
            let file = try? open(name)
        else { return false }
        return (try? file.read(at: offset, into: buffer)) == buffer.count
    }

    package func rename(_ name: String, to newName: String) throws(DiskError) {
        let isThere = state.withLock { state in
            guard let inode = state.names.removeValue(forKey: name) else { return false }
            state.names[newName] = inode
            state.nameChanges.append(.rename(name, newName, inode))
            return true
        }
        if !isThere { throw DiskError(.notFound, operation: "rename", file: name) }
    }

    package func remove(_ name: String) throws(DiskError) {
        let isThere = state.withLock { state in
            guard let inode = state.names.removeValue(forKey: name) else { return false }
            if inode.cached.count > Self.sectorBytes { state.stale = inode.cached }
            state.nameChanges.append(.remove(name))
            return true
        }
        if !isThere { throw DiskError(.notFound, operation: "remove", file: name) }
    }

    package func link(_ name: String, to target: SimulatedDisk) throws(DiskError) {
        guard let inode = state.withLock({ $0.names[name] }) else {
            throw DiskError(.notFound, operation: "link", file: name)
        }
        target.state.withLock { state in
            state.names[name] = inode
            state.nameChanges.append(.set(name, inode))
        }
    }

    package func syncDirectory() throws(DiskError) {
        let fails = state.withLock { state in
            if state.random.once(in: state.faults.syncFails) { return true }
            for change in state.nameChanges { state.apply(change) }
            state.nameChanges = []
            return false
        }
        if fails { throw DiskError(.system(5), operation: "sync directory", file: ".") }
    }
}

extension SimulatedDisk.State {
    mutating func apply(_ change: SimulatedDisk.NameChange) {
        switch change {
        case .set(let name, let inode): durableNames[name] = inode
        case .remove(let name): durableNames[name] = nil
        case .rename(let name, let newName, let inode):
            durableNames[name] = nil
            durableNames[newName] = inode
        }
    }

    /// Takes to the disk what the cache knows to be missing there, as a sync does: not what a sync
    /// that failed has dropped.
    func writeBack(_ inode: SimulatedDisk.Inode) {
        if inode.durable.count < inode.cached.count {
            inode.durable += Array(
                repeating: 0, count: inode.cached.count - inode.durable.count)
        } else {
            inode.durable.removeLast(inode.durable.count - inode.cached.count)
        }
        for sector in inode.dirtySectors {
            let start = sector * SimulatedDisk.sectorBytes
            let end = min(start + SimulatedDisk.sectorBytes, inode.cached.count)
            guard start < end else { continue }
            inode.durable.replaceSubrange(start..<end, with: inode.cached[start..<end])
        }
        inode.dirtySectors = []
    }

    /// Leaves of a file's unsynced sectors what a power loss leaves.
    mutating func settle(_ inode: SimulatedDisk.Inode) {
        let sectorBytes = SimulatedDisk.sectorBytes
        if inode.durable.count < inode.cached.count, Bool.random(using: &random) {
            inode.durable += Array(
                repeating: 0, count: inode.cached.count - inode.durable.count)
        }
        for sector in inode.dirtySectors.sorted() {
            let start = sector * sectorBytes
            let end = min(start + sectorBytes, inode.cached.count, inode.durable.count)
            guard start < end else { continue }
            switch Int.random(in: 0..<4, using: &random) {
            case 0, 1:
                inode.durable.replaceSubrange(start..<end, with: inode.cached[start..<end])
            case 2:
                let torn = Int.random(in: start...end, using: &random)
                inode.durable.replaceSubrange(start..<torn, with: inode.cached[start..<torn])
            default: break
            }
        }
        inode.dirtySectors = []
        inode.cached = inode.durable
    }

    var reservedBytes: Int { names.values.reduce(0) { $0 + max($1.reserved, $1.cached.count) } }
}
