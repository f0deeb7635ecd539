"""Files of a cluster's node that are damaged on its disk."""

import hashlib
import re

import pytest
import redis

from background import Background
from servers import ClusterUnderTest, wait_until

KEYS = 30_000


@pytest.fixture
def cluster(tmp_path):
    # Most is on disk only, and copying takes a second or two.
    cluster = ClusterUnderTest(
        tmp_path,
        flags=("--threads", "2", "--memory-limit", "1mb", "--checkpoint-seconds", "2",
               "--copy-rate", "1mb"))
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
    for changed in Writes.keys:
        pipeline.set(changed, 0)
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


class Writes(Background):
    """Increments that go on until they are stopped."""

    # Among the others, so that some of them are where the damage is.
    keys = [key(KEYS + number) for number in range(50)]

    def __init__(self, node):
        super().__init__()
        self.count = 0
        self.client = node.client()

    def run(self, _):
        while not self.isOver.is_set():
            self.client.incr(self.keys[self.count % len(self.keys)])
            self.count += 1


def damage_one(cluster):
    """Stops a node of a cluster that has everything on disk, and changes a byte in each of its files."""
    fill(cluster.nodes[0].client())
    wait_until(
        lambda: all(map(is_cold, cluster.nodes)), "most to be on disk only", 60)
    damaged = cluster.nodes[1]
    assert damaged.stop() == 0
    # Not in the header, which is read only at the start.
    for file in damaged.directory.glob("segment-*"):
        content = bytearray(file.read_bytes())
        if len(content) > 2_000:
            content[len(content) // 3] ^= 0x10
            file.write_bytes(content)
    return damaged


def halts(node):
    """The logs that a node has stopped to follow and has not copied since."""
    halted = set()
    for line in node.log().splitlines():
        log = re.search(r" log=(\d+)", line)
        if "followed no further" in line:
            halted.add(log[1])
        elif "the checkpoint has been copied" in line:
            halted.discard(log[1])
    return halted


def check_all_is_there(cluster, damaged, writes):
    """The node has everything, follows its logs, and agrees with the others."""
    assert cluster.nodes[2].client().incr("behind") == 1
    wait_until(lambda: damaged.client().get("behind") == b"1", "the node to follow")
    info = damaged.client().info("cluster")
    assert info["cluster_logs_served"] == info["cluster_logs"]
    assert sum(map(int, damaged.client().mget(writes.keys))) == writes.count
    assert "a checkpoint is copied" in damaged.log()
    assert not halts(damaged)
    cluster.verify()


def test_what_is_damaged_on_one_node_is_fetched_again(cluster):
    """The node serves what it can, never what is wrong, and soon everything again."""
    damaged = damage_one(cluster)
    damaged.start().wait_until_ready()
    refusals = []

    def is_whole():
        right, refused = read(damaged)
        refusals.append(refused)
        return right == KEYS

    wait_until(lambda: not is_whole() and refusals[-1] > 0, "something to be refused")
    # What is copied is then behind.
    with Writes(cluster.nodes[0]) as writes:
        wait_until(is_whole, "everything to be served again", 90)
        before = writes.count
        wait_until(lambda: writes.count > before + 200, "writes to go on")
    check_all_is_there(cluster, damaged, writes)


def test_messages_that_change_what_is_damaged(cluster):
    """The node cannot apply them, leaves answers to the others, and is soon whole again."""
    damaged = damage_one(cluster)
    with Writes(cluster.nodes[0]) as writes:
        wait_until(lambda: writes.count > len(writes.keys), "each key to be written")
        damaged.start().wait_until_ready()
        wait_until(lambda: halts(damaged), "a message that cannot be applied")
        wait_until(lambda: read(damaged)[0] == KEYS, "everything to be served", 90)
        wait_until(lambda: not halts(damaged), "all logs to be followed again", 90)
    check_all_is_there(cluster, damaged, writes)
