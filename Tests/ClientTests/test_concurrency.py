"""Many connections at once: nothing is lost, nothing is counted twice, nothing is seen half."""

import multiprocessing
import os
import random
import threading

import pytest

from load import integers, run_all
from protocol import RawConnection, encode

SCALE = int(os.environ.get("TALLY_CONCURRENCY_SCALE", 8))
THREADS = [1, 2]
SPAWN = multiprocessing.get_context("fork")


@pytest.fixture(params=THREADS, ids=lambda count: f"threads={count}")
def server(request, start_tally):
    return start_tally("--threads", request.param)


@pytest.mark.parametrize("depth", [1, 10, 200])
def test_every_value_is_returned_once(server, depth):
    """N connections with M increments each of one key get exactly the values 1 to N*M."""
    connections, rounds = 20, (100 * SCALE if depth < 200 else 15 * SCALE)
    barrier = threading.Barrier(connections, timeout=60)
    returned = [[] for _ in range(connections)]

    def body(number):
        with RawConnection(server.port) as connection:
            barrier.wait()
            for _ in range(rounds):
                connection.send(encode("INCR", "shared") * depth)
                returned[number] += integers(connection, depth)

    run_all([lambda number=number: body(number) for number in range(connections)])
    for values in returned:
        assert values == sorted(values), "a connection's own increments are in order"
    everything = sorted(value for values in returned for value in values)
    assert everything == list(range(1, connections * rounds * depth + 1))
    assert server.client().get("shared") == str(len(everything)).encode()


def count_in_a_process(port, seed, rounds, results):
    """Random steps on shared keys and on an own one, pipelined; reports what was added."""
    generator = random.Random(seed)
    added = {}
    own_value = 0
    with RawConnection(port) as connection:
        for _ in range(rounds):
            batch, own_values = [], []
            for _ in range(generator.randint(1, 100)):
                step = generator.randint(-5, 10)
                if generator.random() < 0.3:
                    own_value += step
                    own_values.append(own_value)
                    batch.append(encode("INCRBY", f"own:{seed}", step))
                else:
                    key = f"shared:{generator.randrange(50)}"
                    added[key] = added.get(key, 0) + step
                    own_values.append(None)
                    batch.append(encode("INCRBY", key, step))
            connection.send(b"".join(batch))
            for got, expected in zip(integers(connection, len(batch)), own_values):
                assert expected is None or got == expected, (got, expected)
    added[f"own:{seed}"] = own_value
    results.put(added)


def test_sums_from_many_processes(server):
    results = SPAWN.Queue()
    workers = [
        SPAWN.Process(
            target=count_in_a_process, args=(server.port, seed, 60 * SCALE, results))
        for seed in range(8)]
    for worker in workers:
        worker.start()
    totals = {}
    for _ in workers:
        for key, value in results.get(timeout=300).items():
            totals[key] = totals.get(key, 0) + value
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    client = server.client()
    keys = sorted(totals)
    assert [int(value) for value in client.mget(keys)] == [totals[key] for key in keys]
    assert client.dbsize() == len(keys)


def run_while(server, rounds, writers, check):
    """Runs writers while two readers call `check(connection)`, `rounds` times each."""
    stop = threading.Event()

    def write(body):
        with RawConnection(server.port) as connection:
            number = 0
            while not stop.is_set():
                body(connection, number)
                number += 1
        assert number > 0

    finished = threading.Semaphore(0)

    def read():
        try:
            with RawConnection(server.port) as connection:
                for _ in range(rounds):
                    check(connection)
        finally:
            finished.release()

    def wait_for_readers():
        for _ in range(2):
            finished.acquire()
        stop.set()

    run_all([lambda body=body: write(body) for body in writers] + [read, read, wait_for_readers])


KEYS = [f"part:{number}" for number in range(24)]


def values_of(reply):
    """The values of an MGET's reply."""
    return reply.split(b"\r\n")[2::2]


def test_reads_of_many_keys_never_see_half_a_write(server):
    """MSET, MSETNX, DEL and MGET of keys in many partitions each happen at one moment."""
    server.client().mset(dict.fromkeys(KEYS, 0))

    def set_forwards(connection, number):
        pairs = [part for key in KEYS for part in (key, number)]
        assert connection.call("MSET", *pairs) == b"+OK\r\n"

    def set_backwards(connection, number):
        pairs = [part for key in reversed(KEYS) for part in (key, -number)]
        connection.send(encode("MSET", *pairs) * 3)
        assert [connection.read_reply() for _ in range(3)] == [b"+OK\r\n"] * 3

    seen = set()

    def check(connection):
        connection.send(encode("MGET", *KEYS) * 2 + encode("MGET", *reversed(KEYS)))
        for _ in range(3):
            values = values_of(connection.read_reply())
            assert len(values) == len(KEYS) and len(set(values)) == 1, values
            seen.add(values[0])

    run_while(server, 300 * SCALE, [set_forwards, set_backwards], check)
    assert len(seen) > 2, "nothing was written meanwhile"


def test_keys_appear_and_disappear_together(server):
    outcomes = set()

    def appear(connection, number):
        pairs = [part for key in KEYS for part in (key, 1)]
        outcomes.add(connection.call("MSETNX", *pairs))

    def disappear(connection, number):
        reply = connection.call("DEL", *KEYS)
        assert reply in (b":0\r\n", b":%d\r\n" % len(KEYS))

    def check(connection):
        assert connection.call("EXISTS", *KEYS) in (b":0\r\n", b":%d\r\n" % len(KEYS))
        reply = connection.call("MGET", *KEYS)
        assert reply.count(b"$-1") in (0, len(KEYS)), reply

    run_while(server, 300 * SCALE, [appear, disappear, appear], check)
    assert b":1\r\n" in outcomes


def test_only_one_creates(server):
    """Of many SETNX and MSETNX of one key, one wins."""
    connections, rounds = 8, 50 * SCALE
    barrier = threading.Barrier(connections, timeout=60)
    winners = [[] for _ in range(connections)]

    def body(number):
        with RawConnection(server.port) as connection:
            for turn in range(rounds):
                barrier.wait()
                if number % 2:
                    reply = connection.call("SETNX", f"turn:{turn}", number)
                else:
                    reply = connection.call(
                        "MSETNX", f"turn:{turn}", number, f"beside:{turn}", number)
                winners[number].append(reply == b":1\r\n")

    run_all([lambda number=number: body(number) for number in range(connections)])
    for turn in range(rounds):
        won = [number for number in range(connections) if winners[number][turn]]
        assert len(won) == 1, won
        assert server.client().get(f"turn:{turn}") == str(won[0]).encode()


def test_order_within_a_pipeline(server):
    """A connection reads its own writes, whatever the others do."""
    def body(number):
        with RawConnection(server.port) as connection:
            for turn in range(30 * SCALE):
                key = f"own:{number}"
                connection.send(
                    encode("SET", key, turn) + encode("GET", key) + encode("INCR", key)
                    + encode("INCR", "shared") + encode("MGET", key, key) + encode("DEL", key)
                    + encode("GET", key))
                replies = [connection.read_reply() for _ in range(7)]
                text, more = b"%d" % turn, b"%d" % (turn + 1)
                assert replies[1].split(b"\r\n")[1] == text
                assert replies[2] == b":" + more + b"\r\n"
                assert values_of(replies[4]) == [more, more]
                assert replies[5:] == [b":1\r\n", b"$-1\r\n"]

    run_all([lambda number=number: body(number) for number in range(10)])
    assert server.client().get("shared") == b"%d" % (300 * SCALE)
