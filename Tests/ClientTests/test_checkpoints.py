"""Checkpoints: what they hold, what damage does, and what `tally check` says."""

import shutil

import time

import pytest

from servers import run_tally, wait_until


def checkpoint(client):
    """Has a checkpoint made of everything so far and waits for it."""
    sequence = client.info("persistence")["durable_sequence"]
    client.bgsave()
    wait_until(
        lambda: client.info("persistence")["checkpoint_sequence"] >= sequence, "a checkpoint")


def fill(client, count=300):
    for line in [
            "ADD COUNTER post", "ADD COLUMN post id primarykey", "ADD COLUMN post likes suffix=l",
            "ADD COLUMN post views suffix=v max=63", "ADD COUNTER user known=only",
            "ADD COLUMN user name primarykey type=string", "ADD COLUMN user posts min=-5"]:
        assert client.execute_command(*line.split()) == b"OK"
    pipeline = client.pipeline(transaction=False)
    for number in range(count):
        pipeline.incrby(f"key:{number}", number - 7)
        pipeline.execute_command("SET", "post", number * 977, number % 3, number * number)
        pipeline.execute_command("SET", "user", f"user{number:04}", number % 9 - 4)
    pipeline.execute()


def state(client, count=300):
    """Everything that `fill` can have written, and the schema."""
    posts = client.execute_command("GET", "post", *(number * 977 for number in range(count)))
    users = client.execute_command("GET", "user", *(f"user{number:04}" for number in range(count)))
    return (
        client.mget(f"key:{number}" for number in range(count)), posts, users, client.dbsize(),
        client.execute_command("DESCRIBE", "post"), client.execute_command("DESCRIBE", "user"))


def check(directory):
    result = run_tally("check", directory)
    return result.returncode, result.stdout


def test_a_restart_begins_at_the_checkpoint(tally):
    client = tally.client()
    fill(client)
    checkpoint(client)
    client.incr("key:5")
    client.execute_command("DEL", "post", 977)
    client.execute_command("ADD", "COLUMN", "post", "shares", "default=3")
    before = state(client)
    for stop in (tally.kill, tally.stop):
        stop()
        tally.start().wait_until_ready()
        assert state(tally.client()) == before
    tally.stop()
    assert check(tally.directory)[0] == 0
    # After a clean stop there is nothing to replay.
    tally.start().wait_until_ready()
    assert state(tally.client()) == before
    assert tally.client().info("persistence")["checkpoint_sequence"] > 0


def test_checkpoints_follow_columns_and_families(tally):
    client = tally.client()
    fill(client)
    for line in [
            "DROP COLUMN post likes", "ADD COLUMN post likes suffix=l default=9",
            "ALTER COLUMN post views suffix=w bound=saturate", "DROP COUNTER user"]:
        checkpoint(client)
        assert client.execute_command(*line.split()) == b"OK"
        client.execute_command("INCR", "post", "977.l", 2) if "ADD" in line else None
        before = client.execute_command("GET", "post", 0, 977, 1954)
        tally.kill()
        tally.start().wait_until_ready()
        assert client.execute_command("GET", "post", 0, 977, 1954) == before
    checkpoint(client)
    client.flushall()
    checkpoint(client)
    tally.kill()
    tally.start().wait_until_ready()
    assert client.dbsize() == 0
    assert client.execute_command("DESCRIBE") == [b"post"]
    tally.stop()
    assert not list(tally.directory.glob("segment-*"))


def test_space_comes_back(tally):
    """Inserting and deleting over and over leaves the files as they were."""
    client = tally.client()
    sizes = []
    for _ in range(6):
        pipeline = client.pipeline(transaction=False)
        for number in range(5000):
            pipeline.incr(f"key:{number}")
        pipeline.execute()
        checkpoint(client)
        client.delete(*(f"key:{number}" for number in range(5000)))
        checkpoint(client)
        sizes.append(sum(file.stat().st_size for file in tally.directory.glob("segment-*")))
    assert sizes == [0] * 6


def sealed_directory(server, tmp_path):
    """A small directory with everything in it, cleanly stopped."""
    client = server.client()
    fill(client, 30)
    checkpoint(client)
    client.incr("key:5")
    client.execute_command("INCR", "post", "977.l")
    before = state(client, 30)
    server.stop()
    return before


def test_every_flipped_byte_is_found_or_harmless(start_tally, tmp_path):
    """In files that the manifest names: one bit of each byte, a start after each is too slow.

    Every single bit is flipped by the unit tests.
    """
    server = start_tally("--partitions", 1)
    sealed_directory(server, tmp_path)
    manifest = server.directory / "manifest"
    data = bytearray(manifest.read_bytes())
    for offset in range(0, len(data), 7):
        data[offset] ^= 1 << offset % 8
        manifest.write_bytes(data)
        code, text = check(server.directory)
        assert code == 1 and "DAMAGED: manifest" in text, (offset, text)
        data[offset] ^= 1 << offset % 8
    manifest.write_bytes(data)
    assert check(server.directory)[0] == 0


@pytest.mark.parametrize("place", ["header", "index", "cut", "missing", "other"])
def test_damage_in_a_segment_is_named_and_refused(start_tally, tmp_path, place):
    server = start_tally("--partitions", 1)
    sealed_directory(server, tmp_path)
    files = sorted(server.directory.glob("segment-*"))
    assert len(files) == 3
    victim = files[1]
    data = bytearray(victim.read_bytes())
    expected = {
        "header": "its header is damaged", "index": "its index",
        "cut": "its size is not", "missing": "is missing, and the manifest names it",
        "other": "not the segment that the manifest names",
    }[place]
    if place == "missing":
        victim.unlink()
    elif place == "other":
        victim.write_bytes(files[0].read_bytes() + b"")
        if len(data) != files[0].stat().st_size:
            expected = "its size is not"
    elif place == "cut":
        victim.write_bytes(data[:-1])
    else:
        data[{"header": 50, "index": -3}[place]] ^= 4
        victim.write_bytes(data)
    code, text = check(server.directory)
    assert code == 1
    assert f"{victim.name}" in text and expected in text, text
    refused = start_tally(directory=server.directory, is_awaited=False)
    assert refused.wait() != 0
    assert victim.name in refused.log() and expected in refused.log()


def test_a_missing_manifest_is_not_taken_for_a_new_start(start_tally):
    """With a journal that begins in the middle, everything is refused and nothing is removed."""
    server = start_tally("--partitions", 2)
    client = server.client()
    for _ in range(3):
        fill(client, 10) if not client.execute_command("DESCRIBE") else None
        for _ in range(200):
            client.mset({f"{number}:{'x' * 1000}": 1 for number in range(400)})
        checkpoint(client)
    server.stop()
    assert not (server.directory / "journal-0000000001").exists()
    saved = server.directory / "manifest"
    shutil.move(saved, server.directory / "elsewhere")
    before = sorted(server.directory.iterdir())
    refused = start_tally(directory=server.directory, is_awaited=False)
    assert refused.wait() != 0
    assert sorted(server.directory.iterdir()) == before
    shutil.move(server.directory / "elsewhere", saved)
    server.start().wait_until_ready()
    assert client.dbsize() > 0


def test_a_full_disk_gives_a_checkpoint_up_and_loses_nothing(start_tally, tmp_path):
    """A directory without room for segments: the journal goes on, and so does the server."""
    server = start_tally("--partitions", 1)
    client = server.client()
    fill(client)
    blocker = server.directory / "segment-0000000001"
    blocker.mkdir()
    client.bgsave()
    wait_until(lambda: "no checkpoint could be made" in server.log(), "a failed checkpoint")
    client.incr("key:1")
    before = state(client)
    blocker.rmdir()
    checkpoint(client)
    assert state(client) == before
    server.kill()
    server.start().wait_until_ready()
    assert state(client) == before


def test_last_save(tally):
    """As in Redis, the start counts until there is a checkpoint."""
    client = tally.client()
    client.incr("a")
    started = client.info("persistence")["rdb_last_save_time"]
    assert abs(started - time.time()) < 60 and client.lastsave().timestamp() == started
    assert client.info("persistence")["checkpoint_sequence"] == 0
    time.sleep(1.1)
    assert client.bgsave() is True
    wait_until(lambda: client.lastsave().timestamp() > started, "a checkpoint")


def test_scrubbing_finds_damage_and_mends_it(start_tally):
    server = start_tally("--partitions", 2, "--scrub-seconds", 1)
    client = server.client()
    fill(client)
    checkpoint(client)
    before = state(client)
    wait_until(lambda: client.info("persistence")["scrubbed_segments"] > 6, "a scrub")
    assert client.info("persistence")["damaged_segments"] == 0
    files = sorted(server.directory.glob("segment-*"))
    for victim, place in zip(files, [60, 170, -2]):
        data = bytearray(victim.read_bytes())
        data[place] ^= 16
        victim.write_bytes(data)
    files[3].unlink()
    wait_until(lambda: client.info("persistence")["damaged_segments"] >= 4, "damage to be found")
    wait_until(lambda: not any(file.exists() for file in files[:4]), "it to be mended")
    for victim in files[:4]:
        assert f"{victim.name} is" in server.log()
    assert state(client) == before
    server.stop()
    assert check(server.directory)[0] == 0
    server.start().wait_until_ready()
    assert state(client) == before
