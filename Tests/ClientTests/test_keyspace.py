"""SCAN and its kin: whatever is there all the time is seen, whatever happens meanwhile."""

import random
import threading

import pytest
import redis

from load import run_all
from servers import wait_until
from test_checkpoints import checkpoint
from test_residency import declare, fill_cold, residency


def fill(client, plain, records):
    """Keys of all kinds: plain ones, some with a deadline, and records."""
    declare(client)
    pipeline = client.pipeline(transaction=False)
    for number in range(plain):
        pipeline.execute_command("SET", f"key:{number}", number, *(["EX", 5000] if number % 3 == 0 else []))
    for number in range(records):
        pipeline.execute_command("HINCRBY", f"post:{number * 1000}", "likes", 1)
    pipeline.execute()
    return (
        {f"key:{number}".encode() for number in range(plain)},
        {f"post:{number * 1000}".encode() for number in range(records)})


@pytest.mark.parametrize("settled", [False, True], ids=["changed lately", "in segments"])
def test_everything_is_seen_once(tally, settled):
    client = tally.client()
    plain, records = fill(client, 3000, 2000)
    if settled:
        checkpoint(client)
    for count in [1, 10, 777, 100_000]:
        if count > 1 or not settled:
            seen = list(client.scan_iter(count=count))
            assert sorted(seen) == sorted(plain | records)
    assert set(client.scan_iter(_type="string", count=100)) == plain
    assert set(client.scan_iter(_type="hash", count=100)) == records
    assert list(client.scan_iter(_type="list")) == []
    assert set(client.scan_iter(match="key:1?", count=50)) == {
        f"key:{number}".encode() for number in range(10, 20)}
    assert set(client.keys("post:1[0-3]000")) == {b"post:10000", b"post:11000", b"post:12000", b"post:13000"}
    assert set(client.keys()) == plain | records
    drawn = {client.randomkey() for _ in range(2000)}
    assert drawn <= plain | records and len(drawn) > 500


def test_a_scan_while_everything_changes(tally):
    """What is deleted, made, given and denied deadlines, and merged meanwhile, hides nothing else."""
    client = tally.client()
    plain, records = fill(client, 2000, 1000)
    stop = threading.Event()

    def disturb():
        generator = random.Random(3)
        with tally.client() as other:
            while not stop.is_set():
                pipeline = other.pipeline(transaction=False)
                for _ in range(50):
                    number = generator.randrange(2000)
                    pipeline.incr(f"key:{number}")
                    pipeline.expire(f"key:{generator.randrange(2000)}", 4000)
                    pipeline.persist(f"key:{generator.randrange(2000)}")
                    pipeline.set(f"other:{number}", 1)
                    pipeline.delete(f"other:{generator.randrange(2000)}")
                    pipeline.execute_command(
                        "HINCRBY", f"post:{generator.randrange(1000) * 1000}", "views", 1)
                pipeline.execute()
                if generator.random() < 0.2:
                    other.execute_command("BGSAVE", "SCHEDULE")

    def scan():
        try:
            for count in [7, 50, 200] * 2:
                seen = set(client.scan_iter(count=count))
                assert not (plain | records) - seen, sorted((plain | records) - seen)[:5]
        finally:
            stop.set()

    run_all([disturb, scan])


def test_scans_of_what_is_on_disk(start_tally):
    server = start_tally("--memory-limit", "1mb", "--partitions", 4, "--checkpoint-bytes", "4mb")
    client, posts, plain = fill_cold(server)
    wait_until(lambda: residency(client)["cold_segments"] >= 3, "cold segments")
    seen = set(client.scan_iter(count=5000))
    assert {f"post:{key}".encode() for key in posts} <= seen
    assert {key.encode() if isinstance(key, str) else key for key in plain} <= seen
    assert client.randomkey() in seen
    with pytest.raises(redis.exceptions.ResponseError, match="use SCAN"):
        client.keys()


def test_cursors_are_kept_for_scans_that_go_on(tally):
    """A scan that is in the middle survives thousands of others that come to their ends."""
    client = tally.client()
    fill(client, 300, 0)
    cursor, first = client.scan(0, count=10)
    pipeline = client.pipeline(transaction=False)
    for _ in range(20_000):
        pipeline.scan(0, count=1000)
    pipeline.execute()
    seen = set(first)
    while cursor:
        cursor, keys = client.scan(cursor, count=10)
        seen.update(keys)
    assert len(seen) == 300


def test_columns_are_scanned(tally):
    client = tally.client()
    declare(client)
    client.hset("post:7", mapping={"likes": 5, "views": 6})
    assert dict(client.hscan_iter("post:7")) == {b"likes": b"5", b"views": b"6"}
    assert dict(client.hscan_iter("post:7", match="l*")) == {b"likes": b"5"}
    assert client.execute_command("HSCAN", "post:7", 0, "NOVALUES") is not None
    with pytest.raises(redis.exceptions.ResponseError, match="cannot be copied or renamed"):
        client.rename("post:7", "key")
    with pytest.raises(redis.exceptions.ResponseError, match="do not expire"):
        client.expire("post:7", 5)
    assert client.ttl("post:7") == -1 and client.ttl("post:8") == -2
    assert client.memory_usage("post:7") == 24 and client.memory_usage("post:8") is None
