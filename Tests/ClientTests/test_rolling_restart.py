"""Nodes that are restarted, or replaced by another version, one after the other while clients go on."""

import os
import threading

import pytest
from redis.cluster import RedisCluster

from servers import ClusterUnderTest, run_tally, tally_binary, wait_until

# The version to begin with: the same one, unless another program is named.
BINARY_BEFORE = os.environ.get("TALLY_BINARY_BEFORE")
CLIENTS = 4
KEYS = 200


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    cluster = ClusterUnderTest(tmp_path_factory.mktemp("rolling"), flags=("--threads", "1"))
    if BINARY_BEFORE:
        for node in cluster.nodes:
            node.command[0] = os.path.abspath(BINARY_BEFORE)
    cluster.start()
    cluster.wait_until_placed(masters=3)
    yield cluster
    cluster.stop()


class Clients:
    """Clients that follow redirects, each counting keys of its own until all are stopped."""

    def __init__(self, node):
        self.ends = threading.Event()
        self.counted = [0] * CLIENTS
        self.failures = []
        self.threads = [
            threading.Thread(target=self.run, args=(number, node.port)) for number in range(CLIENTS)]

    def run(self, number, port):
        client = RedisCluster(host="127.0.0.1", port=port)
        try:
            while not self.ends.is_set():
                count = self.counted[number]
                value = client.incr(self.key(number, count))
                assert value == count // KEYS + 1, f"{value} after {count} increments"
                self.counted[number] += 1
        except Exception as failure:  # Whatever it is, a client has noticed.
            self.failures.append(failure)
        finally:
            client.close()

    @staticmethod
    def key(number, count):
        return f"rolling:{number}:{count % KEYS}"

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.ends.set()
        for thread in self.threads:
            thread.join()


def is_whole(cluster):
    return run_tally("cluster", "status", "--nats", cluster.addresses).returncode == 0


def test_clients_that_follow_redirects_notice_nothing(cluster):
    """Each reply is the number of increments so far: none failed, none was counted twice."""
    with Clients(cluster.nodes[0]) as clients:
        for node in cluster.nodes:
            before = list(clients.counted)
            wait_until(
                lambda: clients.failures
                or all(now > then + 50 for now, then in zip(clients.counted, before)),
                "all clients to count")
            node.command[0] = tally_binary()
            node.restart()
            wait_until(lambda: is_whole(cluster), "all logs to have all their copies", 60)
    assert not clients.failures
    client = cluster.nodes[0].client()
    for number in range(CLIENTS):
        values = client.mget([clients.key(number, count) for count in range(KEYS)])
        assert sum(map(int, values)) == clients.counted[number]
    cluster.verify()
