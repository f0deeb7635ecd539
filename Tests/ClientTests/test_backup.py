"""Backups, restoring them, and exports: consistent, and made while clients write."""

import random
import struct
import threading

import pytest

from load import Incrementer
from servers import run_tally
from test_checkpoints import checkpoint, fill, state


def tool(server, *arguments):
    """Runs a tool against a server and returns what it printed."""
    result = run_tally(arguments[0], "--port", server.port, *arguments[1:])
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_a_backup_is_a_data_directory(start_tally, tmp_path):
    server = start_tally()
    client = server.client()
    fill(client)
    checkpoint(client)
    client.incr("key:5")
    client.execute_command("INCR", "post", "977.l")
    before = state(client)
    tool(server, "backup", tmp_path / "backup")
    client.flushall()
    assert run_tally("check", tmp_path / "backup").returncode == 0
    again = run_tally("backup", "--port", server.port, tmp_path / "backup")
    assert again.returncode == 1 and "not empty" in again.stderr
    assert run_tally("restore", tmp_path / "backup", tmp_path / "data").returncode == 0
    restored = start_tally(directory=tmp_path / "data")
    assert state(restored.client()) == before
    restored.client().incr("key:5")
    restored.stop()
    # The backup has not changed, and its history goes on in another epoch.
    assert run_tally("check", tmp_path / "backup").returncode == 0
    assert "epoch 2" in run_tally("check", tmp_path / "data").stdout
    assert "epoch 1" in run_tally("check", tmp_path / "backup").stdout
    second = start_tally(directory=tmp_path / "backup")
    assert state(second.client()) == before


@pytest.mark.parametrize("durability", ["always", "none"])
def test_backups_under_load(start_tally, tmp_path, durability):
    """Each holds at least what was acknowledged before it, as one moment had it."""
    server = start_tally("--threads", 2, "--durability", durability)
    incrementers = [
        Incrementer(server.port, f"own:{number}", depth).start()
        for number, depth in enumerate([1, 16, 200])]
    stop = threading.Event()

    def pairs():
        """Two keys of different partitions that every command changes alike."""
        client = server.client()
        number = 0
        while not stop.is_set():
            number += 1
            client.mset({"left": number, "right": number})

    thread = threading.Thread(target=pairs, daemon=True)
    thread.start()
    for turn in range(6):
        server.client().bgsave()
        acknowledged = [each.acknowledged for each in incrementers]
        tool(server, "backup", tmp_path / f"backup{turn}")
        copy = start_tally(directory=tmp_path / f"backup{turn}")
        client = copy.client()
        for each, count in zip(incrementers, acknowledged):
            value = int(client.get(each.name) or 0)
            assert value <= each.sent
            if durability == "always":
                assert value >= count
        left, right = client.mget("left", "right")
        assert left == right
        copy.stop()
    stop.set()
    thread.join()
    for each in incrementers:
        each.stop_requested.set()
        each.join()


def test_records_of_one_family_come_back(tally, tmp_path):
    client = tally.client()
    fill(client)
    tool(tally, "backup", tmp_path / "backup")
    before = state(client)
    for number in range(300):
        client.execute_command("SET", "post", number * 977, 9, 9)
        client.execute_command("SET", "user", f"user{number:04}", 5)
    client.execute_command("ADD", "COLUMN", "post", "shares", "default=4")
    out = tool(
        tally, "restore", "--family", "post", "--from", 0, "--to", 976 * 100, tmp_path / "backup")
    assert "restored 99 records of post" in out
    rows = client.execute_command("GET", "post", *(number * 977 for number in range(300)))
    for number, row in enumerate(rows):
        old = before[1][number] + [4]
        assert row == (old if 0 < number * 977 <= 97600 else [9, 9, 4]), number
    tool(tally, "restore", "--family", "user", tmp_path / "backup")
    assert state(client)[2] == before[2]
    assert client.mget("key:1", "key:2") == before[0][1:3]


def test_exports_are_read_back(start_tally, tmp_path):
    server = start_tally()
    client = server.client()
    fill(client)
    client.execute_command("SET", "user", 'a "quoted", key', 5)
    client.execute_command("SET", "user", "with\ttab", 6)
    before = state(client)
    checkpoint(client)
    for kind in ("csv", "tsv"):
        tool(server, "export", "--family", "post", "--format", kind, tmp_path / f"post.{kind}")
        tool(server, "export", "--family", "user", "--format", kind, tmp_path / f"user.{kind}")
        lines = (tmp_path / f"post.{kind}").read_text().splitlines()
        assert lines[0] == {"csv": "id,likes,views", "tsv": "id\tlikes\tviews"}[kind]
        assert len(lines) == 300
        other = start_tally()
        fill(other.client(), 1)
        for family in ("post", "user"):
            tool(other, "import", "--family", family, tmp_path / f"{family}.{kind}")
        assert state(other.client())[1:3] == before[1:3]
        assert other.client().execute_command(
            "GET", "user", 'a "quoted", key', "with\ttab") == [[5], [6]]
    client.execute_command("SET", "user", "two\nlines", 5)
    result = run_tally("export", "--port", server.port, "--family", "user", tmp_path / "bad")
    assert result.returncode == 1 and "line break" in result.stderr
    assert not list(tmp_path.glob("**/tally-export-*"))


def test_mistakes(tally, tmp_path):
    assert run_tally("restore", tmp_path).returncode != 0
    (tmp_path / "empty").mkdir()
    result = run_tally("restore", tmp_path / "empty", tmp_path / "data")
    assert result.returncode == 1 and "no data" in result.stderr
    result = run_tally("export", "--port", tally.port, "--family", "nosuch", tmp_path / "x")
    assert result.returncode == 1 and "no such counter 'nosuch'" in result.stderr
    result = run_tally("backup", "--port", 1, tmp_path / "b")
    assert result.returncode == 1 and "cannot reach the server" in result.stderr
    client = tally.client()
    with pytest.raises(Exception, match="absolute path"):
        client.execute_command("BACKUP", "START", "relative")
