"""Where Tally differs from Redis 7.0.15 on purpose: what is sent and what Tally replies."""

from differential_cases import NOT_NUMBERS
from protocol import command, commands, encode

OK = b"+OK\r\n"
NOT_AN_INTEGER = b"-ERR value is not an integer or out of range\r\n"
ABSENT = b"$-1\r\n"


def error(text):
    return b"-ERR " + text.encode() + b"\r\n"


def values():
    """Tally stores signed 64-bit integers and nothing else."""
    for text in NOT_NUMBERS:
        for name in ["SET", "SETNX", "GETSET"]:
            yield (
                f"{name} to {text!r}", encode(name, "k", text) + command("GET k"),
                NOT_AN_INTEGER + ABSENT)
            yield (
                f"{name} to {text!r} keeps the value",
                command("SET k 5") + encode(name, "k", text) + command("GET k"),
                OK + NOT_AN_INTEGER + b"$1\r\n5\r\n")
        for name in ["MSET", "MSETNX"]:
            yield (
                f"{name} with {text!r} sets nothing",
                encode(name, "a", "1", "b", text, "c", "3") + command("MGET a b c"),
                NOT_AN_INTEGER + b"*3\r\n" + ABSENT * 3)
        yield (
            f"SET to {text!r} with GET", encode("SET", "k", text, "GET") + command("EXISTS k"),
            NOT_AN_INTEGER + b":0\r\n")


def keys():
    """A key has at most 4,096 bytes."""
    for length in [4097, 10_000]:
        refusal = error(f"key of {length} bytes is too long, at most 4096 are allowed")
        key = "k" * length
        for arguments in [
            ("GET", key), ("INCR", key), ("DECR", key), ("INCRBY", key, 5), ("DECRBY", key, 5),
            ("SET", key, 5), ("SETNX", key, 5), ("GETSET", key, 5), ("GETDEL", key),
            ("MGET", "a", key), ("MSET", "a", 1, key, 2), ("MSETNX", "a", 1, key, 2),
            ("DEL", "a", key), ("UNLINK", key, "a"), ("EXISTS", "a", key), ("TOUCH", key),
            ("TYPE", key), ("STRLEN", key), ("OBJECT", "ENCODING", key),
        ]:
            yield (
                f"{' '.join(map(str, arguments))[:24]} with a key of {length} bytes",
                encode(*arguments) + command("DBSIZE"), refusal + b":0\r\n")


def unknown_commands():
    """Commands of other types, and those of strings that are not numbers, say why they are not there."""
    for line, reason in [
        ("APPEND k 1", "values are integers, not texts"), ("SETRANGE k 0 1", "values are integers, not texts"),
        ("GETRANGE k 0 1", "values are integers, not texts"),
        ("INCRBYFLOAT k 1.5", "values are integers, not floats"), ("LPUSH k 1", "there are no lists"),
        ("SADD k 1", "there are no sets"), ("ZADD k 1 a", "there are no sorted sets"),
        ("PFADD k 1", "there are no hyperloglogs"), ("SAVE", "checkpoints are made with BGSAVE"),
        ("SUBSCRIBE c", "there is no publishing"),
        ("DEBUG SLEEP 0", "there is nothing to debug from outside"),
    ]:
        yield f"the command {line}", command(line), error(f"unknown command '{line.split()[0]}': {reason}")


def protocol():
    """Bounds are tighter, and what stands between arguments is looked at."""
    closed = b"<closed>"
    for name, data, reason in [
        ("more than 2^20 arguments", b"*1048577\r\n", "invalid multibulk length"),
        ("an argument of more than 1 MiB", b"*1\r\n$1048577\r\n", "invalid bulk length"),
        ("no line end behind an argument", b"*1\r\n$4\r\nPINGxx", "expected CRLF"),
        ("CR without LF behind a count", b"*1\rx$4\r\nPING\r\n", "expected CRLF"),
        ("CR without LF behind a length", b"*1\r\n$4\rxPING\r\n", "expected CRLF"),
        ("a zero byte as a count", b"*\0\r\n", "invalid multibulk length"),
        ("a zero byte behind a count", b"*1\0\r\n", "invalid multibulk length"),
        ("a zero byte as a length", b"*1\r\n$\0\r\n", "invalid bulk length"),
        ("a zero byte behind a length", b"*1\r\n$1\0\r\n", "invalid bulk length"),
        ("a zero byte instead of a length", b"*1\r\n\0\r\n", "expected '$', got '\0'"),
    ]:
        yield name, data, error(f"Protocol error: {reason}") + closed
    yield "a zero byte behind an inline command", b"PING\0\r\n", b"+PONG\r\n"
    # Redis shows such names up to their zero byte.
    yield (
        "a zero byte in an unknown command", encode("foo\0bar"),
        error("unknown command 'foo\0bar', with args beginning with: "))
    yield (
        "a zero byte in an unknown subcommand", encode("CLIENT", "foo\0bar"),
        error("unknown subcommand 'foo\0bar'. Try CLIENT HELP."))


def server():
    """There is one database, and Tally offers more than 7.0 does."""
    yield "another database", command("SELECT 1"), error("DB index is out of range")
    yield "library names", commands(
        "CLIENT SETINFO LIB-NAME a", "CLIENT SETINFO lib-ver 1", "CLIENT SETINFO foo 1"), (
        OK + OK + error("Unrecognized option 'foo'"))
    yield "library names with spaces", encode("CLIENT", "SETINFO", "lib-name", "a b"), error(
        "lib-name cannot contain spaces, newlines or special characters.")
    yield (
        "no touch", commands("CLIENT NO-TOUCH ON", "CLIENT NO-TOUCH x"),
        OK + error("syntax error"))
    yield "a negative cursor", command("SCAN -1"), error("invalid cursor")
    yield "a cursor that nobody was given", command("SCAN 77777777"), error(
        "cursor 77777777 is not known any more: begin again with 0")
    yield "how often a key is used", commands("SET k 1", "OBJECT FREQ k"), OK + error(
        "keys are never evicted, so how often they are used is not counted")
    yield "keys of an unknown command", command("COMMAND GETKEYS nosuch"), error(
        "Invalid command specified")
    yield "keys of a command without keys", command("COMMAND GETKEYS PING"), error(
        "The command has no key arguments")
    yield "keys of a command without arguments", command("COMMAND GETKEYS GET"), error(
        "Invalid number of arguments specified for command")
    for name, value, allowed in [
        ("maxclients", "0", "1 and 1000000"), ("timeout", "-1", "0 and 31536000")]:
        yield f"CONFIG SET {name} {value}", command(f"CONFIG SET {name} {value}"), error(
            f"CONFIG SET failed (possibly related to argument '{name}') - argument must be "
            f"between {allowed} inclusive")
    yield "durability", command("CONFIG GET durability"), (
        b"*2\r\n$10\r\ndurability\r\n$6\r\nalways\r\n")
    yield "appendfsync", command("CONFIG GET appendfsync"), (
        b"*2\r\n$11\r\nappendfsync\r\n$6\r\nalways\r\n")


def silence():
    """What ends a connection ends it, and what is no command is none, also without replies."""
    for mode in ["OFF", "SKIP"]:
        quiet = command(f"CLIENT REPLY {mode}")
        yield f"QUIT after reply {mode}", quiet + commands("QUIT", "PING"), b"<closed>"
        yield (
            f"a protocol error after reply {mode}", quiet + b"*1\r\nPING\r\n",
            error("Protocol error: expected '$', got 'P'") + b"<closed>")
    # In Redis, an empty command is the one that goes without a reply.
    for empty in [b"*0\r\n", b"*-1\r\n", b"\r\n"]:
        yield (
            f"{empty!r} after reply SKIP",
            command("CLIENT REPLY SKIP") + empty + commands("PING", "ECHO a"), b"$1\r\na\r\n")


def all_differences():
    for differences in (values, keys, unknown_commands, protocol, server, silence):
        for name, data, reply in differences():
            yield name, (data, reply)


DIFFERENCES = dict(all_differences())
