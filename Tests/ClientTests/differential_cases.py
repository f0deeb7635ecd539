"""What test_differential.py sends to both servers: names and bytes."""

from differential_keys import expiry_cases, keyspace_cases, transaction_cases
from protocol import command, commands, encode

MIN, MAX = -(1 << 63), (1 << 63) - 1

# Texts that are or nearly are 64-bit integers.
NUMBERS = [
    "0", "1", "-1", "9", "10", "-10", "123456789", "999999999999999999", str(MAX), str(MIN),
    str(MAX - 1), str(MIN + 1),
]
NOT_NUMBERS = [
    "", " ", "abc", "1 ", " 1", "+1", "01", "00", "-", "+", "-0", "--1", "-01", "1.0", "1e3",
    "0x10", "1a", "a1", "1\n", "\u0661", "9223372036854775808",
    "-9223372036854775809", "18446744073709551616", "1" * 19 + "11", "1" * 100, "9" * 20,
    "nan", "inf", "½",
]

COMMANDS = [
    "get", "incr", "decr", "incrby", "decrby", "set", "setnx", "getset", "getdel", "mget", "mset",
    "msetnx", "strlen", "del", "unlink", "exists", "touch", "type", "object", "dbsize", "flushdb",
    "flushall", "ping", "echo", "select", "quit", "reset", "hello", "client", "time", "info",
    "command", "config", "expire", "pexpire", "expireat", "pexpireat", "persist", "ttl", "pttl",
    "expiretime", "pexpiretime", "setex", "psetex", "getex", "multi", "exec", "discard", "watch",
    "unwatch", "scan", "keys", "randomkey", "copy", "rename", "renamenx", "memory",
]
# Replies without arguments that differ by nature: the time, statistics, all commands.
NOT_COMPARABLE = {("hello", 0), ("time", 0), ("info", 0), ("command", 0)}
# INFO takes any number of section names; those that are not there are an empty text, which is
# compared once, below.
NOT_COMPARABLE |= {("info", count) for count in range(1, 5)}


def arity_cases():
    for name in COMMANDS:
        for count in range(5):
            if (name, count) not in NOT_COMPARABLE:
                yield (
                    f"{name} with {count} arguments",
                    command("SET k 5") + encode(name, *["k", "1", "2", "3"][:count])
                    + (b"" if name == "quit" else commands("GET k", "DBSIZE")))


def number_cases():
    for text in NUMBERS:
        for name in ["INCRBY", "DECRBY", "SET", "GETSET", "SETNX"]:
            yield f"{name} {text} on an absent key", encode(name, "k", text) + command("GET k")
        yield f"strlen of {text}", encode("SET", "k", text) + command("STRLEN k")
        for name in ["INCR", "DECR", "GETDEL"]:
            yield f"{name} from {text}", encode("SET", "k", text) + commands(f"{name} k", "GET k")
        for operand in ["1", "-1", str(MAX), str(MIN), str(MIN + 1)]:
            for name in ["INCRBY", "DECRBY"]:
                yield (
                    f"{name} {operand} from {text}",
                    encode("SET", "k", text) + commands(f"{name} k {operand}", "GET k"))
    for text in NOT_NUMBERS:
        for name in ["INCRBY", "DECRBY"]:
            yield (
                f"{name} {text!r}",
                command("SET k 5") + encode(name, "k", text) + command("GET k"))
            yield f"{name} {text!r} on an absent key", encode(name, "k", text) + command("EXISTS k")
        yield f"select {text!r}", encode("SELECT", text)
        yield f"hello {text!r}", encode("HELLO", text)
        yield f"multibulk length {text!r}", b"*" + text.encode() + b"\r\n"
        yield f"bulk length {text!r}", b"*1\r\n$" + text.encode() + b"\r\n"


SET_OPTIONS = [
    "", "NX", "XX", "GET", "nx", "xx", "get", "Nx", "NX XX", "XX NX", "NX NX", "XX XX", "GET GET",
    "NX GET", "GET NX", "XX GET", "GET XX", "GET NX XX", "NX GET XX", "NX GET NX", "foo",
    "NX foo", "GET foo", "n", "NXX", "5",
]


def counter_cases():
    for options in SET_OPTIONS:
        yield f"set {options} on an absent key", commands(f"SET k 7 {options}", "GET k")
        yield (
            f"set {options} on a present key",
            commands("SET k 5", f"SET k 7 {options}", "GET k"))
    sequences = """
        GET k
        INCR k; INCR k; DECR k; DECR k; DECR k; GET k
        INCRBY k 0; EXISTS k; GET k; DBSIZE
        DECRBY k -5; DECRBY k 5; DECRBY k 5
        SETNX k 1; SETNX k 2; GET k; DEL k; SETNX k 3; GET k
        GETSET k 1; GETSET k 2; GETSET k -3; GET k
        GETDEL k; SET k 5; GETDEL k; GETDEL k; EXISTS k
        GETDEL a b
        MGET a; MGET a b a; MSET a 1 b 2; MGET a b c a b; MGET b
        MSET a 1; MSET a 1 a 2; GET a; MSET a 1 b 2 a 3; MGET a b
        MSET a; MSET a 1 b; MSETNX a; MSETNX a 1 b; EXISTS a b
        MSETNX a 1 b 2; MSETNX b 3 c 4; MGET a b c; MSETNX c 5; MGET a b c
        MSETNX a 1 a 2; GET a; MSETNX a 3; GET a
        DEL a; SET a 1; DEL a a; DEL a; MSET a 1 b 2; DEL a b c; DBSIZE
        UNLINK a; SET a 1; UNLINK a a b; MSET a 1 b 2; UNLINK b a
        EXISTS a; SET a 1; EXISTS a a a; EXISTS a b a; EXISTS b
        TOUCH a; SET a 1; TOUCH a a b
        TYPE k; SET k 1; TYPE k; DEL k; TYPE k
        STRLEN k; SET k 0; STRLEN k; SET k -10; STRLEN k; SET k 100; STRLEN k
        OBJECT ENCODING k; SET k 1; OBJECT ENCODING k; OBJECT encoding k; OBJECT ENCODING
        OBJECT ENCODING a b; OBJECT FOO k; OBJECT; object foo
        DBSIZE; MSET a 1 b 2 c 3; DBSIZE; FLUSHDB; DBSIZE; GET a
        SET a 1; FLUSHALL; DBSIZE; SET a 1; FLUSHALL ASYNC; DBSIZE; SET a 1; FLUSHDB SYNC; GET a
        FLUSHDB foo; FLUSHALL sync async; FLUSHALL foo; flushdb ASYNC; FLUSHDB Sync
        SET k 9223372036854775807; INCR k; INCRBY k 1; DECRBY k -1; GET k; DECR k; INCR k
        SET k -9223372036854775808; DECR k; DECRBY k 1; INCRBY k -1; GET k; INCR k; DECR k
        SET k 0; DECRBY k -9223372036854775808; INCRBY k -9223372036854775808; DECR k; GET k
        SET k -1; DECRBY k -9223372036854775808; INCRBY k 9223372036854775807; GET k
        iNcR k; gEt k; SeT k 4; mget k; OBJECT eNcOdInG k; pInG; ECHO eCHo
    """
    for line in filter(None, map(str.strip, sequences.splitlines())):
        yield line, commands(*line.split("; "))
    for length in [0, 1, 7, 8, 9, 98, 99, 100, 101, 255, 256, 999, 1000, 4095, 4096]:
        key = "k" * length
        yield (
            f"a key of {length} bytes",
            encode("INCR", key) + encode("GET", key) + encode("MGET", key, key)
            + encode("SET", key, "7", "GET") + encode("DEL", key) + encode("GET", key))
    binary = bytes(range(256))
    yield (
        "a key of all bytes",
        encode("INCR", binary) + encode("GET", binary) + encode("GET", binary[:-1])
        + encode("DEL", binary, binary[1:]))
    for key in [b"\0", b"\r\n", b"{tag}a", b"a{}b", b"\xff\xfe", b" ", b"'", b'"', b"$1"]:
        yield (
            f"the key {key!r}",
            encode("INCR", key) + encode("INCRBY", key, 5) + encode("GET", key))


def connection_cases():
    sequences = """
        PING; PING hello; PING a b; ping; PiNg 1
        ECHO hello; ECHO; ECHO a b
        SELECT 0; SELECT 16; SELECT -1; SELECT 0 0; SELECT
        SELECT 2147483647; SELECT 2147483648; SELECT -2147483649
        RESET; PING; RESET a
        CLIENT GETNAME; CLIENT SETNAME name; CLIENT GETNAME; RESET; CLIENT GETNAME
        CLIENT SETNAME a; CLIENT SETNAME b; CLIENT getname; CLIENT SETNAME; CLIENT SETNAME a b
        CLIENT NO-EVICT ON; CLIENT NO-EVICT off; CLIENT NO-EVICT foo; CLIENT NO-EVICT
        CLIENT REPLY foo; CLIENT REPLY; CLIENT REPLY ON; CLIENT REPLY on x
        CLIENT FOO; CLIENT; CLIENT foo bar; client ID x; CLIENT INFO x; CLIENT GETNAME x
        CLIENT KILL 1.2.3.4:5; CLIENT KILL; CLIENT KILL ID 999999; CLIENT KILL ID 0
        CLIENT KILL ID abc; CLIENT KILL ID -1; CLIENT KILL ID 1 2; CLIENT KILL foo bar
        CLIENT KILL TYPE foo; CLIENT KILL TYPE replica; CLIENT KILL TYPE pubsub SKIPME no
        CLIENT KILL SKIPME foo; CLIENT KILL ADDR 1.2.3.4:5; CLIENT KILL LADDR 1.2.3.4:5 SKIPME yes
        CLIENT KILL ID 999999 TYPE normal ADDR a:1; CLIENT KILL USER default ID 999999
        CLIENT LIST TYPE foo; CLIENT LIST TYPE; CLIENT LIST ID; CLIENT LIST ID abc; CLIENT LIST foo
        CLIENT LIST TYPE replica; CLIENT LIST ID 999999; CLIENT LIST TYPE pubsub
        CLIENT LIST ID 0; CLIENT LIST ID -1
        CONFIG GET nosuch; CONFIG GET; CONFIG FOO; CONFIG; CONFIG GET maxmemory
        CONFIG GET MAXMEMORY; CONFIG GET MaxClient[s] nosuch
        CONFIG GET maxmemory-policy; CONFIG GET maxmemor[x-z] nosuch; CONFIG GET m?xmemory [n]osuch
        CONFIG SET nosuch 1; CONFIG SET; CONFIG SET maxmemory; CONFIG SET timeout 0
        CONFIG SET timeout 0 timeout 0; CONFIG SET timeout abc; CONFIG SET timeout 0 nosuch 1
        CONFIG SET databases 3; CONFIG SET maxmemory abc; CONFIG SET maxmemory 100zb
        CONFIG SET maxmemory 100mb; CONFIG GET maxmemory; CONFIG SET maxmemory 0
        CONFIG SET maxmemory 1k; CONFIG GET maxmemory; CONFIG SET maxmemory 0; CONFIG GET maxmemory
        CONFIG SET maxmemory 1KB; CONFIG GET maxmemory; CONFIG SET maxmemory 0
        CONFIG SET maxmemory 100mb timeout abc; CONFIG GET maxmemory
        CONFIG SET maxclients abc; CONFIG SET TIMEOUT 0; CONFIG RESETSTAT; CONFIG RESETSTAT x
        COMMAND FOO; COMMAND DOCS nosuch; COMMAND COUNT x
        COMMAND INFO nosuch; COMMAND INFO a b
        COMMAND GETKEYS; COMMAND GETKEYS GET a; COMMAND GETKEYS GET a b
        COMMAND GETKEYS MSET a 1 b 2; COMMAND GETKEYS MGET a b c; COMMAND GETKEYS DEL a b
        COMMAND GETKEYS OBJECT ENCODING a; COMMAND GETKEYS incrby a 5
        COMMAND GETKEYS SET a; COMMAND GETKEYS MSET a; COMMAND GETKEYS CONFIG GET a
        COMMAND LIST foo; COMMAND LIST FILTERBY; COMMAND LIST FILTERBY foo bar
        COMMAND LIST FILTERBY MODULE nosuch; COMMAND LIST FILTERBY PATTERN decrb*
        COMMAND LIST FILTERBY PATTERN nosuch*; COMMAND LIST FILTERBY PATTERN [m]sets
        INFO nosuchsection
        HELLO 4; HELLO 1; HELLO 0; HELLO -1; HELLO 3 foo; HELLO 2 SETNAME
        HELLO 3 AUTH a; HELLO 2 foo bar
        NOSUCH; nosuch a b c; GETT; GE; G; GETX k; INCRBYFLOATX; INCRDECR a; X
    """
    for line in filter(None, map(str.strip, sequences.splitlines())):
        yield line, commands(*line.split("; "))
    names = [b"", b"a b", b" a", b"a\n", b"\x7f", b"\x1f", b"\xff", b"~", b"!", b"a\0b"]
    for name in names:
        yield f"client name {name!r}", encode("CLIENT", "SETNAME", name) + command("CLIENT GETNAME")
        yield f"name in hello {name!r}", encode("HELLO", "9", "SETNAME", name)
    yield "a name that is not one in hello", encode("HELLO", "3", "SETNAME", "a b")
    yield "an echo of all bytes", encode("ECHO", bytes(range(256))) + encode("PING", b"\0\r\n")
    yield "an echo of nothing", encode("ECHO", "") + encode("PING", "")
    for length in [99, 100, 1000, 16_383, 16_384, 65_536, 1 << 20]:
        yield f"an echo of {length} bytes", encode("ECHO", "e" * length)
    yield "an empty command name", encode("")
    yield "a command name of spaces", encode(" ") + encode("GET ", "k") + encode(" GET", "k")
    for name in [b"foo\r\nbar", b"foo\nbar", b"\xc3\xa9", b"\xff", b"'", b"f" * 127,
                 b"f" * 128, b"f" * 129, b"f" * 300, b"\xc3\xa9" * 100, b"f" + b"\xc3\xa9" * 100]:
        yield f"the unknown command {name[:9]!r}, {len(name)} bytes", encode(name)
        yield f"unknown with the argument {name[:9]!r}, {len(name)} bytes", encode("foo", name, "b")
        yield f"the unknown subcommand {name[:9]!r}, {len(name)} bytes", encode("CLIENT", name)
    yield "an unknown command with many arguments", encode("foo", *map(str, range(100)))
    yield "an unknown command with empty arguments", encode("foo", "", "", "a")
    replies = """
        OFF|PING|ON|PING
        OFF|INCR k|INCR k|ON|GET k
        OFF|NOSUCH|GET|INCRBY k abc|ON|GET k
        OFF|OFF|PING|ON
        OFF|SKIP|PING|ON|PING
        SKIP|PING|PING
        SKIP|INCR k|INCR k
        SKIP|NOSUCH|PING
        SKIP|INCR|PING
        SKIP|SKIP|PING|PING
        SKIP|SKIP|SKIP|PING|PING
        SKIP|ON|PING
        SKIP|OFF|PING|ON|PING
        ON|ON|PING
        ON|SKIP|PING|ON|PING
        INCR k|OFF|INCR k|ON|INCR k
        INCR k|SKIP|INCR k|INCR k
        SKIP|RESET|PING
        OFF|RESET|PING
        SKIP|CLIENT GETNAME|CLIENT GETNAME
        SKIP|CLIENT NOSUCH|PING
        SKIP|CLIENT|PING
        OFF|CLIENT REPLY foo|ON|PING
        SKIP|CLIENT REPLY foo|PING
        SKIP|MGET a b|MGET a b
        OFF|SELECT 99|ON
        SKIP|HELLO 2 AUTH a|PING
    """
    for line in filter(None, map(str.strip, replies.splitlines())):
        parts = [
            f"CLIENT REPLY {part}" if part in ("ON", "OFF", "SKIP") else part
            for part in line.split("|")]
        yield f"reply {line}", commands(*parts)


def inline_cases():
    for line in [
        b"PING", b"ping", b"  PING  ", b"PING hello", b"\tPING\tx", b"SET k 5", b'SET "k" "5"',
        b"SET 'k' '5'", b'ECHO "a b"', b"ECHO 'a b'", b'ECHO "a\\nb\\r\\t\\b\\a"',
        b'ECHO "\\x41\\x00\\xff"', b'ECHO "\\xzz"', b'ECHO "\\x4"', b'ECHO "\\q\\\\\\""',
        b"ECHO 'a\\'b'", b"ECHO 'a\\nb'", b"ECHO 'a\\\\'", b'ECHO ""', b"ECHO ''", b'"PING"',
        b'ECHO a"b c"', b"ECHO a'b c'", b'ECHO "a"b', b"ECHO 'a'b", b'ECHO "a', b"ECHO 'a",
        b'ECHO "a\\"', b"ECHO 'a\\'", b'ECHO a"', b"ECHO \"a'b\"", b"ECHO 'a\"b'", b'ECHO "a" ""',
        b"ECHO \xc3\xa9\xff", b"ECHO a\\nb", b"ECHO \\", b'ECHO "\\', b"GET", b"NOSUCH a b",
        b"MSET a 1 b 2", b"ECHO $5", b"$4", b"ECHO *1", b"\x01", b"ECHO a\x0bb\x0cc",
        b"\x0bPING\x0c", b"+PING",
        b":1", b"-ERR", b"PING\rPING", b'ECHO "a"\r', b"ECHO 'a'\tb",
        b'ECHO "\\X41"', b'ECHO "\\x4G"', b'ECHO "\\xAf\\xaF"',
    ]:
        yield f"inline {line!r}", line + b"\r\n"
        yield f"inline {line!r} without CR", line + b"\n" + b"PING after\r\n"
    for blank in [b"\r\n", b"\n", b"\r\n\r\n\n", b" \r\n", b"\t \n", b'""\r\n', b"'' \r\n"]:
        yield f"the empty line {blank!r}", blank + command("PING")
    yield (
        "inline and arrays in turn",
        b"INCR k\r\n" + command("INCR k") + b"INCR k\n\n" + command("GET k"))
    yield "a long inline command", b"ECHO " + b"x" * 60_000 + b"\r\n"


def protocol_cases():
    for header in [b"*0", b"*-1", b"*-2", b"*-10", b"*-9223372036854775808"]:
        yield f"the header {header!r}", header + b"\r\n" + command("PING")
        yield f"two of {header!r}", (header + b"\r\n") * 2 + commands("INCR k", "PING")
    for text in [
        b"*1\r\nPING\r\n", b"*1\r\n:4\r\nPING\r\n", b"*1\r\n+PING\r\n",
        b"*1\r\n*1\r\n$4\r\nPING\r\n",
        b"*1\r\n\r\n", b"*1\r\n\n", b"*1\r\n \r\n", b"*1\r\n\xff\r\n",
        b"*1\r\n\xc3\xa9\r\n", b"*1\r\n'\r\n", b"*2\r\n$3\r\nGET\r\nk\r\n",
        b"*2\r\n$3\r\nGET\r\n$-1\r\n",
        b"*1\r\n$-1\r\n", b"*1\r\n$-2\r\n", b"*1\r\n$\r\n", b"*\r\n", b"*a\r\n", b"*1 \r\n",
        b"* 1\r\n", b"*1.0\r\n", b"*2147483648\r\n", b"*99999999999999999999\r\n",
        b"*1\r\n$536870913\r\n", b"*1\r\n$99999999999999999999\r\n", b"*1\r\n$4294967296\r\n",
    ]:
        yield f"the bytes {text!r}", text
        yield f"the bytes {text!r} behind a command", commands("INCR k", "GET k") + text
    for name in ["SET k 5", "QUIT", "quit", "QUIT a"]:
        yield f"{name} and what follows", commands("INCR k", name, "PING")
    yield "1,000 increments at once", command("INCR k") * 1000
    yield "1,000 keys at once", encode("MGET", *map(str, range(1000)))
    yield (
        "many keys set, read and deleted",
        encode("MSET", *(str(n // 2) if n % 2 == 0 else n for n in range(2000)))
        + encode("MGET", *map(str, range(1001))) + encode("EXISTS", *map(str, range(1001)))
        + encode("DEL", *map(str, range(1001))) + command("DBSIZE"))


def all_cases():
    """Every case, as (name, bytes)."""
    for cases in (
            arity_cases, number_cases, counter_cases, connection_cases, inline_cases,
            protocol_cases, expiry_cases, transaction_cases, keyspace_cases):
        yield from cases()
