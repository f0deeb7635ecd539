"""A full disk refuses writes, with an error; reads work, and writes again when there is space."""

import os
import subprocess
import threading

import pytest
import redis

from load import run_all
from protocol import RawConnection, encode
from servers import tool, wait_until

FILE_SYSTEM_SIZE = "160m"
# Long keys fill the journal sooner.
LONG = "x" * 1000
REFUSAL = b"-MISCONF The journal's disk is full. "


@pytest.fixture
def small_disk(tmp_path):
    """A file system with room for two journal files and a bit."""
    path = tmp_path / "small"
    path.mkdir()
    result = subprocess.run(
        [tool("mount"), "-t", "tmpfs", "-o", f"size={FILE_SYSTEM_SIZE}", "tmpfs", str(path)],
        capture_output=True, text=True, check=False)
    if result.returncode != 0:
        pytest.skip(f"mounting a tmpfs is not permitted here: {result.stderr.strip()}")
    yield path
    subprocess.run([tool("umount"), str(path)], check=True)


@pytest.fixture
def server(small_disk, start_tally):
    server = start_tally(directory=small_disk / "data")
    yield server
    # Before the disk is unmounted.
    if server.is_running:
        server.stop()


def fill(disk):
    """Takes all the space that is left and returns the file that does."""
    path = disk / "ballast"
    with open(path, "wb", buffering=0) as ballast:
        block = b"\0" * (64 << 10)
        try:
            while ballast.write(block) == len(block):
                pass
        except OSError:
            pass
    assert os.statvfs(disk).f_bavail == 0
    return path


def write_until_refused(server, acknowledged):
    """Sets many keys, noting each acknowledged value, until all further sets are refused."""
    def body(number):
        with RawConnection(server.port) as connection:
            turn = 0
            while True:
                keys = [f"key:{number}:{turn % 5}:{index}:{LONG}" for index in range(500)]
                turn += 1
                connection.send(b"".join(encode("SET", key, turn) for key in keys))
                replies = [connection.read_reply() for _ in keys]
                for key, reply in zip(keys, replies):
                    if reply == b"+OK\r\n":
                        acknowledged[key] = turn
                    else:
                        assert reply.startswith(REFUSAL), reply
                if replies[-1] != b"+OK\r\n":
                    return

    run_all([lambda number=number: body(number) for number in range(4)])
    # Less than many sets at once may still fit, down to one increment of a short key.
    with RawConnection(server.port) as connection:
        for key in [LONG, "x"]:
            while (reply := connection.call("INCR", key)).startswith(b":"):
                acknowledged[key] = int(reply[1:])
        assert reply.startswith(REFUSAL), reply


def check_values(server, acknowledged):
    client = server.client()
    keys = sorted(acknowledged)
    for start in range(0, len(keys), 1000):
        part = keys[start:start + 1000]
        expected = [str(acknowledged[key]).encode() for key in part]
        assert client.mget(part) == expected
    return client


def test_full_and_free_again(small_disk, server):
    acknowledged = {}
    client = server.client()
    client.incrby("before", 7)
    client.mset({"a": 1, "b": 2})
    ballast = fill(small_disk)
    write_until_refused(server, acknowledged)
    assert acknowledged, "nothing was accepted before"

    # Every write is refused, without any effect; every read works.
    with RawConnection(server.port) as connection:
        for arguments in [
            ("INCR", "before"), ("DECR", "new"), ("INCRBY", "before", 5), ("SET", "before", 1),
            ("SETNX", "new", 1), ("GETSET", "before", 1), ("GETDEL", "before"), ("DEL", "a", "b"),
            ("UNLINK", "a"), ("MSET", "a", 5, "new", 6), ("MSETNX", "new", 5, "newer", 6),
            ("FLUSHALL",),
        ]:
            assert connection.call(*arguments).startswith(REFUSAL), arguments
        assert connection.call("MGET", "before", "a", "b", "new") == (
            b"*4\r\n$1\r\n7\r\n$1\r\n1\r\n$1\r\n2\r\n$-1\r\n")
        assert connection.call("EXISTS", "a", "new", "newer") == b":1\r\n"
        assert connection.call("PING") == b"+PONG\r\n"
        connection.send(encode("INCR", "before") + encode("GET", "before"))
        assert connection.read_reply().startswith(REFUSAL)
        assert connection.read_reply() == b"$1\r\n7\r\n"
    check_values(server, acknowledged)
    persistence = client.info("persistence")
    assert persistence["journal_space"] == "full" and persistence["aof_last_write_status"] == "err"
    assert "no space for another journal file" in server.log()

    # Space comes back; the server notices by itself.
    ballast.unlink()

    def is_accepted():
        try:
            return client.incr("after") > 0
        except redis.ResponseError as error:
            assert str(error).startswith("MISCONF") or "journal's disk is full" in str(error)
            return False

    wait_until(is_accepted, "writes to be accepted again")
    assert client.info("persistence")["journal_space"] == "ok"
    assert client.incr("before") == 8
    check_values(server, acknowledged)
    after = int(client.get("after"))
    server.restart()
    client = check_values(server, acknowledged)
    assert client.mget("before", "after", "a", "b", "new") == [
        b"8", str(after).encode(), b"1", b"2", None]


def test_a_crash_while_full_loses_nothing(small_disk, server):
    acknowledged = {}
    ballast = fill(small_disk)
    write_until_refused(server, acknowledged)
    server.kill()
    # The newest file's groups must be copied before anything is served.
    server.start()
    wait_until(lambda: not server.is_running, "the start to be refused")
    assert "no space left" in server.log()
    ballast.unlink()
    server.start().wait_until_ready()
    check_values(server, acknowledged)


def test_a_stop_while_full_is_clean(small_disk, server):
    acknowledged = {}
    ballast = fill(small_disk)
    write_until_refused(server, acknowledged)
    assert server.stop() == 0, server.log()
    ballast.unlink()
    server.start().wait_until_ready()
    check_values(server, acknowledged)


def test_a_start_without_space_still_serves_reads(small_disk, server):
    server.client().incr("a")
    assert server.stop() == 0
    ballast = fill(small_disk)
    server.start().wait_until_ready()
    client = server.client()
    assert client.get("a") == b"1"
    with RawConnection(server.port) as connection:
        assert connection.call("INCR", "a").startswith(REFUSAL)
        ballast.unlink()
        wait_until(
            lambda: connection.call("INCR", "a") == b":2\r\n", "writes to be accepted again")
    server.restart()
    assert server.client().get("a") == b"2"


def test_filling_up_while_others_read(small_disk, server):
    """Readers never get an error while the disk fills, stays full and becomes free."""
    server.client().set("steady", 5)
    stop = threading.Event()

    def read():
        with RawConnection(server.port) as connection:
            while not stop.is_set():
                assert connection.call("GET", "steady") == b"$1\r\n5\r\n"

    def write():
        try:
            ballast = fill(small_disk)
            write_until_refused(server, {})
            ballast.unlink()
            with RawConnection(server.port) as connection:
                wait_until(
                    lambda: connection.call("INCR", "a").startswith(b":"),
                    "writes to be accepted again")
        finally:
            stop.set()

    run_all([read, read, write])
