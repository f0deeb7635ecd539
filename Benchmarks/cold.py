#!/usr/bin/env python3
"""What `memory-limit` costs: the same reads with all records in memory and with a quarter of them.

Generated posts are imported once. Then servers with and without a limit take turns on them: readers ask
for recent posts (Zipf over the newest tenth), one request in a hundred for an old one, one in a thousand
changes or removes an old one. Latency is that of the requests for recent posts. Afterwards old posts are
read one by one, present and absent ones, and the reads of the disk counted.
"""
import argparse
import gc
import os
import select
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import numpy

from dense import POST, Tally

CONNECTIONS = 32
HOT_SHARE = 10


def info(server, *fields):
    text = server.say("INFO residency")
    found = dict(line.split(":") for line in text.splitlines() if ":" in line)
    return [int(found[field]) for field in fields]


def wait_until_settled(server):
    """Waits until nothing moves any more: as much is hot as may be, and filters are made."""
    last, since = None, time.time()
    while True:
        now = info(server, "hot_segments", "used_memory_hot", "used_memory_cold_filter")
        if now != last:
            last, since = now, time.time()
        if time.time() - since > 3:
            return
        time.sleep(0.2)


def make_requests(draw, keys, count):
    """Encoded requests, and whether each asks for a recent post."""
    hot_from = len(keys) - len(keys) // HOT_SHARE
    ranks = numpy.minimum(draw.zipf(1.2, count), len(keys) - hot_from)
    kinds = draw.random(count)
    old = keys[draw.integers(0, hot_from, count)]
    hot = keys[len(keys) - ranks]
    requests = []
    for kind, recent, ancient in zip(kinds.tolist(), hot.tolist(), old.tolist()):
        if kind < 0.0005:
            requests.append((b"INCR post %d.c0\r\n" % ancient, False))
        elif kind < 0.001:
            requests.append((b"DEL post %d\r\n" % ancient, False))
        elif kind < 0.011:
            requests.append((b"GET post %d\r\n" % ancient, False))
        else:
            requests.append((b"GET post %d\r\n" % recent, True))
    return requests


def replies_whole(data):
    """Whether `data` is one whole reply: a line, or an array of two lines."""
    return data.count(b"\r\n") == (3 if data[:1] == b"*" else 1)


def run_requests(port, requests, rate):
    """Sends requests at a steady rate, each over the next connection that is free: latencies of recent
    and of old ones, seconds, from when each was due."""
    poll = select.epoll()
    sockets, waiting = {}, {}
    hot, old = [], []
    for _ in range(CONNECTIONS):
        connection = socket.create_connection(("127.0.0.1", port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sockets[connection.fileno()] = connection
        poll.register(connection, select.EPOLLIN)
    free = list(sockets)
    gc.disable()
    started = time.perf_counter()
    position = 0
    while position < len(requests) or waiting:
        due = started + position / rate
        if free and position < len(requests) and time.perf_counter() >= due:
            request, is_hot = requests[position]
            position += 1
            descriptor = free.pop()
            waiting[descriptor] = [due, is_hot, b""]
            sockets[descriptor].send(request)
        for descriptor, _ in poll.poll(0):
            state = waiting[descriptor]
            state[2] += sockets[descriptor].recv(4096)
            now = time.perf_counter()
            if not replies_whole(state[2]):
                continue
            assert state[2][:1] != b"-", state[2]
            (hot if state[1] else old).append(now - state[0])
            del waiting[descriptor]
            free.append(descriptor)
    gc.enable()
    for connection in sockets.values():
        connection.close()
    return hot, old


def percentile(values, share):
    return sorted(values)[int(len(values) * share)] * 1e6


def read_one_by_one(server, keys):
    """Reads keys one after the other: blocks read from the disk meanwhile, and what was found."""
    before, = info(server, "cold_reads")
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        file = connection.makefile("rb")
        rows = []
        for key in keys.tolist():
            connection.sendall(b"GET post %d\r\n" % key)
            assert file.readline() == b"*2\r\n"
            rows.append([int(file.readline()[1:]) for _ in range(2)])
    after, = info(server, "cold_reads")
    return after - before, rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tally", required=True, help="the program")
    parser.add_argument("--engine", help="the engine benchmark, which makes posts")
    parser.add_argument("--records", type=int, default=20_000_000)
    parser.add_argument("--posts", help="a file of posts instead, as the engine benchmark writes them")
    parser.add_argument("--data", help="a data directory that holds exactly those posts already")
    parser.add_argument("--requests", type=int, default=200_000)
    parser.add_argument("--rate", type=int, default=10_000, help="requests a second")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--filter-bits", type=int, default=3)
    arguments = parser.parse_args()
    binary = os.path.abspath(arguments.tally)
    with tempfile.TemporaryDirectory() as directory:
        directory = Path(directory)
        path = arguments.posts or directory / "posts.bin"
        if not arguments.posts:
            subprocess.run([arguments.engine, "write", path, str(arguments.records)], check=True)
        posts = numpy.memmap(path, dtype=POST, mode="r")
        present = (posts["a"] != 0) | (posts["b"] != 0)
        keys = numpy.array(posts["key"][present])
        absent_keys = numpy.array(posts["key"][~present][:50_000_000])
        values = numpy.stack([posts["a"][present], posts["b"][present]], axis=1)
        if arguments.data:
            shutil.copytree(arguments.data, directory / "data")
        else:
            server = Tally(binary, directory)
            server.declare(2)
            server.import_records(keys, values)
            server.checkpoint()
            server.stop()
        size = sum(file.stat().st_size for file in (directory / "data").glob("segment-*"))
        limit = size // 4
        print(f"{len(keys):,} records, {size / 1e6:.1f} MB; limit {limit / 1e6:.1f} MB")
        draw = numpy.random.default_rng(3)
        found = {"all": [], "quarter": []}
        for repeat in range(arguments.repeats):
            for name in found if repeat % 2 == 0 else reversed(found):
                flags = [] if name == "all" else [
                    "--memory-limit", f"{limit >> 10}kb", "--filter-bits",
                    str(arguments.filter_bits)]
                server = Tally(binary, directory, *flags)
                start_seconds = server.start_seconds
                wait_until_settled(server)
                run_requests(
                    server.port, make_requests(draw, keys, arguments.requests // 4), arguments.rate)
                time.sleep(2)
                before = info(server, "cold_reads", "cold_late_reads")
                cpu = server.cpu_seconds()
                hot, old = run_requests(
                    server.port, make_requests(draw, keys, arguments.requests), arguments.rate)
                cpu = server.cpu_seconds() - cpu
                after = info(server, "cold_reads", "cold_late_reads")
                row = {
                    "p50": percentile(hot, 0.5), "p99": percentile(hot, 0.99),
                    "p999": percentile(hot, 0.999), "old p50": percentile(old, 0.5),
                    "old p99": percentile(old, 0.99), "CPU us": cpu / arguments.requests * 1e6,
                    "disk": after[0] - before[0], "late": after[1] - before[1],
                    "old": len(old), "resident": server.resident_bytes() / 1e6,
                    "start": start_seconds}
                found[name].append(row)
                print(name, {key: round(value, 2) for key, value in row.items()}, flush=True)
                if name == "quarter" and repeat == arguments.repeats - 1:
                    wait_until_settled(server)
                    report_reads(server, draw, keys, absent_keys)
                server.stop()
        for field in ["p50", "p99", "p999", "CPU us", "resident"]:
            every, quarter = (
                statistics.median(row[field] for row in found[name]) for name in found)
            print(f"{field}: {every:.1f} with all, {quarter:.1f} with a quarter, "
                  f"{quarter / every:.2f}x")


def report_reads(server, draw, keys, absent_keys):
    fields = ["hot_segments", "used_memory_hot", "cold_segments", "used_memory_cold_index",
              "used_memory_cold_filter", "used_memory_cached_blocks", "used_memory_changed"]
    print(dict(zip(fields, info(server, *fields))))
    old = numpy.unique(draw.choice(keys[:len(keys) // 2], 20_000))
    draw.shuffle(old)
    reads, rows = read_one_by_one(server, old)
    print(f"{len(old):,} old records one by one: {reads:,} reads of the disk, "
          f"{reads / len(old):.3f} each; {sum(row == [0, 0] for row in rows)} had been removed")
    absent = draw.choice(absent_keys, 20_000) if len(absent_keys) else numpy.array([], "u8")
    if not len(absent):
        # Neighbours of records that are not records themselves.
        absent = numpy.setdiff1d(draw.choice(keys, 40_000) + numpy.uint64(1), keys)[:20_000]
        draw.shuffle(absent)
    reads, rows = read_one_by_one(server, absent)
    assert all(row == [0, 0] for row in rows)
    print(f"{len(absent):,} absent keys one by one: {reads:,} reads of the disk, "
          f"{reads / len(absent):.4f} each")


if __name__ == "__main__":
    main()
