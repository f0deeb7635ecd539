"""Nodes that are restarted, or replaced by another version, one after the other while clients go on."""

import os

import pytest
from redis.cluster import RedisCluster

from background import Background
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


class Clients(Background):
    """Clients that follow redirects, each counting keys of its own until all are stopped."""

    def __init__(self, node):
        super().__init__(CLIENTS)
        self.port = node.port
        self.counted = [0] * CLIENTS

    def run(self, number):
        client = RedisCluster(host="127.0.0.1", port=self.port)
        try:
            while not self.isOver.is_set():
                count = self.counted[number]
                value = client.incr(self.key(number, count))
                assert value == count // KEYS + 1, f"{value} after {count} increments"
                self.counted[number] += 1
        finally:
            client.close()

    @staticmethod
    def key(number, count):
        return f"rolling:{number}:{count % KEYS}"


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
    client = cluster.nodes[0].client()
    for number in range(CLIENTS):
        values = client.mget([clients.key(number, count) for count in range(KEYS)])
        assert sum(map(int, values)) == clients.counted[number]
    cluster.verify()
