#!/usr/bin/env python3
"""Tally beside redis-server in one run, with redis-benchmark as the load for both; it has no Zipf
distribution, so that load comes from here, encoded before it is sent.

Both servers run on this machine with the load generator, so two cores are shared by two processes:
beside every ratio of requests per second stands the servers' CPU time per command, and a Tally
without an engine shows what the network and the generator alone allow. All reads hit: every key is
written first. Contenders take turns, repeatedly; medians are quoted.
"""
import argparse
import bisect
import functools
import itertools
import os
import platform
import random
import re
import select
import shutil
import signal
import socket
import statistics
import subprocess
import tempfile
import time

# More than fit into a processor's caches, as counters at scale are, and few enough that they do.
KEYS = 1_000_000
KEYS_FEW = 100_000
CLIENTS = 50
TICKS = os.sysconf("SC_CLK_TCK")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """One server process and what it is compared as."""

    def __init__(self, name, command, directory, port):
        self.name, self.port = name, port
        # Tally takes variables of its name for settings, and refuses those that are none.
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("TALLY_")}
        self.process = subprocess.Popen(
            command, cwd=directory, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env=environment)
        deadline = time.time() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                if time.time() > deadline or self.process.poll() is not None:
                    raise SystemExit(f"{name} does not start")
                time.sleep(0.05)

    def cpu_seconds(self):
        fields = open(f"/proc/{self.process.pid}/stat").read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def resident_bytes(self):
        status = open(f"/proc/{self.process.pid}/status").read()
        return int(re.search(r"VmRSS:\s+(\d+)", status).group(1)) * 1024

    def info(self, field):
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            connection.sendall(b"INFO\r\n")
            reply = b""
            while True:
                reply += connection.recv(1 << 16)
                head, _, rest = reply.partition(b"\r\n")
                if len(rest) >= int(head[1:]) + 2:
                    break
        found = re.search(rf"^{field}:(.*)\r$", reply.decode(), re.M)
        return found.group(1) if found else None

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


def load(server, command, requests, pipeline, keys):
    """Runs redis-benchmark once: requests per second and CPU microseconds per request."""
    before = server.cpu_seconds()
    output = subprocess.run(
        ["redis-benchmark", "-h", "127.0.0.1", "-p", str(server.port), "-c", str(CLIENTS),
         "-n", str(requests), "-r", str(keys), "-P", str(pipeline), "--csv", *command],
        capture_output=True, text=True, timeout=600, check=True).stdout
    rate = float(output.strip().splitlines()[-1].split('","')[1].strip('"'))
    return rate, (server.cpu_seconds() - before) / requests * 1e6


@functools.cache
def zipf_requests(keys, pipeline):
    """Encoded pipelines of INCR; the key of rank n is drawn in proportion to 1 / n."""
    sums = list(itertools.accumulate(1 / rank for rank in range(1, keys + 1)))
    draw = random.Random(1)

    def key():
        # Ranks are spread over the names.
        return bisect.bisect_left(sums, draw.random() * sums[-1]) * 7919 % keys

    return [
        b"".join(b"*2\r\n$4\r\nINCR\r\n$16\r\nkey:%012d\r\n" % key() for _ in range(pipeline))
        for _ in range(320_000 // pipeline)]


def zipf_load(server, requests, pipeline, keys):
    """Like `load`, with keys of a Zipf distribution."""
    pipelines = itertools.cycle(zipf_requests(keys, pipeline))
    left = requests // pipeline
    connections = {}
    before = server.cpu_seconds()
    started = time.perf_counter()
    with select.epoll() as ready:
        for _ in range(CLIENTS):
            connection = socket.create_connection(("127.0.0.1", server.port))
            connections[connection.fileno()] = [connection, 0]
            ready.register(connection, select.EPOLLIN)
        for entry in connections.values():
            entry[0].sendall(next(pipelines))
        sent = CLIENTS
        done = 0
        while done < sent:
            for number, _ in ready.poll():
                entry = connections[number]
                entry[1] += entry[0].recv(1 << 16).count(b"\n")
                if entry[1] == pipeline:
                    entry[1] = 0
                    done += 1
                    if sent < left:
                        entry[0].sendall(next(pipelines))
                        sent += 1
    seconds = time.perf_counter() - started
    for connection, _ in connections.values():
        connection.close()
    commands = sent * pipeline
    return commands / seconds, (server.cpu_seconds() - before) / commands * 1e6


def fill(server, keys):
    """Writes every key that `key:__rand_int__` can name, twelve digits wide."""
    commands = b"".join(
        b"*2\r\n$4\r\nINCR\r\n$16\r\nkey:%012d\r\n" % number for number in range(keys))
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.settimeout(60)
        for start in range(0, len(commands), 38 * 1000):
            connection.sendall(commands[start:start + 38 * 1000])
            wanted = commands[start:start + 38 * 1000].count(b"INCR")
            got = 0
            while got < wanted:
                got += connection.recv(1 << 20).count(b"\n")


class Case:
    """One row of the table."""

    def __init__(self, text, command, pipeline, requests):
        self.text, self.command, self.pipeline = text, command, pipeline
        self.requests = requests


MGET = ["MGET", *["key:__rand_int__"] * 20]
HOT = ["INCR", "hot"]
BESIDE_HOT = "tally, uniform keys"
ZIPF = ["INCR", "keys of a Zipf distribution"]
INCR = ["INCR", "key:__rand_int__"]
GET = ["GET", "key:__rand_int__"]

FULL = [
    Case("INCR, pipeline 1", INCR, 1, 150_000), Case("INCR, pipeline 16", INCR, 16, 1_500_000),
    Case("INCR, pipeline 100", INCR, 100, 4_000_000),
    Case("GET, pipeline 1", GET, 1, 150_000), Case("GET, pipeline 16", GET, 16, 1_500_000),
    Case("GET, pipeline 100", GET, 100, 4_000_000),
    Case("INCR, Zipf, pipeline 1", ZIPF, 1, 100_000),
    Case("INCR, Zipf, pipeline 16", ZIPF, 16, 1_000_000),
    Case("INCR, Zipf, pipeline 100", ZIPF, 100, 4_000_000),
    Case("one hot key, pipeline 1", HOT, 1, 150_000),
    Case("one hot key, pipeline 16", HOT, 16, 1_500_000),
    Case("one hot key, pipeline 100", HOT, 100, 4_000_000),
    Case("MGET of 20, pipeline 1", MGET, 1, 60_000),
    Case("MGET of 20, pipeline 8", MGET, 8, 200_000),
]
DURABLE = [case for case in FULL if case.text.startswith(("INCR", "one hot"))]
UNIFORM = [case for case in FULL if case.command not in (HOT, ZIPF)]
NO_PERSISTENCE = ["--appendonly", "no"]


class Section:
    """One table: cases, and servers with settings that promise the same."""

    def __init__(self, title, key, redis_options, durability, cases, keys=KEYS, extra=()):
        self.title, self.key, self.cases, self.keys = title, key, cases, keys
        self.redis_options, self.durability, self.extra = redis_options, durability, extra


SECTIONS = [
    Section(f"No persistence against `none`, {KEYS:,} keys", "none", NO_PERSISTENCE, "none", FULL,
            extra=["null"]),
    Section(f"No persistence against `none`, {KEYS_FEW:,} keys", "few", NO_PERSISTENCE, "none",
            UNIFORM, keys=KEYS_FEW, extra=["null"]),
    Section(f"`appendfsync everysec` against `interval=1000`, {KEYS:,} keys", "interval",
            ["--appendonly", "yes", "--appendfsync", "everysec"], "interval=1000", DURABLE),
    Section(f"`appendfsync always` against `always`, {KEYS:,} keys", "always",
            ["--appendonly", "yes", "--appendfsync", "always"], "always", DURABLE,
            extra=["redis without persistence"]),
]


def contenders(tally, directory, redis_options, tally_durability, extra=()):
    """Starts redis-server and Tally with settings that promise the same, and what is beside them."""
    def redis(port, data, options):
        return ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", data,
                "--save", "", *options]

    def ours(port, data, *options):
        return [tally, "serve", "--data", data, "--port", str(port), "--log-level", "error",
                "--durability", tally_durability, *options]

    commands = {
        "redis": lambda port, data: redis(port, data, redis_options),
        "tally": ours,
        "null": lambda port, data: ours(port, data, "--engine", "null"),
        "redis without persistence": lambda port, data: redis(port, data, NO_PERSISTENCE),
    }
    servers = []
    for name in ["redis", "tally", *extra]:
        port = free_port()
        data = os.path.join(directory, f"data-{port}")
        os.mkdir(data)
        servers.append(Server(name, commands[name](port, data), data, port))
    return servers


def measure(servers, cases, keys, repeats, report):
    """Every case on every server in turn; the medians, by case and server."""
    for server in servers:
        if server.name != "null":
            fill(server, keys)
    rows = []
    for case in cases:
        results = {server.name: [] for server in servers}
        groups = {}
        for _ in range(repeats):
            for server in servers:
                before = server.info("journal_groups")
                results[server.name].append(
                    zipf_load(server, case.requests, case.pipeline, keys)
                    if case.command is ZIPF
                    else load(server, case.command, case.requests, case.pipeline, keys))
                if case.command is HOT and server.name == "tally":
                    # In the same breath, for the machine is not always the same.
                    results.setdefault(BESIDE_HOT, []).append(
                        load(server, INCR, case.requests, case.pipeline, keys))
                if before and int(server.info("journal_groups")) > int(before):
                    groups.setdefault(server.name, []).append(
                        case.requests / (int(server.info("journal_groups")) - int(before)))
        medians = {
            name: tuple(statistics.median(values) for values in zip(*result))
            for name, result in results.items()}
        rows.append((case, medians, {n: statistics.median(g) for n, g in groups.items()}))
        report(f"  {case.text}: " + ", ".join(
            f"{name} {rate:,.0f}/s {cpu:.3f} us" for name, (rate, cpu) in medians.items()))
    return rows


def table(rows):
    extra = [name for name in rows[0][1] if name not in ("redis", "tally", BESIDE_HOT)]
    has_hot = any(BESIDE_HOT in medians for _, medians, _ in rows)
    head = ["case", "redis requests/s", "Tally requests/s", "ratio", "redis CPU µs", "Tally CPU µs",
            "ratio"]
    if "null" in extra:
        head += ["null engine requests/s", "null engine CPU µs"]
    if "redis without persistence" in extra:
        head += ["redis without persistence requests/s", "ratio"]
    if has_hot:
        head += ["of uniform keys"]
    head += ["commands per group"]
    lines = ["| " + " | ".join(head) + " |", "| --- |" + " ---: |" * (len(head) - 1)]
    for case, medians, groups in rows:
        redis, ours = medians["redis"], medians["tally"]
        cells = [case.text, f"{redis[0]:,.0f}", f"{ours[0]:,.0f}", f"{ours[0] / redis[0]:.2f}",
                 f"{redis[1]:.3f}", f"{ours[1]:.3f}", f"{ours[1] / redis[1]:.2f}"]
        if "null" in extra:
            cells += [f"{medians['null'][0]:,.0f}", f"{medians['null'][1]:.3f}"]
        if "redis without persistence" in extra:
            rate = medians["redis without persistence"][0]
            cells += [f"{rate:,.0f}", f"{ours[0] / rate:.2f}"]
        if has_hot:
            cells += [f"{ours[0] / medians[BESIDE_HOT][0]:.2f}" if BESIDE_HOT in medians else "–"]
        cells += [f"{groups['tally']:,.0f}" if "tally" in groups else "–"]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def bytes_per_key(tally, directory, count=1_000_000):
    """Resident memory per key of sequential keys, less that of an empty server."""
    result = {}
    for server in contenders(tally, directory, NO_PERSISTENCE, "none"):
        empty = server.resident_bytes()
        subprocess.run(
            ["redis-benchmark", "-p", str(server.port), "-c", "8", "-n", str(count * 8),
             "-r", str(count), "-P", "100", "-q", "INCR", "key:__rand_int__"],
            stdout=subprocess.DEVNULL, check=True)
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(b"DBSIZE\r\n")
            keys = int(connection.recv(100)[1:])
        result[server.name] = (server.resident_bytes() - empty) / keys
        server.stop()
    return result


def sync_time(directory):
    """Median time of one write of 4 KiB and its fdatasync in a zero-filled file, microseconds."""
    path = os.path.join(directory, "sync-probe")
    with open(path, "wb") as file:
        file.write(bytes(4 << 20))
        file.flush()
        os.fsync(file.fileno())
        times = []
        for number in range(300):
            start = time.perf_counter()
            os.pwrite(file.fileno(), b"x" * 4096, number * 4096)
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - start)
    os.remove(path)
    return statistics.median(times) * 1e6


def machine():
    model = re.search(r"model name\s*:\s*(.*)", open("/proc/cpuinfo").read())
    memory = int(re.search(r"MemTotal:\s+(\d+)", open("/proc/meminfo").read()).group(1)) >> 20
    return (f"{os.cpu_count()} cores ({model.group(1) if model else platform.machine()}), "
            f"{memory} GiB, Linux {platform.release()}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tally", required=True)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--scale", type=float, default=1, help="share of the requests to send")
    parser.add_argument("--only", default="", help="run the cases whose name contains this")
    parser.add_argument("--sections", default="none,few,interval,always")
    parser.add_argument("--directory", help="where the servers keep their data")
    parser.add_argument("--write", help="Markdown file for the tables")
    options = parser.parse_args()
    tally = os.path.abspath(options.tally)
    directory = tempfile.mkdtemp(prefix="tally-bench-", dir=options.directory)
    sections = []
    try:
        for case in FULL:
            case.requests = max(1000, int(case.requests * options.scale))
        for section in SECTIONS:
            cases = [case for case in section.cases if options.only in case.text]
            if section.key not in options.sections.split(",") or not cases:
                continue
            print(section.title, flush=True)
            servers = contenders(
                tally, directory, section.redis_options, section.durability, section.extra)
            try:
                rows = measure(servers, cases, section.keys, options.repeats,
                               lambda line: print(line, flush=True))
            finally:
                for server in servers:
                    server.stop()
            sections.append((section.title, table(rows)))
        memory = bytes_per_key(tally, directory) if not options.only else {}
        sync = sync_time(directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    version = subprocess.run(
        ["redis-server", "--version"], capture_output=True, text=True, check=True).stdout.split()[2]
    lines = [
        "# Benchmarks", "",
        "Written by `make bench`; see `Benchmarks/against_redis.py` for what is measured and how.",
        "",
        f"* Machine: {machine()}; the load generator shares it.",
        f"* redis-server {version}, one thread; Tally with its default of "
        f"{max(1, os.cpu_count() // 2)} event loop(s).",
        f"* redis-benchmark, {CLIENTS} connections, all keys present; "
        f"medians of {options.repeats} runs, contenders in turn.",
        f"* One write of 4 KiB with its fdatasync: {sync:.0f} µs (median).",
        "* CPU is the server's user and system time per command, the journal's threads included.",
    ]
    if memory:
        lines.append(
            f"* Resident memory per key of `key:000000000001` form: redis {memory['redis']:.0f} "
            f"bytes, Tally {memory['tally']:.0f} bytes.")
    for title, rows in sections:
        lines += ["", f"## {title}", "", *rows]
    text = "\n".join(lines) + "\n"
    if options.write:
        with open(options.write, "w") as file:
            file.write(text)
    print(text)


if __name__ == "__main__":
    main()
