/// Every command and subcommand, for dispatch.
enum CommandID: UInt8, Sendable {
    // Counters
    case get, increment, decrement, incrementBy, decrementBy
    case set, setIfAbsent, getSet, getDelete, multipleGet, multipleSet, multipleSetIfAbsent
    case delete, unlink, exists, touch, type, stringLength
    case object, objectEncoding, objectHelp
    case getExpire, setWithSeconds, setWithMilliseconds
    case expire, expireMilliseconds, expireAt, expireAtMilliseconds, persist
    case timeToLive, timeToLiveMilliseconds, expireTime, expireTimeMilliseconds
    case scan, keys, randomKey, hashScan, copy, rename, renameIfAbsent
    case objectReferences, objectIdleTime, objectFrequency
    case memory, memoryUsage, memoryStatistics, memoryDoctor, memoryPurge, memoryHelp
    case databaseSize, flushDatabase, flushAll, incrementExtended

    // Records
    case hashIncrementBy, hashGet, hashMultipleGet, hashGetAll, hashKeys, hashValues, hashLength
    case hashSet, hashMultipleSet, hashSetIfAbsent, hashDelete, hashExists, hashStringLength
    case add, alter, drop, describe
    case `import`, importStart, importCommit, importStatus

    // Connection
    case ping, echo, select, quit, reset, hello, authenticate
    case access, accessWhoAmI, accessUsers, accessList, accessGetUser, accessCategories
    case accessGenerate, accessLoad, accessDryRun, accessRefused, accessHelp
    case client, clientID, clientInfo, clientList, clientSetName, clientGetName, clientSetInfo
    case clientReply, clientNoEvict, clientNoTouch, clientKill, clientHelp
    case clientPause, clientUnpause, clientUnblock, clientTracking, clientTrackingInfo
    case clientGetRedirection

    case multi, execute, discard, watch, unwatch, once
    case withPosition, atLeast, wait, waitForDisk

    // Server
    case time, info, backgroundSave, lastSave
    case slowLog, slowLogGet, slowLogLength, slowLogReset, slowLogHelp
    case latency, latencyLatest, latencyHistory, latencyReset, latencyDoctor, latencyHelp
    case hotKeys, hotKeysGet, hotKeysReset, hotKeysTracking, hotKeysHelp
    case monitor, role, lolwut
    case backup, backupStart, backupStatus
    case command, commandCount, commandInfo, commandDocs, commandList, commandGetKeys, commandHelp
    case cluster, clusterInfo, clusterMyID, clusterMyShardID, clusterNodes, clusterSlots
    case clusterShards, clusterReplicas, clusterLinks, clusterKeySlot, clusterCountKeys
    case clusterGetKeys, clusterFailureReports, clusterHelp, readOnly, readWrite, asking
    case config, configGet, configSet, configResetStatistics, configHelp

    /// Whether the command changes the schema that commands behind it are judged by.
    var changesSchema: Bool {
        switch self {
        case .add, .alter, .drop: true
        default: false
        }
    }
}
