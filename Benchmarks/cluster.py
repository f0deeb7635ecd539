#!/usr/bin/env python3
"""Three nodes on three NATS servers that sync every message, beside NATS's own counters on the same kind of
servers, and beside a Redis Cluster of three masters with a replica each, `appendfsync always` and `WAIT 1`.

Everything runs on this machine with the load generator, one contender at a time, in turn, repeatedly; medians are
quoted, and the processor time of all of a contender's servers beside them. `WAIT 1` promises less: a replica has
each increment in memory, and a failover may still lose it.
"""
import argparse
import collections
import itertools
import json
import os
import random
import select
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "Tests/ClientTests"))

from redis.crc import key_slot

KEYS = 1_000_000
TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(processes):
    total = 0
    for process in processes:
        fields = open(f"/proc/{process.pid}/stat").read().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


# Load

class Connection:
    """A connection that sends one request at a time, a pipeline, and counts what marks the replies."""

    def __init__(self, port, requests, replies, mark=b"\n", greeting=None):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.requests, self.replies, self.mark = requests, replies, mark
        if greeting is not None:
            greeting(self.socket)
        self.missing = 0
        self.rest = b""
        self.due = 0

    def send(self):
        self.missing = self.replies
        self.socket.sendall(next(self.requests))

    def receive(self):
        """Whether the request has all its replies now."""
        received = self.socket.recv(1 << 18)
        if not received:
            raise SystemExit("a server has closed a connection")
        if b"-ERR" in received or b"-MOVED" in received or b'"error"' in received:
            raise SystemExit(f"a server refuses: {received[:200]!r}")
        if len(self.mark) == 1:
            self.missing -= received.count(self.mark)
        else:
            # A mark may be torn.
            received = self.rest + received
            self.missing -= received.count(self.mark)
            self.rest = received[-(len(self.mark) - 1):]
        return self.missing == 0


def run(connections, seconds, rate=None):
    """Sends requests for so long, at most so many a second; returns how many were replied to in how many seconds, and
    how long each took."""
    begun = time.perf_counter()
    latencies = []
    by_number = {each.socket.fileno(): each for each in connections}
    with select.epoll() as ready:
        for each in connections:
            ready.register(each.socket, select.EPOLLIN)
        waiting = collections.deque()
        interval = 0 if rate is None else len(connections) / rate
        for index, each in enumerate(connections):
            each.due = begun + interval * index / len(connections)
            waiting.append(each)
        in_flight = 0
        while True:
            now = time.perf_counter()
            while waiting and waiting[0].due <= now and now - begun < seconds:
                each = waiting.popleft()
                if rate is None:
                    each.due = now
                each.send()
                in_flight += 1
            if now - begun >= seconds and in_flight == 0:
                break
            timeout = max(0, waiting[0].due - now) if waiting and now - begun < seconds else 1
            for number, _ in ready.poll(timeout):
                each = by_number[number]
                if each.receive():
                    now = time.perf_counter()
                    latencies.append(now - each.due)
                    in_flight -= 1
                    # What was due meanwhile is late, not left out.
                    each.due += interval
                    waiting.append(each)
    return len(latencies), time.perf_counter() - begun, latencies


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * share))] * 1000 if values else 0


# Keys

def uniform(draw):
    return lambda: draw.randrange(KEYS)


def hot(_):
    return lambda: 0


def name(number):
    return b"key:%012d" % number


def increment(key):
    return b"*2\r\n$4\r\nINCR\r\n$%d\r\n%s\r\n" % (len(key), key)


def pipelines(make_key, depth, count, tail=b"", master=None):
    """Encoded requests of `depth` increments each, of keys of one master's if there are several."""
    found = []
    for _ in range(count):
        keys = []
        while len(keys) < depth:
            key = name(make_key())
            if master is None or master(key):
                keys.append(key)
        found.append(b"".join(map(increment, keys)) + tail)
    return found


def shuffled(some, seed):
    some = list(some)
    random.Random(seed).shuffle(some)
    return itertools.cycle(some)


# Contenders

class Tally:
    """Three nodes, every one of which has every log."""

    def __init__(self, directory, logs, count=3):
        from servers import ClusterUnderTest
        self.cluster = ClusterUnderTest(
            Path(directory), logs=logs, count=count, copies=count, flags=("--threads", "1"))
        for broker in self.cluster.brokers:
            configuration = broker.directory / "server.conf"
            configuration.write_text(
                configuration.read_text() + f"http: 127.0.0.1:{broker.port + 1}\n")
        self.cluster.start()
        self.processes = [each.process for each in self.cluster.nodes + self.cluster.brokers]
        self.node_processes = [each.process for each in self.cluster.nodes]

    def connections(self, make, depth, per_node, requests=2000):
        some = pipelines(make(random.Random(1)), depth, requests)
        return [
            Connection(node.port, shuffled(some, 10 * number + index), depth)
            for index, node in enumerate(self.cluster.nodes) for number in range(per_node)]

    def stored_bytes(self):
        """Bytes of the logs' messages, and how many those are; as the streams' leaders tell."""
        seen = {}
        for broker in self.cluster.brokers:
            address = f"http://127.0.0.1:{broker.port + 1}/jsz?streams=1&accounts=1"
            with urllib.request.urlopen(address) as answer:
                report = json.load(answer)
            for account in report.get("account_details", []):
                for stream in account.get("stream_detail", []):
                    state = stream["state"]
                    best = seen.get(stream["name"], (0, 0))
                    seen[stream["name"]] = max(best, (state["bytes"], state["messages"]))
        logs = [state for stream, state in seen.items() if not stream.startswith("KV")]
        return sum(each[0] for each in logs), sum(each[1] for each in logs)

    def stop(self):
        self.cluster.stop()


class NATSCounters:
    """A stream of counters on three servers; `batch` messages are published as one if it is not 1."""

    def __init__(self, directory, batch=1):
        from servers import ClusterUnderTest
        self.batch = batch
        self.cluster = ClusterUnderTest(Path(directory), count=0)
        for broker in self.cluster.brokers:
            broker.start()
        for broker in self.cluster.brokers:
            broker.wait_until_ready()
        self.processes = [each.process for each in self.cluster.brokers]
        self.node_processes = self.processes
        configuration = json.dumps({
            "name": "COUNTERS", "subjects": ["c.>"], "num_replicas": 3, "storage": "file",
            "allow_msg_counter": True, "allow_direct": True, "allow_atomic": batch > 1,
            "retention": "limits", "discard": "old"}).encode()
        for _ in range(300):
            if self._request(b"$JS.API.STREAM.CREATE.COUNTERS", configuration):
                break
            time.sleep(0.1)
        else:
            raise SystemExit("the stream of counters cannot be made")

    def _request(self, subject, payload):
        with socket.create_connection(("127.0.0.1", self.cluster.brokers[0].port)) as connection:
            connection.settimeout(2)
            connection.sendall(
                b'CONNECT {"verbose":false,"headers":true}\r\nSUB _I.1 1\r\n'
                b"PUB %s _I.1 %d\r\n%s\r\n" % (subject, len(payload), payload))
            received = b""
            try:
                while b"type" not in received:
                    received += connection.recv(1 << 16)
            except TimeoutError:
                return False
            if b'"error"' in received and b"already in use" not in received:
                print(received, file=sys.stderr)
                return False
            return True

    def connections(self, make, depth, per_node, requests=2000):
        made = []
        for index, broker in enumerate(self.cluster.brokers):
            for number in range(per_node):
                inbox = b"_I.%d.%d" % (index, number)
                key = make(random.Random(10 * number + index))
                some = [self._encode(key, depth, inbox, serial) for serial in range(requests // per_node + 1)]
                replies = depth // self.batch

                def greet(connection, inbox=inbox):
                    connection.sendall(
                        b'CONNECT {"verbose":false,"headers":true}\r\nSUB %s.* 1\r\nPING\r\n' % inbox)
                    received = b""
                    while b"PONG" not in received:
                        received += connection.recv(1 << 16)

                made.append(Connection(
                    broker.port, itertools.cycle(some), replies, mark=b'{"stream"', greeting=greet))
        return made

    def _encode(self, key, depth, inbox, serial):
        out = []
        for number in range(depth):
            headers = b"NATS/1.0\r\nNats-Incr: +1\r\n"
            if self.batch > 1:
                place = number % self.batch
                batch = b"%s-%d-%d" % (inbox, serial, number // self.batch)
                headers += b"Nats-Batch-Id: %s\r\nNats-Batch-Sequence: %d\r\n" % (batch, place + 1)
                if place + 1 == self.batch:
                    headers += b"Nats-Batch-Commit: 1\r\n"
                reply = b" %s.%d" % (inbox, number) if place + 1 == self.batch else b""
            else:
                reply = b" %s.%d" % (inbox, number)
            headers += b"\r\n"
            out.append(b"HPUB c.%s%s %d %d\r\n%s\r\n" % (
                name(key()).replace(b":", b"-"), reply, len(headers), len(headers), headers))
        return b"".join(out)

    def stop(self):
        self.cluster.stop()


class RedisCluster:
    """Three masters with a replica each; every pipeline ends with WAIT 1."""

    def __init__(self, directory):
        from servers import free_port
        self.ports = [free_port() for _ in range(6)]
        self.processes = []
        for port in self.ports:
            place = Path(directory) / str(port)
            place.mkdir()
            self.processes.append(subprocess.Popen(
                ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", str(place),
                 "--cluster-enabled", "yes", "--cluster-port", str(free_port()), "--appendonly",
                 "yes", "--appendfsync", "always", "--save", ""],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        self.node_processes = self.processes
        addresses = [f"127.0.0.1:{port}" for port in self.ports]
        for _ in range(50):
            made = subprocess.run(
                ["redis-cli", "--cluster", "create", *addresses, "--cluster-replicas", "1",
                 "--cluster-yes"], capture_output=True, text=True)
            if made.returncode == 0:
                break
            time.sleep(0.2)
        else:
            raise SystemExit(made.stdout + made.stderr)
        time.sleep(3)
        listed = subprocess.run(
            ["redis-cli", "-p", str(self.ports[0]), "cluster", "nodes"], capture_output=True,
            text=True, check=True).stdout
        self.masters = []
        for line in listed.splitlines():
            fields = line.split()
            # One that has no slots has not been told yet that it is a replica.
            if "master" in fields[2] and len(fields) > 8:
                begin, end = map(int, fields[8].split("-"))
                self.masters.append((int(fields[1].split(":")[1].split("@")[0]), begin, end))

    def connections(self, make, depth, per_node, requests=2000):
        made = []
        wait = b"*3\r\n$4\r\nWAIT\r\n$1\r\n1\r\n$1\r\n0\r\n"
        for index, (port, begin, end) in enumerate(self.masters):
            key = make(random.Random(index))
            if make is hot and not begin <= key_slot(name(0)) <= end:
                continue
            some = pipelines(
                key, depth, requests // 3, wait, lambda key: begin <= key_slot(key) <= end)
            made += [
                Connection(port, shuffled(some, number), depth + 1) for number in range(per_node)]
        return made

    def stop(self):
        for process in self.processes:
            process.send_signal(signal.SIGKILL)
        for process in self.processes:
            process.wait()


def measure(contender, make, depth, per_node, seconds):
    connections = contender.connections(make, depth, per_node)
    run(connections, seconds / 4)
    before = cpu_seconds(contender.processes)
    count, took, _ = run(connections, seconds)
    increments = count * depth
    cpu = (cpu_seconds(contender.processes) - before) / increments * 1e6
    rate = increments / took
    half, half_took, latencies = run(connections, seconds, rate / depth / 2)
    for each in connections:
        each.socket.close()
    return {
        "rate": rate, "cpu": cpu, "half": half * depth / half_took,
        "p50": percentile(latencies, 0.5), "p99": percentile(latencies, 0.99)}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tally", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    os.environ["TALLY_BINARY"] = str(Path(options.tally).resolve())
    contenders = {
        "tally, 16 logs": lambda directory: Tally(directory, 16),
        "tally, 1 log": lambda directory: Tally(directory, 1),
        "tally, 64 logs": lambda directory: Tally(directory, 64),
        "NATS counters": lambda directory: NATSCounters(directory),
        "NATS counters, batches of 100": lambda directory: NATSCounters(directory, 100),
        "Redis Cluster, WAIT 1": lambda directory: RedisCluster(directory),
    }
    loads = {"uniform": uniform, "one hot key": hot}
    results = collections.defaultdict(list)
    for _ in range(options.rounds):
        for title, make in contenders.items():
            if options.only and options.only not in title:
                continue
            with tempfile.TemporaryDirectory() as directory:
                contender = make(directory)
                try:
                    for text, keys in loads.items():
                        depth, per_node = 100, 16
                        stored = getattr(contender, "stored_bytes", lambda: (0, 0))()
                        result = measure(contender, keys, depth, per_node, options.seconds)
                        results[title, text].append(result)
                        after = getattr(contender, "stored_bytes", lambda: (0, 0))()
                        total = (result["rate"] * 1.25 + result["half"]) * options.seconds
                        print(
                            f"{title}, {text}: {result['rate']:,.0f}/s, {result['cpu']:.2f} us CPU, "
                            f"half load p50 {result['p50']:.1f} ms p99 {result['p99']:.1f} ms, "
                            f"{(after[0] - stored[0]) / total:.1f} B/incr in the log, "
                            f"{after[1] - stored[1]} messages", flush=True)
                finally:
                    contender.stop()
    print()
    for (title, text), some in results.items():
        rate = statistics.median(each["rate"] for each in some)
        print(f"{title}, {text}: {rate:,.0f}/s")


if __name__ == "__main__":
    main()
