#!/usr/bin/env python3
"""How small Tally's records are beside other ways to keep them, and how fast a server reads them.

Every data set is imported into a fresh server and measured there: bytes of segment files, resident
memory, time to import and to start. The entropy beside it is that of the gaps between the sorted keys,
each by itself, plus that of the values, each row as a whole; it needs no names and finds no structure
that spans records. Redis holds what fits of the same records. Reads through the protocol are sent by
the same client to both.

TALLY_POSTS_DIR may name a directory of real posts, tables `*.tsv.zst` whose columns are listed below.
"""
import argparse
import math
import os
import platform
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import lzf
import numpy
import zstandard

from against_redis import Server, free_port

HERE = Path(__file__).resolve().parent
POST = numpy.dtype([("key", "<u8"), ("a", "<u4"), ("b", "<u4")])
# Real tables: the key's column and those of the counts.
TABLES = {
    "reddit_top": (0, [1, 2, 3]), "twitter_stocknet": (0, [1, 2]),
    "weibo_posts_3counters": (0, [1, 2, 3]), "weibo_ced_reposts": (0, [1, 2]),
}
REDIS_RECORDS_MAX = 2_000_000
# What Redis holds when reads are compared: more of the same, as its caches then have less of it.
REDIS_READ_RECORDS_MAX = 8_000_000
BLOCK_VALUES = 1024
BATCH = 20


# Data sets: a key array and a matrix of values, without records of zeros, sorted by key.

def generated_posts(count, engine, directory):
    path = directory / "posts.bin"
    subprocess.run([engine, "write", path, str(count)], check=True)
    posts = numpy.fromfile(path, dtype=POST)
    path.unlink()
    return posts["key"], numpy.stack([posts["a"], posts["b"]], axis=1)


def geometric_posts(count):
    """Gaps of a geometric distribution and counts of a power law (median 1, 90 % below 16, 99 % below
    350, 0.01 % above 100,000), none of it in bursts."""
    draw = numpy.random.default_rng(1)
    keys = numpy.cumsum(draw.geometric(1 / 5900, count).astype("u8"))
    values = draw.random((count, 2)) ** (-1 / 0.79) - 1
    values = numpy.minimum(values, 2**31).astype("u4")
    kept = values.any(axis=1)
    return keys[kept], values[kept]


def real_tables(directory):
    for name, (key, columns) in TABLES.items():
        path = Path(directory) / f"{name}.tsv.zst"
        if not path.exists():
            continue
        text = subprocess.run(["zstd", "-dc", path], stdout=subprocess.PIPE, check=True).stdout
        rows = [line.split(b"\t") for line in text.splitlines()[1:]]
        keys = numpy.array([int(row[key]) for row in rows], dtype="u8")
        values = numpy.array([[max(0, int(row[c] or 0)) for c in columns] for row in rows], "u4")
        keys, first = numpy.unique(keys, return_index=True)
        values = values[first]
        kept = values.any(axis=1)
        yield name, keys[kept], values[kept]


def entropy_bytes(keys, values):
    def bits(items):
        _, counts = numpy.unique(items, return_counts=True, axis=0)
        shares = counts / counts.sum()
        return float(-(shares * numpy.log2(shares)).sum())
    return (bits(numpy.diff(keys)) + bits(values)) / 8


# Other ways to keep them.

def compressed_bytes(keys, values, compress):
    """Bytes a record when blocks of so many values, rows with their keys, are compressed."""
    rows = numpy.concatenate(
        [numpy.ascontiguousarray(keys).view("u4").reshape(-1, 2), values], axis=1).astype("<u4")
    per_block = BLOCK_VALUES // values.shape[1]
    blocks = range(0, min(len(rows), 400 * per_block), per_block)
    total = 0
    for start in blocks:
        raw = rows[start:start + per_block].tobytes()
        total += len(compress(raw) or raw)
    return total / min(len(rows), len(blocks) * per_block)


def table_bytes(slot_bytes):
    """An open hash table of fixed slots, filled to 95 %."""
    return slot_bytes / 0.95


def pipe(server, commands):
    """Sends encoded commands to a server and waits for all replies: seconds, and CPU seconds."""
    before, started = server.cpu_seconds(), time.perf_counter()
    done = subprocess.run(
        ["redis-cli", "-p", str(server.port), "--pipe"], input=commands, capture_output=True,
        check=True, timeout=600)
    assert b"errors: 0" in done.stdout, done.stdout[-200:]
    return time.perf_counter() - started, server.cpu_seconds() - before


def encode(*words):
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words)


class Redis(Server):
    def __init__(self, directory):
        port = free_port()
        super().__init__(
            "Redis", ["redis-server", "--port", str(port), "--save", "", "--appendonly", "no"],
            directory, port)


def redis_bytes(keys, values, directory, form):
    server = Redis(directory)
    try:
        empty = int(server.info("used_memory"))
        commands = []
        for key, row in zip(keys.tolist(), values.tolist()):
            if form == "keys":
                for column, value in enumerate(row):
                    commands.append(encode(b"SET", b"%d:%d" % (key, column), b"%d" % value))
            else:
                # As in the well-known trick: buckets of 512 ids, small enough for a listpack.
                bucket, rest = divmod(key, 512)
                for column, value in enumerate(row):
                    commands.append(encode(
                        b"HSET", b"%d:%d" % (bucket, column), b"%d" % rest, b"%d" % value))
        pipe(server, b"CONFIG SET hash-max-listpack-entries 512\r\n" + b"".join(commands))
        return (int(server.info("used_memory")) - empty) / len(keys)
    finally:
        server.stop()


# Tally.

class Tally(Server):
    def __init__(self, binary, directory, *flags):
        self.binary, self.directory, port = binary, directory, free_port()
        self.started = time.perf_counter()
        super().__init__(
            "Tally", [binary, "serve", "--data", str(directory / "data"), "--port", str(port),
                      "--log-level", "error", *flags], directory, port)
        self.start_seconds = time.perf_counter() - self.started

    def say(self, *lines):
        done = subprocess.run(
            ["redis-cli", "-p", str(self.port)], input="\n".join(lines), text=True,
            capture_output=True, check=True)
        assert "ERR" not in done.stdout, done.stdout
        return done.stdout

    def declare(self, columns):
        self.say("ADD COUNTER post", "ADD COLUMN post id primarykey", *(
            f"ADD COLUMN post c{number} suffix=c{number} max=32" for number in range(columns)))

    def import_records(self, keys, values):
        path = self.directory / "records.bin"
        rows = numpy.zeros(len(keys), dtype=[("key", "<u8"), ("v", "<u4", values.shape[1])])
        rows["key"], rows["v"] = keys, values
        rows.tofile(path)
        started = time.perf_counter()
        subprocess.run(
            [self.binary, "import", "--port", str(self.port), "--family", "post", "--format",
             "records", path], check=True, capture_output=True)
        seconds = time.perf_counter() - started
        path.unlink()
        return seconds

    def checkpoint(self):
        """Has checkpoints made until nothing has changed since."""
        while True:
            sequence = int(self.info("durable_sequence"))
            self.say("BGSAVE")
            time.sleep(0.3)
            while self.info("rdb_bgsave_in_progress") == "1":
                time.sleep(0.05)
            if sequence <= int(self.info("checkpoint_sequence")) and (
                    int(self.info("durable_sequence")) == sequence):
                return

    def segment_bytes(self):
        return sum(file.stat().st_size for file in (self.directory / "data").glob("segment-*"))


def measure_set(name, keys, values, binary):
    """One row of the table of sizes."""
    count, columns = values.shape
    with tempfile.TemporaryDirectory() as directory:
        directory = Path(directory)
        server = Tally(binary, directory)
        server.declare(columns)
        seconds = server.import_records(keys, values)
        server.checkpoint()
        segments = server.segment_bytes() / count
        server.stop()
        server = Tally(binary, directory)
        resident = server.resident_bytes() / count
        start = server.start_seconds
        server.stop()
        some = slice(0, min(count, REDIS_RECORDS_MAX))
        plain = redis_bytes(keys[some], values[some], directory, "keys")
        hashes = redis_bytes(keys[some], values[some], directory, "hashes")
    return {
        "set": name, "records": count, "columns": columns,
        "entropy": entropy_bytes(keys, values), "segments": segments, "resident": resident,
        "redis keys": plain, "redis hashes": hashes, "table 12": table_bytes(4 + 4 * columns),
        "table 8": table_bytes(4 + 2 * columns),
        "LZF": compressed_bytes(keys, values, lzf.compress),
        "zstd": compressed_bytes(keys, values, zstandard.ZstdCompressor(3).compress),
        "import": count / seconds, "start": start,
    }


def measure_reads(keys, values, binary, repeats):
    """Records a second in batches of 20 with all their counts, medians, for each way to ask."""
    draw = numpy.random.default_rng(2)
    with tempfile.TemporaryDirectory() as directory:
        directory = Path(directory)
        tally, redis = Tally(binary, directory), Redis(directory)
        tally.declare(values.shape[1])
        tally.import_records(keys, values)
        tally.checkpoint()
        held = slice(0, min(len(keys), REDIS_READ_RECORDS_MAX))
        commands = []
        for key, row in zip(keys[held].tolist(), values[held].tolist()):
            pairs = [b"%d" % item for column, value in enumerate(row) for item in (column, value)]
            commands.append(encode(b"HSET", b"h:%d" % key, *pairs))
            commands.append(encode(b"MSET", *(
                word for column, value in enumerate(row)
                for word in (b"%d:%d" % (key, column), b"%d" % value))))
        pipe(redis, b"".join(commands))
        ways = {"GET of 20": [], "MGET of 40": [], "20 HMGET": []}
        wanted = draw.choice(keys, 400_000).tolist()
        few = draw.choice(keys[held], 400_000).tolist()
        batches = lambda ids: (ids[i:i + BATCH] for i in range(0, len(ids), BATCH))
        columns = [b"%d" % column for column in range(values.shape[1])]
        requests = {
            "GET of 20": (tally, b"".join(
                encode(b"GET", b"post", *(b"%d" % key for key in part))
                for part in batches(wanted))),
            "MGET of 40": (redis, b"".join(
                encode(b"MGET", *(b"%d:%s" % (key, c) for key in part for c in columns))
                for part in batches(few))),
            "20 HMGET": (redis, b"".join(
                encode(b"HMGET", b"h:%d" % key, *columns) for key in few)),
        }
        for _ in range(repeats):
            for way, (server, data) in requests.items():
                seconds, cpu = pipe(server, data)
                ways[way].append((len(wanted) / seconds, cpu / len(wanted) * 1e6))
        tally.stop()
        redis.stop()
    return {
        way: tuple(statistics.median(each) for each in zip(*runs)) for way, runs in ways.items()}


def measure_strings(count, binary):
    """Resident bytes a plain key, for keys of several kinds, beside Redis."""
    draw = numpy.random.default_rng(3)
    letters = numpy.frombuffer(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_", "u1")
    order = numpy.arange(count)
    sets = {"key:000000000001, in order": [b"key:%012d" % number for number in order.tolist()]}
    draw.shuffle(order)
    sets["key:000000000001, shuffled"] = [b"key:%012d" % number for number in order.tolist()]
    sets["16 random letters"] = [
        row.tobytes() for row in letters[draw.integers(0, 64, (count, 16))]]
    hosts = (numpy.floor(draw.pareto(0.7, count)) % 2000).astype(int).tolist()
    ends = draw.integers(0, 2**63, count).tolist()
    sets["URLs of 60 bytes"] = [
        b"https://www.example%d.com/blog/posts/%x/comments" % each for each in zip(hosts, ends)]
    results = {}
    for name, keys in sets.items():
        commands = b"".join(encode(b"INCR", key) for key in keys)
        with tempfile.TemporaryDirectory() as directory:
            directory = Path(directory)
            tally, redis = Tally(binary, directory, "--durability", "none"), Redis(directory)
            figures = []
            for server in (tally, redis):
                empty = server.resident_bytes()
                pipe(server, commands)
                if server is tally:
                    tally.checkpoint()
                    time.sleep(1)
                figures.append((server.resident_bytes() - empty) / count)
            tally.stop()
            redis.stop()
        results[name] = figures
    return results


# Plots, as plain SVG.

def bar_chart(title, unit, bars):
    top = max(value for _, value in bars)
    rows = "".join(
        f'<text x="170" y="{48 + 26 * n}" text-anchor="end">{name}</text>'
        f'<rect x="180" y="{34 + 26 * n}" width="{max(1, 400 * value / top):.1f}" height="18" '
        f'fill="{"#2a7" if name.startswith("Tally") else "#999"}"/>'
        f'<text x="{188 + 400 * value / top:.1f}" y="{48 + 26 * n}">{value:.2f}</text>'
        for n, (name, value) in enumerate(bars))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="660" height="{50 + 26 * len(bars)}" '
        f'font-family="sans-serif" font-size="13"><text x="10" y="20" font-weight="bold">{title}, '
        f"{unit}</text>{rows}</svg>\n")


def line_chart(title, unit, points):
    """Values over counts, the counts' axis logarithmic."""
    left, right = (math.log10(points[0][0]), math.log10(points[-1][0]))
    top = max(value for _, value in points) * 1.1
    place = [
        (60 + 520 * (math.log10(count) - left) / max(right - left, 1e-9), 230 - 190 * value / top)
        for count, value in points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in place)
    marks = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="#2a7"/>'
        f'<text x="{x:.1f}" y="{y - 8:.1f}" text-anchor="middle">{value:.2f}</text>'
        f'<text x="{x:.1f}" y="250" text-anchor="middle">{count:,}</text>'
        for (x, y), (count, value) in zip(place, points))
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" width="640" height="270" font-family="sans-serif" '
        f'font-size="12"><text x="10" y="20" font-weight="bold">{title}, {unit}</text>'
        f'<polyline points="{path}" fill="none" stroke="#2a7" stroke-width="2"/>{marks}</svg>\n')


# The page.

def page(sets, reads, growth, strings, arguments):
    machine = f"{platform.machine()}, {os.cpu_count()} cores"
    lines = [
        "# How small, and how fast to read", "",
        "Made by `make bench-dense`; see `Benchmarks/dense.py` for what exactly is measured.", "",
        f"{machine}, {time.strftime('%Y-%m-%d')}, "
        + subprocess.run(["redis-server", "--version"], capture_output=True, text=True)
        .stdout.split(" sha")[0] + f", {arguments.repeats} repeats, medians.", "",
        "## Bytes a record", "",
        "| records | columns | entropy | Tally, segments | resident | Redis, keys | Redis, hashes "
        "of 512 ids | table of 4-byte counts | of 2-byte counts | LZF | zstd |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"]
    for row in sets:
        lines.append(
            f"| {row['records']:,} of {row['set']} | {row['columns']} | {row['entropy']:.2f} | "
            f"**{row['segments']:.2f}** ({row['segments'] / row['entropy']:.2f}x) | "
            f"{row['resident']:.2f} | {row['redis keys']:.0f} | {row['redis hashes']:.0f} | "
            f"{row['table 12']:.1f} | {row['table 8']:.1f} | {row['LZF']:.1f} | {row['zstd']:.1f} |")
    lines += [
        "", f"Redis is measured on the first {REDIS_RECORDS_MAX:,} records at most. Segments hold "
        "everything that is needed to find a record, with checksums; resident memory is the whole "
        "server's, after a start. The tables hash 4 bytes of the id and fill 95 % of their slots. LZF "
        f"and zstd compress blocks of {BLOCK_VALUES:,} values with their ids, without an index.", "",
        "![sizes](density-sizes.svg)", "", "## Time", "",
        "| records | import, million records a second | start to first reply, s |",
        "| --- | ---: | ---: |"]
    lines += [
        f"| {row['records']:,} of {row['set']} | {row['import'] / 1e6:.2f} | {row['start']:.2f} |"
        for row in sets]
    best = max(rate for way, (rate, _) in reads.items() if way != "GET of 20")
    lines += [
        "", "## Reads of 20 records with all their counts, one connection, pipelined", "",
        "| request | records a second | server's CPU µs a record | ratio to the better of Redis's |",
        "| --- | ---: | ---: | ---: |"]
    lines += [
        f"| {'Tally' if way == 'GET of 20' else 'Redis'}: {way} | {rate:,.0f} | {cpu:.2f} | "
        f"{rate / best:.2f} |" for way, (rate, cpu) in reads.items()]
    lines += ["", "![growth](density-growth.svg)", "", "## Plain keys, resident bytes each", "",
              "| keys | Tally | Redis |", "| --- | ---: | ---: |"]
    lines += [
        f"| {arguments.strings:,} like {name} | {ours:.1f} | {theirs:.1f} |"
        for name, (ours, theirs) in strings.items()]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tally", required=True, help="the program")
    parser.add_argument("--engine", required=True, help="the engine benchmark, which makes posts")
    parser.add_argument("--records", type=int, default=20_000_000)
    parser.add_argument("--strings", type=int, default=2_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--write", help="a directory for the page and its plots")
    arguments = parser.parse_args()
    binary = os.path.abspath(arguments.tally)
    with tempfile.TemporaryDirectory() as directory:
        keys, values = generated_posts(
            arguments.records, os.path.abspath(arguments.engine), Path(directory))
    sets = [measure_set("generated posts", keys, values, binary)]
    sets.append(measure_set(
        "geometric gaps", *geometric_posts(min(arguments.records, 20_000_000)), binary))
    if "TALLY_POSTS_DIR" in os.environ:
        for name, *table in real_tables(os.environ["TALLY_POSTS_DIR"]):
            sets.append(measure_set(name, *table, binary))
    growth = []
    for count in [1_000_000, 3_000_000, 10_000_000, 30_000_000, 100_000_000]:
        if count < arguments.records:
            some = measure_reads(keys[:count], values[:count], binary, 3)
            growth.append((count, some["GET of 20"][0] / 1e6))
    reads = measure_reads(keys, values, binary, arguments.repeats)
    growth.append((arguments.records, reads["GET of 20"][0] / 1e6))
    strings = measure_strings(arguments.strings, binary)
    text = page(sets, reads, growth, strings, arguments)
    print(text)
    if arguments.write:
        target = Path(arguments.write)
        (target / "density.md").write_text(text)
        first = sets[0]
        (target / "density-sizes.svg").write_text(bar_chart("Generated posts", "bytes a record", [
            ("Entropy", first["entropy"]), ("Tally, segments", first["segments"]),
            ("Tally, resident", first["resident"]), ("zstd, no index", first["zstd"]),
            ("LZF, no index", first["LZF"]), ("Table, 2-byte counts", first["table 8"]),
            ("Table, 4-byte counts", first["table 12"]), ("Redis, hashes", first["redis hashes"]),
            ("Redis, keys", first["redis keys"])]))
        (target / "density-growth.svg").write_text(line_chart(
            "Records read in batches of 20, by records stored", "millions a second", growth))


if __name__ == "__main__":
    main()
