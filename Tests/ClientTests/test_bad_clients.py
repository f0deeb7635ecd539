"""Clients that lie, stall, flood or vanish harm nobody but themselves."""

import os
import random
import re
import resource
import select
import socket
import threading

import pytest

from protocol import Closed, RawConnection, encode
from servers import wait_until

CONNECTIONS = int(os.environ.get("TALLY_CONNECTIONS", 5000))
MEBIBYTE = 1 << 20
# What all connections together may hold is 512 MiB, as docs say; most of these tests stay far
# below it, and the server itself needs some.
RESIDENT_BYTES_MAX = 1024 * MEBIBYTE


class GoodClient:
    """A client that behaves: increments its key all the time and checks every reply."""

    def __init__(self, server):
        self.server = server
        self.count = 0
        self.resident_bytes_max = 0
        self.error = None
        self.is_stopping = False
        self.thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self.thread.start()
        wait_until(lambda: self.count > 10 or self.error, "the first replies")
        return self

    def __exit__(self, *_):
        before = self.count
        wait_until(lambda: self.count > before + 10 or self.error, "further replies")
        self.is_stopping = True
        self.thread.join(60)
        assert not self.thread.is_alive(), "the good client got no reply"
        if self.error is not None:
            raise self.error
        assert self.resident_bytes_max < RESIDENT_BYTES_MAX

    def _run(self):
        try:
            with RawConnection(self.server.port) as connection:
                while not self.is_stopping:
                    for _ in range(10):
                        self.count += 1
                        assert connection.call("INCR", "good") == b":%d\r\n" % self.count
                        got = connection.call("GET", "good")
                        assert got.split(b"\r\n")[1] == b"%d" % self.count
                    self.resident_bytes_max = max(
                        self.resident_bytes_max, self.server.resident_bytes())
        except BaseException as error:  # noqa: BLE001 - raised by __exit__
            self.error = error


@pytest.fixture
def good_client(tally):
    with GoodClient(tally) as client:
        yield client


@pytest.fixture(autouse=True)
def many_files():
    """Room for thousands of connections in this process and in those that it starts."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * CONNECTIONS + 1000
    if before[0] < wanted:
        hard = before[1] if before[1] == resource.RLIM_INFINITY else max(wanted, before[1])
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("data", [
    b"*1000000000\r\n", b"*1048577\r\n", b"*2\r\n$3\r\nGET\r\n$1000000000000\r\n",
    b"*1\r\n$1048577\r\n", b"*99999999999999999999999\r\n",
    b"*9\r\n" + b"".join(b"$1048576\r\n%s\r\n" % (b"x" * MEBIBYTE) for _ in range(9)),
], ids=["arguments", "one argument too many", "argument", "one byte too many", "beyond 64 bits",
        "command"])
def test_gigantic_announcements(tally, good_client, data):
    """What is announced costs nothing and is refused."""
    before = tally.resident_bytes()
    for _ in range(20):
        with RawConnection(tally.port) as connection:
            try:
                connection.send(data)
            except ConnectionError:
                pass  # closed while we were still sending
            reply = connection.read_until_closed()
            # A server that closes with input unread may take its reply back.
            assert reply == b"" or reply.startswith(b"-ERR Protocol error: "), reply
            assert reply or len(data) > MEBIBYTE
    assert tally.resident_bytes() < before + 100 * MEBIBYTE


@pytest.mark.parametrize("arguments, expected", [
    (["DEL"] + ["a"] * 1_048_575, b":0\r\n"), (["DEL"] + [""] * 1_048_575, b":0\r\n"),
    (["UNLINK"] + ["ab"] * 1_000_000, b":0\r\n"), (["DEL"] + ["abc"] * 932_000, b":0\r\n"),
    (["EXISTS"] + ["a"] * 1_048_575, b":0\r\n"), (["MSET"] + ["a", "1"] * 524_287, b"+OK\r\n"),
    (["MSETNX"] + ["", "1"] * 524_287, b":1\r\n"),
], ids=["DEL", "DEL of empty keys", "UNLINK", "DEL of longer keys", "EXISTS", "MSET", "MSETNX"])
def test_the_largest_commands(tally, arguments, expected):
    """What is within the limits is executed, and others are served behind it."""
    try:
        with RawConnection(tally.port, timeout=20) as connection:
            assert connection.call(*arguments) == expected
        with RawConnection(tally.port, timeout=20) as other:
            assert other.call("INCR", "b") == b":1\r\n"
    except TimeoutError:
        tally.kill()
        pytest.fail("the server hangs")


def test_many_large_announcements_without_content(tally, good_client):
    """The largest allowed lengths, announced by many and never sent."""
    before = tally.resident_bytes()
    connections = [RawConnection(tally.port) for _ in range(1000)]
    for connection in connections:
        connection.send(b"*1048576\r\n$1048576\r\n")
    for connection in (connections[0], connections[-1]):
        connection.send(b"x")
    with RawConnection(tally.port) as other:
        assert other.call("PING") == b"+PONG\r\n"
    assert tally.resident_bytes() < before + 100 * MEBIBYTE
    for connection in connections:
        connection.close()


def test_half_sent_commands(tally, good_client):
    """Halves wait for their rest without disturbing anybody, and are forgotten when closed."""
    whole = encode("INCR", "half")
    connections = []
    for number in range(500):
        connection = RawConnection(tally.port)
        connection.send(whole[:1 + number % (len(whole) - 1)])
        connections.append((connection, whole[1 + number % (len(whole) - 1):]))
    for connection, rest in connections[::2]:
        connection.send(rest)
    replies = {connection.read_reply() for connection, _ in connections[::2]}
    assert replies == {b":%d\r\n" % number for number in range(1, 251)}
    for connection, _ in connections:
        connection.close()
    assert tally.client().get("half") == b"250"


def test_unfinished_input_of_all_connections_is_bounded(tally, good_client):
    """Those that together hold too much unfinished input are closed, with an error."""
    client = tally.client()
    piece = b"*8\r\n" + b"".join(b"$1048576\r\n%s\r\n" % (b"x" * MEBIBYTE) for _ in range(7))
    connections, refused = [], 0
    try:
        while len(connections) < 200 and not refused:
            connection = RawConnection(tally.port)
            connections.append(connection)
            try:
                connection.send(piece)
            except ConnectionError:
                refused += 1
            if client.info("clients")["connected_clients"] < len(connections):
                refused += 1
        assert refused, "nothing was refused"
        assert len(connections) > 20, "refused too early"
    finally:
        for connection in connections:
            connection.close()


def send_until_stalled(connection):
    """Asks for replies without reading any until the server takes no more for a second."""
    request = encode("MGET", *(["good"] * 1000)) * 20
    connection.socket.setblocking(False)
    sent = 0
    while select.select([], [connection.socket], [], 1)[1]:
        sent += connection.socket.send(request)
        assert sent < 200 * MEBIBYTE, "the server goes on reading"


def test_a_client_that_never_reads(tally, good_client):
    """A large pipeline whose replies nobody takes is left unread, and costs little memory."""
    before = tally.resident_bytes()
    stalled = []
    for _ in range(10):
        connection = RawConnection(tally.port, receive_buffer_bytes=4096)
        stalled.append(connection)
        send_until_stalled(connection)
    with RawConnection(tally.port) as other:
        for _ in range(100):
            assert other.call("PING") == b"+PONG\r\n"
    assert tally.resident_bytes() < before + 200 * MEBIBYTE
    # The one that reads after all gets everything that it asked for.
    stalled[0].socket.settimeout(30)
    assert stalled[0].read_reply().startswith(b"*1000\r\n")
    for connection in stalled:
        connection.close()


def test_a_stop_does_not_wait_for_ever_for_a_client_that_never_reads(tally):
    with RawConnection(tally.port, receive_buffer_bytes=4096) as connection:
        send_until_stalled(connection)
        tally.client().incr("a")
        tally.restart()
    assert tally.client().get("a") == b"1"


def test_a_slow_reader_gets_every_reply(tally, good_client):
    count = 500_000
    with RawConnection(tally.port, receive_buffer_bytes=4096) as connection:
        sender = threading.Thread(
            target=lambda: connection.send(encode("INCR", "slow") * count), daemon=True)
        sender.start()
        # Nothing is read for a while, so that the server has to hold back.
        seen = good_client.count
        wait_until(lambda: good_client.count > seen + 500 or good_client.error, "other replies")
        received = bytearray()
        while received.count(b"\n", max(0, len(received) - 10)) == 0 or \
                not received.endswith(b":%d\r\n" % count):
            received += connection.socket.recv(1 << 16)
        sender.join(60)
    assert bytes(received) == b"".join(b":%d\r\n" % number for number in range(1, count + 1))


def test_many_connections(start_tally):
    server = start_tally("--clients-max", CONNECTIONS + 10)
    with GoodClient(server):
        connections = []
        try:
            for number in range(CONNECTIONS):
                connection = RawConnection(server.port)
                connections.append(connection)
                connection.send(encode("INCR", "all"))
                if number % 500 == 0:
                    connection.read_reply()
                    connection.send(encode("PING"))
            replies = [connection.read_reply() for connection in connections]
            assert sum(reply == b"+PONG\r\n" for reply in replies) == (CONNECTIONS + 499) // 500
            assert server.client().info("clients")["connected_clients"] >= CONNECTIONS + 1
            for connection in connections:
                connection.send(encode("INCR", "all"))
            values = sorted(int(connection.read_reply()[1:]) for connection in connections)
            assert values == list(range(CONNECTIONS + 1, 2 * CONNECTIONS + 1))
        finally:
            for connection in connections:
                connection.close()
        wait_until(
            lambda: server.client().info("clients")["connected_clients"] < 10,
            "the connections to go")


def test_too_many_connections(start_tally):
    server = start_tally("--clients-max", 20)
    connections = [RawConnection(server.port) for _ in range(20)]
    for connection in connections:
        assert connection.call("PING") == b"+PONG\r\n"
    for _ in range(5):
        with RawConnection(server.port) as refused:
            assert refused.read_until_closed() == b"-ERR max number of clients reached\r\n"
    assert connections[0].call("INCR", "a") == b":1\r\n"
    connections.pop().close()

    def is_accepted():
        with RawConnection(server.port) as connection:
            try:
                return connection.call("PING") == b"+PONG\r\n"
            except (Closed, ConnectionError):
                return False

    wait_until(is_accepted, "the free place")
    rejected = re.search(rb"rejected_connections:(\d+)", connections[0].call("INFO", "stats"))
    assert int(rejected.group(1)) >= 5
    assert connections[0].call("CONFIG", "SET", "maxclients", 19) == b"+OK\r\n"
    for connection in connections:
        connection.close()


def test_disconnects_in_the_middle_of_a_pipeline(tally, good_client):
    """Each command of a vanished client was executed wholly or not at all, in order."""
    sent = 0
    client = tally.client()
    generator = random.Random(3)
    for turn in range(100):
        connection = RawConnection(tally.port)
        data = b"".join(
            encode("MSET", "x", number, "y", number) + encode("INCR", "gone")
            for number in range(500))
        cut = generator.randrange(len(data))
        connection.send(data[:cut])
        sent += 500
        if turn % 2:
            # A reset instead of an orderly end.
            connection.socket.setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.close()
        x, y = client.mget("x", "y")
        assert x == y
    wait_until(
        lambda: client.info("clients")["connected_clients"] <= 3, "the connections to go")
    assert 0 < int(client.get("gone")) <= sent


def test_garbage(tally, good_client):
    """Random bytes never change counters of others, and never stop the server."""
    tally.client().mset({f"safe:{number}": number for number in range(100)})
    generator = random.Random(11)
    pieces = [
        b"*", b"$", b"\r\n", b"1", b"3", b"-1", b"INCR", b"GET", b"\0", b"\xff", b" ", b'"', b"'",
        b"*3\r\n", b"$3\r\n", b"SET\r\n", b":", b"+", b"9999999999", encode("PING"), b"\\x", b"\n"]
    for turn in range(2000):
        with RawConnection(tally.port) as connection:
            if turn % 2:
                data = generator.randbytes(generator.randint(1, 300))
            else:
                data = b"".join(generator.choices(pieces, k=generator.randint(1, 60)))
            connection.send(data)
            if turn % 5 == 0:
                connection.socket.shutdown(socket.SHUT_WR)
                connection.read_until_closed()
    values = tally.client().mget(f"safe:{number}" for number in range(100))
    assert values == [str(number).encode() for number in range(100)]


def test_idle_connections_are_closed(start_tally):
    server = start_tally("--idle-seconds-max", 4)
    with GoodClient(server):
        silent = RawConnection(server.port)
        unfinished = RawConnection(server.port)
        assert silent.call("PING") == b"+PONG\r\n"
        unfinished.send(b"*2\r\n$3\r\nGET")
        assert silent.read_until_closed() == b""
        assert unfinished.read_until_closed() == b""
        # Whoever keeps talking stays: the good client has been there all the time.


def test_no_idle_limit_by_default(tally):
    with RawConnection(tally.port) as connection:
        assert connection.call("CONFIG", "GET", "timeout").endswith(b"$1\r\n0\r\n")
        assert connection.call("CONFIG", "SET", "timeout", 1) == b"+OK\r\n"
        assert connection.read_until_closed() == b""
