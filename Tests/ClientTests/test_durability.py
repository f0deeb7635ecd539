"""What was acknowledged survives; what is damaged is refused."""

import os
import random
import shutil
import signal
import threading
import time

import pytest

from load import Incrementer, start_incrementers
from protocol import Closed, RawConnection
from servers import run_tally, wait_until

CRASH_CYCLES = int(os.environ.get("TALLY_CRASH_CYCLES", 10))
DEPTHS = [1, 1, 4, 16, 64, 200]
GROUP_MAGIC = b"TGRP"
SECTOR_BYTES = 512


def all_acknowledge(incrementers, more):
    """Waits until every connection got `more` acknowledgements."""
    wanted = [each.acknowledged + more for each in incrementers]
    wait_until(
        lambda: all(
            each.acknowledged >= count or each.error
            for each, count in zip(incrementers, wanted)), "acknowledgements")


def values(server, count):
    client = server.client()
    return [int(value or 0) for value in client.mget(f"own:{number}" for number in range(count))]


def verify(directory):
    """What `tally journal verify` says of an intact directory."""
    result = run_tally("journal", "verify", directory)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_a_clean_restart_keeps_everything(tally):
    client = tally.client()
    expected = {}
    generator = random.Random(5)
    for turn in range(3):
        pipeline = client.pipeline(transaction=False)
        for number in range(3000):
            key = f"key:{generator.randrange(2000)}"
            step = generator.randint(-(1 << 40), 1 << 40)
            pipeline.incrby(key, step)
            expected[key] = expected.get(key, 0) + step
        pipeline.execute()
        client.mset({"largest": (1 << 63) - 1, "least": -(1 << 63), "zero": 0, "": turn})
        client.set(b"\0\r\n\xff", turn)
        client.set("k" * 4096, turn)
        client.delete("gone")
        expected |= {"largest": (1 << 63) - 1, "least": -(1 << 63), "zero": 0, "": turn}
        expected |= {b"\0\r\n\xff": turn, "k" * 4096: turn}
        tally.restart()
        assert [int(value) for value in client.mget(list(expected))] == list(expected.values())
        assert client.dbsize() == len(expected)
        client.set("gone", 1)
    client.flushall()
    tally.restart()
    assert client.dbsize() == 0


def test_inspect_and_verify(tally):
    client = tally.client()
    client.incrby("likes", 5)
    client.delete("nosuch")
    client.mset({"a": 1, "b": -2})
    busy = run_tally("journal", "verify", tally.directory)
    assert busy.returncode == 2 and "in use by another process" in busy.stdout
    assert tally.stop() == 0
    assert "sealed by a clean shutdown" in verify(tally.directory)
    inspected = run_tally("journal", "inspect", "--entries", tally.directory)
    assert inspected.returncode == 0
    assert "journal-0000000001" in inspected.stdout and "seal" in inspected.stdout
    for entry in ["add  likes  5", "set  a  1", "set  b  -2"]:
        assert entry in inspected.stdout
    assert "nosuch" not in inspected.stdout
    assert "likes" not in run_tally("journal", "inspect", tally.directory).stdout
    assert run_tally("journal", "verify", tally.directory / "nosuch" / "deeper").returncode == 2


def test_a_second_process_is_refused(tally, start_tally):
    tally.client().incr("a")
    second = start_tally(directory=tally.directory, is_awaited=False)
    assert second.wait() != 0
    assert "in use by another process" in second.log()
    assert tally.client().incr("a") == 2


def crash_cycles(server, cycles, check, wait=lambda incrementers: None):
    """Kills the server under load again and again, on one directory.

    `check(incrementers, found, killed_at)` judges the counters found after each restart; `wait`
    lets the load go on until there is something to judge.
    """
    generator = random.Random(7)
    starts = [0] * len(DEPTHS)
    for _ in range(cycles):
        incrementers = start_incrementers(server.port, DEPTHS, starts)
        all_acknowledge(incrementers, generator.choice([1, 30, 300]))
        wait(incrementers)
        killed_at = time.monotonic()
        server.kill()
        for each in incrementers:
            each.join()
        server.start().wait_until_ready()
        starts = values(server, len(DEPTHS))
        check(incrementers, starts, killed_at)
    assert server.stop() == 0
    assert "sealed by a clean shutdown" in verify(server.directory)


@pytest.mark.parametrize("threads", [1, 2])
def test_kill_under_load(start_tally, threads):
    """Under `always`, nothing acknowledged is lost and nothing is counted twice."""
    def check(incrementers, found, _):
        for each, value in zip(incrementers, found):
            assert each.acknowledged <= value <= each.sent, each.name

    crash_cycles(start_tally("--threads", threads), CRASH_CYCLES, check)


class Checkpoints:
    """Has one checkpoint made after the other while a server runs."""

    def __init__(self, port):
        self.port = port
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        try:
            with RawConnection(self.port) as connection:
                while not self.stop.is_set():
                    connection.call("BGSAVE")
                    time.sleep(0.002)
        except (Closed, ConnectionError, TimeoutError):
            pass


@pytest.mark.parametrize("flags", [
    [], ["--threads", 2], ["--durability", "interval=100"], ["--memory-limit", "1mb"]])
def test_kill_under_load_with_checkpoints_all_the_time(start_tally, flags):
    server = start_tally(*flags)
    client = server.client()
    for line in [
            "ADD COUNTER own", "ADD COLUMN own id primarykey", "ADD COLUMN own a suffix=a",
            "ADD COLUMN own b suffix=b max=63"]:
        assert client.execute_command(*line.split()) == b"OK"
    if "--memory-limit" in flags:
        # Small ids are from long ago: whatever is in a checkpoint is on disk only.
        line = "ALTER COUNTER own cold-after=1 time-shift=0"
        assert client.execute_command(*line.split()) == b"OK"
    generator = random.Random(8)
    # Plain keys and columns of records that share blocks.
    names = ["plain:0", "plain:1", "own:0.a", "own:0.b", "own:1.a", "own:2.a", "own:4095.b"]
    depths = [1, 16, 1, 4, 16, 64, 200]
    starts = [0] * len(names)
    checkpoints_seen = 0
    for cycle in range(CRASH_CYCLES):
        checkpoints = Checkpoints(server.port)
        incrementers = [
            Incrementer(server.port, *each).start() for each in zip(names, depths, starts)]
        all_acknowledge(incrementers, generator.choice([1, 30, 300]))
        if "interval=100" in flags:
            time.sleep(0.15)
        moment = time.monotonic()
        server.kill()
        checkpoints.stop.set()
        for each in incrementers:
            each.join()
        server.start().wait_until_ready()
        client = server.client()
        found = [int(value or 0) for value in client.mget(names)]
        for each, value in zip(incrementers, found):
            kept = each.acknowledged
            if "interval=100" in flags:
                kept = each.acknowledged_at(moment - 0.1)
            assert kept <= value <= each.sent, each.name
        starts = found
        checkpoints_seen = max(checkpoints_seen, client.info("persistence")["checkpoint_sequence"])
    assert checkpoints_seen > 0
    # The journal below the checkpoints has gone.
    server.stop()
    assert len(server.journal_files()) <= 2
    result = run_tally("check", server.directory)
    assert result.returncode == 0, result.stdout


def test_kill_under_load_with_an_interval(start_tally):
    """What was acknowledged more than 100 ms before the kill is never lost."""
    # The journal's thread may have to wait for a processor before it writes.
    scheduling_seconds = 0.3
    age_seconds = 0.1 + scheduling_seconds

    def wait(incrementers):
        starts = [each.acknowledged_at(0) for each in incrementers]
        wait_until(
            lambda: all(
                each.acknowledged_at(time.monotonic() - age_seconds) > start
                for each, start in zip(incrementers, starts)), "old acknowledgements")

    def check(incrementers, found, killed_at):
        for each, value in zip(incrementers, found):
            certain = each.acknowledged_at(killed_at - age_seconds)
            assert 0 < certain <= value <= each.sent, each.name

    crash_cycles(start_tally("--durability", "interval=100"), CRASH_CYCLES, check, wait)


def test_kill_without_durability_keeps_a_prefix(start_tally):
    """Under `none` updates may be lost, but the process's end alone loses only the last few."""
    def check(incrementers, found, _):
        for each, value in zip(incrementers, found):
            assert 0 <= value <= each.sent, each.name

    crash_cycles(start_tally("--durability", "none"), min(CRASH_CYCLES, 10), check)


@pytest.mark.parametrize("durability", ["always", "interval=100", "none"])
def test_stop_under_load(start_tally, durability):
    """SIGTERM ends the server with 0; all that was acknowledged is there, and the seal is."""
    server = start_tally("--durability", durability)
    starts = [0] * len(DEPTHS)
    for number in [signal.SIGTERM, signal.SIGINT, signal.SIGTERM]:
        incrementers = start_incrementers(server.port, DEPTHS, starts)
        all_acknowledge(incrementers, 200)
        server.send_signal(number)
        assert server.wait() == 0, server.log()
        for each in incrementers:
            each.join()
        assert "sealed by a clean shutdown" in verify(server.directory)
        server.start().wait_until_ready()
        starts = values(server, len(DEPTHS))
        for each, value in zip(incrementers, starts):
            assert each.acknowledged <= value <= each.sent, each.name


# Damage


def write_groups(server, count=50):
    """Makes `count` commit groups: one per reply."""
    client = server.client()
    for number in range(1, count + 1):
        assert client.incr("a") == number


def group_offsets(data):
    """Where the groups of a journal file start."""
    return [
        offset for offset in range(SECTOR_BYTES, len(data), SECTOR_BYTES)
        if data[offset:offset + 4] == GROUP_MAGIC]


def flip(path, offset):
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x10
    path.write_bytes(data)


def refuses(start_tally, directory, *parts):
    """Whether a server refuses to start on `directory` and names all `parts`."""
    server = start_tally(directory=directory, is_awaited=False)
    assert server.wait() not in (0, None)
    for part in parts:
        assert part in server.log(), server.log()


@pytest.mark.parametrize("place", ["magic", "checksum", "header", "payload", "first", "last"])
def test_a_flipped_byte_in_a_sealed_journal_is_refused(tally, start_tally, place):
    write_groups(tally)
    assert tally.stop() == 0
    [path] = tally.journal_files()
    offsets = group_offsets(path.read_bytes())
    assert len(offsets) == 51
    group, inside = {
        "magic": (25, 0), "checksum": (25, 4), "header": (25, 9), "payload": (25, 70),
        "first": (0, 70), "last": (49, 70)}[place]
    offset = offsets[group]
    flip(path, offset + inside)
    before = path.read_bytes()
    result = run_tally("journal", "verify", tally.directory)
    assert result.returncode == 1, result.stdout
    assert path.name in result.stdout and f"byte {offset}" in result.stdout
    refuses(start_tally, tally.directory, path.name, f"byte {offset}", f"sequence {group + 1}")
    assert path.read_bytes() == before, "a refused journal is left as it was"


def test_a_damaged_seal_loses_nothing(tally):
    """The seal holds no counters: without it the journal is one that a crash has ended."""
    write_groups(tally)
    assert tally.stop() == 0
    [path] = tally.journal_files()
    flip(path, group_offsets(path.read_bytes())[-1] + 20)
    assert "torn tail" in verify(tally.directory)
    tally.start().wait_until_ready()
    assert tally.client().get("a") == b"50"


def test_a_flipped_byte_in_a_file_header_is_refused(tally, start_tally):
    write_groups(tally)
    assert tally.stop() == 0
    [path] = tally.journal_files()
    flip(path, 20)
    refuses(start_tally, tally.directory, path.name, "byte 0")


def test_damage_in_the_middle_of_an_unsealed_journal_is_refused(tally, start_tally):
    write_groups(tally)
    tally.kill()
    path = next(path for path in tally.journal_files() if group_offsets(path.read_bytes()))
    offset = group_offsets(path.read_bytes())[25]
    flip(path, offset + 70)
    refuses(start_tally, tally.directory, path.name, f"byte {offset}", "sequence 26")


@pytest.mark.parametrize("cut", ["inside the last group", "at the end", "bytes behind"])
def test_a_torn_tail_is_cut_off_and_reported(tally, cut):
    """A crash may tear the last group that nobody was promised; the rest is served."""
    write_groups(tally)
    tally.kill()
    path = next(path for path in tally.journal_files() if group_offsets(path.read_bytes()))
    data = path.read_bytes()
    last = group_offsets(data)[-1]
    if cut == "inside the last group":
        path.write_bytes(data[:last + 40])
    elif cut == "at the end":
        path.write_bytes(data[:last])
    else:
        path.write_bytes(data[:last] + b"torn" * 100)
    expected = "not sealed" if cut == "at the end" else "torn tail"
    assert expected in verify(tally.directory)
    tally.start().wait_until_ready()
    reported = "torn by a crash" in tally.log()
    assert reported == (cut != "at the end")
    client = tally.client()
    assert client.get("a") == b"49"
    assert client.incr("a") == 50
    tally.restart()
    assert client.get("a") == b"50"


def test_a_missing_file_is_refused(start_tally):
    """A journal whose beginning is gone is not an empty one."""
    server = start_tally()
    write_groups(server, 3)
    server.kill()
    for path in server.journal_files():
        path.rename(path.with_name("kept-" + path.name))
    # A file of the same journal, made later.
    server.start().wait_until_ready()
    write_groups(server, 3)
    assert server.stop() == 0
    [path] = server.journal_files()
    path.rename(path.with_name("journal-0000000002"))
    refuses(start_tally, server.directory, "journal-0000000002")


def test_a_copied_directory_is_a_backup(tally, start_tally, tmp_path):
    write_groups(tally, 20)
    assert tally.stop() == 0
    copy = tmp_path / "copy"
    shutil.copytree(tally.directory, copy)
    server = start_tally(directory=copy)
    assert server.client().get("a") == b"20"
