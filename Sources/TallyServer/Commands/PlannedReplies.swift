import TallyRESP

/// How a batch's operations become replies, and whose.
struct PlannedReplies: ~Copyable {
    /// The plans, in order.
    private(set) var plans: UnsafeMutablePointer<ReplyPlan>
    private(set) var count = 0
    private var capacity: Int
    /// Replies that were encoded before what they belong to was executed.
    private(set) var prepared: [[UInt8]] = []
    /// The latest commit group that these reflect.
    private(set) var preparedSequence: UInt64 = 0
    /// Whose plans those are, in order; the last one's end is `count`.
    private(set) var stretches: [Stretch] = []
    /// Whether some stretch's reads go through the logs.
    private(set) var hasOrdered = false

    /// Plans of one owner that follow one another.
    struct Stretch {
        let owner: Int
        let client: ClientInfo
        let version: RESPVersion
        let planStart: Int
        /// Whether its reads, too, go through the logs of a cluster.
        var isOrdered = false
    }

    init(capacity: Int) {
        self.capacity = capacity
        plans = .allocate(capacity: capacity)
        stretches.reserveCapacity(64)
    }

    deinit { plans.deallocate() }

    /// The plans of a stretch.
    @inline(__always)
    func planRange(ofStretch index: Int) -> Range<Int> {
        let isLast = index == stretches.count &- 1
        return stretches[index].planStart..<(isLast ? count : stretches[index &+ 1].planStart)
    }

    /// An operation of the first unit of a stretch.
    func firstOperation(ofStretch index: Int) -> Int {
        Int(plans[stretches[index].planStart].first)
    }

    /// The operations that a stretch's replies tell of.
    @inline(__always)
    func operationRange(ofStretch index: Int) -> Range<Int> {
        let range = planRange(ofStretch: index)
        let last = plans[range.upperBound &- 1]
        return Int(plans[range.lowerBound].first)..<Int(last.first &+ last.count)
    }

    /// Begins a stretch unless the last one is the same owner's.
    @inline(__always)
    mutating func begin(_ owner: Int, _ client: ClientInfo, _ version: RESPVersion) {
        guard stretches.last?.owner != owner else { return }
        stretches.append(
            Stretch(owner: owner, client: client, version: version, planStart: count))
    }

    /// Has the last stretch's reads go through the logs of a cluster, behind all that is in them.
    mutating func orderLast() {
        stretches[stretches.count - 1].isOrdered = true
        hasOrdered = true
    }

    @inline(__always)
    mutating func append(_ plan: ReplyPlan, command: Int, isSilent: Bool) {
        if count == capacity { grow() }
        (plans + count).initialize(to: plan)
        plans[count].command = UInt16(truncatingIfNeeded: command)
        if isSilent { plans[count].isSilent = true }
        count &+= 1
    }

    @inline(never)
    private mutating func grow() {
        capacity *= 2
        let grown = UnsafeMutablePointer<ReplyPlan>.allocate(capacity: capacity)
        grown.moveInitialize(from: plans, count: count)
        plans.deallocate()
        plans = grown
    }

    /// Keeps an encoded reply for a plan.
    ///
    /// - Returns: its number.
    mutating func keep(_ reply: [UInt8], sequence: UInt64) -> Int {
        preparedSequence = max(preparedSequence, sequence)
        prepared.append(reply)
        return prepared.count - 1
    }

    @inline(__always)
    mutating func removeAll() {
        count = 0
        stretches.removeAll(keepingCapacity: true)
        hasOrdered = false
        if !prepared.isEmpty {
            prepared.removeAll()
            preparedSequence = 0
        }
    }
}
