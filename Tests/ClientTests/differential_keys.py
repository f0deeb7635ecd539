"""Cases for test_differential.py about deadlines and transactions."""

from protocol import command, commands, encode

# Texts as times: seconds and milliseconds that are or nearly are allowed.
TIMES = [
    "0", "-1", "60000", "100000", "abc", "", "1.5", "9223372036854775807", "-9223372036854775808",
    "9223372036854775", "9223372036854776", "-9223372036854776", "92233720368547758",
    "9223372036854775808",
]
# Far enough from now that no test lasts so long.
FUTURE, FUTURE_MILLISECONDS = "4102444800", "4102444800000"


def expiry_cases():
    for time in TIMES:
        for name in ["EXPIRE", "PEXPIRE", "EXPIREAT", "PEXPIREAT"]:
            yield (
                f"{name} {time!r}", command("SET k 5") + encode(name, "k", time)
                + commands("GET k", "EXISTS k", "DBSIZE"))
            yield f"{name} {time!r} on an absent key", encode(name, "k", time) + command("TTL k")
        for option in ["EX", "PX", "EXAT", "PXAT"]:
            yield (
                f"SET with {option} {time!r}", command("SET k 5")
                + encode("SET", "k", 6, option, time) + commands("GET k", "EXISTS k", "DBSIZE"))
            yield (
                f"GETEX with {option} {time!r}", command("SET k 5")
                + encode("GETEX", "k", option, time) + commands("GET k", "EXISTS k"))
        for name in ["SETEX", "PSETEX"]:
            yield (
                f"{name} {time!r}", command("SET k 5") + encode(name, "k", time, 6)
                + commands("GET k", "EXISTS k"))
    for options in [
        "NX", "XX", "GT", "LT", "nx", "NX XX", "NX GT", "NX LT", "XX GT", "XX LT", "GT LT",
        "XX GT LT", "NX NX", "GT GT", "foo", "NX foo", "5",
    ]:
        for before in ["SET k 5", "SET k 5 EX 500", "SET k 5 EX 50000", "DEL k"]:
            yield (
                f"EXPIRE {options} after {before}",
                commands(before, f"EXPIRE k 5000 {options}", "TTL k", "GET k"))
    for options in [
        "EX", "EX 100 PX 100", "EX 100 KEEPTTL", "KEEPTTL EX 100", "KEEPTTL KEEPTTL", "KEEPTTL",
        "EX 100 NX", "NX EX 100 GET", "XX PX 100000", "XX GET EX 100", "EX 100 EX 200",
        "PERSIST", "EX NX", "ex 100 get", f"EXAT {FUTURE}", f"PXAT {FUTURE_MILLISECONDS} NX",
    ]:
        for before in ["SET k 5", "SET k 5 EX 500", "DEL k"]:
            yield (
                f"SET {options} after {before}",
                commands(before, f"SET k 7 {options}", "TTL k", "EXPIRETIME k", "GET k"
                         ) if "AT" in options else
                commands(before, f"SET k 7 {options}", "TTL k", "GET k"))
    for options in [
        "", "PERSIST", "PERSIST EX 5", "EX 5 PERSIST", "PERSIST PERSIST", "EX 5 PX 5", "EX",
        "KEEPTTL", "NX", f"EXAT {FUTURE}", f"PXAT {FUTURE_MILLISECONDS}", "ex 50", "persist",
        "EXAT 5", "foo",
    ]:
        for before in ["SET k 5", "SET k 5 EX 500", "DEL k"]:
            yield (
                f"GETEX {options} after {before}",
                commands(before, f"GETEX k {options}", "TTL k", "GET k"))
    sequences = f"""
        SET k 5 EX 100; INCR k; TTL k; INCRBY k 5; DECR k; TTL k; GET k
        SET k 5 EX 100; SET k 6; TTL k; SET k 7 EX 100; GETSET k 8; TTL k
        SET k 5 EX 100; SETNX k 6; TTL k; MSET k 7; TTL k
        SET k 5 EX 100; MSETNX k 6 j 7; TTL k; TTL j; GETDEL k; TTL k
        SET k 5 EX 100; DEL k; SET k 6; TTL k; EXPIRE k 100; UNLINK k; INCR k; TTL k
        PERSIST k; SET k 5; PERSIST k; EXPIRE k 100; PERSIST k; PERSIST k; TTL k
        TTL k; PTTL k; EXPIRETIME k; PEXPIRETIME k; SET k 5; TTL k; PTTL k; EXPIRETIME k
        SET k 5; EXPIREAT k {FUTURE}; EXPIRETIME k; PEXPIRETIME k; TYPE k; OBJECT ENCODING k
        SET k 5; PEXPIREAT k 4102444800499; EXPIRETIME k; PEXPIRETIME k
        SET k 5; PEXPIREAT k 4102444800500; EXPIRETIME k; PEXPIRETIME k; STRLEN k
        SET k 5; PEXPIREAT k 4102444800999; EXPIRETIME k; EXISTS k k; MGET k k
        SET k 5; EXPIREAT k 1; GET k; EXISTS k; DBSIZE; TTL k; SET k 6; TTL k; INCR k
        SET k 5; EXPIRE k -1; INCR k; TTL k; GET k
        SETEX k 100 5; TTL k; INCR k; PSETEX k 100000 7; TTL k; GET k
        SETEX k 100; SETEX k 100 5 6; PSETEX k; SETEX; PERSIST; PERSIST a b; TTL; TTL a b
        EXPIRE k; EXPIRE; EXPIREAT k; PEXPIRE k; GETEX; EXPIRETIME; PEXPIRETIME a b
        SET a 1 EX 100; SET b 2; MGET a b; DEL a b; DBSIZE; FLUSHALL; TTL a
        SET a 1 EX 100; FLUSHALL; SET a 2; TTL a; EXPIRE a 50; TTL a
    """
    for line in filter(None, map(str.strip, sequences.splitlines())):
        yield line, commands(*line.split("; "))


def transaction_cases():
    sequences = """
        MULTI; EXEC; MULTI; PING; EXEC; EXEC; DISCARD; MULTI; DISCARD; EXEC
        MULTI; SET a 1; INCR a; INCRBY a 5; GET a; DEL a; GET a; EXEC; EXISTS a
        MULTI; INCR a; MULTI; INCR a; EXEC; GET a
        MULTI; INCR a; WATCH a; INCR a; EXEC; GET a
        MULTI; INCR a b; INCR a; EXEC; GET a
        MULTI; NOSUCH; INCR a; EXEC; GET a; MULTI; INCR a; EXEC
        MULTI; CLIENT NOSUCH; EXEC; MULTI; CLIENT; EXEC; MULTI; CONFIG GET; EXEC; PING
        MULTI; INCRBY a abc; INCR a; EXEC; GET a
        MULTI; SET a 9223372036854775807; INCR a; DECR a; EXEC; GET a
        MULTI; MSET a 1 b 2; MGET a b c; MSETNX a 5 d 6; MSETNX c 5 d 6; EXEC; MGET a b c d
        MULTI; SET a 1 NX; SET a 2 NX; SET a 3 XX GET; GETSET a 4; GETDEL a; GET a; EXEC
        MULTI; EXPIRE a 5; SET a 1 EX 100; TTL a; PERSIST a; TTL a; EXEC; TTL a
        MULTI; ECHO hello; PING x; CLIENT GETNAME; SELECT 0; EXEC
        MULTI; FLUSHALL; SET a 1; EXEC; GET a; DBSIZE
        SET a 1; MULTI; INCR a; DISCARD; GET a; EXEC
        SET a 1; MULTI; INCR a; RESET; GET a; EXEC
        WATCH; WATCH a; UNWATCH; UNWATCH x; WATCH a b a; MULTI; INCR a; EXEC; GET a
        SET a 1; WATCH a; SET a 2; MULTI; INCR a; EXEC; GET a; MULTI; INCR a; EXEC; GET a
        SET a 1; WATCH a; GET a; EXISTS a; TTL a; MULTI; INCR a; EXEC; GET a
        SET a 1; WATCH a; SET b 2; MULTI; INCR a; EXEC; GET a
        SET a 1; WATCH a; DEL a; MULTI; INCR a; EXEC; GET a
        WATCH a; SET a 1; MULTI; INCR a; EXEC; GET a
        WATCH a; INCR a; UNWATCH; MULTI; INCR a; EXEC; GET a
        WATCH a; INCR a; MULTI; DISCARD; MULTI; INCR a; EXEC; GET a
        SET a 1; WATCH a; SET a 1; MULTI; INCR a; EXEC
        SET a 1; WATCH a; EXPIRE a 100; MULTI; INCR a; EXEC; SET a 1 NX; WATCH a; SET a 2 NX; MULTI; EXEC
        SET a 1; WATCH a; FLUSHALL; MULTI; INCR a; EXEC; GET a
        WATCH a; FLUSHALL; MULTI; INCR a; EXEC; GET a
        SET a 1; WATCH a; RESET; SET a 2; MULTI; INCR a; EXEC
        SET a 1 PX 100000; WATCH a; DEL a; MULTI; PING; EXEC
        MULTI x; EXEC x; DISCARD x; MULTI; EXEC x; EXEC; MULTI; DISCARD x; EXEC
        MULTI; QUIT
        MULTI; HELLO 9; INCR a; EXEC; GET a
        MULTI; COMMAND COUNT x; EXEC; MULTI; OBJECT FOO; EXEC; MULTI; OBJECT ENCODING a; EXEC
    """
    for line in filter(None, map(str.strip, sequences.splitlines())):
        yield f"in a transaction: {line}", commands(*line.split("; "))
    for mode in ["OFF", "SKIP"]:
        yield (
            f"reply {mode} around a transaction",
            commands(f"CLIENT REPLY {mode}", "MULTI", "INCR a", "EXEC", "CLIENT REPLY ON", "GET a"))
    yield (
        "a transaction of 1,000 commands",
        command("MULTI") + command("INCR k") * 1000 + commands("EXEC", "GET k"))
    yield (
        "two transactions behind one another",
        (commands("MULTI", "INCR k", "INCR j", "EXEC") * 2) + commands("MGET k j"))


def keyspace_cases():
    sequences = """
        KEYS *; SET a 1; KEYS *; KEYS b*; KEYS [a]; KEYS ?; KEYS a b; KEYS
        SCAN 0; SET a 1; SCAN 0 COUNT 1000; SCAN 0 MATCH b* COUNT 1000; SCAN 0 MATCH a COUNT 1000
        SET a 1; SCAN 0 TYPE string COUNT 1000; SCAN 0 TYPE hash COUNT 1000; SCAN 0 COUNT 1000 TYPE list
        SCAN; SCAN abc; SCAN 1.5; SCAN 0 COUNT; SCAN 0 COUNT 0; SCAN 0 COUNT -1; SCAN 0 COUNT abc
        SCAN 0 MATCH; SCAN 0 FOO 1; SCAN 0 TYPE; SCAN 0 COUNT 1000 COUNT 1000; SCAN 99999999999999999999
        RANDOMKEY; SET a 1; RANDOMKEY; RANDOMKEY x
        COPY a b; SET a 1; COPY a b; GET b; COPY a b; COPY a b REPLACE; COPY a a; COPY a c DB 0; GET c
        COPY a; COPY a b FOO; COPY a b DB; COPY a b DB abc; COPY a b REPLACE REPLACE
        SET a 1 EX 100; COPY a b; TTL b; SET a 2; COPY a b REPLACE; TTL b; GET b; TTL a
        SET a 1; SET b 2 EX 100; COPY a b REPLACE; TTL b; GET b; DEL a; COPY a b REPLACE; GET b
        RENAME a b; SET a 1; RENAME a b; GET a; GET b; RENAME b b; GET b; RENAME x x
        SET a 1 EX 100; SET b 2; RENAME a b; TTL b; GET b; EXISTS a; DBSIZE
        SET a 1; SET b 2 EX 100; RENAME a b; TTL b; RENAME a; RENAME a b c; RENAME
        RENAMENX a b; SET a 1; SET b 2; RENAMENX a b; RENAMENX a c; GET c; RENAMENX c c; RENAMENX x x; RENAMENX a
        SET a 1 EX 100; RENAMENX a b; TTL b; GET b; EXISTS a
        OBJECT REFCOUNT a; OBJECT IDLETIME a; OBJECT FREQ a; SET a 100; OBJECT REFCOUNT a b
        MEMORY USAGE a; MEMORY USAGE; MEMORY; MEMORY FOO; MEMORY USAGE a SAMPLES; MEMORY USAGE a FOO 1
        WAIT 0 0; WAIT 0 10; SET a 1; WAIT 1 10; WAIT abc 0; WAIT 0 abc; WAIT 0 -1; WAIT 0; WAIT 0 0 0
        MEMORY USAGE a SAMPLES abc; MEMORY USAGE a SAMPLES -1; MEMORY USAGE a SAMPLES 5
        MULTI; SET a 1; COPY a b; RENAME b c; GET c; EXEC; WATCH x; COPY a x; MULTI; EXEC
        SET x 1; WATCH x; RENAME x y; MULTI; GET y; EXEC; WATCH z; RENAME y z; MULTI; EXEC
    """
    for line in filter(None, map(str.strip, sequences.splitlines())):
        yield f"keyspace: {line}", commands(*line.split("; "))
