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
    """Nodes that have every log, or so many copies of each."""

    def __init__(self, directory, logs, count=3, copies=None, flags=()):
        from servers import ClusterUnderTest
        self.cluster = ClusterUnderTest(
            Path(directory), logs=logs, count=count, copies=copies or count,
            flags=("--threads", "1", *flags))
        for broker in self.cluster.brokers:
            configuration = broker.directory / "server.conf"
            configuration.write_text(
                configuration.read_text() + f"http: 127.0.0.1:{broker.port + 1}\n")
        self.cluster.start()
        self.processes = [each.process for each in self.cluster.nodes + self.cluster.brokers]
        self.node_processes = [each.process for each in self.cluster.nodes]

    def connections(self, make, depth, per_node, requests=2000):
        made = []
        for index, node in enumerate(self.cluster.nodes):
            key, master = make(random.Random(index)), self._master(node)
            if make is hot and master and not master(name(0)):
                continue
            some = pipelines(key, depth, requests // len(self.cluster.nodes), master=master)
            made += [
                Connection(node.port, shuffled(some, number), depth) for number in range(per_node)]
        return made

    def _master(self, node):
        """Whether clients send a key to this node; None if all nodes have all keys."""
        if self.cluster.copies >= len(self.cluster.nodes):
            return None
        ranges = [
            slots for slots, ports in self.cluster.slots(self.cluster.nodes[0]).items()
            if ports[0] == node.port]
        return lambda key: any(begin <= key_slot(key) <= end for begin, end in ranges)

    def client_map(self):
        """Waits until clients can be told which node serves what."""
        self.cluster.wait_until_placed()

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
    nodes_before = cpu_seconds(contender.node_processes)
    stored = contender.stored_bytes() if hasattr(contender, "stored_bytes") else None
    count, took, _ = run(connections, seconds)
    increments = count * depth
    nodes = (cpu_seconds(contender.node_processes) - nodes_before) / increments * 1e6
    cpu = (cpu_seconds(contender.processes) - before) / increments * 1e6
    after = contender.stored_bytes() if stored else None
    rate = increments / took
    half, half_took, latencies = run(connections, seconds, rate / depth / 2)
    for each in connections:
        each.socket.close()
    return {
        "rate": rate, "cpu": cpu, "nodes": nodes, "half": half * depth / half_took,
        "p50": percentile(latencies, 0.5), "p99": percentile(latencies, 0.99),
        "bytes": (after[0] - stored[0]) / increments if stored else None,
        "per message": increments / max(1, after[1] - stored[1]) if stored else None}


class Quota:
    """Processes that get no more than a share of one core each."""

    ROOT = Path("/sys/fs/cgroup")

    def __init__(self, processes, share):
        self.groups = []
        is_old = (self.ROOT / "cpu").is_dir()
        for process in processes:
            group = self.ROOT / ("cpu" if is_old else "") / f"tally-bench-{process.pid}"
            group.mkdir()
            self.groups.append(group)
            if is_old:
                (group / "cpu.cfs_period_us").write_text("20000")
                (group / "cpu.cfs_quota_us").write_text(str(int(20000 * share)))
            else:
                (group / "cpu.max").write_text(f"{int(20000 * share)} 20000")
            (group / "cgroup.procs").write_text(str(process.pid))

    def remove(self):
        for group in self.groups:
            group.rmdir()


def scaling(seconds, share, copies):
    """Increments a second of one node and of three, each with so much of a core."""
    rates = []
    for count in (1, 3):
        with tempfile.TemporaryDirectory() as directory:
            contender = Tally(directory, 4, count, min(copies, count))
            quota = Quota(contender.node_processes, share)
            try:
                contender.client_map()
                connections = contender.connections(uniform, 100, 96)
                run(connections, seconds / 4)
                number, took, _ = run(connections, seconds)
                rates.append(number * 100 / took)
            finally:
                # It must go even if a server has not ended well.
                try:
                    contender.stop()
                finally:
                    quota.remove()
    return rates


def encode(*words):
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


def fill(nodes):
    """Gives every key a value, and waits until all nodes have all of them."""
    with socket.create_connection(("127.0.0.1", nodes[0].port)) as connection:
        for first in range(0, KEYS, 500):
            words = [b"MSET"]
            for number in range(first, first + 500):
                words += [name(number), b"1"]
            connection.sendall(encode(*words))
            received = connection.recv(1 << 10)
            if not received.startswith(b"+OK"):
                raise SystemExit(f"a server refuses: {received!r}")
    while any(node.client().dbsize() < KEYS for node in nodes):
        time.sleep(0.1)


READ_BATCH = 20


def reading(seconds, share):
    """Keys read a second by 1, 2 and 3 nodes that have everything, each with so much of a core: for twenty reads of 20 keys
    there is one of as many increments."""
    rates = []
    for count in (1, 2, 3):
        with tempfile.TemporaryDirectory() as directory:
            contender = Tally(directory, 4, count)
            quota = None
            try:
                fill(contender.cluster.nodes)
                quota = Quota(contender.node_processes, share)
                draw = random.Random(1)
                requests = []
                for _ in range(200):
                    some = [
                        encode(b"MGET", *(name(draw.randrange(KEYS)) for _ in range(READ_BATCH)))
                        for _ in range(20)]
                    some += [increment(name(draw.randrange(KEYS))) for _ in range(READ_BATCH)]
                    requests.append(b"".join(some) + encode(b"PING"))
                connections = [
                    Connection(node.port, shuffled(requests, number), 1, mark=b"+PONG")
                    for node in contender.cluster.nodes for number in range(16)]
                run(connections, seconds / 4)
                number, took, _ = run(connections, seconds)
                rates.append(number * 20 * READ_BATCH / took)
            finally:
                contender.stop()
                if quota:
                    quota.remove()
    return rates


def beside_cold_keys(seconds, rates=(0, 2_000, 10_000)):
    """Latencies of increments of hot keys, alone and while so many cold ones are incremented a second, most of which have
    to be read from the disk by every node first."""
    found = []
    with tempfile.TemporaryDirectory() as directory:
        contender = Tally(directory, 4, flags=("--memory-limit", "1mb", "--checkpoint-seconds", "5"))
        try:
            nodes = contender.cluster.nodes
            fill(nodes)
            def are_cold():
                infos = [node.client().info("residency") for node in nodes]
                return all(info["cold_segments"] > 4 * info["hot_segments"] for info in infos)
            while not are_cold():
                time.sleep(0.2)
            # Such frequent checkpoints were a means to this end.
            for node in nodes:
                node.command[node.command.index("--checkpoint-seconds") + 1] = "300"
                node.restart()
            contender.cluster.heal()
            while not are_cold():
                time.sleep(0.2)
            for rate in rates:
                child = os.fork() if rate else None
                if child == 0:
                    status = 1
                    try:
                        load = contender.connections(uniform, 20, 8)
                        run(load, seconds + 2, rate / 20)
                        status = 0
                    finally:
                        os._exit(status)
                time.sleep(1)
                some = [
                    Connection(node.port, itertools.cycle([increment(b"hot:%d" % number)]), 1)
                    for node in nodes for number in range(4)]
                _, _, latencies = run(some, seconds, 600)
                for each in some:
                    each.socket.close()
                found.append((percentile(latencies, 0.5), percentile(latencies, 0.99)))
                if child:
                    _, status = os.waitpid(child, 0)
                    if status:
                        raise SystemExit("the load of cold keys has failed")
        finally:
            contender.stop()
    return dict(zip(rates, found))


def contenders():
    return {
        "Tally, 1 log": lambda directory: Tally(directory, 1),
        "Tally, 4 logs": lambda directory: Tally(directory, 4),
        "Tally, 4 logs, 2 copies": lambda directory: Tally(directory, 4, copies=2),
        "Tally, 16 logs": lambda directory: Tally(directory, 16),
        "Tally, 64 logs": lambda directory: Tally(directory, 64),
        "NATS counters": lambda directory: NATSCounters(directory),
        "NATS counters, batches of 100": lambda directory: NATSCounters(directory, 100),
        "Redis Cluster, WAIT 1": lambda directory: RedisCluster(directory),
    }


LOADS = {"uniform": uniform, "one hot key": hot}
# Connections to each server, and requests in a pipeline.
SETTINGS = [(16, 100), (128, 200), (256, 400)]
# At the last of them only those that are compared with each other, not numbers of logs.
COMPARED = ("Tally, 1 log", "Tally, 4 logs, 2 copies", "Redis Cluster, WAIT 1")


def is_asked(title, setting):
    # What more is asked of NATS's counters at a time waits there, and servers take the connections for dead.
    if "NATS" in title:
        return setting == SETTINGS[0]
    return setting != SETTINGS[-1] or title in COMPARED


def row(cells):
    return "| " + " | ".join(cells) + " |"


def table(results, per_node, depth, text):
    lines = [
        f"## {text.capitalize()}, {per_node} connections a server, pipelines of {depth}", "",
        row(["contender", "increments/s", "Tally with 1 log is so many times that", "CPU us", "of it nodes", "half load p50 ms",
             "p99 ms", "bytes in the log", "increments a message"]),
        row(["---"] + ["---:"] * 8)]
    best = median(results["Tally, 1 log", text, per_node, depth], "rate")
    for (title, load, number, length), some in results.items():
        if (load, number, length) != (text, per_node, depth):
            continue
        rate = median(some, "rate")
        is_tally = title.startswith("Tally")
        lines.append(row([
            title, f"{rate:,.0f}", f"{best / rate:.2f}" if rate and best else "-",
            f"{median(some, 'cpu'):.2f}", f"{median(some, 'nodes'):.2f}" if is_tally else "-",
            f"{median(some, 'p50'):.1f}", f"{median(some, 'p99'):.1f}",
            f"{median(some, 'bytes'):.1f}" if is_tally else "-",
            f"{median(some, 'per message'):,.0f}" if is_tally else "-"]))
    return lines + [""]


def median(some, field):
    values = [each[field] for each in some if each[field] is not None]
    return statistics.median(values) if values else 0


def report(results, quotas, readings, beside, options):
    import platform
    lines = [
        "# A cluster, measured", "",
        f"Made by `make bench-cluster`, rounds: {options.rounds}, {options.seconds:g} s each, contenders in turn; "
        "medians. See `Benchmarks/cluster.py`.", "",
        f"* Machine: {os.cpu_count()} cores, {platform.system()} {platform.release()}; nodes, NATS servers and load share it.",
        "* Three nodes with one event loop each on three NATS servers that sync every message; every node has every log, "
        "but where two copies are named: then clients send each key to its primary, as those of a Redis Cluster do.",
        "* NATS's counters: a stream of three replicas on the same kind of servers, published asynchronously. Where "
        "more connections ask, what they ask waits there for so long that the servers take them for dead: not measured.",
        "* Redis Cluster: three masters with a replica each, `appendfsync always`, `WAIT 1` behind every pipeline. It promises "
        "less: the replica has an increment in memory, and a failover may lose it.",
        "* 1,000,000 keys of 16 bytes. CPU is that of all servers for one increment. Half load: requests at even times, at half of "
        "the rate, latency of a pipeline from when it was due.", ""]
    for per_node, depth in SETTINGS:
        for text in LOADS:
            lines += table(results, per_node, depth, text)
    if quotas:
        lines += [
            "## More nodes", "",
            f"Nodes that get {options.share:.0%} of a core each, 4 logs, 32 connections a node, pipelines of 100, uniform keys.", "",
            row(["copies", "one node", "three nodes", "ratio"]), row(["---:"] * 4)]
        for copies, rates in quotas.items():
            one, three = (statistics.median(each) for each in zip(*rates))
            lines.append(row([str(copies), f"{one:,.0f}", f"{three:,.0f}", f"{three / one:.2f}"]))
        lines.append("")
    if readings:
        medians = [statistics.median(each) for each in zip(*readings)]
        lines += [
            "## More replicas to read from", "",
            f"Nodes that have everything and get {options.share:.0%} of a core each, 16 connections a node: twenty reads of 20 "
            "keys, then 20 increments. NATS servers and load have the rest of the machine.", "",
            row(["replicas", "keys read/s", "of one"]), row(["---:"] * 3)]
        for count, rate in enumerate(medians, 1):
            lines.append(row([str(count), f"{rate:,.0f}", f"{rate / medians[0]:.2f}"]))
        lines.append("")
    if beside:
        lines += [
            "## Hot keys beside cold ones", "",
            f"`--memory-limit 1mb`, 4 logs: of {KEYS:,} keys nearly all are on disk only. 600 increments a second of hot keys, one at a "
            "time on each of 12 connections, while others increment cold keys in pipelines of 20.", "",
            row(["cold increments/s", "hot p50 ms", "hot p99 ms"]), row(["---:"] * 3)]
        for rate in beside[0]:
            p50, p99 = (statistics.median(each[rate][place] for each in beside) for place in (0, 1))
            lines.append(row([f"{rate:,}", f"{p50:.1f}", f"{p99:.1f}"]))
        lines.append("")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tally", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--only", default="", help="contenders whose names have this in them")
    parser.add_argument("--share", type=float, default=0.2, help="of a core, for the comparison of one node and three")
    parser.add_argument("--write", help="a page to write")
    options = parser.parse_args()
    os.environ["TALLY_BINARY"] = str(Path(options.tally).resolve())
    results = collections.defaultdict(list)
    quotas = collections.defaultdict(list)
    readings, beside = [], []
    for _ in range(options.rounds):
        for title, make in contenders().items():
            if options.only and options.only not in title:
                continue
            for (per_node, depth), (text, keys) in itertools.product(SETTINGS, LOADS.items()):
                if not is_asked(title, (per_node, depth)):
                    continue
                with tempfile.TemporaryDirectory() as directory:
                    contender = make(directory)
                    try:
                        if hasattr(contender, "client_map"):
                            contender.client_map()
                        result = measure(contender, keys, depth, per_node, options.seconds)
                    finally:
                        contender.stop()
                results[title, text, per_node, depth].append(result)
                print(f"{title}, {text}, {per_node} x {depth}: " + ", ".join(
                    f"{name} {value:,.2f}" for name, value in result.items() if value is not None), flush=True)
        if not options.only:
            for copies in (1, 3):
                quotas[copies].append(scaling(options.seconds, options.share, copies))
                print(f"{copies} copies, one node and three: {quotas[copies][-1]}", flush=True)
            readings.append(reading(options.seconds, options.share))
            print(f"keys read by one, two and three: {readings[-1]}", flush=True)
            beside.append(beside_cold_keys(options.seconds))
            print(f"hot keys beside cold ones, p50 and p99: {beside[-1]}", flush=True)
    if options.write:
        Path(options.write).write_text(report(results, quotas, readings, beside, options))


if __name__ == "__main__":
    main()
