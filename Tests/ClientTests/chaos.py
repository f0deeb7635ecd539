"""A cluster under everything that can happen to it, and load whose every reply is checked.

Nodes and NATS servers are killed, stopped for a while and started again; connections between nodes and NATS servers
lose one direction or both. In the end every counter is what its clients were told, and all replicas are the same.
"""

import argparse
import collections
import random
import select
import signal
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path

import redis

from servers import ClusterUnderTest, free_port


class Link:
    """A TCP proxy in front of one NATS server for one node; can lose what goes one way, or both."""

    def __init__(self, target):
        self.target, self.port = target, free_port()
        self.lost = set()
        self.listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            near, _ = self.listener.accept()
            threading.Thread(target=self.carry, args=(near,), daemon=True).start()

    def carry(self, near):
        try:
            if "up" in self.lost or "down" in self.lost:
                # A connection cannot be made over a link that loses anything.
                time.sleep(2)
                return near.close()
            far = socket.create_connection(("127.0.0.1", self.target), timeout=2)
        except OSError:
            return near.close()
        ways = {near: (far, "up"), far: (near, "down")}
        try:
            while True:
                for source in select.select(list(ways), [], [], 1)[0]:
                    bytes = source.recv(1 << 16)
                    if not bytes:
                        return
                    to, way = ways[source]
                    # What a broken link takes is never seen again; the connection does not know.
                    if way not in self.lost:
                        to.sendall(bytes)
        except OSError:
            return
        finally:
            near.close()
            far.close()


class Load:
    """Clients that increment, some with tokens that they repeat until they have a reply."""

    def __init__(self, cluster, seed, count=9):
        self.cluster = cluster
        self.told = collections.defaultdict(list)
        self.unknown = collections.Counter()
        self.once = collections.Counter()
        self.wrong = []
        self.replies = self.refused = 0
        self.isOver = threading.Event()
        self.lock = threading.Lock()
        self.threads = [
            threading.Thread(
                target=self.run, args=(random.Random(f"{seed}-{number}"), number), daemon=True)
            for number in range(count)]
        for thread in self.threads:
            thread.start()

    def run(self, draw, number):
        client = None
        while not self.isOver.is_set():
            try:
                client = client or draw.choice(self.cluster.nodes).client(
                    socket_timeout=15, socket_connect_timeout=0.5)
                if number % 3 == 0:
                    self.increment_once(draw)
                else:
                    self.increment(client, draw)
            except (redis.ConnectionError, redis.TimeoutError):
                client = None
                time.sleep(0.05)

    def increment(self, client, draw):
        keys = [draw.choice(("hot", f"cold:{draw.randrange(500)}")) for _ in range(20)]
        pipeline = client.pipeline(transaction=False)
        for key in keys:
            pipeline.incr(key)
        try:
            values = pipeline.execute(raise_on_error=False)
        except (redis.ConnectionError, redis.TimeoutError):
            with self.lock:
                self.unknown.update(keys)
            raise
        with self.lock:
            for key, value in zip(keys, values, strict=True):
                if isinstance(value, int):
                    self.told[key].append(value)
                    self.replies += 1
                elif str(value).startswith("UNKNOWN"):
                    self.unknown[key] += 1
                elif str(value).startswith("UNAVAILABLE"):
                    self.refused += 1
                else:
                    self.wrong.append(value)

    def increment_once(self, draw):
        token = (f"{int(time.time() * 1000):012x}7{draw.getrandbits(12):03x}"
                 f"{0x8000 | draw.getrandbits(14):04x}{draw.getrandbits(48):012x}")
        key = f"once:{draw.randrange(20)}"
        first = None
        repeats = 1 + draw.randrange(3)
        while repeats > 0:
            try:
                client = draw.choice(self.cluster.nodes).client(
                    socket_timeout=15, socket_connect_timeout=0.5)
                value = client.execute_command("ONCE", token, "INCR", key)
                client.close()
            except (redis.ConnectionError, redis.TimeoutError):
                time.sleep(0.05)
                continue
            except redis.ResponseError as error:
                if not str(error).startswith(("UNKNOWN", "UNAVAILABLE")):
                    with self.lock:
                        self.wrong.append(error)
                    return
                continue
            repeats -= 1
            if first is None:
                first = value
                with self.lock:
                    self.once[key] += 1
                    self.told[key].append(value)
            elif value != first:
                with self.lock:
                    self.wrong.append(f"{key}: a repetition was told {value}, not {first}")

    def finish(self):
        self.isOver.set()
        for thread in self.threads:
            thread.join(120)

    def check(self, counters):
        assert not self.wrong, self.wrong[:5]
        for key, values in self.told.items():
            assert len(set(values)) == len(values), f"{key}: a value was told twice"
            value = int(counters[key.encode()])
            if key.startswith("once:"):
                assert value == self.once[key], (key, value, self.once[key])
            else:
                assert len(values) <= value <= len(values) + self.unknown[key], key
                assert max(values) <= value, key


class Chaos:
    """Breaks things at random, and mends them, never more NATS servers at a time than one."""

    def __init__(self, cluster, links, draw, say):
        self.cluster, self.links, self.draw, self.say = cluster, links, draw, say
        self.counts = collections.Counter()

    def step(self):
        fault = self.draw.choice(
            ("kill a node", "kill a NATS server", "stop a node", "stop a NATS server",
             "cut a node off", "lose one way", "lose one way"))
        self.counts[fault] += 1
        seconds = self.draw.uniform(0.5, 8)
        getattr(self, fault.replace(" ", "_"))(seconds)

    def kill_a_node(self, seconds):
        self.killed(self.draw.choice(self.cluster.nodes), seconds)

    def kill_a_NATS_server(self, seconds):
        self.killed(self.draw.choice(self.cluster.brokers), seconds)

    def killed(self, server, seconds):
        self.say(f"kill -9 {server.directory.name} for {seconds:.1f} s")
        server.kill()
        time.sleep(seconds)
        server.start().wait_until_ready()

    def stop_a_node(self, seconds):
        self.stopped(self.draw.choice(self.cluster.nodes), seconds)

    def stop_a_NATS_server(self, seconds):
        self.stopped(self.draw.choice(self.cluster.brokers), seconds)

    def stopped(self, server, seconds):
        seconds *= 4 if self.draw.random() < 0.2 else 1
        self.say(f"SIGSTOP {server.directory.name} for {seconds:.1f} s")
        server.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        server.send_signal(signal.SIGCONT)

    def cut_a_node_off(self, seconds):
        number = self.draw.randrange(3)
        self.say(f"node {number} reaches no NATS server for {seconds:.1f} s")
        self.lose(self.links[number], {"up", "down"}, seconds)

    def lose_one_way(self, seconds):
        number, way = self.draw.randrange(3), self.draw.choice(("up", "down"))
        self.say(f"node {number} loses everything {way} for {seconds:.1f} s")
        self.lose(self.links[number], {way}, seconds)

    def lose(self, links, ways, seconds):
        for link in links:
            link.lost = ways
        time.sleep(seconds)
        for link in links:
            link.lost = set()


def run(directory, seconds, seed, say=print):
    """Load and faults for so many seconds; raises if anything was counted wrongly.

    Returns what happened, in words.
    """
    cluster = ClusterUnderTest(
        directory, logs=4, copies=3, flags=("--checkpoint-seconds", "3", "--threads", "2"),
        advertises=False)
    links = [[Link(broker.port) for broker in cluster.brokers] for _ in cluster.nodes]
    for node, own in zip(cluster.nodes, links, strict=True):
        node.set_nats(",".join(f"nats://127.0.0.1:{link.port}" for link in own))
    try:
        cluster.start()
        cluster.wait_until_placed()
        draw = random.Random(seed)
        load = Load(cluster, seed)
        chaos = Chaos(cluster, links, draw, say)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            chaos.step()
            time.sleep(draw.uniform(0, 3))
        load.finish()
        cluster.heal()
        cluster.wait_until_equal()
        load.check(cluster.counters(cluster.nodes[0]))
        cluster.verify()
        return (f"{load.replies} increments acknowledged, {sum(load.once.values())} with tokens, "
                f"{sum(load.unknown.values())} unknown, {load.refused} refused; {dict(chaos.counts)}")
    finally:
        cluster.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 30))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="tally-chaos-") as directory:
        print(run(Path(directory), options.seconds, options.seed,
                  lambda text: print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)))


if __name__ == "__main__":
    sys.exit(main())
