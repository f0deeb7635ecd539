/// Commands of Redis that are not offered, and why.
enum AbsentCommands {
    /// What they are about, and their names.
    static let all: [(reason: String, names: String)] = [
        (
            "there are no lists",
            """
            blmove blmpop blpop brpop brpoplpush lindex linsert llen lmove lmpop lpop lpos lpush lpushx lrange
            lrem lset ltrim rpop rpoplpush rpush rpushx
            """
        ),
        (
            "there are no sets",
            """
            sadd scard sdiff sdiffstore sinter sintercard sinterstore sismember smembers smismember smove spop
            srandmember srem sscan sunion sunionstore
            """
        ),
        (
            "there are no sorted sets",
            """
            bzmpop bzpopmax bzpopmin zadd zcard zcount zdiff zdiffstore zincrby zinter zintercard zinterstore
            zlexcount zmpop zmscore zpopmax zpopmin zrandmember zrange zrangebylex zrangebyscore zrangestore zrank
            zrem zremrangebylex zremrangebyrank zremrangebyscore zrevrange zrevrangebylex zrevrangebyscore zrevrank
            zscan zscore zunion zunionstore
            """
        ),
        (
            "there are no streams",
            """
            xack xackdel xadd xautoclaim xcfgset xclaim xdel xdelex xgroup xinfo xlen xpending xrange xread
            xreadgroup xrevrange xsetid xtrim
            """
        ),
        ("there are no hyperloglogs", "pfadd pfcount pfdebug pfmerge pfselftest"),
        (
            "there are no positions on earth",
            """
            geoadd geodist geohash geopos georadius georadius_ro georadiusbymember georadiusbymember_ro geosearch
            geosearchstore
            """
        ),
        ("there are no bitmaps", "bitcount bitfield bitfield_ro bitop bitpos getbit setbit"),
        (
            "values are integers, not texts",
            "append getrange setrange substr lcs digest delex msetex"
        ),
        ("values are integers, not floats", "incrbyfloat hincrbyfloat"),
        (
            "a record has the columns of its counter, and they have no deadlines",
            """
            hexpire hexpireat hexpiretime hpexpire hpexpireat hpexpiretime hpersist hpttl httl hgetdel hgetex
            hsetex hrandfield
            """
        ),
        (
            "there is no publishing",
            """
            psubscribe publish pubsub punsubscribe spublish ssubscribe subscribe sunsubscribe unsubscribe
            """
        ),
        ("there are no scripts", "eval eval_ro evalsha evalsha_ro fcall fcall_ro function script"),
        ("there is one database", "move swapdb"),
        (
            "a node has no replicas of Redis's kind",
            """
            failover psync replconf replicaof restore-asking slaveof sync
            """
        ),
        ("values do not travel in Redis's format", "dump migrate restore"),
        ("there are no modules", "module"),
        ("there is nothing to sort", "sort sort_ro"),
        ("checkpoints are made with BGSAVE", "bgrewriteaof save"),
        ("a server is stopped by its operating system", "shutdown"),
        ("there is nothing to debug from outside", "debug"),
        (
            "there are no vectors",
            """
            vadd vcard vdim vemb vgetattr vinfo vismember vlinks vrandmember vrem vsetattr vsim
            """
        ),
    ]

    private static let reasons: [String: String] = {
        var reasons: [String: String] = [:]
        for (reason, names) in all {
            for name in names.split(whereSeparator: \.isWhitespace) {
                reasons[String(name)] = reason
            }
        }
        return reasons
    }()

    /// Why the command of this name is not there; nil for what Redis has not either, or what is there.
    static func reason(_ name: UnsafeRawBufferPointer) -> String? {
        guard name.count <= 32 else { return nil }
        return reasons[name.text.lowercased()]
    }
}
