"""Files of a cluster's node that are damaged on its disk."""

import hashlib
import threading

import pytest
import redis

from servers import ClusterUnderTest, wait_until

KEYS = 30_000


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    # Most is on disk only.
    cluster = ClusterUnderTest(
        tmp_path_factory.mktemp("damage"),
        flags=("--threads", "2", "--memory-limit", "1mb", "--checkpoint-seconds", "2"))
    cluster.start()
    yield cluster
    cluster.stop()


def key(number):
    """One that shares nothing with others."""
    return hashlib.sha256(b"%d" % number).hexdigest()


def fill(client):
    pipeline = client.pipeline(transaction=False)
    for number in range(KEYS):
        pipeline.incrby(key(number), number)
    pipeline.execute()


def is_cold(node):
    info = node.client().info("residency")
    return info["cold_segments"] > info["hot_segments"]


def read(node):
    """How many keys say what they should, and how many say that they cannot be read."""
    pipeline = node.client().pipeline(transaction=False)
    for number in range(KEYS):
        pipeline.get(key(number))
    right = refused = 0
    for number, value in enumerate(pipeline.execute(raise_on_error=False)):
        if isinstance(value, redis.ResponseError):
            refused += 1
        else:
            assert int(value) == number
            right += 1
    return right, refused


def test_what_is_damaged_on_one_node_is_fetched_again(cluster):
    """The node serves what it can, never what is wrong, and soon everything again."""
    fill(cluster.nodes[0].client())
    damaged = cluster.nodes[1]
    wait_until(
        lambda: all(map(is_cold, cluster.nodes)), "most to be on disk only", 60)
    # Not the header, which is read only at the start.
    files = sorted(damaged.directory.glob("segment-*"))
    for file in files:
        content = bytearray(file.read_bytes())
        if len(content) > 2_000:
            content[len(content) // 3] ^= 0x10
            file.write_bytes(content)
    damaged.restart()
    # Writes go on meanwhile, so that what is copied is behind.
    stop = threading.Event()
    written = 0

    def write():
        nonlocal written
        client = cluster.nodes[0].client()
        while not stop.is_set():
            client.incr(f"meanwhile:{written % 50}")
            written += 1

    writer = threading.Thread(target=write)
    writer.start()
    refused = 0

    def is_whole():
        nonlocal refused
        right, now = read(damaged)
        refused = max(refused, now)
        return right == KEYS

    try:
        wait_until(is_whole, "everything to be served again", 90)
        # Behind the copies, too.
        before = written
        wait_until(lambda: written > before + 200, "writes to go on")
    finally:
        stop.set()
        writer.join()
    assert refused > 0, "nothing was damaged"
    assert "a checkpoint is copied" in damaged.log()
    assert "followed no further" not in damaged.log()
    # Writes go on, and all are the same in the end.
    assert cluster.nodes[2].client().incr("behind") == 1
    wait_until(lambda: damaged.client().get("behind") == b"1", "the node to follow")
    info = damaged.client().info("cluster")
    assert info["cluster_logs_served"] == info["cluster_logs"]
    meanwhile = damaged.client().mget([f"meanwhile:{number}" for number in range(50)])
    assert sum(map(int, meanwhile)) == written
    cluster.verify()
