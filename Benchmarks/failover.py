#!/usr/bin/env python3
"""What clients notice when a node or a NATS server of a cluster is killed: three of each on this machine.

Probes send INCR at a steady rate to every node, each key and each latency is remembered. A client of Redis Cluster
goes on by itself when its node is gone; how long it takes until it is served again is measured, too.
"""
import argparse
import os
import signal
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "Tests/ClientTests"))

import redis
from redis.cluster import RedisCluster

RATE = 200


class Probe:
    """INCR at a steady rate to one node; remembers when each was sent, and how long it took."""

    def __init__(self, node, number):
        self.node, self.number = node, number
        self.sent = []
        self.isOver = threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        client, number, begun = None, 0, time.monotonic()
        while not self.isOver.is_set():
            number += 1
            due = begun + number / RATE
            time.sleep(max(0, due - time.monotonic()))
            now = time.monotonic()
            try:
                client = client or redis.Redis(
                    port=self.node.port, socket_timeout=30, socket_connect_timeout=0.5)
                client.incr("hot" if number % 2 else f"cold:{number * 7919 % 100003}")
                self.sent.append((now, time.monotonic() - now))
            except redis.RedisError:
                client = None

    def finish(self):
        self.isOver.set()
        self.thread.join(60)

    def latencies(self, begin, end):
        return sorted(took * 1000 for at, took in self.sent if begin <= at < end)


class Follower:
    """A client of Redis Cluster that increments keys of one node; remembers the longest time without a reply."""

    def __init__(self, cluster, victim):
        self.client = RedisCluster(
            host="127.0.0.1", port=cluster.nodes[0].port, socket_timeout=5,
            socket_connect_timeout=0.5)
        self.keys = [
            key for key in (f"follow:{number}" for number in range(1000))
            if self.client.get_node_from_key(key).port == victim.port][:50]
        self.replied = []
        self.isOver = threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        number = 0
        while not self.isOver.is_set():
            number += 1
            try:
                self.client.incr(self.keys[number % len(self.keys)])
                self.replied.append(time.monotonic())
            except Exception:
                time.sleep(0.01)
            time.sleep(0.005)

    def finish(self):
        self.isOver.set()
        self.thread.join(60)

    def longest_gap(self, begin, end):
        times = [begin] + [at for at in self.replied if begin <= at < end] + [end]
        return max(after - before for before, after in zip(times, times[1:]))


def percentile(values, share):
    return values[min(len(values) - 1, int(len(values) * share))] if values else float("nan")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tally", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    os.environ["TALLY_BINARY"] = os.path.abspath(options.tally)
    from servers import ClusterUnderTest
    with tempfile.TemporaryDirectory(prefix="tally-failover-") as directory:
        cluster = ClusterUnderTest(Path(directory), logs=8)
        cluster.start()
        cluster.wait_until_placed()
        rows = {"node": [], "NATS server": []}
        try:
            for number in range(options.rounds):
                for what, victims in (("node", cluster.nodes), ("NATS server", cluster.brokers)):
                    rows[what].append(one_round(cluster, what, victims[number % 3]))
        finally:
            cluster.stop()
        print("\n| killed | p99 before, ms | p99 in the 5 s after, others' clients, ms | longest, ms | "
              "its clients served again after, s |")
        print("| --- | ---: | ---: | ---: | ---: |")
        for what, found in rows.items():
            before, after, longest, gap = (
                statistics.median(column) for column in zip(*found))
            print(f"| {what} | {before:.1f} | {after:.1f} | {longest:.1f} | {gap:.2f} |")


def one_round(cluster, what, victim):
    living = [node for node in cluster.nodes if node is not victim]
    probes = [Probe(node, number) for number, node in enumerate(living)]
    follower = Follower(cluster, victim if victim in cluster.nodes else cluster.nodes[1])
    time.sleep(4)
    killed = time.monotonic()
    victim.kill()
    time.sleep(12)
    for each in [*probes, follower]:
        each.finish()
    victim.start().wait_until_ready()
    cluster.wait_until_brokers_agree()
    cluster.wait_until_placed()
    before = sorted(value for probe in probes for value in probe.latencies(killed - 3, killed))
    after = sorted(value for probe in probes for value in probe.latencies(killed, killed + 5))
    everything = [value for probe in probes for value in probe.latencies(killed - 0.5, killed + 12)]
    found = (percentile(before, 0.99), percentile(after, 0.99), max(everything),
             follower.longest_gap(killed, killed + 12))
    print(f"{what}: p99 {found[0]:.1f} ms before, {found[1]:.1f} ms in the 5 s after, longest {found[2]:.1f} ms; "
          f"its clients served again after {found[3]:.2f} s", flush=True)
    return found


if __name__ == "__main__":
    main()
