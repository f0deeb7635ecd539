"""Nodes that come and go under load: their share of the logs moves, and nothing is lost or held up for long."""

import json
import random
import re
import threading
import time

import pytest
import redis

from background import Background
from servers import ClusterUnderTest, run_tally, wait_until


@pytest.fixture
def cluster(tmp_path):
    cluster = ClusterUnderTest(
        tmp_path, logs=8, count=3, copies=2, absence_seconds=5,
        flags=("--checkpoint-seconds", "2"))
    cluster.start()
    cluster.wait_until_placed()
    yield cluster
    cluster.stop()


class Load(Background):
    """Plain clients that increment many keys; remembers what they were told, and how long they waited."""

    def __init__(self, cluster, count=6, keys=200):
        super().__init__(count)
        self.keys = [f"load:{number}" for number in range(keys)]
        self.told = {key: [] for key in self.keys}
        self.unknown = {key: 0 for key in self.keys}
        self.longest = 0.0
        self.nodes = [node for node in cluster.nodes]
        self.lock = threading.Lock()

    def run(self, number):
        draw = random.Random(number)
        client = None
        while not self.isOver.is_set():
            node = self.nodes[number % len(self.nodes)]
            some = [draw.choice(self.keys) for _ in range(20)]
            began = time.monotonic()
            try:
                client = client or node.client(socket_timeout=30, socket_connect_timeout=1)
                pipeline = client.pipeline(transaction=False)
                for key in some:
                    pipeline.incr(key)
                values = pipeline.execute(raise_on_error=False)
            except (redis.ConnectionError, redis.TimeoutError):
                with self.lock:
                    for key in some:
                        self.unknown[key] += 1
                client, number = None, number + 1
                continue
            took = time.monotonic() - began
            with self.lock:
                self.longest = max(self.longest, took)
                for key, value in zip(some, values, strict=True):
                    if isinstance(value, int):
                        self.told[key].append(value)
                    elif str(value).startswith("UNKNOWN"):
                        self.unknown[key] += 1
                    elif not str(value).startswith("UNAVAILABLE"):
                        self.failures.append(value)

    def check(self, client):
        for key in self.keys:
            values = self.told[key]
            assert len(set(values)) == len(values), f"{key}: a value was told twice"
            value = int(client.get(key) or 0)
            assert len(values) <= value <= len(values) + self.unknown[key], key


def status(cluster):
    said = run_tally("cluster", "status", "--nats", cluster.addresses, "--json")
    return json.loads(said.stdout)


def is_trimmed(cluster):
    return all(log["firstSequence"] > 1 for log in status(cluster)["logs"])


def held(cluster, node):
    name = node.client().execute_command("CLUSTER", "MYID").decode()
    found = [each for each in status(cluster)["nodes"] if each["node"] == name]
    return found[0]["logs"] if found else {}


def test_a_node_that_joins_copies_its_share_and_one_that_drains_gives_it_back(cluster):
    with Load(cluster) as load:
        wait_until(lambda: is_trimmed(cluster), "the logs to be trimmed", 90)
        joined = cluster.add_node("--checkpoint-seconds", "2")
        wait_until(
            lambda: len(held(cluster, joined)) == 4
            and all(log["phase"] == "serving" for log in held(cluster, joined).values()),
            "the new node to have its share", 90)
        wait_until(
            lambda: all(len(held(cluster, node)) == 4 for node in cluster.nodes),
            "the others to let it go", 60)
        cluster.wait_until_placed()
        assert "a checkpoint is copied" in joined.log()
        load.longest_while_joining, load.longest = load.longest, 0.0
        drained = cluster.nodes[0]
        said = run_tally(
            "cluster", "drain", "--nats", cluster.addresses, f"127.0.0.1:{drained.port}")
        assert said.returncode == 0 and "no logs left" in said.stdout, said.stderr
        assert held(cluster, drained) == {}
        # Who has nothing passes everything on.
        assert drained.client().incr("passed:on") == 1
        time.sleep(1)
        load.finish()
        load.check(drained.client())
        load.check(joined.client())
        assert load.longest_while_joining < 5 and load.longest < 5
        print(f"longest pipelines: {load.longest_while_joining:.2f} s while one joined, "
              f"{load.longest:.2f} s while one drained")
        said = run_tally(
            "cluster", "drain", "--undo", "--nats", cluster.addresses, f"127.0.0.1:{drained.port}")
        assert said.returncode == 0
        wait_until(lambda: len(held(cluster, drained)) == 4, "it to take its share again", 90)


def test_a_node_that_was_away_for_long_copies_again(cluster):
    with Load(cluster) as load:
        victim = cluster.nodes[1]
        wait_until(lambda: is_trimmed(cluster), "the logs to be trimmed", 90)
        victim.kill()
        before = {log["log"]: log["firstSequence"] for log in status(cluster)["logs"]}
        # Its place is given away, and what it has had is trimmed.
        wait_until(
            lambda: all(log["firstSequence"] > before[log["log"]] + 10
                        for log in status(cluster)["logs"]), "more to be trimmed", 120)
        victim.start().wait_until_ready()
        wait_until(lambda: len(held(cluster, victim)) >= 5, "it to take its share again", 90)
        cluster.wait_until_placed()
        load.finish()
        for node in cluster.nodes:
            load.check(node.client())


def test_status_tells_who_has_what(tmp_path):
    # A node that is away keeps its places for longer than this takes.
    cluster = ClusterUnderTest(tmp_path, logs=8, count=3, copies=2)
    cluster.start()
    try:
        cluster.wait_until_placed()
        _check_status(cluster)
    finally:
        cluster.stop()


def _check_status(cluster):
    cluster.nodes[0].client().incr("one")
    said = run_tally("cluster", "status", "--nats", cluster.addresses)
    assert said.returncode == 0, said.stdout + said.stderr
    for node in cluster.nodes:
        assert f"127.0.0.1:{node.port}" in said.stdout
    assert len(re.findall(r"^\d+ +1 +\d+-\d+", said.stdout, re.MULTILINE)) == 8
    cluster.nodes[2].kill()
    wait_until(
        lambda: run_tally("cluster", "status", "--nats", cluster.addresses).returncode == 1,
        "the missing copies to be told")
    # Its place is not waited for: the others copy what it has had.
    said = run_tally("cluster", "rebalance", "--nats", cluster.addresses, timeout=120)
    assert said.returncode == 0 and "its places go to others" in said.stdout, said.stderr
    assert run_tally("cluster", "status", "--nats", cluster.addresses).returncode == 0
    cluster.nodes[2].start().wait_until_ready()
    wait_until(lambda: len(held(cluster, cluster.nodes[2])) >= 5, "it to take its share again", 90)
    said = run_tally("cluster", "drain", "--nats", cluster.addresses, "nobody")
    assert said.returncode != 0 and "no node 'nobody'" in said.stderr
