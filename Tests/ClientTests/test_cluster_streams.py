"""Streams of events through three nodes, by several kinds of clients at once, against an independent count.

TALLY_EVENTS_DIR as in test_streams.py.
"""

import asyncio
import itertools
import threading

import pytest
from glide import (
    ClusterBatch, GlideClusterClient, GlideClusterClientConfiguration, NodeAddress)
from redis.cluster import RedisCluster
from valkey.cluster import ValkeyCluster

from load import run_all
from protocol import RawConnection, encode
from servers import ClusterUnderTest
from test_streams import DEPTH, STREAMS, independent_count


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    cluster = ClusterUnderTest(
        tmp_path_factory.mktemp("streams"), logs=8, copies=2, flags=("--threads", "2"))
    cluster.start()
    cluster.wait_until_placed()
    yield cluster
    cluster.stop()


class Events:
    """A stream that many clients share; counts who took how many."""

    def __init__(self, stream):
        self.lock = threading.Lock()
        self.events = iter(stream)
        self.taken = {}

    def next(self, kind):
        with self.lock:
            some = list(itertools.islice(self.events, DEPTH))
            self.taken[kind] = self.taken.get(kind, 0) + len(some)
            return some


def plain(cluster, events, number):
    with RawConnection(cluster.nodes[number % 3].port) as connection:
        while some := events.next("plain"):
            connection.send(b"".join(
                encode("INCR", key) if step == 1 else encode("INCRBY", key, step)
                for key, step in some))
            for _ in some:
                line = connection.take_line()
                assert line[:1] == b":", line


def of_redis(cluster, events, make, kind, number):
    client = make(host="127.0.0.1", port=cluster.nodes[number % 3].port, socket_timeout=60)
    while some := events.next(kind):
        pipeline = client.pipeline()
        for key, step in some:
            pipeline.incrby(key, step)
        assert len(pipeline.execute()) == len(some)
    client.close()


def glide(cluster, events):
    """Two clients on one loop: one that is closed on another loop can take a third one's reply with it."""
    async def count(client):
        while some := events.next("valkey-glide"):
            batch = ClusterBatch(is_atomic=False)
            for key, step in some:
                batch.incrby(key, step)
            assert len(await client.exec(batch, raise_on_error=True)) == len(some)

    async def body():
        clients = [
            await GlideClusterClient.create(GlideClusterClientConfiguration(
                [NodeAddress("127.0.0.1", node.port)], request_timeout=30_000))
            for node in cluster.nodes[:2]]
        await asyncio.gather(*(count(client) for client in clients))
        for client in clients:
            await client.close()
    asyncio.run(body())


@pytest.mark.parametrize("name", STREAMS)
def test_several_kinds_of_clients_count_a_stream(cluster, tmp_path, name):
    events = Events(STREAMS[name]())
    bodies = [lambda number=number: plain(cluster, events, number) for number in range(9)]
    bodies += [
        lambda number=number: of_redis(cluster, events, RedisCluster, "redis-py", number)
        for number in range(3)]
    bodies += [
        lambda number=number: of_redis(cluster, events, ValkeyCluster, "valkey-py", number)
        for number in range(3)]
    bodies.append(lambda: glide(cluster, events))
    run_all(bodies)
    assert len(events.taken) == 4 and all(events.taken.values()), events.taken
    print(name, events.taken)
    expected = independent_count(STREAMS[name](), tmp_path)
    for node in cluster.nodes:
        client = node.client()
        keys = list(expected)
        wrong = {}
        for start in range(0, len(keys), 1000):
            part = keys[start:start + 1000]
            for key, value in zip(part, client.mget(part), strict=True):
                if value is None or int(value) != expected[key]:
                    wrong[key] = (value, expected[key])
        assert not wrong, dict(list(wrong.items())[:10])
