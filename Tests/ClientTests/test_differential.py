"""The same bytes to Tally and to the real Redis: the replies must be the same, byte for byte."""

import os
import random

import pytest

from differential_cases import MAX, MIN, all_cases
from differential_exceptions import DIFFERENCES
from protocol import RawConnection, command, encode

CASES = dict(all_cases())
RANDOM_COMMANDS = int(os.environ.get("TALLY_RANDOM_COMMANDS", 20_000))


def replies(server, data, version=2, patience=10):
    """What an empty `server` replies to `data` on a new connection that speaks `version`."""
    with RawConnection(server.port, timeout=patience) as connection:
        assert connection.call("FLUSHALL") == b"+OK\r\n"
        if version == 3:
            assert connection.call("HELLO", 3).startswith(b"%7\r\n")
        return connection.exchange(data)


def first_difference(expected, got):
    """What stands where two byte strings part."""
    index = next(
        (index for index, pair in enumerate(zip(expected, got)) if pair[0] != pair[1]),
        min(len(expected), len(got)))
    shown = slice(max(0, index - 60), index + 60)
    return f"at byte {index}: Redis {expected[shown]!r}, Tally {got[shown]!r}"


def compare(tally, redis_server, data, version=2):
    expected = replies(redis_server, data, version)
    got = replies(tally, data, version)
    assert got == expected, f"for the bytes {data[:400]!r}"


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("name", CASES)
def test_replies_are_the_same(shared_tally, redis_server, name, version):
    compare(shared_tally, redis_server, CASES[name], version)


@pytest.mark.parametrize("name", DIFFERENCES)
def test_differences_are_the_stated_ones(shared_tally, redis_server, name):
    data, expected = DIFFERENCES[name]
    assert replies(shared_tally, data) == expected
    # Redis waits for ever for what follows some of these; its silence differs as well.
    assert replies(redis_server, data, patience=0.3) != expected, "no difference: compare it"


@pytest.mark.parametrize("data", [
    b"x" * 65_537, b"*" + b"1" * 65_537, b"*1\r\n$" + b"1" * 65_537,
    b"PING\r\n" + b"x" * 65_537,
], ids=["inline", "multibulk", "bulk", "inline behind a command"])
def test_lines_that_do_not_end(shared_tally, redis_server, data):
    ends = []
    for server in (redis_server, shared_tally):
        with RawConnection(server.port) as connection:
            connection.send(data)
            ends.append(connection.read_until_closed())
    assert ends[0] == ends[1]
    assert b"-ERR Protocol error: too big " in ends[0]


@pytest.mark.parametrize("name", [
    "inline 'ECHO 'a b''", "MSET a 1; MSET a 1 a 2; GET a; MSET a 1 b 2 a 3; MGET a b",
    "many keys set, read and deleted", "a key of 100 bytes", "reply OFF|INCR k|INCR k|ON|GET k",
    "the bytes b'*1\\r\\nPING\\r\\n' behind a command", "*-1 and *0",
])
def test_commands_in_pieces(shared_tally, redis_server, name):
    """The replies do not depend on where the network cuts a command."""
    data = CASES.get(name) or {
        "inline 'ECHO 'a b''": b"ECHO 'a b'\r\nECHO \"a\\x41\"\r\n",
        "*-1 and *0": b"*-1\r\n\r\n*0\r\n" + command("PING"),
    }[name]
    expected = replies(redis_server, data)
    step = max(1, len(data) // 60)
    with RawConnection(shared_tally.port) as connection:
        for cut in range(step, len(data), step):
            assert connection.call("FLUSHALL") == b"+OK\r\n"
            # An echo of its own segment: the server has read the first piece before the second.
            connection.send(data[:cut])
            with RawConnection(shared_tally.port) as other:
                assert other.call("PING") == b"+PONG\r\n"
            got = connection.exchange(data[cut:])
            assert got == expected, f"cut at {cut}"
            if got.endswith(b"<closed>"):
                break


# Times that come after any test.
FAR = [4102444800000, 4102444800001, 5102444800000]


def random_command(generator, keys):
    """One command that both servers treat alike, mostly one that changes counters."""
    key = generator.choice(keys)
    number = generator.choice([
        generator.randint(-3, 3), generator.randint(-10**6, 10**6), MAX, MIN, MAX - 1, MIN + 1,
        generator.randint(MIN, MAX)])
    some = [generator.choice(keys) for _ in range(generator.randint(1, 5))]
    deadline = generator.choice([1, *FAR])
    pairs = [part for name in some for part in (name, generator.randint(-99, 99))]
    return generator.choices([
        ("INCR", key), ("DECR", key), ("INCRBY", key, number), ("DECRBY", key, number),
        ("INCRBY", key, generator.choice(["abc", "", " 1", "01", "+1", "9" * 19])),
        ("SET", key, number), ("GET", key),
        ("SET", key, number, *generator.sample(["NX", "GET"], generator.randint(1, 2))),
        ("SET", key, number, *generator.sample(["XX", "GET"], generator.randint(1, 2))),
        ("SETNX", key, number), ("GETSET", key, number), ("GETDEL", key), ("DEL", *some),
        ("UNLINK", *some), ("EXISTS", *some), ("TOUCH", *some), ("MGET", *some),
        ("MSET", *pairs), ("MSETNX", *pairs), ("STRLEN", key), ("TYPE", key), ("DBSIZE",),
        ("OBJECT", "ENCODING", key), ("FLUSHALL",), ("NOSUCH", key), ("INCR",),
        ("CLIENT", "REPLY", "SKIP"),
        ("PEXPIREAT", key, deadline, *generator.choice([[], ["NX"], ["XX"], ["GT"], ["LT"]])),
        ("SET", key, number, generator.choice(["PXAT", "EXAT"]), generator.choice(FAR)),
        ("SET", key, number, "KEEPTTL"), ("GETEX", key, "PXAT", deadline), ("PERSIST", key),
        ("GETEX", key, "PERSIST"), ("PEXPIRETIME", key), ("WATCH", *some), ("UNWATCH",),
    ], weights=[9, 5, 9, 5, 1, 4, 4, 2, 2, 2, 2, 2, 2, 1, 2, 1, 3, 2, 2, 1, 1, 1, 1, 0.05, 0.2,
                0.2, 0.1, 2, 1, 1, 1, 1, 1, 2, 1, 0.2])[0]


def random_commands(generator, keys):
    """Some commands, on their own or in a transaction."""
    some = [random_command(generator, keys) for _ in range(generator.randint(1, 9))]
    if generator.random() < 0.8:
        return some
    some = [each for each in some if each[0] != "CLIENT"]
    return [("MULTI",), *some, (generator.choice(["EXEC", "EXEC", "EXEC", "DISCARD"]),)]


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_random_commands(shared_tally, redis_server, seed):
    generator = random.Random(seed)
    keys = [f"key:{number}" for number in range(12)] + ["", "{a}b", "x" * 300]
    version = 2 + seed % 2
    with RawConnection(redis_server.port) as redis, RawConnection(shared_tally.port) as tally:
        for connection in (redis, tally):
            assert connection.call("FLUSHALL") == b"+OK\r\n"
            connection.call("HELLO", version)
        left = RANDOM_COMMANDS // 4
        while left > 0:
            batch = [
                each for _ in range(generator.randint(1, 30))
                for each in random_commands(generator, keys)]
            left -= len(batch)
            data = b"".join(encode(*each) for each in batch) + command("CLIENT REPLY ON")
            expected, got = redis.exchange(data), tally.exchange(data)
            if got != expected:
                pytest.fail(f"seed {seed}, {left} left, {first_difference(expected, got)}")
        assert tally.call("DBSIZE") == redis.call("DBSIZE")
        assert tally.call("MGET", *keys) == redis.call("MGET", *keys)


def test_command_info_agrees(shared_tally, redis_server):
    """Names, arities and key positions are those of Redis for every command that Redis has."""
    ours, theirs = shared_tally.client().command(), redis_server.client().command()
    assert set(ours) - set(theirs) == {"add", "alter", "backup", "drop", "describe", "hotkeys", "import", "increx", "once",
        "withposition", "atleast", "waitaof"}
    for name in set(ours) & set(theirs):
        info = ours[name]
        for field in ("arity", "first_key_pos", "last_key_pos", "step_count"):
            assert info[field] == theirs[name][field], f"{field} of {name}"
