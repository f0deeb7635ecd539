"""Streams of events, counted through many connections, against an independent count.

TALLY_EVENTS_DIR names a directory of real streams: `*.tsv.zst` with a header line, whose columns
are listed below, and `*.u32le.zst` of raw little-endian keys. Without it a small stream with a few
very frequent keys is generated.
"""

import collections
import itertools
import os
import random
import struct
import subprocess
import threading
from pathlib import Path

import pytest

from load import run_all
from protocol import RawConnection, encode
from servers import tool, wait_until

CONNECTIONS = 50
DEPTH = 100
SEED = 20

# How each stream's columns become increments: (prefix, key column, delta column or None).
COLUMNS = {
    "weibo_ced_repost_events": [("root:", 2, None), ("parent:", 3, None)],
    "twitter_higgs_events": [("account:", 1, None), ("kind:", 2, None)],
    "weibo_hotsearch_deltas": [("topic:", 1, 2)],
    "github_events": [("repository:", 1, None), ("type:", 2, None)],
}


def generated_stream():
    """A small stream of keys of very uneven frequency, some with steps of both signs."""
    generator = random.Random(SEED)
    for number in range(200_000):
        key = int(generator.paretovariate(0.8))
        yield f"generated:{key}", generator.randint(-9, 20) if key % 3 == 0 else 1
        if number % 10 == 0:
            yield f"once:{number}", 1


def uncompressed(path):
    """A file's bytes, through the zstd program."""
    return subprocess.run(
        [tool("zstd"), "-dc", str(path)], stdout=subprocess.PIPE, check=True).stdout


def table_stream(path):
    name = path.name.removesuffix(".tsv.zst")
    columns = COLUMNS[name]
    for line in uncompressed(path).splitlines()[1:]:
        fields = line.split(b"\t")
        for prefix, key, delta in columns:
            step = 1 if delta is None else int(fields[delta])
            yield prefix + fields[key].decode(), step


def binary_stream(path):
    for (key,) in struct.iter_unpack("<I", uncompressed(path)):
        yield f"object:{key}", 1


def streams():
    """Names of the streams and functions that begin them."""
    directory = os.environ.get("TALLY_EVENTS_DIR")
    if directory is None:
        return {"generated": generated_stream}
    found = {}
    for path in sorted(Path(directory).glob("*.zst")):
        if path.name.endswith(".u32le.zst"):
            found[path.name] = lambda path=path: binary_stream(path)
        elif path.name.endswith(".tsv.zst"):
            assert path.name.removesuffix(".tsv.zst") in COLUMNS, f"unknown stream {path.name}"
            found[path.name] = lambda path=path: table_stream(path)
    assert found, f"no streams in {directory}"
    return found


STREAMS = streams()


def replay(port, stream):
    """Sends a stream through many connections; each takes the next events as it is ready."""
    lock = threading.Lock()
    events = iter(stream)

    def next_events():
        with lock:
            return list(itertools.islice(events, DEPTH))

    def body():
        with RawConnection(port) as connection:
            while batch := next_events():
                connection.send(b"".join(
                    encode("INCR", key) if step == 1 else encode("INCRBY", key, step)
                    for key, step in batch))
                for _ in batch:
                    line = connection.take_line()
                    assert line[:1] == b":", line

    run_all([body] * CONNECTIONS)


def independent_count(stream, directory):
    """What each key must come to, added up by awk from text."""
    events = directory / "events"
    with open(events, "w") as file:
        file.writelines(f"{key}\t{step}\n" for key, step in stream)
    # Plain additions of less than 2^53, which awk's numbers hold exactly.
    result = subprocess.run(
        [tool("awk"), "-F", "\t",
         '{ sum[$1] += $2 } END { for (key in sum) printf "%s\\t%d\\n", key, sum[key] }',
         str(events)], stdout=subprocess.PIPE, text=True, check=True)
    events.unlink()
    return dict(
        (key, int(total)) for key, total in (
            line.split("\t") for line in result.stdout.splitlines()))


def compare(server, expected):
    """Every counter is what it must be, and there are no others."""
    client = server.client()
    assert client.dbsize() == len(expected)
    keys = list(expected)
    wrong = {}
    for start in range(0, len(keys), 1000):
        part = keys[start:start + 1000]
        for key, value in zip(part, client.mget(part)):
            if value is None or int(value) != expected[key]:
                wrong[key] = (value, expected[key])
    assert not wrong, dict(list(wrong.items())[:10])


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", STREAMS)
def test_stream(start_tally, tmp_path, name, threads):
    server = start_tally("--threads", threads)
    expected = independent_count(STREAMS[name](), tmp_path)
    replay(server.port, STREAMS[name]())
    compare(server, expected)
    server.restart()
    compare(server, expected)


# Prefixes whose keys are text, and those that are columns of one family's records.
TEXT_PREFIXES = {"kind", "type"}
SHARED_FAMILIES = {"root": "weibo", "parent": "weibo"}


def record_key(key):
    """The suffix key that counts what `key` counts: `root:7` is the column root of record weibo:7."""
    prefix, name = key.split(":", 1)
    return f"{SHARED_FAMILIES.get(prefix, prefix)}:{name}.{prefix}"


def declare_families(client, prefixes):
    for family in sorted({SHARED_FAMILIES.get(prefix, prefix) for prefix in prefixes}):
        kind = "string" if family in TEXT_PREFIXES else "integer"
        for line in [f"ADD COUNTER {family}", f"ADD COLUMN {family} id primarykey type={kind}"]:
            assert client.execute_command(*line.split()) == b"OK"
    for prefix in sorted(prefixes):
        family = SHARED_FAMILIES.get(prefix, prefix)
        line = f"ADD COLUMN {family} {prefix} suffix={prefix} min=-4611686018427387904"
        assert client.execute_command(*line.split()) == b"OK"


def compare_records(server, expected):
    """As `compare`, for records: those at 0 are not there."""
    client = server.client()
    records = {key.rsplit(".", 1)[0] for key, value in expected.items() if value != 0}
    assert client.dbsize() == len(records)
    keys = list(expected)
    for start in range(0, len(keys), 1000):
        part = keys[start:start + 1000]
        found = [int(value) for value in client.mget(part)]
        assert found == [expected[key] for key in part]


@pytest.mark.parametrize("name", STREAMS)
def test_stream_into_families(start_tally, tmp_path, name):
    """The same with columns of records, before and after a merge and a restart."""
    server = start_tally()
    expected = independent_count(STREAMS[name](), tmp_path)
    client = server.client()
    declare_families(client, {key.split(":", 1)[0] for key in expected})
    replay(server.port, ((record_key(key), step) for key, step in STREAMS[name]()))
    expected = {record_key(key): value for key, value in expected.items()}
    compare_records(server, expected)
    sequence = client.info("persistence")["durable_sequence"]
    client.bgsave()
    wait_until(
        lambda: client.info("persistence")["checkpoint_sequence"] >= sequence, "a checkpoint")
    compare_records(server, expected)
    server.kill()
    server.start().wait_until_ready()
    compare_records(server, expected)


def test_the_independent_count_is_right(tmp_path):
    """awk and Python count alike."""
    counter = collections.Counter()
    for key, step in generated_stream():
        counter[key] += step
    assert independent_count(generated_stream(), tmp_path) == dict(counter)
