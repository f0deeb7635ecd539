"""What does not fit into memory-limit stays on disk, and nobody can tell."""

import random
import struct
import time

import pytest
import redis

from protocol import RawConnection
from servers import run_tally, wait_until
from test_checkpoints import checkpoint, fill, state

COUNT = 150_000


def residency(client):
    return client.info("residency")


def write(client, commands):
    """Executes commands, again if the server says that changes pile up faster than they are merged."""
    while True:
        pipeline = client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        replies = pipeline.execute(raise_on_error=False)
        refused = [
            command for command, reply in zip(commands, replies)
            if isinstance(reply, redis.exceptions.OutOfMemoryError)]
        errors = [
            reply for reply in replies
            if isinstance(reply, Exception)
            and not isinstance(reply, redis.exceptions.OutOfMemoryError)]
        assert not errors, errors[:3]
        if not refused:
            return
        commands = refused
        time.sleep(0.2)


def declare(client):
    for line in [
            "ADD COUNTER post", "ADD COLUMN post id primarykey", "ADD COLUMN post likes suffix=l",
            "ADD COLUMN post views suffix=v"]:
        assert client.execute_command(*line.split()) == b"OK"


def fill_cold(server, seed=1):
    """Records of both kinds, more than the limit has room for, and what they must be."""
    client = server.client()
    declare(client)
    random_numbers = random.Random(seed)
    posts = {}
    plain = {}
    for start in range(0, COUNT, 2000):
        commands = []
        for number in range(start, start + 2000):
            key = number * 7 + random_numbers.randrange(7)
            posts[key] = [number % 5, random_numbers.getrandbits(28)]
            commands.append(("SET", "post", key, *posts[key]))
            plain[f"key:{number}:{number * 7919 % 1000}"] = number
            commands.append(("SET", f"key:{number}:{number * 7919 % 1000}", number))
        write(client, commands)
    checkpoint(client)
    return client, posts, plain


def check(client, posts, plain, sample):
    keys = sample(sorted(posts), 4000)
    for start in range(0, len(keys), 100):
        part = keys[start:start + 100]
        assert client.execute_command("GET", "post", *part) == [posts[key] for key in part]
    keys = sample(sorted(plain), 4000)
    for start in range(0, len(keys), 100):
        part = keys[start:start + 100]
        assert client.mget(part) == [str(plain[key]).encode() for key in part]


def test_records_beyond_the_limit_are_exact(start_tally):
    server = start_tally("--memory-limit", "1mb", "--partitions", 4, "--checkpoint-bytes", "4mb")
    client, posts, plain = fill_cold(server)
    info = wait_until(
        lambda: (found := residency(client))["cold_segments"] >= 3 and found, "cold segments")
    sample = random.Random(2).sample
    check(client, posts, plain, sample)
    reads = residency(client)
    assert reads["cold_reads"] > 100 and reads["cold_read_bytes"] > reads["cold_reads"]
    # Changes and removals of what is on disk.
    changed = sample(sorted(posts), 500)
    commands = [("INCR", "post", f"{key}.v", 5) for key in changed]
    removed = sample(sorted(posts), 300)
    commands += [("DEL", "post", key) for key in removed]
    names = sample(sorted(plain), 500)
    commands += [("INCRBY", name, 3) for name in names]
    write(client, commands)
    for key in changed:
        posts[key][1] += 5
    for key in removed:
        posts[key] = [0, 0]
    for name in names:
        plain[name] += 3
    check(client, posts, plain, sample)
    checkpoint(client)
    check(client, posts, plain, sample)
    assert client.dbsize() == len(plain) + sum(1 for row in posts.values() if row != [0, 0])
    for stop in (server.kill, server.stop):
        stop()
        server.start().wait_until_ready()
        client = server.client()
        check(client, posts, plain, sample)
    # No event loop ever waited for the disk, and memory stayed where it should.
    found = wait_until(
        lambda: (found := residency(client))["used_memory_hot"] <= 1 << 20 and found, "cooling")
    assert found["cold_late_reads"] == 0, found
    # An eighth, and what a command that waits may take beyond it.
    assert found["used_memory_cached_blocks"] <= (1 << 20) // 4
    assert info["used_memory_cold_index"] > 0
    server.stop()
    assert run_tally("check", server.directory).returncode == 0


def test_absent_keys_need_no_disk(start_tally):
    server = start_tally(
        "--memory-limit", "1mb", "--partitions", 4, "--filter-bits", 8)
    client, posts, plain = fill_cold(server)

    def is_settled():
        found = residency(client)
        return found["used_memory_cold_filter"] > 0 and found["used_memory_hot"] <= 1 << 20

    wait_until(is_settled, "filters")
    time.sleep(2.5)
    before = residency(client)["cold_reads"]
    absent = [key + 1 for key in posts if key + 1 not in posts][:20_000]
    for start in range(0, len(absent), 100):
        part = absent[start:start + 100]
        assert client.execute_command("GET", "post", *part) == [[0, 0]] * len(part)
    names = [f"{name}x" for name in list(plain)[:20_000]]
    for start in range(0, len(names), 100):
        part = names[start:start + 100]
        assert client.mget(part) == [None] * len(part)
    reads = residency(client)["cold_reads"] - before
    # One in 256 of those whose segments are cold.
    assert reads < 40_000 / 100, reads


def test_replies_keep_their_order(start_tally):
    """A connection that waits for the disk gets its replies in order; others go on meanwhile."""
    server = start_tally("--memory-limit", "1mb", "--partitions", 4)
    client, posts, _ = fill_cold(server)
    wait_until(lambda: residency(client)["cold_segments"] >= 3, "cold segments")
    keys = sorted(posts)
    numbers = random.Random(5)
    with RawConnection(server.port) as connection:
        for round_number in range(30):
            chosen = [numbers.choice(keys) for _ in range(40)]
            text = b""
            expected = b""
            for place, key in enumerate(chosen):
                text += b"INCR here:%d\r\nGET post %d\r\nPING\r\n" % (place, key)
                expected += b":%d\r\n*2\r\n:%d\r\n:%d\r\n+PONG\r\n" % (
                    round_number + 1, *posts[key])
            connection.send(text)
            assert connection.take(len(expected)) == expected


def test_a_damaged_block_is_refused_and_the_rest_is_served(start_tally, tmp_path):
    server = start_tally("--partitions", 1)
    client = server.client()
    fill(client, 900)
    checkpoint(client)
    before = state(client, 900)
    server.stop()
    # The segment of counter `user`, the second one; its blocks stand behind the header.
    victim = next(
        file for file in sorted(server.directory.glob("segment-*"))
        if struct.unpack_from("<I", file.read_bytes(), 44)[0] == 2)
    data = bytearray(victim.read_bytes())
    data[struct.unpack_from("<I", data, 20)[0] + 30] ^= 4
    victim.write_bytes(data)
    result = run_tally("check", server.directory)
    assert result.returncode == 1 and f"{victim.name}: block 0 at byte" in result.stdout
    users = [f"user{number:04}" for number in range(900)]
    values = before[2]
    for flags in ([], ["--memory-limit", "1mb"], []):
        server.command = server.command[:6] + flags
        server.start().wait_until_ready()
        client = server.client()
        wait_until(lambda: "block 0" in server.log(), "the damage to be reported")
        assert client.mget(f"key:{number}" for number in range(900)) == before[0]
        assert client.execute_command(
            "GET", "post", *(number * 977 for number in range(900))) == before[1]
        for _ in range(2):
            for command in [
                    "GET user user0001", "SET user user0001 3", "DEL user user0001",
                    "HINCRBY user:user0001 posts 1", "EXISTS user user0001",
                    "SET user user0000a 3", "GET user user0700 user0001"]:
                with pytest.raises(redis.exceptions.ResponseError, match="damaged.*block 0"):
                    client.execute_command(*command.split())
            assert client.execute_command("GET", "user", *users[200:]) == values[200:]
            # Other records of the same segment change, and the damage goes along.
            assert client.hincrby("user:user0700", "posts", 1) == values[700][0] + 1
            values[700][0] += 1
            checkpoint(client)
        assert server.stop() == 0
        assert run_tally("check", server.directory).returncode == 1


def test_cold_after_days(start_tally):
    """Old ids are on disk although there is room for them."""
    server = start_tally("--partitions", 2)
    client = server.client()
    declare(client)
    with pytest.raises(redis.exceptions.ResponseError, match="time-shift"):
        client.execute_command("ALTER", "COUNTER", "post", "cold-after=3")
    now = int(time.time() * 1000)
    rows = {}
    for age_days in range(31, 40):
        for number in range(2000):
            rows[(now - age_days * 86_400_000 + number << 8) + number % 256] = number + 1
    keys = sorted(rows)
    for start in range(0, len(keys), 2000):
        write(client, [("SET", "post", key, rows[key], 1) for key in keys[start:start + 2000]])
    checkpoint(client)
    time.sleep(1.2)
    assert residency(client)["cold_segments"] == 0
    rule = "ALTER COUNTER post cold-after=30 time-shift=8 time-unit=ms time-epoch=0"
    assert client.execute_command(*rule.split()) == b"OK"
    assert rule.encode() in client.execute_command("DESCRIBE", "post")
    wait_until(lambda: residency(client)["cold_segments"] == 2, "the old to be cold")
    server.restart()
    client = server.client()
    assert rule.encode() in client.execute_command("DESCRIBE", "post")
    wait_until(lambda: residency(client)["cold_segments"] == 2, "the old to be cold")
    assert client.execute_command("GET", "post", *keys[::500]) == [
        [rows[key], 1] for key in keys[::500]]
    assert residency(client)["cold_reads"] > 0
    # New ids, behind the old ones of one partition: from the beginning of a group of 2^18 ids, whose
    # halves the two partitions share.
    first = (now << 8) >> 18 << 18
    for number in range(4096):
        client.execute_command("INCR", "post", f"{first + number}.l")
    checkpoint(client)
    wait_until(lambda: residency(client)["hot_segments"] == 1, "the new to be warm")
    assert client.execute_command("ALTER", "COUNTER", "post", "cold-after=0") == b"OK"
    assert all(b"cold-after" not in line for line in client.execute_command("DESCRIBE", "post"))


def test_a_start_warms_up(start_tally):
    """After a start with a limit that has room for all, all is in memory again before long."""
    server = start_tally("--memory-limit", "64mb")
    client = server.client()
    fill(client)
    before = state(client)
    server.restart()
    client = server.client()
    assert state(client) == before
    wait_until(lambda: residency(client)["cold_segments"] == 0, "all segments to be warm")
    assert residency(client)["hot_segments"] > 0
    assert state(client) == before
