#!/usr/bin/env python3
"""What safety costs: tokens, TLS, users, the HTTP interface beside RESP, and deadlines beside Redis.

Contenders take turns on one server, repeatedly; medians are quoted. The load generator runs on the same two
cores, so beside every rate stands the server's CPU time per command.
"""
import argparse
import bisect
import os
import random
import signal
import socket
import statistics
import subprocess
import tempfile
import threading
import time
import uuid

from against_redis import Server, free_port

KEYS = 20_000


def words(*arguments):
    return b"*%d\r\n" % len(arguments) + b"".join(b"$%d\r\n%s\r\n" % (len(each), each) for each in arguments)


def key(number):
    return b"key:%012d" % (number * 7919 % KEYS)


class Tokens:
    """UUIDs of version 7 of the times at which they will be sent, about."""

    def __init__(self):
        self.random = random.Random(1)

    def make(self, milliseconds):
        value = milliseconds << 80 | 7 << 76 | self.random.getrandbits(12) << 64
        return str(uuid.UUID(int=value | 2 << 62 | self.random.getrandbits(62))).encode()


def pipelines(kind, count, depth, connections, tokens, rate):
    """Encoded pipelines for each connection."""
    begin = int(time.time() * 1000) + 1000
    draw = random.Random(count)
    every = []
    for _ in range(connections):
        mine = []
        for batch in range(count // depth // connections):
            milliseconds = begin + batch * depth * connections // rate
            mine.append(b"".join(
                words(b"ONCE", tokens.make(milliseconds), b"INCR", key(draw.randrange(KEYS))) if kind == "ONCE"
                else words(b"INCR", key(draw.randrange(KEYS))) for _ in range(depth)))
        every.append(mine)
    return every


def drive(port, every, depth):
    """Sends all pipelines, one after the other on each connection: seconds that it took."""

    def one(mine):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for batch in mine:
                connection.sendall(batch)
                left = depth
                while left > 0:
                    left -= connection.recv(1 << 16).count(b"\n")

    threads = [threading.Thread(target=one, args=(mine,)) for mine in every]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - begun


def measure_tokens(server, rounds):
    tokens = Tokens()
    drive(server.port, pipelines("INCR", 100_000, 100, 1, tokens, 500), 100)
    for depth, count, connections, rate in ((1, 40_000, 4, 40), (16, 320_000, 4, 400), (100, 600_000, 2, 700)):
        found = {"INCR": [], "ONCE": []}
        for _ in range(rounds):
            for kind in found:
                every = pipelines(kind, count, depth, connections, tokens, rate)
                before = server.cpu_seconds()
                seconds = drive(server.port, every, depth)
                found[kind].append((count / seconds, (server.cpu_seconds() - before) / count * 1e6))
        yield depth, {
            kind: tuple(statistics.median(values) for values in zip(*found[kind])) for kind in found}


def benchmark(server, port, requests, depth, *options):
    before = server.cpu_seconds()
    output = subprocess.run(
        ["redis-benchmark", "-h", "127.0.0.1", "-p", str(port), "-c", "50", "-n", str(requests), "-r", str(KEYS),
         "-P", str(depth), "--csv", *map(str, options), "INCR", "key:__rand_int__"],
        capture_output=True, text=True, timeout=600, check=True).stdout
    rate = float(output.strip().splitlines()[-1].split('","')[1].strip('"'))
    return rate, (server.cpu_seconds() - before) / requests * 1e6


def measure_access(server, tls_port, directory, rounds):
    """A user with all rights, one with a key pattern, and TLS."""
    ways = {
        "plain, all rights": (server.port, []),
        "plain, `keys: [\"key:*\"]`": (server.port, ["--user", "limited", "-a", "secret"]),
        "TLS, all rights": (tls_port, ["--tls", "--cacert", f"{directory}/server.pem", "--sni", "localhost"]),
    }
    for depth, requests in ((1, 150_000), (16, 1_000_000), (100, 2_000_000)):
        found = {way: [] for way in ways}
        for _ in range(rounds):
            for way, (port, options) in ways.items():
                found[way].append(benchmark(server, port, requests, depth, *options))
        yield depth, {way: tuple(statistics.median(values) for values in zip(*found[way])) for way in ways}


def probe(port, seconds, rate):
    """Latencies of INCR, one at a time, at a rate: milliseconds."""
    latencies = []
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        begun = time.perf_counter()
        number = 0
        while (now := time.perf_counter()) < begun + seconds:
            due = begun + number / rate
            if now < due:
                time.sleep(due - now)
            sent = time.perf_counter()
            connection.sendall(words(b"INCR", key(number)))
            connection.recv(64)
            latencies.append((time.perf_counter() - sent) * 1000)
            number += 1
    return latencies


def http_load(port, stop, rate, done):
    """Requests of HTTP at a rate, on one connection, with as little of an interpreter as it takes."""
    requests = []
    for number in range(1000):
        body = b"{}"
        requests.append(
            b"POST /v1/counters/%s/increment HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s"
            % (key(number).replace(b":", b"%3A"), len(body), body))
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        begun = time.perf_counter()
        number = 0
        while not stop.is_set():
            due = begun + number / rate
            if (left := due - time.perf_counter()) > 0:
                time.sleep(left)
            connection.sendall(requests[number % 1000])
            reply = connection.recv(4096)
            assert reply.startswith(b"HTTP/1.1 200"), reply
            while b"}" not in reply:
                reply += connection.recv(4096)
            number += 1
    done.append(number)


def measure_http(server, http_ports, rounds):
    """Latencies without load, and with that load on each of some ports: (p50, p99) and the rates that were reached."""
    ways = {"none": None, **http_ports}
    found, rates = {way: [] for way in ways}, {way: [0.0] for way in ways}
    for _ in range(rounds):
        for way, http_port in ways.items():
            # Another process, so that the probe shares no interpreter with it.
            if http_port:
                load = subprocess.Popen(
                    ["python3", __file__, "--http-load", str(http_port)], stdout=subprocess.PIPE, text=True)
                time.sleep(1)
            latencies = sorted(probe(server.port, 5, 500))
            if http_port:
                load.terminate()
                rates[way].append(float(load.communicate()[0].split()[-1]))
            found[way].append((latencies[len(latencies) // 2], latencies[int(len(latencies) * 0.99)]))
    return {
        way: (max(rates[way]), *(statistics.median(values) for values in zip(*found[way]))) for way in ways}


def run_http_load(port):
    stop, done = threading.Event(), []
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    threads = [threading.Thread(target=http_load, args=(port, stop, 250, done)) for _ in range(4)]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    while not stop.is_set():
        time.sleep(0.05)
    for thread in threads:
        thread.join()
    print(sum(done) / (time.perf_counter() - begun))


def measure_deadlines(servers, keys):
    """Keys with deadlines of 10 to 40 seconds: memory, and how many overdue keys there still are."""
    for server in servers:
        before = server.resident_bytes()
        draw = random.Random(1)
        deadlines = []
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            begun = int(time.time() * 1000)
            for start in range(0, keys, 1000):
                batch = []
                for number in range(start, start + 1000):
                    deadline = begun + 15_000 + draw.randrange(30_000)
                    deadlines.append(deadline)
                    batch.append(words(b"SET", b"session:%09d" % number, b"1", b"PXAT", b"%d" % deadline))
                connection.sendall(b"".join(batch))
                left = 1000
                while left > 0:
                    left -= connection.recv(1 << 16).count(b"\n")
            memory = (server.resident_bytes() - before) / keys
            deadlines.sort()
            overdue = []
            while time.time() * 1000 < deadlines[-1] + 2000:
                connection.sendall(words(b"DBSIZE"))
                there = int(connection.recv(64)[1:-2])
                alive = keys - bisect.bisect_right(deadlines, time.time() * 1000)
                overdue.append(there - alive)
                time.sleep(0.25)
        cpu = server.cpu_seconds()
        yield server.name, memory, max(overdue), statistics.median(overdue), overdue[-1], cpu


def certificate(directory):
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
         f"{directory}/server.key", "-out", f"{directory}/server.pem", "-days", "30", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"], check=True, capture_output=True)


def start_other(tally, directory, http_port):
    port = free_port()
    return Server(
        "another", [tally, "serve", "--data", f"{directory}/other", "--port", str(port), "--http-port", str(http_port),
                    "--durability", "none", "--threads", "1", "--log-level", "error"], directory, port)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tally")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--write")
    parser.add_argument("--http-load", type=int)
    options = parser.parse_args()
    if options.http_load:
        return run_http_load(options.http_load)
    options.tally = os.path.abspath(options.tally)
    lines = []

    def say(text=""):
        print(text, flush=True)
        lines.append(text)

    def row(*cells):
        say("| " + " | ".join(cells) + " |")

    with tempfile.TemporaryDirectory(prefix="tally-costs-") as directory:
        certificate(directory)
        made = subprocess.run([options.tally, "password"], input="secret\n", capture_output=True, text=True, check=True)
        with open(f"{directory}/users.yaml", "w") as file:
            file.write(
                "default: {without-password: true, may: [read, write, admin]}\n"
                f"limited: {{password: {made.stdout.strip()}, may: [read, write], keys: ['key:*']}}\n")
        port, tls_port, http_port = free_port(), free_port(), free_port()
        server = Server(
            "Tally",
            [options.tally, "serve", "--data", f"{directory}/data", "--port", str(port), "--tls-port", str(tls_port),
             "--http-port", str(http_port), "--tls-certificate", f"{directory}/server.pem", "--tls-key",
             f"{directory}/server.key", "--users", f"{directory}/users.yaml", "--durability", "none", "--threads",
             "1", "--log-level", "error"], directory, port)
        try:
            say("## Tokens\n")
            say("`ONCE token INCR key` beside `INCR key`, tokens made just before they are sent.\n")
            row("pipeline", "INCR/s", "ONCE/s", "ratio", "CPU µs INCR", "CPU µs ONCE")
            row("---:", "---:", "---:", "---:", "---:", "---:")
            for depth, found in measure_tokens(server, options.rounds):
                (plain, plain_cpu), (once, once_cpu) = found["INCR"], found["ONCE"]
                row(str(depth), f"{plain:,.0f}", f"{once:,.0f}", f"{once / plain:.2f}", f"{plain_cpu:.2f}",
                    f"{once_cpu:.2f}")
            say("\n## Users and TLS\n")
            say("`INCR` by redis-benchmark, 50 connections; ratios to a plain connection with all rights.\n")
            row("pipeline", "connection", "requests/s", "ratio", "CPU µs")
            row("---:", "---", "---:", "---:", "---:")
            for depth, found in measure_access(server, tls_port, directory, options.rounds):
                base = next(iter(found.values()))[0]
                for way, (rate, cpu) in found.items():
                    row(str(depth), way, f"{rate:,.0f}", f"{rate / base:.2f}", f"{cpu:.2f}")
            say("\n## RESP while HTTP is busy\n")
            say("`INCR`, 500 a second, one at a time, while an HTTP interface answers increments: that of the same server, "
                "or of another one, which shows what the machine's two cores and the load generator cost alone.\n")
            other_port = free_port()
            other = start_other(options.tally, directory, other_port)
            try:
                # Of 2,500 replies 25 make the p99, so that it takes many rounds.
                found = measure_http(server, {"another": other_port, "the same": http_port}, 3 * options.rounds)
            finally:
                other.stop()
            row("HTTP at", "requests/s", "p50 ms", "p99 ms")
            row("---", "---:", "---:", "---:")
            for way, (rate, middle, high) in found.items():
                row(way, f"{rate:,.0f}", f"{middle:.3f}", f"{high:.3f}")
            say(f"\np99 with HTTP at the same server is {found['the same'][2] / found['none'][2]:.2f} times that without, "
                f"and {found['the same'][2] / found['another'][2]:.2f} times that with HTTP at another one.")
        finally:
            server.stop()
        say("\n## Deadlines\n")
        say(f"{options.keys:,} keys of 17 bytes set with deadlines 15 to 45 seconds later. Overdue: keys that DBSIZE still "
            "counts though their deadline has passed; a read never shows them.\n")
        ports = free_port(), free_port()
        contenders = [
            Server("Tally", [options.tally, "serve", "--data", f"{directory}/data2", "--port", str(ports[0]),
                             "--durability", "none", "--threads", "1", "--log-level", "error"], directory, ports[0]),
            Server("Redis", ["redis-server", "--port", str(ports[1]), "--bind", "127.0.0.1", "--save", ""],
                   directory, ports[1])]
        try:
            row("", "bytes a key", "overdue at most", "median", "two seconds after the last", "CPU s in all")
            row("---", "---:", "---:", "---:", "---:", "---:")
            for name, memory, most, median, last, cpu in measure_deadlines(contenders, options.keys):
                row(name, f"{memory:.0f}", f"{most:,}", f"{median:,.0f}", f"{last:,}", f"{cpu:.1f}")
        finally:
            for contender in contenders:
                contender.stop()
    if options.write:
        head = [
            "# What safety costs", "",
            f"Made by `make bench-costs` with {options.rounds} rounds; medians. Server and load share "
            f"{os.cpu_count()} cores ({time.strftime('%Y-%m-%d')}).", ""]
        with open(options.write, "w") as file:
            file.write("\n".join(head + lines) + "\n")


if __name__ == "__main__":
    main()
