/// Taking over records that were written as segments.
extension Node {
    /// A number for the files of a new import.
    public func beginImport(nowMilliseconds: UInt64) -> UInt64 {
        imports.begin(nowMilliseconds: nowMilliseconds)
    }

    /// Asks for an import's records to be taken over; its files, so many, have been written and synced.
    public func submitImport(_ number: UInt64, family: UInt32, fileCount: Int) {
        imports.submit(
            ImportDesk.Request(number: number, family: family, fileCount: fileCount))
        checkpoints.wakeUp.signal()
    }

    /// How far an import is.
    public func importStatus(_ number: UInt64) -> ImportStatus { imports.status(number) }

    /// A moment's sleep, on a thread that nobody waits for.
    func rest() { checkpoints.wakeUp.sleep(nanoseconds: 1_000_000) { false } }
}
