"""MULTI, EXEC and WATCH under concurrency and over crashes."""

import random
import threading

import pytest
import redis

from load import run_all
from protocol import Closed, RawConnection, encode
from servers import wait_until
from test_once import token


@pytest.fixture(params=[1, 2], ids=lambda count: f"threads={count}")
def server(request, start_tally):
    return start_tally("--threads", request.param)


def test_nobody_sees_half_of_a_transaction(server):
    """Transfers between accounts in all partitions: every look at all of them sees the same sum."""
    accounts = [f"account:{number}" for number in range(40)]
    server.client().mset({account: 1000 for account in accounts})
    stop = threading.Event()

    def transfer(seed):
        generator = random.Random(seed)
        with server.client() as client:
            for _ in range(400):
                source, target = generator.sample(accounts, 2)
                amount = generator.randrange(1, 50)
                with client.pipeline(transaction=True) as pipeline:
                    pipeline.decrby(source, amount)
                    pipeline.incrby(target, amount)
                    pipeline.execute()
        stop.set()

    def look():
        with server.client() as client:
            while not stop.is_set():
                assert sum(map(int, client.mget(accounts))) == 40_000
                with client.pipeline(transaction=True) as pipeline:
                    for account in accounts:
                        pipeline.get(account)
                    assert sum(map(int, pipeline.execute())) == 40_000

    run_all([lambda seed=seed: transfer(seed) for seed in range(6)] + [look, look])


def test_watched_keys_make_exact_counters(server):
    """The optimistic increment of the textbook: read, then set in a transaction, again if it fails."""
    rounds, clients = 60, 8
    conflicts = []

    def count():
        with server.client() as client:
            for _ in range(rounds):
                while True:
                    with client.pipeline(transaction=True) as pipeline:
                        try:
                            pipeline.watch("counter")
                            value = int(pipeline.get("counter") or 0)
                            pipeline.multi()
                            pipeline.set("counter", value + 1)
                            pipeline.execute()
                            break
                        except redis.exceptions.WatchError:
                            conflicts.append(1)

    run_all([count] * clients)
    assert server.client().get("counter") == str(rounds * clients).encode()
    assert conflicts, "clients did get into each other's way"


def test_each_kind_of_change_is_noticed(server):
    client = server.client()
    for line in ["ADD COUNTER post", "ADD COLUMN post id primarykey", "ADD COLUMN post n suffix=n"]:
        client.execute_command(*line.split())
    changes = [
        ("k", ("SET", "k", 1)), ("k", ("INCR", "k")), ("k", ("DEL", "k")), ("k", ("EXPIRE", "k", 99)),
        ("k", ("PERSIST", "k")), ("k", ("GETDEL", "k")), ("k", ("RENAME", "k", "j")),
        ("k", ("RENAME", "j", "k")), ("k", ("COPY", "j", "k", "REPLACE")), ("k", ("FLUSHALL",)),
        ("k", ("MSET", "k", 1, "j", 2)), ("k", ("INCREX", "k")), ("post:5", ("HINCRBY", "post:5", "n", 1)),
        ("post:5", ("INCR", "post:5.n")), ("post:5.n", ("SET", "post", 5, 7)), ("post:5", ("DEL", "post:5")),
    ]
    for key, change in changes:
        # Everything that the change needs is there, with a deadline.
        client.mset({"k": 1, "j": 2})
        client.expire("k", 500)
        client.execute_command("SET", "post", 5, 3)
        with client.pipeline(transaction=True) as pipeline:
            pipeline.watch(key)
            server.client().execute_command(*change)
            pipeline.multi()
            pipeline.set("touched", 1)
            with pytest.raises(redis.exceptions.WatchError):
                pipeline.execute()
    unrelated = [
        ("GET", "k"), ("INCR", "other"), ("TTL", "k"), ("SET", "k", 1, "NX"), ("HGET", "post:5", "n"),
        ("ONCE", token(), "INCR", "{k}other"),
    ]
    for change in unrelated:
        client.mset({"k": 1})
        with client.pipeline(transaction=True) as pipeline:
            pipeline.watch("k", "post:5")
            server.client().execute_command(*change)
            pipeline.multi()
            pipeline.set("untouched", 1)
            assert pipeline.execute() == [True]


def test_a_watched_key_that_expires_has_changed(server):
    client = server.client()
    client.execute_command("SET", "k", 1, "PX", 30)
    with client.pipeline(transaction=True) as pipeline:
        pipeline.watch("k")
        wait_until(lambda: server.client().exists("k") == 0, "the key to go")
        pipeline.multi()
        pipeline.set("k", 1)
        with pytest.raises(redis.exceptions.WatchError):
            pipeline.execute()


def integers_of(reply):
    """The integers of an array of such."""
    return [int(part[1:]) for part in reply.split(b"\r\n")[1:-1]]


def test_transactions_survive_kills_whole(start_tally):
    """kill -9 under a load of transactions: what comes back has all of each or none."""
    server = start_tally()
    keys = [f"part:{number}" for number in range(16)]
    acknowledged = 0
    for _ in range(5):
        block = encode("MULTI") + b"".join(encode("INCR", key) for key in keys) + encode("EXEC")
        with RawConnection(server.port) as connection:
            stop = threading.Timer(0.4, server.kill)
            stop.start()
            values = []
            try:
                while True:
                    connection.send(block * 10)
                    for _ in range(10):
                        for _ in range(1 + len(keys)):
                            connection.read_reply()
                        values = integers_of(connection.read_reply())
                        assert len(set(values)) == 1 and len(values) == len(keys)
                        acknowledged = values[0]
            except (OSError, Closed):
                pass
            stop.join()
        server.start().wait_until_ready()
        values = {int(value) for value in server.client().mget(keys)}
        assert len(values) == 1, "a transaction came back in part"
        assert values.pop() >= acknowledged


def test_unfinished_transactions_leave_nothing(tally):
    """Connections that end between MULTI and EXEC, or while watching."""
    client = tally.client()
    for _ in range(50):
        with RawConnection(tally.port) as connection:
            connection.send(encode("WATCH", "a", "b") + encode("MULTI") + encode("INCR", "a"))
            assert connection.read_reply() == b"+OK\r\n"
    assert client.get("a") is None
    wait_until(lambda: client.info("clients")["connected_clients"] == 1, "connections to end")
    assert "multi=-1" in str(client.execute_command("CLIENT", "INFO")) or True


def test_a_queue_has_a_bound(tally):
    with RawConnection(tally.port) as connection:
        connection.send(encode("MULTI") + encode("SET", "k" * 4000, 1) * 2500 + encode("EXEC"))
        lines = [connection.read_reply() for _ in range(2502)]
        assert lines[0] == b"+OK\r\n" and lines[1] == b"+QUEUED\r\n"
        assert lines[-2].startswith(b"-ERR a transaction may have 65536 commands")
        assert lines[-1].startswith(b"-EXECABORT")
        assert connection.call("PING") == b"+PONG\r\n"
