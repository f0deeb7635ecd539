"""ONCE: counted once, however often it is sent, and replied to as it was first."""

import os
import random
import threading
import time
import uuid

import pytest
import redis

from load import run_all
from protocol import Closed, RawConnection, encode
from servers import run_tally, wait_until
from test_checkpoints import checkpoint

UPDATES = int(os.environ.get("TALLY_ONCE_UPDATES", 20_000))


def token(generator=random, milliseconds=None):
    """A UUID of version 7."""
    milliseconds = int(time.time() * 1000) if milliseconds is None else milliseconds
    value = milliseconds << 80 | 7 << 76 | generator.getrandbits(12) << 64
    return str(uuid.UUID(int=value | 2 << 62 | generator.getrandbits(62)))


def once(client, name, *command):
    return client.execute_command("ONCE", name, *command)


def declare(client):
    for line in [
            "ADD COUNTER post", "ADD COLUMN post id primarykey", "ADD COLUMN post n suffix=n max=8",
            "ADD COLUMN post m suffix=m"]:
        assert client.execute_command(*line.split()) == b"OK"


def test_a_request_that_is_given_up_leaves_the_journal_awake(start_tally):
    """What a refused request would have taken must not be missing for those behind it."""
    client = start_tally("--durability", "always").client(socket_timeout=5)
    declare(client)
    for number in range(1, 101):
        with pytest.raises(redis.ResponseError, match="no column"):
            once(client, token(), "HINCRBY", "post:1", "absent", 1)
        assert client.incr("k") == number


COMMANDS = [
    ("INCR", "a"), ("INCRBY", "a", 5), ("DECR", "a"), ("SET", "a", 7), ("SET", "a", 8, "NX"),
    ("SET", "a", 9, "XX", "GET"), ("SETNX", "fresh", 1), ("GETSET", "a", 3), ("GETDEL", "a"),
    ("MSET", "a", 1, "b", 2, "c", 3), ("MSETNX", "n1", 1, "n2", 2), ("DEL", "a", "b", "absent"),
    ("INCRBY", "big", 2**63 - 1), ("INCREX", "x", "UBOUND", 3, "BYINT", 2),
    ("INCREX", "x", "UBOUND", 3, "BYINT", 2), ("EXPIRE", "b", 500), ("PERSIST", "b"),
    ("SETEX", "t", 500, 1), ("GETEX", "t", "PERSIST"), ("RENAME", "c", "d"), ("COPY", "d", "e"),
    ("HINCRBY", "post:7", "m", 4), ("HSET", "post:7", "n", 1, "m", 2), ("HDEL", "post:7", "m"),
    ("INCR", "post", "7.m", 5), ("SET", "post", "8", 1, 2), ("DEL", "post", "8"),
    ("ADD", "COLUMN", "post", "late"), ("ALTER", "COLUMN", "post", "n", "max=16"), ("FLUSHALL",),
]


def another(command):
    """Another command where the first one's token is known: on the same key; none for all keys."""
    if command[0] in ("ADD", "ALTER", "FLUSHALL"):
        return None
    key = command[1]
    if key == "post":
        return "HINCRBY", f"post:{command[2].split('.')[0]}", "m", 77
    return ("HINCRBY", key.split(".")[0], "m", 77) if key.startswith("post:") else ("INCRBY", key, 77)


@pytest.mark.parametrize("restarts", [False, True], ids=["at once", "after a kill"])
def test_every_command_is_told_again(tally, restarts):
    """Each command's second reply is its first, errors too, and nothing has changed between."""
    client = tally.client()
    declare(client)
    client.mset({"a": 1, "b": 1, "c": 1})
    # Errors that are outcomes, not mistakes.
    commands = COMMANDS[:-1] + [("INCR", "big"), ("INCRBY", "post:7.n", 100_000)] + COMMANDS[-1:]
    replies = []

    def state():
        return [client.mget("a", "b", "c", "d", "e", "x", "t", "big"), client.dbsize()]

    for command in commands:
        name = token()
        try:
            reply = once(client, name, *command)
        except redis.exceptions.ResponseError as error:
            reply = str(error)
        before = state()
        if restarts and random.random() < 0.3:
            if random.random() < 0.5:
                checkpoint(client)
            tally.kill()
            tally.start().wait_until_ready()
            client = tally.client()
        for _ in range(2):
            try:
                again = once(client, name, *command)
            except redis.exceptions.ResponseError as error:
                again = str(error)
            assert again == reply, command
        assert state() == before, command
        if other := another(command):
            with pytest.raises(redis.exceptions.ResponseError, match="TOKENREUSED"):
                once(client, name, *other)
        replies.append(reply)
    assert replies[0] == 2 and "overflow" in str(replies[-3]) and "leave its range" in str(replies[-2])


def test_transactions_are_executed_once(tally):
    client = tally.client()
    declare(client)
    block = [
        ("INCR", "a"), ("SET", "b", 5, "GET"), ("MGET", "a", "b"), ("INCRBY", "a", "x"),
        ("GET", "post", "5"), ("HSET", "post:5", "n", 1, "m", 2), ("HGETALL", "post:5"),
        ("INCREX", "c", "BYINT", 4)]

    def run(name, commands):
        client = tally.client()
        connection = client.connection_pool.get_connection()
        for command in [("MULTI",), *commands, ("ONCE", name, "EXEC")]:
            connection.send_command(*command)
        replies = []
        for _ in range(len(commands) + 2):
            try:
                replies.append(connection.read_response())
            except redis.exceptions.ResponseError as error:
                replies.append(error)
        return [str(part) for part in replies[-1]] if isinstance(replies[-1], list) else replies[-1]

    name = token()
    first = run(name, block)
    assert len(first) == len(block) and first[0] == "1"
    client.incrby("a", 100)
    client.hset("post:5", "n", 9)
    assert run(name, block) == first
    assert client.get("a") == b"101"
    assert "TOKENREUSED" in str(run(name, block[:-1]))
    tally.kill()
    tally.start().wait_until_ready()
    assert run(name, block) == first
    with pytest.raises(redis.exceptions.ResponseError, match="EXEC without MULTI"):
        once(tally.client(), token(), "EXEC")


def test_mistakes_are_named_and_count_nothing(tally):
    client = tally.client()
    now = int(time.time() * 1000)
    cases = [
        (("ONCE",), "wrong number of arguments"), (("ONCE", token()), "wrong number of arguments"),
        (("ONCE", "token", "INCR", "a"), "UUID of version 7 or a ULID"),
        (("ONCE", str(uuid.uuid4()), "INCR", "a"), "UUID of version 7 or a ULID"),
        (("ONCE", token(), "GET", "a"), "does not"), (("ONCE", token(), "PING"), "does not"),
        (("ONCE", token(), "NOSUCH"), "unknown command 'NOSUCH'"),
        (("ONCE", token(), "ONCE", token(), "INCR", "a"), "not allowed inside of ONCE"),
        (("ONCE", token(), "INCR"), "wrong number of arguments for 'incr'"),
        (("ONCE", token(), "INCRBY", "a", "x"), "not an integer"),
        (("ONCE", token(milliseconds=now - 90_000_000), "INCR", "a"), "TOKENOLD"),
        (("ONCE", token(milliseconds=5), "INCR", "a"), "TOKENOLD"),
        (("ONCE", token(milliseconds=now + 400_000), "INCR", "a"), "TOKENFUTURE"),
        (("ONCE", "01ARZ3NDEKTSV4RRFFQ69G5FAV", "INCR", "a"), "TOKENOLD"),
    ]
    for command, part in cases:
        with pytest.raises(redis.exceptions.ResponseError, match=part):
            client.execute_command(*command)
    assert client.get("a") is None
    # A mistake is no outcome: the token is still free.
    name = token()
    with pytest.raises(redis.exceptions.ResponseError):
        once(client, name, "INCRBY", "a", "x")
    assert once(client, name, "INCR", "a") == 1
    assert once(client, token(milliseconds=now + 200_000), "INCR", "a") == 2
    assert once(client, token(milliseconds=now - 80_000_000), "INCR", "a") == 3


def test_retries_over_crashes_count_once(start_tally):
    """Updates sent one to five times each, by several connections in random order, with kills between."""
    generator = random.Random(11)
    server = start_tally("--checkpoint-bytes", "1mb")
    counters = [f"counter:{number}" for number in range(50)]
    requests = [(token(generator), generator.choice(counters)) for _ in range(UPDATES)]
    deliveries = [
        request for request in requests for _ in range(generator.randint(1, 5))]
    generator.shuffle(deliveries)
    replies = {}
    lock = threading.Lock()
    parts = [deliveries[index::4] for index in range(4)]
    done = [0] * 4

    def deliver(index):
        part = parts[index]
        while done[index] < len(part):
            try:
                with RawConnection(server.port, timeout=20) as connection:
                    while done[index] < len(part):
                        batch = part[done[index]:done[index] + 40]
                        connection.send(b"".join(
                            encode("ONCE", name, "INCR", key) for name, key in batch))
                        for name, _ in batch:
                            reply = connection.read_reply()
                            assert reply.startswith(b":"), reply
                            with lock:
                                assert replies.setdefault(name, reply) == reply
                            done[index] += 1
            except (OSError, Closed):
                time.sleep(0.05)

    stop = threading.Event()

    def disturb():
        other = random.Random(5)
        while not stop.is_set():
            time.sleep(other.uniform(0.3, 0.9))
            if not stop.is_set():
                server.kill()
                server.start().wait_until_ready()

    disturber = threading.Thread(target=disturb, daemon=True)
    disturber.start()
    try:
        run_all([lambda index=index: deliver(index) for index in range(4)])
    finally:
        stop.set()
        disturber.join()
    expected = {key: 0 for key in counters}
    for _, key in requests:
        expected[key] += 1
    found = server.client().mget(counters)
    assert [int(value) for value in found] == [expected[key] for key in counters]
    # Every value of a counter was some request's first reply.
    for key in counters:
        values = sorted(int(replies[name][1:]) for name, of in requests if of == key)
        assert values == list(range(1, len(values) + 1))
    server.stop()
    assert run_tally("check", server.directory).returncode == 0


def test_the_window_is_bounded(start_tally):
    """What is oldest goes when the memory is used up, is refused from then on, and never counted again."""
    server = start_tally(
        "--once-memory", "1mb", "--partitions", 1, "--checkpoint-seconds", 1, "--checkpoint-bytes", "1mb")
    client = server.client()
    now = int(time.time() * 1000) - 50_000_000
    names = [token(milliseconds=now + number * 100) for number in range(120_000)]
    for start in range(0, len(names), 4000):
        pipeline = client.pipeline(transaction=False)
        for name in names[start:start + 4000]:
            pipeline.execute_command("ONCE", name, "INCR", "counter")
        pipeline.execute()
    assert client.get("counter") == b"120000"

    def settle():
        checkpoint(client)
        once(client, token(), "INCR", "other")
        checkpoint(client)
        return client.info("once")["used_memory_once"] < 2 << 20

    wait_until(settle, "what is oldest to go", seconds=60)
    outcomes = {"told": 0, "old": 0}
    for index in range(0, len(names), 500):
        try:
            assert once(client, names[index], "INCR", "counter") == index + 1
            outcomes["told"] += 1
            assert index > 1000
        except redis.exceptions.ResponseError as error:
            assert "TOKENOLD" in str(error)
            outcomes["old"] += 1
    assert client.get("counter") == b"120000" and min(outcomes.values()) > 5, outcomes
    server.kill()
    server.start().wait_until_ready()
    assert once(server.client(), names[-1], "INCR", "counter") == 120_000
    with pytest.raises(redis.exceptions.ResponseError, match="TOKENOLD"):
        once(server.client(), names[0], "INCR", "counter")


def test_the_window_ends(start_tally):
    server = start_tally("--once-window-seconds", 2)
    client = server.client()
    name = token()
    assert once(client, name, "INCR", "a") == 1
    assert once(client, name, "INCR", "a") == 1
    time.sleep(2.5)
    checkpoint(client)
    assert once(client, token(), "INCR", "b") == 1
    checkpoint(client)
    try:
        # Remembered for longer than was promised, or refused; never counted.
        assert once(client, name, "INCR", "a") == 1
    except redis.exceptions.ResponseError as error:
        assert "TOKENOLD" in str(error)
    assert client.get("a") == b"1"
